"""JSON as upstream's operators read it: numbers are doubles, or integers where asked for; nesting is limited."""

from __future__ import annotations

import json
import re
from typing import Any

from kofagent.operators.errors import OperatorError

MAX_NESTING = 200
"""Deepest JSON that is accepted: what goes through the operators is copied and encoded level by level."""

# A string that is not closed reaches to the end of the text, so nothing fails behind its first quote and is tried again.
_BRACKETS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{}]', re.DOTALL)


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError("the number is too large")
    return value


def _integer(text: str) -> int | float:
    value = int(text) if len(text) < 21 else 1 << 64
    return value if -(1 << 63) <= value < 1 << 63 else _finite(text)


DOUBLES = json.JSONDecoder(parse_int=_finite, parse_float=_finite, parse_constant=_constant)
_INTEGERS = json.JSONDecoder(parse_int=_integer, parse_float=_finite, parse_constant=_constant)


def decode_json(text: str, *, integers: bool = False, trailing: bool = False) -> Any:
    """The value of a JSON text; OperatorError when it is not JSON. `trailing` allows more text behind the value."""
    decoder = _INTEGERS if integers else DOUBLES
    text = text.removeprefix("\ufeff")  # the byte order mark of a file is no JSON
    if text.count("{") + text.count("[") > MAX_NESTING and _too_deep(text):
        raise OperatorError("the JSON is nested too deeply")
    try:
        if trailing:
            return decoder.raw_decode(text.lstrip(" \t\r\n"))[0]
        return decoder.decode(text)
    except (ValueError, RecursionError):
        raise OperatorError("the value is not JSON") from None


def _too_deep(text: str) -> bool:
    """Whether brackets outside of strings are nested deeper than is accepted; one pass, which ends where they are."""
    depth = 0
    for match in _BRACKETS.finditer(text):
        token = match[0]
        if token in "[{":
            depth += 1
            if depth > MAX_NESTING:
                return True
        elif token in "]}":
            depth -= 1
    return False
