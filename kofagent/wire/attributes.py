"""Attributes: `KeyValue` and `AnyValue` (opentelemetry-proto common/v1) to Python values and back, as bytes.

    AnyValue { oneof value { string_value = 1; bool_value = 2; int_value = 3; double_value = 4;
                             ArrayValue array_value = 5; KeyValueList kvlist_value = 6; bytes bytes_value = 7 } }
    KeyValue { string key = 1; AnyValue value = 2 }

str, bool, int, float, list, dict and bytes stand for the seven, None for a value that is not set. What is written is UTF-8,
whatever was read.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from typing import Any

from kofagent.wire.lens import lenses, parse
from kofagent.wire.varint import length_delimited, varint

Value = Any
"""str | bool | int | float | bytes | list[Value] | dict[str, Value] | None"""

MAX_DEPTH = 48
"""Lists and dicts deeper than this are refused: two levels of messages each, and protobuf readers stop at 100."""

_DOUBLE = struct.Struct("<d")
_KINDS = ["string_value", "bool_value", "int_value", "double_value", "array_value", "kvlist_value", "bytes_value"]
_SURROGATES = re.compile("[\ud800-\udfff]+")
_lens = lenses(
    "kofagent.attributes",
    {
        "AnyValue": {
            "string_value": (1, "bytes"),
            "bool_value": (2, "bool"),
            "int_value": (3, "int64"),
            "double_value": (4, "double"),
            "array_value": (5, "ArrayValue"),
            "kvlist_value": (6, "KeyValueList"),
            "bytes_value": (7, "bytes"),
        },
        "ArrayValue": {"values": (1, "*AnyValue")},
        "KeyValueList": {"values": (1, "*KeyValue")},
        "KeyValue": {"key": (1, "bytes"), "value": (2, "AnyValue")},
    },
    {"AnyValue": {"value": _KINDS}},
)
_AnyValue, _KeyValue, _KeyValueList = _lens["AnyValue"], _lens["KeyValue"], _lens["KeyValueList"]


def encode_text(text: str) -> bytes:
    """UTF-8; lone surrogates, which stand for bytes that could not be decoded, become U+FFFD, one for a run of them."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _SURROGATES.sub("\ufffd", text).encode()


def decode_text(data: bytes) -> str:
    """UTF-8 text; undecodable bytes become surrogates (`surrogateescape`)."""
    return data.decode("utf-8", "surrogateescape")


def encode_value(value: Value, depth: int = 0) -> bytes:
    """The AnyValue of a Python value.

    Integers outside of 64 bits become floats, values of other types their `str`. ValueError where lists and dicts are
    nested deeper than `MAX_DEPTH`.
    """
    if isinstance(value, str):
        data = encode_text(value)
        return b"\x0a" + varint(len(data)) + data
    if value is None:
        return b""
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        if -(1 << 63) <= value < 1 << 63:
            return b"\x18" + varint(value & 0xFFFFFFFFFFFFFFFF)
        try:
            value = float(value)
        except OverflowError:
            value = float("inf") if value > 0 else float("-inf")
    if isinstance(value, float):
        return b"\x21" + _DOUBLE.pack(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return length_delimited(7, bytes(value))
    if isinstance(value, (list, tuple, Mapping)):
        if depth >= MAX_DEPTH:
            raise ValueError(f"value nested more than {MAX_DEPTH} levels deep")
        if isinstance(value, list | tuple):
            return length_delimited(5, b"".join([length_delimited(1, encode_value(v, depth + 1)) for v in value]))
        return length_delimited(6, b"".join([length_delimited(1, encode_attribute(k, v, depth + 1)) for k, v in value.items()]))
    return encode_value(str(value))


def encode_attribute(key: str, value: Value, depth: int = 0) -> bytes:
    """The KeyValue message of one attribute, without a tag in front. ValueError as `encode_value`."""
    return length_delimited(1, encode_text(key)) + length_delimited(2, encode_value(value, depth))


def encode_attributes(attributes: Mapping[str, Value] | Iterable[tuple[str, Value]], field: int = 1) -> bytes:
    """`repeated KeyValue` as field number `field`: 1 makes the Resource message of these attributes, 6 is a LogRecord's."""
    items = attributes.items() if isinstance(attributes, Mapping) else attributes
    return b"".join([length_delimited(field, encode_attribute(key, value)) for key, value in items])


def decode_value(data: bytes) -> Value:
    """The Python value of an AnyValue message. ValueError if malformed."""
    return _python(parse(_AnyValue, data))


def decode_attribute(data: bytes) -> tuple[str, Value]:
    """Key and value of a KeyValue message. ValueError if malformed."""
    pair = parse(_KeyValue, data)
    return decode_text(pair.key), _python(pair.value)


def decode_attributes(pairs: Iterable[bytes]) -> dict[str, Value]:
    """A dict of KeyValue messages (`edit.attributes`); of equal keys the first one counts, as upstream's lookup does."""
    out: dict[str, Value] = {}
    for data in pairs:
        pair = parse(_KeyValue, data)
        out.setdefault(decode_text(pair.key), _python(pair.value))
    return out


def attribute_key(data: bytes) -> bytes:
    """The key of a KeyValue message as bytes. ValueError if malformed."""
    # hot: otlp_attributes, 0.4 us a key: every known writer puts the key first, then the value,
    # and most of both are shorter than 128 bytes
    size = len(data)
    if size > 1 and data[0] == 0x0A:
        at = data[1] + 2
        # exactly: a key of one length byte and nothing behind it, or a value of one length byte that fills the rest
        if at <= 129 and (at == size or (at + 1 < size and data[at] == 0x12 and size - at - 2 == data[at + 1] < 128)):
            return data[2:at]
    return parse(_KeyValue, data).key  # type: ignore[no-any-return]


def _python(value: Any) -> Value:
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return decode_text(value.string_value)
    if kind is None:
        return None
    if kind == "array_value":
        return [_python(v) for v in value.array_value.values]
    if kind == "kvlist_value":
        out: dict[str, Value] = {}
        for pair in value.kvlist_value.values:
            out.setdefault(decode_text(pair.key), _python(pair.value))
        return out
    return getattr(value, kind)
