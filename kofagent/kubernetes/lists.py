"""Reads the JSON of a list object by object, so that a page of pods is never there as Python objects all at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from kofagent.config.compat import json_string_scanner

_decode = json.JSONDecoder().raw_decode
_scan_string = json_string_scanner()
_BLANK = " \t\r\n"


def split_list(text: str) -> tuple[Iterator[dict[str, Any]], dict[str, Any]]:
    """The objects of `items`, decoded as they are asked for, and the list's `metadata`. ValueError when it is no list.

    The API server writes metadata before items for its own types and after them for custom resources: then the items are
    decoded at once.
    """
    metadata: dict[str, Any] | None = None
    items: Any = None
    at = _expect(text, 0, "{")
    at = _skip(text, at)
    if text[at : at + 1] == "}":
        return iter(()), {}
    while True:
        at = _expect(text, at, '"')
        key, at = _scan_string(text, at, True)
        at = _skip(text, _expect(text, at, ":"))
        if key == "items" and text[at : at + 1] == "[":
            if metadata is not None:
                return _items(text, at + 1), metadata
            items, at = _decode(text, at)
        else:
            value, at = _decode(text, at)
            if key == "metadata":
                metadata = value if isinstance(value, dict) else {}
        at = _skip(text, at)
        if text[at : at + 1] == "}":
            break
        at = _expect(text, at, ",")
    if metadata is None:
        raise ValueError("not a list: it has no metadata")
    return iter(items or ()), metadata


def _items(text: str, at: int) -> Iterator[dict[str, Any]]:
    at = _skip(text, at)
    if text[at : at + 1] == "]":
        return
    while True:
        value, at = _decode(text, at)
        yield value
        at = _skip(text, at)
        if text[at : at + 1] == "]":
            return
        at = _skip(text, _expect(text, at, ","))


def _skip(text: str, at: int) -> int:
    while text[at : at + 1] in _BLANK and at < len(text):
        at += 1
    return at


def _expect(text: str, at: int, character: str) -> int:
    at = _skip(text, at)
    if text[at : at + 1] != character:
        raise ValueError(f"expected {character!r} at {at}")
    return at + 1
