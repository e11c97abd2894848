"""The plain twin of `kofagent.transform.actions`: the same actions on Google's messages, one obvious step after the other."""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from kofagent.transform.anyvalue import as_string, to_python
from kofagent.wire.attributes import encode_value


def any_value(value: Any) -> AnyValue:
    return AnyValue.FromString(encode_value(value))


def apply(attributes: Any, actions: Sequence[Mapping[str, Any]], metadata: Mapping[str, tuple[str, ...]]) -> None:
    """Changes a repeated KeyValue field in place."""
    for action in actions:
        _apply_one(attributes, action, metadata)


def _find(attributes: Any, key: str) -> KeyValue | None:
    for pair in attributes:
        if pair.key == key:
            return pair
    return None


def _put(attributes: Any, key: str, value: AnyValue) -> None:
    pair = _find(attributes, key)
    if pair is None:
        pair = attributes.add(key=key)
    copy = AnyValue()
    copy.CopyFrom(value)
    pair.value.CopyFrom(copy)


def _source(attributes: Any, action: Mapping[str, Any], metadata: Mapping[str, tuple[str, ...]]) -> AnyValue | None:
    if action.get("value") is not None:
        return any_value(action["value"])
    if action.get("from_context"):
        values = metadata.get(action["from_context"].removeprefix("metadata.").lower())
        if values:
            return any_value(";".join(values))
    if action.get("from_attribute"):
        pair = _find(attributes, action["from_attribute"])
        if pair is not None:
            return pair.value
    return any_value(action["default_value"]) if action.get("default_value") is not None else None


def _apply_one(attributes: Any, action: Mapping[str, Any], metadata: Mapping[str, tuple[str, ...]]) -> None:
    kind, key = action["action"], action.get("key", "")
    pair = _find(attributes, key) if key else None
    if kind in ("insert", "update", "upsert"):
        value = _source(attributes, action, metadata)
        if value is not None and ((kind != "update") if pair is None else (kind != "insert")):
            _put(attributes, key, value)
    elif kind == "delete":
        if pair is not None:
            attributes.remove(pair)
        if action.get("pattern"):
            for other in [p for p in attributes if re.search(action["pattern"], p.key)]:
                attributes.remove(other)
    elif kind == "hash":
        if pair is not None:
            _hash(pair)
        if action.get("pattern"):
            for other in attributes:
                if re.search(action["pattern"], other.key):
                    _hash(other)
    elif kind == "extract":
        match = re.search(action["pattern"], pair.value.string_value) if pair is not None and _is(pair, "string_value") else None
        if match:
            for name, text in match.groupdict().items():
                _put(attributes, name, any_value(text or ""))
    elif pair is not None:
        _convert(pair, action["converted_type"])


def _is(pair: KeyValue, kind: str) -> bool:
    return pair.value.WhichOneof("value") == kind


def _hash(pair: KeyValue) -> None:
    value, data = to_python(pair.value), None
    if _is(pair, "string_value"):
        data = value.encode()
    elif _is(pair, "bool_value"):
        data = bytes([value])
    elif _is(pair, "int_value"):
        data = struct.pack("<q", value)
    elif _is(pair, "double_value"):
        data = struct.pack("<d", value)
    pair.value.CopyFrom(AnyValue(string_value="" if data is None else hashlib.sha256(data).hexdigest()))


def _convert(pair: KeyValue, to: str) -> None:
    value = to_python(pair.value)
    if to == "string":
        pair.value.CopyFrom(AnyValue(string_value=as_string(value)))
    elif _is(pair, "bool_value"):
        pair.value.CopyFrom(AnyValue(int_value=int(value)) if to == "int" else AnyValue(double_value=float(value)))
    elif to == "int" and _is(pair, "double_value"):
        in_range = -(2.0**63) <= value < 2.0**63
        pair.value.CopyFrom(AnyValue(int_value=int(value) if in_range else -(1 << 63)))
    elif to == "double" and _is(pair, "int_value"):
        pair.value.CopyFrom(AnyValue(double_value=float(value)))
    elif _is(pair, "string_value"):
        decimal = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?(?i:inf|infinity|nan)"
        if to == "int" and re.fullmatch(r"[+-]?[0-9]+", value) and -(1 << 63) <= int(value) < 1 << 63:
            pair.value.CopyFrom(AnyValue(int_value=int(value)))
        elif to == "double" and re.fullmatch(decimal, value):
            pair.value.CopyFrom(AnyValue(double_value=float(value)))
