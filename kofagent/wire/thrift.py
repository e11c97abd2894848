"""Apache Thrift's binary and compact protocols, read into plain objects: a struct is a dict by field id, a string stays bytes.

Nothing is known of the structs that are read, so unknown fields cost nothing to skip. What is announced
and does not come ends the reading, nesting ends at `MAX_DEPTH`, and what is read takes
a bounded number of bytes for each of the data. ValueError for anything else than a whole value.
https://github.com/apache/thrift/tree/master/doc/specs
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, Protocol

from kofagent.wire.expansion import STRUCT_BYTES, Expansion

MAX_DEPTH = 32
"""Structs and containers within one another."""
_FIELD_BYTES = 50
"""What a field of a struct takes."""
Struct = dict[int, Any]

_STOP, _BOOL, _BYTE, _DOUBLE, _I16, _I32, _I64, _STRING, _STRUCT, _MAP, _SET, _LIST = 0, 2, 3, 4, 6, 8, 10, 11, 12, 13, 14, 15
_NUMBERS = {
    _BYTE: struct.Struct(">b"),
    _DOUBLE: struct.Struct(">d"),
    _I16: struct.Struct(">h"),
    _I32: struct.Struct(">i"),
    _I64: struct.Struct(">q"),
}
_LITTLE_DOUBLE = struct.Struct("<d")
_VERSION_1 = 0x80010000
_COMPACT_ID = 0x82
_TRUE, _FALSE, _C_BYTE, _C_I16, _C_I32, _C_I64, _C_DOUBLE, _C_BINARY, _C_LIST, _C_SET, _C_MAP, _C_STRUCT = range(1, 13)
_CUT_OFF = "the data is cut off"


class Reader(Protocol):
    """One protocol over some bytes."""

    def message(self) -> tuple[str, Struct]:
        """Name and arguments of a call."""
        ...

    def struct(self, depth: int = 0) -> Struct:
        """The struct that begins here."""
        ...

    def structs(self) -> list[Struct]:
        """The list of structs that begins here, without a struct around it."""
        ...


class _Bytes:
    """Bytes that are read from front to back."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._expansion = Expansion(len(data))

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if size < 0 or end > len(self._data):
            raise ValueError(_CUT_OFF)
        found = self._data[self._at : end]
        self._at = end
        return found

    def _byte(self) -> int:
        at = self._at
        if at >= len(self._data):
            raise ValueError(_CUT_OFF)
        self._at = at + 1
        return self._data[at]

    def _whole(self, made: Struct) -> Struct:
        """A struct whose end was read."""
        self._expansion.take(STRUCT_BYTES + _FIELD_BYTES * len(made))
        return made

    def _count(self, count: int) -> int:
        """A number of elements; each takes a byte at least, so that reading ends with the data."""
        if count < 0:
            raise ValueError(_CUT_OFF)
        return count


