"""PostSpansRequest of jaeger.api_v2 (model.proto, github.com/jaegertracing/jaeger-idl) as spans."""

from __future__ import annotations

from typing import Any

from kofagent.receivers.jaeger.model import CHILD_OF, JaegerSpan, Log, Reference, resource, translate
from kofagent.transform.spans import Attributes, Spans
from kofagent.wire.expansion import STRUCT_BYTES, Expansion
from kofagent.wire.lens import lenses, parse

_messages = lenses(
    "kofagent.jaeger",
    {
        "PostSpansRequest": {"batch": (1, "Batch")},
        "Batch": {"spans": (1, "*Span"), "process": (2, "Process")},
        "Process": {"service_name": (1, "bytes"), "tags": (2, "*KeyValue")},
        "Span": {
            "trace_id": (1, "bytes"),
            "span_id": (2, "bytes"),
            "operation_name": (3, "bytes"),
            "references": (4, "*SpanRef"),
            "start_time": (6, "Time"),
            "duration": (7, "Time"),
            "tags": (8, "*KeyValue"),
            "logs": (9, "*Log"),
            "process": (10, "Process"),
        },
        "SpanRef": {"trace_id": (1, "bytes"), "span_id": (2, "bytes"), "ref_type": (3, "int32")},
        "Time": {"seconds": (1, "int64"), "nanos": (2, "int32")},
        "Log": {"timestamp": (1, "Time"), "fields": (2, "*KeyValue")},
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
    common = _resource(batch.process) if batch.HasField("process") else {}
    out = Spans()
    expansion = Expansion(len(data))
    for each in batch.spans:
        expansion.take(STRUCT_BYTES * (1 + len(each.references) + len(each.tags) + len(each.logs)))
        expansion.take(STRUCT_BYTES * sum(len(log.fields) for log in each.logs))
        of = _resource(each.process) if each.HasField("process") else common
        scope, span = translate(_span(each))
        out.add(of, scope, span)
    return out


def _resource(process: Any) -> Attributes:
    return resource(_text(process.service_name), _tags(process.tags))


def _span(found: Any) -> JaegerSpan:
    trace_id = _id(found.trace_id, 16)
    references = [Reference(_id(each.trace_id, 16), _id(each.span_id, 8), each.ref_type) for each in found.references]
    parent = next((each.span_id for each in references if each.kind == CHILD_OF and each.trace_id == trace_id), b"")
    return JaegerSpan(
        trace_id,
        _id(found.span_id, 8),
        parent or bytes(8),
        _text(found.operation_name),
        _ns(found.start_time),
        _ns(found.duration),
        _tags(found.tags),
        references,
        [Log(_ns(each.timestamp), _tags(each.fields)) for each in found.logs],
    )


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


def _tags(found: Any) -> Attributes:
    out: Attributes = {}
    for each in found:
        kind = each.v_type
        if 0 <= kind < len(_KINDS):
            value = getattr(each, _KINDS[kind])
            out[_text(each.key)] = _text(value) if kind == 0 else value
        else:
            out[_text(each.key)] = f'<Unknown Jaeger TagType "{kind}">'
    return out
