"""Google's messages of OTLP parts, for conditions: strings that are not UTF-8 get replacement characters instead of an error."""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf import message_factory
from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from kofagent.wire.lens import parse
from kofagent.wire.otlp import checker, parse_metric

_CLASSES: dict[str, Any] = {
    "value": AnyValue,
    "resource": Resource,
    "scope": InstrumentationScope,
    "log": LogRecord,
    "span": Span,
    "metric": Metric,
}
_SIGNALS = {"log": "logs", "span": "traces", "metric": "metrics"}


def read(kind: str, data: bytes) -> Any:
    """The message of `kind` (value, resource, scope, log, span, metric) in `data`. ValueError where it is malformed."""
    try:
        return _CLASSES[kind].FromString(data)
    except DecodeError:
        pass
    message = _CLASSES[kind]()
    _copy(parse(_lenient(kind), data), message)
    return message


def bare_metric(record: bytes, kind: str) -> Any:
    """The Metric of this kind without its data points."""
    metric = parse_metric(record)
    getattr(metric, kind).ClearField("points")
    return read("metric", metric.SerializeToString())


@cache
def _lenient(kind: str) -> Any:
    """The class of `kind` with strings declared as bytes."""
    pool = checker(_SIGNALS.get(kind, "logs")).DESCRIPTOR.file.pool
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(_CLASSES[kind].DESCRIPTOR.full_name))


def _copy(source: Any, target: Any) -> None:
    for field, value in source.ListFields():
        wanted = target.DESCRIPTOR.fields_by_name[field.name]
        text = wanted.type == wanted.TYPE_STRING
        if field.is_repeated:
            into = getattr(target, field.name)
            for element in value:
                if field.type == field.TYPE_MESSAGE:
                    _copy(element, into.add())
                else:
                    into.append(element.decode("utf-8", "replace") if text else element)
        elif field.type == field.TYPE_MESSAGE:
            getattr(target, field.name).SetInParent()
            _copy(value, getattr(target, field.name))
        else:
            setattr(target, field.name, value.decode("utf-8", "replace") if text else value)


@cache
def _requests() -> dict[str, Any]:
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    return {"logs": ExportLogsServiceRequest, "metrics": ExportMetricsServiceRequest, "traces": ExportTraceServiceRequest}


def read_request(signal: str, data: bytes) -> Any:
    """The whole request of a signal (logs, metrics, traces). ValueError where it is malformed."""
    made = _requests()[signal]
    try:
        return made.FromString(data)
    except DecodeError:
        pass
    message = made()
    _copy(parse(checker(signal), data), message)
    return message
