"""What both versions of Zipkin's formats have in common: checked fields, ids, and what a tag's text may be parsed into."""

from __future__ import annotations

import ipaddress
import json
import math
import re
from collections.abc import Iterator
from typing import Any

from kofagent.wire.attributes import Value

_DECODER = json.JSONDecoder()
_BLANKS = re.compile("[ \\t\\n\\r]*+")
START_ABSENT = "otel.zipkin.absentField.startTime"
"""The attribute that says that a span came without a time."""


def parsed(text: str) -> Value:
    """The integer, the float or the boolean that a text is, else the text."""
    if text in ("true", "false"):
        return text == "true"
    digits = text.removeprefix("-")
    if digits.isascii() and digits.isdigit():
        return int(text) if len(digits) < 20 and -(1 << 63) <= int(text) < 1 << 63 else text
    if "." in text and digits.replace(".", "", 1).isascii() and digits.replace(".", "", 1).isdigit() and len(text) < 400:
        number = float(text)
        return number if math.isfinite(number) else text
    return text


def elements(data: bytes) -> Iterator[dict[Any, Any]]:
    """The objects of a JSON array, one at a time: Python's objects are many times as large as their text. ValueError."""
    try:
        text = data.decode(json.detect_encoding(data))
    except UnicodeDecodeError:
        raise ValueError("the body is not text") from None
    at = _after_blanks(text, 0)
    if text[at : at + 1] != "[":
        raise ValueError("the body must be an array")
    at = _after_blanks(text, at + 1)
    if text[at : at + 1] == "]":
        at += 1
    else:
        while True:
            try:
                found, at = _DECODER.raw_decode(text, at)
            except (json.JSONDecodeError, RecursionError):
                raise ValueError(f"not valid JSON, or nested too deeply, after character {at}") from None
            if not isinstance(found, dict):
                raise ValueError("the body must be an array of objects")
            yield found
            at = _after_blanks(text, at)
            mark = text[at : at + 1]
            at = _after_blanks(text, at + 1)
            if mark == "]":
                break
            if mark != ",":
                raise ValueError(f"not valid JSON after character {at}")
    if _after_blanks(text, at) != len(text):
        raise ValueError("the body has more than an array")


def _after_blanks(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    return found.end() if found else at


def objects(value: Any, what: str) -> list[dict[Any, Any]]:
    """A list of objects, empty for an absent one. ValueError."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise ValueError(f"{what} must be a list of objects")
    return value


def record(value: Any, what: str) -> dict[Any, Any]:
    """An object, empty for an absent one. ValueError."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{what} must be an object")
    return value


def text(value: Any, what: str) -> str:
    """A string, empty for an absent one. ValueError."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{what} must be a string")
    return value


def integer(value: Any, what: str) -> int:
    """An integer, 0 for an absent one; a float without a fraction is one. ValueError."""
    if value is None:
        return 0
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{what} must be an integer")
    return value


def hex_id(value: Any, what: str, size: int, least: int = 1) -> bytes:
    """An id of `size` bytes from its hexadecimal digits, zeros in front of fewer ones. ValueError; also where all are zeros."""
    digits = text(value, what)
    if not least <= len(digits) <= 2 * size:
        raise ValueError(f"{what} must have {least} to {2 * size} hexadecimal digits")
    try:
        found = bytes.fromhex(digits.zfill(2 * size))
    except ValueError:
        raise ValueError(f"{what} must have hexadecimal digits only") from None
    if not any(found):
        raise ValueError(f"{what} must not be zero")
    return found


def address(value: Any) -> str:
    """An IP address as text; empty where there is none, or something else."""
    if not isinstance(value, str | bytes) or not value:
        return ""
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        return ""
