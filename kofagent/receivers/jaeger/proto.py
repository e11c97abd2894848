"""PostSpansRequest of jaeger.api_v2 (model.proto, github.com/jaegertracing/jaeger-idl) as spans."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kofagent.receivers.jaeger.model import CHILD_OF, JaegerSpan, Log, Reference, resource, translate
from kofagent.transform.spans import Attributes, Spans
from kofagent.wire.expansion import STRUCT_BYTES, Expansion
from kofagent.wire.lens import lenses, parse

# What repeats is left as bytes and read one by one: parsed at once, an empty message of two bytes takes some 130.
_messages = lenses(
    "kofagent.jaeger",
    {
        "PostSpansRequest": {"batch": (1, "Batch")},
        "Batch": {"spans": (1, "*bytes"), "process": (2, "Process")},
        "Process": {"service_name": (1, "bytes"), "tags": (2, "*bytes")},
        "Span": {
            "trace_id": (1, "bytes"),
            "span_id": (2, "bytes"),
            "operation_name": (3, "bytes"),
            "references": (4, "*bytes"),
            "start_time": (6, "Time"),
            "duration": (7, "Time"),
            "tags": (8, "*bytes"),
            "logs": (9, "*bytes"),
            "process": (10, "Process"),
        },
        "SpanRef": {"trace_id": (1, "bytes"), "span_id": (2, "bytes"), "ref_type": (3, "int32")},
        "Time": {"seconds": (1, "int64"), "nanos": (2, "int32")},
        "Log": {"timestamp": (1, "Time"), "fields": (2, "*bytes")},
        "KeyValue": {
            "key": (1, "bytes"),
            "v_type": (2, "int32"),
            "v_str": (3, "bytes"),
            "v_bool": (4, "bool"),
            "v_int64": (5, "int64"),
            "v_float64": (6, "double"),
            "v_binary": (7, "bytes"),
        },
    },
)
_KINDS = ("v_str", "v_bool", "v_int64", "v_float64", "v_binary")


def request(data: bytes) -> Spans:
    """The spans of a request. ValueError where it is malformed, or where an id has another length."""
    batch = parse(_messages["PostSpansRequest"], data).batch
    expansion = Expansion(len(data))
    common = _resource(batch.process, expansion) if batch.HasField("process") else {}
    out = Spans()
    for each in _each("Span", batch.spans, expansion):
        of = _resource(each.process, expansion) if each.HasField("process") else common
        scope, span = translate(_span(each, expansion))
        out.add(of, scope, span)
    return out


def _resource(process: Any, expansion: Expansion) -> Attributes:
    return resource(_text(process.service_name), _tags(process.tags, expansion))


def _span(found: Any, expansion: Expansion) -> JaegerSpan:
    trace_id = _id(found.trace_id, 16)
    references = [
        Reference(_id(each.trace_id, 16), _id(each.span_id, 8), each.ref_type)
        for each in _each("SpanRef", found.references, expansion)
    ]
    parent = next((each.span_id for each in references if each.kind == CHILD_OF and each.trace_id == trace_id), b"")
    return JaegerSpan(
        trace_id,
        _id(found.span_id, 8),
        parent or bytes(8),
        _text(found.operation_name),
        _ns(found.start_time),
        _ns(found.duration),
        _tags(found.tags, expansion),
        references,
        [Log(_ns(each.timestamp), _tags(each.fields, expansion)) for each in _each("Log", found.logs, expansion)],
    )


def _each(name: str, raws: Any, expansion: Expansion) -> Iterator[Any]:
    """The messages of a repeated field; ValueError where there are too many for their size."""
    expansion.take(STRUCT_BYTES * len(raws))
    for raw in raws:
        yield parse(_messages[name], raw)


def _id(value: bytes, size: int) -> bytes:
    """An id. ValueError for one of another length, but an absent one is all zeros."""
    if not value:
        return bytes(size)
    if len(value) != size:
        raise ValueError(f"an id of {len(value)} bytes in place of {size}")
    return value


def _ns(time: Any) -> int:
    found: int = time.seconds * 1_000_000_000 + time.nanos
    return found


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _tags(raws: Any, expansion: Expansion) -> Attributes:
    out: Attributes = {}
    for each in _each("KeyValue", raws, expansion):
        kind = each.v_type
        if 0 <= kind < len(_KINDS):
            value = getattr(each, _KINDS[kind])
            out[_text(each.key)] = _text(value) if kind == 0 else value
        else:
            out[_text(each.key)] = f'<Unknown Jaeger TagType "{kind}">'
    return out
