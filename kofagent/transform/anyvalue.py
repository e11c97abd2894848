"""OTLP's AnyValue as Python objects and as the text upstream shows (pcommon.Value's AsRaw and AsString)."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

MAX_DEPTH = 64
"""Values nested deeper are shown as None; protobuf itself refuses more than 100 levels."""


def to_python(value: AnyValue, depth: int = 0) -> Any:
    """None, str, bool, int, float, bytes, list or dict; of equal keys the last one wins."""
    kind = value.WhichOneof("value")
    if kind is None or depth > MAX_DEPTH:
        return None
    if kind == "array_value":
        return [to_python(v, depth + 1) for v in value.array_value.values]
    if kind == "kvlist_value":
        return {kv.key: to_python(kv.value, depth + 1) for kv in value.kvlist_value.values}
    return getattr(value, kind)


def attributes(items: Iterable[KeyValue]) -> dict[str, Any]:
    """A repeated KeyValue as a dict, in order."""
    return {kv.key: to_python(kv.value) for kv in items}


def number(value: float) -> str:
    """A float as ECMAScript writes it: `1`, `0.5`, `1e+21`, `1e-7`, `NaN`, `Infinity`."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    size = abs(value)
    if value.is_integer() and size < 1e21:
        return "-0" if value == 0 and math.copysign(1, value) < 0 else str(int(value))
    text = repr(value)
    if size < 1e-6 or size >= 1e21:
        mantissa, _, exponent = text.partition("e")
        return f"{mantissa}e{exponent[0]}{exponent[1:].lstrip('0')}"
    if "e" in text:
        return f"{value:.20f}".rstrip("0") if float(f"{value:.20f}") == value else f"{value:.30f}".rstrip("0")
    return text


def jsonable(value: Any) -> Any:
    """The same with what JSON cannot say replaced: bytes by base64, NaN and infinities by their names, 1.0 by 1."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return number(value)
        return int(value) if value.is_integer() and abs(value) < 1e21 else value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(v) for v in value]
    return value


def to_json(value: Any) -> str:
    """Compact JSON with sorted keys, UTF-8 kept but for the two line ends that JavaScript does not take, as Go does."""
    text = json.dumps(jsonable(value), ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return text if text.isascii() else text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def as_string(value: Any) -> str:
    """A Python value (of `to_python`) as upstream's AsString writes it."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return number(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return to_json(value)


def write(target: AnyValue, value: Any) -> None:
    """Makes `target` the value: the inverse of `to_python`. Lone surrogates become U+FFFD. TypeError for other types."""
    if isinstance(value, str):
        try:
            target.string_value = value
        except UnicodeEncodeError:
            target.string_value = _valid(value)
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int):
        target.int_value = value
    elif isinstance(value, float):
        target.double_value = value
    elif value is None:
        target.Clear()
    elif isinstance(value, bytes):
        target.bytes_value = value
    elif isinstance(value, Mapping):
        target.Clear()
        target.kvlist_value.SetInParent()
        write_map(target.kvlist_value.values, value)
    elif isinstance(value, list | tuple):
        target.Clear()
        target.array_value.SetInParent()
        for item in value:
            write(target.array_value.values.add(), item)
    else:
        raise TypeError(f"{type(value).__name__} is no value of an attribute")


def write_map(items: Any, value: Mapping[str, Any]) -> None:
    """Makes the repeated KeyValue `items` the map."""
    del items[:]
    for key, element in value.items():
        entry = items.add()
        try:
            entry.key = key
        except UnicodeEncodeError:
            entry.key = _valid(key)
        write(entry.value, element)


def _valid(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
