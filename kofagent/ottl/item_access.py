"""The paths of an `Item` as editors take them, with the item in the place of an `Env`; what compiled sources call."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from kofagent.ottl.access import Access, wanted
from kofagent.ottl.errors import EvaluationError
from kofagent.ottl.functions.editors import merge_maps
from kofagent.ottl.item import Item, adding, decoded, encoded, head
from kofagent.ottl.types import Time, arithmetic, compare, index, kind, sign, stored
from kofagent.ottl.types import put as put_in

TEXTS = {"log": ("severity_text", "event_name"), "span": ("name",), "metric": ("name", "description", "unit")}
NUMBERS = {
    "log": ("severity_number", "flags", "time_unix_nano", "observed_time_unix_nano"),
    "span": ("kind", "start_time_unix_nano", "end_time_unix_nano"),
}
TIMES = {"log": ("time", "observed_time"), "span": ("start_time", "end_time")}
IDS = {"log": {"trace_id": 16, "span_id": 8}, "span": {"trace_id": 16, "span_id": 8, "parent_span_id": 8}}
"""The fields of an item beside its attributes, by how they are read."""


def _access(get: Callable[[Item], Any], put: Callable[[Item, Any], None]) -> Access:
    """An `Access` of items."""
    return Access(get, put)  # type: ignore[arg-type]


def attribute(keys: list[Any]) -> Access:
    """All attributes, one of them, or what is in one."""
    if not keys:
        return _access(Item.attributes, lambda it, value: it.put_attributes(wanted(value, dict, "map")))
    raw = keys[0].encode("utf-8", "replace")
    begin, inner = head(raw), keys[1:]
    if inner:
        return _access(lambda it: it.deep(raw, begin, inner), lambda it, value: it.put_deep(raw, begin, inner, value))
    return _access(lambda it: it.value(raw, begin), lambda it, value: it.set(raw, begin, encoded(value)))


def cache(keys: list[Any]) -> Access:
    """The item's cache, or what is in it."""
    return _access(lambda it: index(it.cache, keys), partial(_put_cache, keys))


def _put_cache(keys: list[Any], it: Item, value: Any) -> None:
    if keys:
        put_in(it.cache, keys, stored(value))
    else:
        it.cache = stored(wanted(value, dict, "map"))


def merge_cache(it: Item, source: dict[str, Any], strategy: str) -> None:
    """Puts the entries of a map that are to be set by `strategy` into the cache."""
    try:
        merge_maps(it.cache, stored(source), strategy)
    except EvaluationError:
        # What cannot be kept is an error where it is put in, and then stays until it is.
        merge_maps(it.cache, source, strategy)
        it.cache = stored(it.cache)


def drop_cache(it: Item, gone: Any) -> None:
    """Takes the entries with these keys out of the cache."""
    it.cache = stored({key: value for key, value in it.cache.items() if key not in gone})


def body(keys: list[Any]) -> Access:
    """The body of a log record, or what is in it."""
    return _access(partial(_body, keys), partial(_put_body, keys))


def text(name: str) -> Access:
    """A string field."""
    return _access(lambda it: utf8(getattr(it.view(), name)), partial(_put_text, name))


def integer(name: str) -> Access:
    """A signed integer field of 32 bits."""
    return _access(lambda it: getattr(it.view(), name), partial(_put_number, name))


def _body(keys: list[Any], it: Item) -> Any:
    return index(decoded(it.view().body), keys)


def _put_body(keys: list[Any], it: Item, value: Any) -> None:
    if keys:
        whole = decoded(it.view().body)
        if not isinstance(whole, dict | list):
            raise EvaluationError(f"a body that is {kind(whole)} cannot be indexed")
        value = put_in(whole, keys, stored(value))
    it.put("body", encoded(value))


def _put_text(name: str, it: Item, value: Any) -> None:
    it.put(name, wanted(value, str, "string").encode("utf-8", "replace"))


def _put_number(name: str, it: Item, value: Any) -> None:
    number = wanted(value, int, "int") & 0xFFFFFFFF
    it.put(name, number - (1 << 32) if number > 0x7FFFFFFF else number)


def truth(value: Any, name: str) -> bool:
    """The value of a converter as a condition."""
    if value is True or value is False:
        return value
    raise EvaluationError(f"{name} gave {kind(value)} where a bool is needed")


def argument(coerce: Any, value: Any, what: str) -> Any:
    """The value as a function takes it."""
    try:
        return coerce(value)
    except EvaluationError as error:
        raise EvaluationError(f"{what}: {error}") from None


def utf8(data: bytes) -> str:
    """Text of a message."""
    return data.decode("utf-8", "replace")


def entries(values: Any) -> list[tuple[bytes, bytes, bytes]]:
    """A map as `Item.merge` takes it."""
    found = []
    for key, value in values.items():
        raw = key.encode("utf-8", "replace")
        found.append((raw, head(raw), encoded(value)))
    return found


NAMES: dict[str, Any] = {
    "EvaluationError": EvaluationError,
    "Time": Time,
    "adding": adding,
    "argument": argument,
    "arithmetic": arithmetic,
    "compare": compare,
    "decoded": decoded,
    "drop_cache": drop_cache,
    "encoded": encoded,
    "entries": entries,
    "index": index,
    "merge_cache": merge_cache,
    "sign": sign,
    "truth": truth,
    "utf8": utf8,
}
"""What the sources call."""
