"""Batches of jaeger.thrift (github.com/jaegertracing/jaeger-idl): a struct by field id becomes spans."""

from __future__ import annotations

from typing import Any

from kofagent.receivers.jaeger.model import FOLLOWS_FROM, JaegerSpan, Log, Reference, resource, translate
from kofagent.transform.spans import Attributes, Spans, nanoseconds
from kofagent.wire.thrift import BinaryReader, CompactReader, Struct

_VALUES: dict[int, tuple[int, type, Any]] = {
    0: (3, bytes, b""),
    1: (4, float, 0.0),
    2: (5, bool, False),
    3: (6, int, 0),
    4: (7, bytes, b""),
}
"""The field of a tag that has its value, its type, and what it is when it is absent: string, double, bool, long, binary."""
EMIT_BATCH = "emitBatch"


def datagram(data: bytes, compact: bool) -> Spans:
    """The spans of a call of the agent. ValueError for anything but emitBatch."""
    name, arguments = (CompactReader(data) if compact else BinaryReader(data)).message()
    if name != EMIT_BATCH:
        raise ValueError("a call that is not emitBatch")
    return batch(_struct(arguments.get(1)))


def body(data: bytes) -> Spans:
    """The spans of a body of POST /api/traces. ValueError."""
    return batch(BinaryReader(data).struct())


def batch(found: Struct) -> Spans:
    """The spans of a Batch. ValueError where fields have other types."""
    process = _struct(found.get(1))
    of = resource(_text(process.get(1)), _tags(process.get(2)))
    out = Spans()
    for each in _list(found.get(2)):
        scope, span = translate(_span(_struct(each)))
        out.add(of, scope, span)
    return out


def _span(found: Struct) -> JaegerSpan:
    return JaegerSpan(
        _trace_id(found, 1, 2),
        _id(found.get(3)),
        _id(found.get(4)),
        _text(found.get(5)),
        nanoseconds(_int(found.get(8))),
        nanoseconds(_int(found.get(9))),
        _tags(found.get(10)),
        [
            Reference(_trace_id(each, 2, 3), _id(each.get(4)), FOLLOWS_FROM if _int(each.get(1)) else 0)
            for each in map(_struct, _list(found.get(6)))
        ],
        [Log(nanoseconds(_int(each.get(1))), _tags(each.get(2))) for each in map(_struct, _list(found.get(11)))],
    )


def _trace_id(found: Struct, low: int, high: int) -> bytes:
    return _id(found.get(high)) + _id(found.get(low))


def _id(value: Any) -> bytes:
    return (_int(value) & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "big")


def _tags(value: Any) -> Attributes:
    out: Attributes = {}
    for tag in map(_struct, _list(value)):
        kind = _int(tag.get(2))
        if kind in _VALUES:
            field, of, absent = _VALUES[kind]
            found = tag.get(field, absent)
            if not isinstance(found, of):
                raise ValueError("a tag whose value has another type")
            out[_text(tag.get(1))] = _text(found) if kind == 0 else found
        else:
            out[_text(tag.get(1))] = f'<Unknown Jaeger TagType "{kind}">'
    return out


def _int(value: Any) -> int:
    if value is None:
        return 0
    if not isinstance(value, int):
        raise ValueError("a field of another type")
    return value


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, bytes):
        raise ValueError("a field of another type")
    return value.decode("utf-8", "replace")


def _struct(value: Any) -> Struct:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError("a field of another type")
    return value


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError("a field of another type")
    return value
