"""`json_path` of validations: names and indices with dots between them, the part of gjson's paths that names one value."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from kofagent.wire.foreign_json import read_json

_OTHER = frozenset("*?|@!{}[]()<>=%~")


def parse(path: str) -> tuple[str, ...]:
    """The steps of `a.0.b`; `\\` before a character takes its meaning, `#` is the length of an array, `$.` at the front the root.

    ValueError for what gjson has besides: wildcards, queries, modifiers.
    """
    steps: list[str] = []
    step = ""
    rest = iter(path.removeprefix("$."))
    for character in rest:
        if character == ".":
            steps.append(step)
            step = ""
        elif character == "\\":
            step += next(rest, "")
        elif character in _OTHER:
            raise ValueError(f"json_path: {character!r} is not supported; write names and indices with dots between them")
        else:
            step += character
    steps.append(step)
    if not all(steps):
        raise ValueError("json_path: a name is empty")
    if "#" in steps[:-1]:
        raise ValueError("json_path: '#' is the length of an array and stands at the end")
    return tuple(steps)


class Missing(LookupError):
    """There is nothing at the path."""


def find(document: Any, steps: tuple[str, ...]) -> Any:
    """The value at the path in what `read_json` gave; Missing."""
    for step in steps:
        if isinstance(document, dict) and step in document:
            document = document[step]
        elif isinstance(document, list) and step == "#":
            document = len(document)
        elif isinstance(document, list) and step.isdecimal() and len(step) < 10 and int(step) < len(document):
            document = document[int(step)]
        else:
            raise Missing
    return document


def equals(value: Any, text: str) -> bool:
    """Whether a value has this text, as gjson writes it; objects and arrays are compared as JSON, whatever their blanks."""
    if isinstance(value, dict | list):
        try:
            return bool(read_json(text) == value)
        except ValueError:
            return False
    if isinstance(value, float):
        number = format(Decimal(repr(value)), "f")
        return (number.rstrip("0").rstrip(".") if "." in number else number) == text
    if isinstance(value, bool):
        return text == ("true" if value else "false")
    return text == ("" if value is None else str(value))
