"""OTLP requests made with Google's protobuf, and processors between a test and a sink."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from kofagent.telemetry.batch import Batch
from kofagent.telemetry.signal import Signal
from kofagent.transform.anyvalue import attributes as to_dict
from kofagent.wire import otlp
from kofagent.wire.attributes import encode_value
from tests.support.components import FakeHost, Sink, make

REQUESTS: dict[Signal, Any] = {
    Signal.LOGS: ExportLogsServiceRequest,
    Signal.METRICS: ExportMetricsServiceRequest,
    Signal.TRACES: ExportTraceServiceRequest,
}


def pairs(values: Mapping[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=k, value=AnyValue.FromString(encode_value(v))) for k, v in values.items()]


def logs(*records: Mapping[str, Any], resource: Mapping[str, Any] | None = None, scope: str = "") -> ExportLogsServiceRequest:
    """One resource; a record has body, severity, text and attributes."""
    request = ExportLogsServiceRequest()
    entry = request.resource_logs.add()
    entry.resource.attributes.extend(pairs(resource or {}))
    scopes = entry.scope_logs.add()
    scopes.scope.name = scope
    for r in records:
        record = scopes.log_records.add(severity_number=r.get("severity", 0), severity_text=r.get("text", ""), time_unix_nano=7)
        if "body" in r:
            record.body.CopyFrom(AnyValue.FromString(encode_value(r["body"])))
        record.attributes.extend(pairs(r.get("attributes", {})))
    return request


def spans(
    *records: Mapping[str, Any], resource: Mapping[str, Any] | None = None, scope: str = "", version: str = ""
) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    entry = request.resource_spans.add()
    entry.resource.attributes.extend(pairs(resource or {}))
    scopes = entry.scope_spans.add()
    scopes.scope.name, scopes.scope.version = scope, version
    for r in records:
        span = scopes.spans.add(name=r.get("name", ""), kind=r.get("kind", 0), trace_id=b"t" * 16, span_id=b"s" * 8)
        span.attributes.extend(pairs(r.get("attributes", {})))
        for event in r.get("events", ()):
            span.events.add(name=event)
    return request


def metrics(
    *names: str,
    resource: Mapping[str, Any] | None = None,
    points: int = 1,
    kind: str = "gauge",
    attributes: Mapping[str, Any] | None = None,
) -> ExportMetricsServiceRequest:
    """Metrics of one kind, with `points` points each, numbered by the attribute `n`."""
    request = ExportMetricsServiceRequest()
    entry = request.resource_metrics.add()
    entry.resource.attributes.extend(pairs(resource or {}))
    scopes = entry.scope_metrics.add()
    for name in names:
        metric = scopes.metrics.add(name=name, unit="1")
        for n in range(points):
            point = getattr(metric, kind).data_points.add(time_unix_nano=n)
            point.attributes.extend(pairs({"n": n, **(attributes or {})}))
    return request


def batch(signal: Signal, *requests: Any, metadata: Mapping[str, tuple[str, ...]] | None = None) -> Batch:
    payload = b"".join(r.SerializeToString() for r in requests)
    return Batch(signal, payload, otlp.count(signal.value, payload), metadata)


def processor(
    cls: Any, options: Mapping[str, Any], signal: Signal, host: FakeHost | None = None, id: str = "p"
) -> tuple[Any, Sink]:
    """A processor that is not started, and what it hands on."""
    made = make(cls, options, kind="processors", id=id, host=host)
    sink = Sink()
    made.signal, made.next = signal, sink
    return made, sink


async def run(cls: Any, options: Mapping[str, Any], given: Batch, host: FakeHost | None = None) -> Any:
    """The request that comes out (an empty one when nothing does)."""
    made, sink = processor(cls, options, given.signal, host)
    await made.start()
    try:
        await made.consume(given)
    finally:
        await made.stop()
    out = REQUESTS[given.signal].FromString(sink.payload(given.signal))
    assert sum(b.count for b in sink.batches) == otlp.count(given.signal.value, sink.payload(given.signal))
    return out


def resource_of(request: Any, index: int = 0) -> dict[str, Any]:
    (entries,) = [getattr(request, f.name) for f in request.DESCRIPTOR.fields]
    return to_dict(entries[index].resource.attributes)
