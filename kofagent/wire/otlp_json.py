"""OTLP/JSON to OTLP protobuf bytes and back (opentelemetry-proto, "JSON Protobuf Encoding").

It differs from protobuf's own JSON mapping: trace and span ids are hex (either case), enums are integers, unknown fields are
ignored. Read leniently as upstream does: 64-bit integers as string or number, field names in lowerCamelCase or snake_case, enum
names. Written: lowerCamelCase, 64-bit integers as strings, other bytes in base64, defaults left out.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from kofagent.wire.lens import parse
from kofagent.wire.otlp import checker, request_descriptor
from kofagent.wire.otlp_check import IDS
from kofagent.wire.varint import varint

MAX_DEPTH = 150
"""Objects in objects; protobuf readers stop at 100 levels of messages."""

_MASK = 0xFFFFFFFFFFFFFFFF
Encode = Callable[[Any, int], bytes]
"""Encodes a value that is in so many objects. ValueError where it is of another kind."""


def to_protobuf(signal: str, text: bytes) -> bytes:
    """The payload of an OTLP/JSON body. ValueError with a short reason where it is not one.

    What is not UTF-8, and lone surrogates, are not UTF-8 in the payload either.
    """
    try:
        try:
            document = decoder.decode(text.decode(json.detect_encoding(text), "surrogatepass"))
        except UnicodeDecodeError:
            document = decoder.decode(text.decode("utf-8", "surrogateescape"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except json.JSONDecodeError as error:
        # the decoder's own words hold a position but no data
        raise ValueError(f"not JSON: {error.msg} at {error.pos}") from None
    return encode_request(signal, document)


def encode_request(signal: str, document: Any) -> bytes:
    """The payload of a JSON document that was decoded. ValueError where it is not OTLP."""
    return _message(table_of(request_descriptor(signal)), document, 0)


def _no_json(word: str) -> Any:
    raise ValueError(f"not JSON: a bare {word}")


decoder = json.JSONDecoder(parse_constant=_no_json)
"""Of JSON without words for numbers that are none."""


def _message(table: dict[str, tuple[bytes, Encode, bool]], value: Any, depth: int) -> bytes:
    """The message of a JSON object; `table` has (tag, encoder, repeated) by either name of each field."""
    if not isinstance(value, dict):
        raise ValueError(f"an object is needed where there is {kind_of(value)}")
    if depth > MAX_DEPTH:
        raise ValueError("nested too deeply")
    out = []
    for name, item in value.items():
        field = table.get(name)
        if field is None or item is None:
            continue
        tag, encode, repeated = field
        if repeated:
            if not isinstance(item, list):
                raise ValueError(f"{name}: a list is needed where there is {kind_of(item)}")
            for element in item:
                out.append(tag)
                out.append(encode(element, depth + 1))
        else:
            out.append(tag)
            out.append(encode(item, depth + 1))
    return b"".join(out)


def kind_of(value: Any) -> str:
    """What a decoded JSON value is, in words."""
    return {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}.get(type(value), "a number")


@cache
def table_of(descriptor: Any) -> dict[str, tuple[bytes, Encode, bool]]:
    """Tag, encoder, and whether it is repeated, of each field of a message, by either name."""
    table = {}
    for field in descriptor.fields:
        entry = (varint(field.number << 3 | _WIRE_TYPES.get(field.type, 0)), _encoder(field), bool(field.is_repeated))
        table[field.name] = table[field.json_name] = entry
    return table


def _encoder(field: Any) -> Encode:
    kind = field.type
    if kind == field.TYPE_MESSAGE:
        descriptor = field.message_type

        def message(value: Any, depth: int) -> bytes:
            data = _message(table_of(descriptor), value, depth)
            return varint(len(data)) + data

        return message
    if kind == field.TYPE_STRING:
        return _string
    if kind == field.TYPE_BYTES:
        size = IDS.get(field.name)
        return _base64 if size is None else partial(_id, size)
    if kind == field.TYPE_BOOL:
        return _bool
    if kind == field.TYPE_DOUBLE:
        return _double
    if kind == field.TYPE_ENUM:
        names = {value.name: value.number for value in field.enum_type.values}

        def enum(value: Any, depth: int) -> bytes:
            number = names.get(value, value) if isinstance(value, str) else value
            return varint(_integer(number, -(1 << 31), (1 << 31) - 1) & _MASK)

        return enum
    low, high = _RANGES[kind]
    if kind in (field.TYPE_FIXED64, field.TYPE_SFIXED64):
        return lambda value, depth: (_integer(value, low, high) & _MASK).to_bytes(8, "little")
    if kind == field.TYPE_FIXED32:
        return lambda value, depth: _integer(value, low, high).to_bytes(4, "little")
    if kind == field.TYPE_SINT32:
        return lambda value, depth: varint(n << 1 if (n := _integer(value, low, high)) >= 0 else (-n << 1) - 1)
    return lambda value, depth: varint(_integer(value, low, high) & _MASK)


# FieldDescriptor's numbers of the types
_WIRE_TYPES = {1: 1, 6: 1, 16: 1, 7: 5, 9: 2, 11: 2, 12: 2}
_RANGES = {
    3: (-(1 << 63), (1 << 63) - 1),
    4: (0, (1 << 64) - 1),
    5: (-(1 << 31), (1 << 31) - 1),
    6: (0, (1 << 64) - 1),
    7: (0, (1 << 32) - 1),
    13: (0, (1 << 32) - 1),
    16: (-(1 << 63), (1 << 63) - 1),
    17: (-(1 << 31), (1 << 31) - 1),
}


def _string(value: Any, depth: int) -> bytes:
    if not isinstance(value, str):
        raise ValueError(f"a string is needed where there is {kind_of(value)}")
    data = value.encode("utf-8", "surrogatepass")
    return varint(len(data)) + data


def _id(size: int, value: Any, depth: int) -> bytes:
    try:
        data = bytes.fromhex(value)
    except (TypeError, ValueError):
        raise ValueError("an id is not hexadecimal") from None
    if len(data) not in (0, size) or len(data) * 2 != len(value):
        raise ValueError(f"an id that does not have {size} bytes")
    return varint(len(data)) + data


def _base64(value: Any, depth: int) -> bytes:
    try:
        if not isinstance(value, str):
            raise TypeError
        data = base64.b64decode(value.translate(_URL_SAFE) + "=" * (-len(value) % 4), validate=True)
    except (TypeError, binascii.Error, ValueError):
        raise ValueError("bytes are not base64") from None
    return varint(len(data)) + data


_URL_SAFE = str.maketrans("-_", "+/")


def _bool(value: Any, depth: int) -> bytes:
    if not isinstance(value, bool):
        raise ValueError(f"a boolean is needed where there is {kind_of(value)}")
    return b"\x01" if value else b"\x00"


def _double(value: Any, depth: int) -> bytes:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"a number is needed where there is {kind_of(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number out of range")
    try:
        return struct.pack("<d", float(value))
    except (ValueError, OverflowError):
        raise ValueError("not a number") from None


def _integer(value: Any, low: int, high: int) -> int:
    if isinstance(value, str):
        if len(value) > 40:
            raise ValueError("not an integer")
        try:
            value = int(value)
        except ValueError:
            raise ValueError("not an integer") from None
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("not an integer")
    if not low <= value <= high:
        raise ValueError("integer out of range")
    return value


def from_protobuf(signal: str, payload: bytes) -> bytes:
    """The OTLP/JSON body of a payload. ValueError where it is malformed."""
    document = _object(parse(checker(signal), payload), _writers(request_descriptor(signal)))
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def _object(message: Any, writers: dict[int, tuple[str, Callable[[Any], Any], bool]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for field, value in message.ListFields():
        name, write, repeated = writers[field.number]
        out[name] = [write(element) for element in value] if repeated else write(value)
    return out


@cache
def _writers(descriptor: Any) -> dict[int, tuple[str, Callable[[Any], Any], bool]]:
    return {field.number: (field.json_name, _writer(field), bool(field.is_repeated)) for field in descriptor.fields}


def _writer(field: Any) -> Callable[[Any], Any]:
    kind = field.type
    if kind == field.TYPE_MESSAGE:
        descriptor = field.message_type
        return lambda value: _object(value, _writers(descriptor))
    if kind == field.TYPE_STRING:
        return lambda value: value.decode("utf-8", "replace")
    if kind == field.TYPE_BYTES:
        return bytes.hex if field.name in IDS else lambda value: base64.b64encode(value).decode()
    if kind in (3, 4, 6, 16):
        return str
    if kind == field.TYPE_DOUBLE:
        return _json_double
    return lambda value: value


def _json_double(value: float) -> Any:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