class BinaryReader(_Bytes):
    """The binary protocol, its messages strict or not."""

    def message(self) -> tuple[str, Struct]:
        """Name and arguments of a call."""
        first = self._number(_I32)
        if first < 0:
            if first & 0xFFFF0000 != _VERSION_1:
                raise ValueError("a message of an unknown version of Thrift")
            name = self._take(self._number(_I32))
        else:
            name = self._take(first)
            self._byte()
        self._number(_I32)
        return name.decode("utf-8", "replace"), self.struct()

    def struct(self, depth: int = 0) -> Struct:
        """The struct that begins here."""
        if depth > MAX_DEPTH:
            raise ValueError("nested too deeply")
        out: Struct = {}
        while (kind := self._byte()) != _STOP:
            field: int = self._number(_I16)
            out[field] = self._value(kind, depth)
        return self._whole(out)

    def structs(self) -> list[Struct]:
        """The list of structs that begins here, without a struct around it."""
        return self._list(0)

    def _number(self, kind: int) -> Any:
        form = _NUMBERS[kind]
        try:
            (found,) = form.unpack_from(self._data, self._at)
        except struct.error:
            raise ValueError(_CUT_OFF) from None
        self._at += form.size
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if kind in _NUMBERS:
            return self._number(kind)
        if kind == _STRING:
            return self._take(self._number(_I32))
        if kind == _BOOL:
            return self._byte() != 0
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind in (_LIST, _SET):
            return self._list(depth + 1)
        if kind == _MAP:
            return self._map(depth + 1)
        raise ValueError("a value of an unknown type")

    def _list(self, depth: int) -> list[Any]:
        if depth > MAX_DEPTH:
            raise ValueError("nested too deeply")
        kind = self._byte()
        return [self._value(kind, depth) for _ in range(self._count(self._number(_I32)))]

    def _map(self, depth: int) -> dict[Any, Any]:
        if depth > MAX_DEPTH:
            raise ValueError("nested too deeply")
        key, value = self._byte(), self._byte()
        count = self._count(self._number(_I32))
        return _mapping((self._value(key, depth), self._value(value, depth)) for _ in range(count))


class CompactReader(_Bytes):
    """The compact protocol."""

    def message(self) -> tuple[str, Struct]:
        """Name and arguments of a call."""
        if self._byte() != _COMPACT_ID:
            raise ValueError("not a message of Thrift's compact protocol")
        self._byte()
        self._varint()
        return self._take(self._varint()).decode("utf-8", "replace"), self.struct()

    def struct(self, depth: int = 0) -> Struct:
        """The struct that begins here."""
        if depth > MAX_DEPTH:
            raise ValueError("nested too deeply")
        out: Struct = {}
        field = 0
        while (head := self._byte()) != 0:
            kind = head & 0x0F
            field = field + (head >> 4) if head >> 4 else self._integer()
            out[field] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind, depth)
        return self._whole(out)

    def structs(self) -> list[Struct]:
        """The list of structs that begins here, without a struct around it."""
        return self._list(0)

    def _varint(self) -> int:
        result = shift = 0
        while True:
            byte = self._byte()
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                return result
            shift += 7
            if shift > 63:
                raise ValueError("a number of more than 64 bits")

    def _integer(self) -> int:
        raw = self._varint() & 0xFFFFFFFFFFFFFFFF
        return (raw >> 1) ^ -(raw & 1)

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (_C_I16, _C_I32, _C_I64):
            return self._integer()
        if kind == _C_BINARY:
            return self._take(self._varint())
        if kind in (_TRUE, _FALSE):  # an element: a byte of its own
            return self._byte() == _TRUE
        if kind == _C_BYTE:
            return (self._byte() ^ 0x80) - 0x80
        if kind == _C_DOUBLE:
            return _LITTLE_DOUBLE.unpack(self._take(8))[0]
        if kind == _C_STRUCT:
            return self.struct(depth + 1)
        if kind in (_C_LIST, _C_SET):
            return self._list(depth + 1)
        if kind == _C_MAP:
            return self._map(depth + 1)
        raise ValueError("a value of an unknown type")

    def _list(self, depth: int) -> list[Any]:
        if depth > MAX_DEPTH:
            raise ValueError("nested too deeply")
        head = self._byte()
        count = head >> 4
        if count == 15:
            count = self._varint()
        kind = head & 0x0F
        return [self._value(kind, depth) for _ in range(count)]

    def _map(self, depth: int) -> dict[Any, Any]:
        if depth > MAX_DEPTH:
            raise ValueError("nested too deeply")
        count = self._varint()
        if not count:
            return {}
        kinds = self._byte()
        key, value = kinds >> 4, kinds & 0x0F
        return _mapping((self._value(key, depth), self._value(value, depth)) for _ in range(count))


def _mapping(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    try:
        return dict(pairs)
    except TypeError:
        raise ValueError("a map whose keys are containers") from None
