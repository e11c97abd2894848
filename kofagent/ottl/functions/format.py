"""Go's fmt.Sprintf for the values of the language."""

from __future__ import annotations

import re
from typing import Any

from kofagent.ottl.types import Duration, Time, rfc3339
from kofagent.transform.anyvalue import number

_VERB = re.compile(r"%(?P<flags>[-+# 0]*)(?P<width>[0-9]+)?(?:\.(?P<precision>[0-9]*))?(?P<verb>.)", re.DOTALL)
MAX_WIDTH = 1000
"""Wider fields are cut: a format is a literal, but it meets every record."""


def sprintf(text: str, values: list[Any]) -> str:
    """As Go writes it, also where verb and value do not fit: `%!d(string=x)`, `%!s(MISSING)`, `%!(EXTRA int=1)`."""
    rest = list(values)

    def one(match: re.Match[str]) -> str:
        if match["verb"] == "%":
            return "%"
        if not rest:
            return f"%!{match['verb']}(MISSING)"
        return _verb(match, rest.pop(0))

    out = _VERB.sub(one, text)
    if out.endswith("%") and (len(text) - len(text.rstrip("%"))) % 2:
        out = out[:-1] + "%!(NOVERB)"
    if rest:
        out += "%!(EXTRA " + ", ".join(f"{_go_type(v)}={_plain(v)}" if v is not None else "<nil>" for v in rest) + ")"
    return out


def _verb(match: re.Match[str], value: Any) -> str:
    verb, flags = match["verb"], match["flags"]
    width = min(int(match["width"][:5]), MAX_WIDTH) if match["width"] else 0
    precision = min(int(match["precision"][:5] or 0), MAX_WIDTH) if match["precision"] is not None else None
    shown = _shown(verb, flags, precision, value)
    if shown is None:
        return f"%!{verb}(<nil>)" if value is None else f"%!{verb}({_go_type(value)}={_plain(value)})"
    if len(shown) >= width:
        return shown
    if "-" in flags:
        return shown.ljust(width)
    return shown.zfill(width) if "0" in flags and verb in "dxXobfFeEgG" else shown.rjust(width)


def _shown(verb: str, flags: str, precision: int | None, value: Any) -> str | None:
    """The value by one verb, without its width; None where they do not fit."""
    plus = "+" if "+" in flags else " " if " " in flags else ""
    if verb == "v":
        return "<nil>" if value is None else _plain(value)
    if verb == "T":
        return _go_type(value)
    if isinstance(value, bool):
        return str(value).lower() if verb == "t" else None
    if isinstance(value, int):
        return _integer(verb, flags, plus, value)
    if isinstance(value, float):
        return _floating(verb, plus, 6 if precision is None else precision, precision is None, value)
    if isinstance(value, str | bytes):
        return _text(verb, precision, value)
    if isinstance(value, list):
        return "[" + " ".join(_verb_of(verb, v) for v in value) + "]"
    if verb == "s" and value is not None:
        return _plain(value)
    return None


def _verb_of(verb: str, value: Any) -> str:
    shown = _shown(verb, "", None, value)
    return shown if shown is not None else f"%!{verb}({_go_type(value)}={'<nil>' if value is None else _plain(value)})"


def _integer(verb: str, flags: str, plus: str, value: int) -> str | None:
    if verb == "c":
        return chr(value) if 0 <= value < 0x110000 else "\ufffd"
    if verb == "q":
        return f"'{chr(value)}'" if 0 <= value < 0x110000 else None
    if verb == "U":
        return f"U+{value:04X}"
    if verb not in ("d", "x", "X", "o", "b", "O"):
        return None
    digits = format(abs(value), "o" if verb == "O" else verb)
    prefix = {"x": "0x", "X": "0X", "o": "0", "b": "0b"}.get(verb, "") if "#" in flags else "0o" if verb == "O" else ""
    return ("-" if value < 0 else plus) + prefix + digits


def _floating(verb: str, plus: str, precision: int, shortest: bool, value: float) -> str | None:
    if verb in ("f", "F", "e", "E"):
        out = format(value, f".{precision}{verb.lower()}")
        return (plus if value >= 0 else "") + (out.upper() if verb == "E" else out)
    if verb in ("g", "G"):
        out = _general(value) if shortest else format(value, f".{precision or 1}g")
        return (plus if value >= 0 else "") + (out.upper() if verb == "G" else out)
    return None


def _general(value: float) -> str:
    """%v and %g of a float: the shortest form, with an exponent below -4 and from 21 on."""
    text = repr(value)
    if "e" in text or "inf" in text or "nan" in text:
        return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(text, text)
    exponent = int(f"{value:e}".partition("e")[2])
    if value and not -4 <= exponent < 21:
        mantissa, _, power = f"{value!r}e0".partition("e")
        return mantissa + power
    return text.removesuffix(".0")


def _text(verb: str, precision: int | None, value: str | bytes) -> str | None:
    text = value if isinstance(value, str) else value.decode("utf-8", "replace")
    if precision is not None:
        text = text[:precision]
    if verb == "s":
        return text
    if verb == "q":
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'
    if verb in ("x", "X"):
        out = text.encode("utf-8", "surrogatepass").hex() if isinstance(value, str) else value.hex()
        return out.upper() if verb == "X" else out
    return None


def _go_type(value: Any) -> str:
    names = {bool: "bool", int: "int64", float: "float64", str: "string", bytes: "[]uint8"}
    names |= {Time: "time.Time", Duration: "time.Duration", list: "pcommon.Slice", dict: "pcommon.Map"}
    return names.get(type(value), "<nil>" if value is None else type(value).__name__)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return _general(value)
    if isinstance(value, bytes):
        return "[" + " ".join(map(str, value)) + "]"
    if isinstance(value, Time):
        return rfc3339(value.ns).replace("T", " ").replace("Z", " +0000 UTC")
    if isinstance(value, Duration):
        return f"{number(value.ns / 1e9)}s"
    if isinstance(value, list):
        return "[" + " ".join("<nil>" if v is None else _plain(v) for v in value) + "]"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{k}:{'<nil>' if v is None else _plain(v)}" for k, v in sorted(value.items())) + "]"
    return str(value)
