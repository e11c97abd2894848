"""Formats of security devices and web servers: CEF, LEEF, ELF, CLF. Known in statements of the log context."""

from __future__ import annotations

import re
from typing import Any

from kofagent.ottl.env import Env
from kofagent.ottl.errors import EvaluationError
from kofagent.ottl.functions.core import converter

_CEF = ("version", "device_vendor", "device_product", "device_version", "device_event_class_id", "name", "severity")
_CEF_KEY = re.compile(r"(?:^|(?<=\s))([A-Za-z0-9_.\-\[\]]{1,256})=")


def _columns(text: str, count: int) -> list[str]:
    """The first `count` columns between pipes that are not escaped, and the rest."""
    found: list[str] = []
    begin = at = 0
    while len(found) < count:
        end = text.find("|", at)
        if end < 0:
            break
        backslashes = end - len(text[:end].rstrip("\\")) if end and text[end - 1] == "\\" else 0
        at = end + 1
        if backslashes % 2 == 0:
            found.append(text[begin:end])
            begin = at
    return [*found, text[begin:]]


@converter("ParseCEF(target S)", contexts="log", where="statements")
def parse_cef(target: str) -> dict[str, Any]:
    """The fields of an event in the Common Event Format."""
    head, prefix, text = target.partition("CEF:")
    columns = _columns(text, len(_CEF)) if prefix and not head.strip() else []
    if len(columns) != len(_CEF) + 1:
        raise EvaluationError("ParseCEF: not CEF:version|vendor|product|version|class|name|severity|extensions")
    found: dict[str, Any] = {f"cef.{name}": re.sub(r"\\([|\\])", r"\1", value) for name, value in zip(_CEF, columns, strict=False)}
    found["cef.extensions"] = _cef_extensions(columns[-1])
    return found


def _cef_extensions(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    keys = list(_CEF_KEY.finditer(text))
    for i, match in enumerate(keys):
        value = text[match.end() : keys[i + 1].start() if i + 1 < len(keys) else len(text)].strip()
        found[match[1]] = re.sub(r"\\(.)", lambda m: {"n": "\n", "r": "\r"}.get(m[1], m[1]), value)
    return found


_LEEF = ("version", "vendor", "product.name", "product.version", "event.id")


@converter("ParseLEEF(target S)", contexts="log", where="statements")
def parse_leef(target: str) -> dict[str, Any]:
    """The fields of an event in the Log Event Extended Format, 1.0 or 2.0."""
    head, prefix, text = target.partition("LEEF:")
    columns = text.split("|", 5) if prefix and not head.strip() else []
    if len(columns) != 6 or columns[0] not in ("1.0", "2.0"):
        raise EvaluationError("ParseLEEF: not LEEF:version|vendor|product|version|event|attributes of version 1.0 or 2.0")
    delimiter, rest = "\t", columns[5]
    if columns[0] == "2.0":
        delimiter, pipe, rest = rest.partition("|")
        delimiter = _leef_delimiter(delimiter) if pipe else "\t"
        rest = rest if pipe else columns[5]
    pairs = [pair.partition("=") for pair in rest.split(delimiter)]
    found: dict[str, Any] = {f"leef.{name}": value for name, value in zip(_LEEF, columns, strict=False)}
    found["leef.attributes"] = {key.strip(): value for key, equals, value in pairs if equals}
    return found


def _leef_delimiter(text: str) -> str:
    if not text:
        return "\t"
    match = re.fullmatch(r"(?:0x|x|\\x)([0-9a-fA-F]{1,4})", text)
    if match is not None:
        return chr(int(match[1], 16))
    if len(text) != 1:
        raise EvaluationError("ParseLEEF: the delimiter is one character")
    return text


@converter("ParseELF(target S)", contexts="log", where="statements", env=True)
def parse_elf(env: Env, target: str) -> dict[str, Any]:
    """The entries of a text in the Extended Log Format of the W3C."""
    directives: dict[str, Any] = {}
    fields: list[str] = []
    entries: list[Any] = []
    for line in target.splitlines():
        line = line.strip()
        if line.startswith("#"):
            name, colon, value = line[1:].partition(":")
            if not colon:
                continue
            if name.strip().lower() == "fields":
                fields = value.split()
            else:
                directives[f"elf.{name.strip().lower().replace('-', '_')}"] = value.strip()
        elif line:
            if not fields:
                raise EvaluationError("ParseELF: an entry before #Fields")
            values = [quoted.replace('""', '"') or plain for quoted, plain in re.findall(r'"((?:[^"]|"")*)"|(\S+)', line)]
            if len(values) != len(fields):
                env.complain(f"ParseELF: an entry of {len(values)} values under {len(fields)} #Fields")
            entries.append({name: values[i] if i < len(values) else "-" for i, name in enumerate(fields)})
    if not fields:
        raise EvaluationError("ParseELF: no #Fields")
    return {"elf.entries": entries, **directives, "elf.fields": list(fields)}


_CLF = re.compile(r'(\S+) (\S+) (\S+) \[([^\]]+)\] "((?:[^"\\]|\\.)*)" ([0-9]{3}|-) ([0-9]{1,18}|-)')
_COMBINED = re.compile(_CLF.pattern + r' "((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)"')


def _clf_format(format: str | None = None, **_: Any) -> None:
    if format not in (None, "clf", "combined"):
        raise EvaluationError("no such format; known: clf, combined")


@converter('ParseCLF(target S, format? S="clf")', check=_clf_format, contexts="log", where="statements")
def parse_clf(target: str, format: str) -> dict[str, Any]:
    """The fields of a line in the Common Log Format, or `combined`."""
    _clf_format(format)
    match = (_COMBINED if format == "combined" else _CLF).fullmatch(target.strip())
    if match is None:
        raise EvaluationError("ParseCLF: not a line of the format")
    names = ("remote_host", "rfc931", "auth_user", "timestamp", "request")
    found: dict[str, Any] = {f"clf.{name}": match[i + 1] for i, name in enumerate(names)}
    parts = match[5].split(" ")
    if len(parts) in (2, 3):
        found |= {f"clf.{name}": part for name, part in zip(("method", "request_uri", "protocol"), parts, strict=False)}
    for name, value in (("status", match[6]), ("bytes", match[7])):
        if value != "-":
            found[f"clf.{name}"] = int(value)
    if format == "combined":
        found |= {"clf.referer": match[8], "clf.user_agent": match[9]}
    return found
