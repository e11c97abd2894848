"""The fields of a protobuf message, one after the other, without knowing the message (protobuf.dev/programming-guides/encoding).

For the few places where a message is looked into by hand; what is read in bulk goes through the lenses of `otlp.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

from kofagent.wire.varint import read_varint

VARINT, FIXED64, DELIMITED, START_GROUP, END_GROUP, FIXED32 = range(6)
MAX_GROUP_DEPTH = 100


def fields(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int, int, int]]:
    """(field number, wire type, start, end) of every field of the message `data[start:end]`, in order.

    `start` and `end` bound the value: the bytes of a fixed or delimited field without its length, the varint itself, or what
    is inside a group. Nothing is copied. ValueError where the bytes are no protobuf message.
    """
    for number, kind, begin, stop, _ in placed(data, start, len(data) if end is None else end):
        yield number, kind, begin, stop


def placed(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """As `fields`, and where the field itself begins, with its tag."""
    at = start
    while at < end:
        first = at
        tag, at = read_varint(data, at)
        number, kind = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise ValueError("field number out of range")
        begin, stop, at = _value(data, at, number, kind, end)
        yield number, kind, begin, stop, first


def _value(data: bytes, at: int, number: int, kind: int, end: int) -> tuple[int, int, int]:
    """Start and end of the value at `at`, and the offset of the next field."""
    begin = at
    if kind == DELIMITED:
        size, begin = read_varint(data, at)
        at = begin + size
    elif kind == VARINT:
        at = read_varint(data, at)[1]
    elif kind == FIXED64:
        at += 8
    elif kind == FIXED32:
        at += 4
    elif kind == START_GROUP:
        stop, at = _group(data, at, number, end)
        return begin, stop, at
    else:
        raise ValueError("group ends that never began" if kind == END_GROUP else f"wire type {kind}")
    if at > end:
        raise ValueError("field cut off")
    return begin, at, at


def _group(data: bytes, at: int, number: int, end: int) -> tuple[int, int]:
    """Where the content of the group that was opened before `at` ends, and the offset behind it."""
    open_groups = [number]
    while True:
        stop = at
        if at >= end:
            raise ValueError("group cut off")
        tag, at = read_varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == END_GROUP:
            if open_groups.pop() != number:
                raise ValueError("group ends that never began")
            if not open_groups:
                if at > end:
                    raise ValueError("group cut off")
                return stop, at
        elif kind == START_GROUP:
            open_groups.append(number)
            if len(open_groups) > MAX_GROUP_DEPTH:
                raise ValueError("groups nested too deeply")
        else:
            at = _value(data, at, number, kind, end)[2]


def delimited(data: bytes, number: int) -> list[bytes]:
    """The payloads of all fields `number` of wire type 2, in order. ValueError as `fields`."""
    return [data[start:end] for field, kind, start, end in fields(data) if field == number and kind == DELIMITED]
