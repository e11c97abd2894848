"""In what two collector configurations differ: a line for each component that is gone or new, and for each option that changed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from kofagent.config.errors import Path, show_path
from kofagent.config.merge import entry_name
from kofagent.config.model import SECTIONS
from kofagent.config.redact import without_secrets
from kofagent.config.tree import Origin, node_of

_LONGEST = 60
_SHOWN = ("endpoint", "interval", "timeout", "mode", "strategy", "size")
"""Texts are shown under keys that end so: others may be secrets, or too long to read."""
_NAMES = ("receivers", "processors", "exporters", "extensions")
"""Lists of names, whose order counts."""
_REFERENCE = re.compile(r"\$\{(env|secret):[^{}]*\}\Z")


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Lines such as `receivers.filelog/kube: gone` and `exporters.debug.verbosity: was basic, is not set`."""
    out: list[str] = []
    for kind in SECTIONS:
        old, new = _map(before.get(kind)), _map(after.get(kind))
        for id in [*old, *(id for id in new if id not in old)]:
            if id not in new:
                out.append(f"{kind}.{id}: gone")
            elif id not in old:
                out.append(f"{kind}.{id}: new")
            else:
                out += _lines((kind, id), old[id], new[id])
    return [*out, *_lines(("service",), before.get("service"), after.get("service"))]


def _map(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _lines(path: Path, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            if key not in new:
                yield f"{show_path((*path, key))}: was {_text(key, old[key])}, is not set"
            elif key not in old:
                yield f"{show_path((*path, key))}: {_text(key, new[key])}, was not set"
            else:
                yield from _lines((*path, key), old[key], new[key])
    elif old != new:
        name = str(path[-1])
        if isinstance(old, list) and isinstance(new, list) and name not in _NAMES:
            yield f"{show_path(path)}: {_entries(old, new)}"
            return
        yield f"{show_path(path)}: was {_text(name, old)}, is {_text(name, new)}"


def _entries(old: list[Any], new: list[Any]) -> str:
    """How a list of maps changed."""
    before, after = ([entry_name(node_of(item, Origin()), i) for i, item in enumerate(each)] for each in (old, new))
    gone, more = [n for n in before if n not in after], [n for n in after if n not in before]
    parts = [f"{word} {', '.join(names)}" for word, names in (("without", gone), ("with", more)) if names]
    return f"was a list of {len(old)}, is one of {len(new)}" + (f", {' and '.join(parts)}" if parts else ", whose entries differ")


def _text(key: str, value: Any) -> str:
    """A value in some words."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list):
        if all(isinstance(item, str) for item in value) and key in _NAMES:
            return f"[{', '.join(value)}]"
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"a map ({', '.join(map(str, value))})" if value else "an empty map"
    if _REFERENCE.match(str(value)):
        return str(value)
    if key.endswith(_SHOWN) and len(str(value)) <= 2 * _LONGEST and "\n" not in str(value):
        return without_secrets(str(value))
    return "a text"
