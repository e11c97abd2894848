"""Writes Thrift's binary and compact protocols: a struct is a dict of field id to (type, value), as the readers' twin in tests."""

from __future__ import annotations

import struct
from typing import Any

BINARY = {
    "bool": 2,
    "byte": 3,
    "double": 4,
    "i16": 6,
    "i32": 8,
    "i64": 10,
    "string": 11,
    "struct": 12,
    "map": 13,
    "set": 14,
    "list": 15,
}
COMPACT = {
    "bool": 1,
    "byte": 3,
    "i16": 4,
    "i32": 5,
    "i64": 6,
    "double": 7,
    "string": 8,
    "list": 9,
    "set": 10,
    "map": 11,
    "struct": 12,
}
FORMS = {"byte": ">b", "double": ">d", "i16": ">h", "i32": ">i", "i64": ">q"}
Typed = tuple[Any, ...]
"""(type, value); of a list or set (type, element type, values); of a map ("map", key type, value type, pairs)."""


def plain(typed: Typed) -> Any:
    """What a reader makes of it."""
    match typed:
        case ("struct", fields):
            return {number: plain(value) for number, value in fields.items()}
        case ("list" | "set", kind, values):
            return [plain((kind, *value) if kind in ("struct", "list", "set", "map") else (kind, value)) for value in values]
        case ("map", key, value, pairs):
            return {plain((key, k)): plain((value, v)) for k, v in pairs}
    return typed[1]


def binary(typed: Typed) -> bytes:
    """The binary protocol."""
    kind = typed[0]
    if kind in FORMS:
        return struct.pack(FORMS[kind], typed[1])
    if kind == "bool":
        return bytes([typed[1]])
    if kind == "string":
        return struct.pack(">i", len(typed[1])) + typed[1]
    if kind == "struct":
        fields = [bytes([BINARY[value[0]]]) + struct.pack(">h", number) + binary(value) for number, value in typed[1].items()]
        return b"".join(fields) + b"\0"
    if kind == "map":
        _, key, value, pairs = typed
        head = bytes([BINARY[key], BINARY[value]]) + struct.pack(">i", len(pairs))
        return head + b"".join([binary((key, k)) + binary((value, v)) for k, v in pairs])
    _, element, values = typed
    return bytes([BINARY[element]]) + struct.pack(">i", len(values)) + b"".join([binary(_element(element, v)) for v in values])


def compact(typed: Typed, alone: bool = True) -> bytes:
    """The compact protocol. `alone`: a boolean is not in the head of a field."""
    kind = typed[0]
    if kind == "byte":
        return struct.pack("b", typed[1])
    if kind == "double":
        return struct.pack("<d", typed[1])
    if kind in ("i16", "i32", "i64"):
        return _varint(((typed[1] << 1) ^ (typed[1] >> 63)) & 0xFFFFFFFFFFFFFFFF)
    if kind == "bool":
        return (b"\x01" if typed[1] else b"\x02") if alone else b""
    if kind == "string":
        return _varint(len(typed[1])) + typed[1]
    if kind == "struct":
        out, last = b"", 0
        for number, value in typed[1].items():
            type_ = (1 if value[1] else 2) if value[0] == "bool" else COMPACT[value[0]]
            delta = number - last
            head = bytes([delta << 4 | type_]) if 0 < delta < 16 else bytes([type_]) + compact(("i16", number))
            out += head + compact(value, alone=False)
            last = number
        return out + b"\0"
    if kind == "map":
        _, key, value, pairs = typed
        if not pairs:
            return b"\0"
        return (
            _varint(len(pairs))
            + bytes([COMPACT[key] << 4 | COMPACT[value]])
            + b"".join([compact((key, k)) + compact((value, v)) for k, v in pairs])
        )
    _, element, values = typed
    size = len(values)
    head = bytes([min(size, 15) << 4 | COMPACT[element]]) + (_varint(size) if size >= 15 else b"")
    return head + b"".join([compact(_element(element, v)) for v in values])


def _element(kind: str, value: Any) -> Typed:
    return (kind, *value) if kind in ("struct", "list", "set", "map") else (kind, value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
