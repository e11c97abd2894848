"""OTLP payloads of the three signals: count, look into and build, mostly without decoding; `otlp_check`
checks them, `otlp_split` cuts them.

A payload is the body of an `Export{Logs,Metrics,Trace}ServiceRequest` (opentelemetry-proto, v1): field 1, repeated. The three
requests have one outline, and one lens shows it for all of them:

    Request   { repeated Resource resources = 1 }                                resource_logs, resource_metrics, resource_spans
    Resource  { Resource resource = 1; repeated Scope scopes = 2; string schema_url = 3 }
    Scope     { InstrumentationScope scope = 1; repeated Record records = 2; string schema_url = 3 }

`resource`, `scope`, `schema_url` and every record (LogRecord, Metric, Span) are bytes in it. To read:

    for entry in resources(payload):                 # entry.resource: bytes of the Resource message
        for scope in entry.scopes:                   # scope.scope: bytes of the InstrumentationScope message
            for record in scope.records: ...         # bytes of a LogRecord, Metric or Span

To change: `request = parse_request(payload)`, assign to `entry.resource`, `scope.scope` or, for records,
`replace(scope.records, new)`, then `request.SerializeToString()`; fields that the lens does not name survive. To filter or
rewrite every record there is `map_records`. Signals are named by their words: `logs`, `metrics`, `traces`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from typing import Any, Protocol

from kofagent.wire.lens import lenses, parse
from kofagent.wire.varint import length_delimited, varint
from kofagent.wire.walk import DELIMITED, fields


class ScopeView(Protocol):
    """`ScopeLogs`, `ScopeMetrics` or `ScopeSpans` through the lens."""

    scope: bytes
    records: Any
    """A mutable sequence of bytes: append, extend, clear, del."""
    schema_url: bytes

    def HasField(self, name: str) -> bool:  # noqa: N802 - protobuf's name
        """Whether the field is there, empty or not."""
        ...


class ResourceView(Protocol):
    """`ResourceLogs`, `ResourceMetrics` or `ResourceSpans` through the lens."""

    resource: bytes
    scopes: Any
    """A mutable sequence of ScopeView; `add(scope=..., records=..., schema_url=...)` appends one."""
    schema_url: bytes

    def HasField(self, name: str) -> bool:  # noqa: N802 - protobuf's name
        """Whether the field is there, empty or not."""
        ...


class RequestView(Protocol):
    """A whole request through the lens."""

    resources: Any
    """A mutable sequence of ResourceView; `add(resource=..., schema_url=...)` appends one."""

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        """The payload again."""
        ...


_OUTLINE = {
    "Scope": {"scope": (1, "bytes"), "records": (2, "*bytes"), "schema_url": (3, "bytes")},
    "Resource": {"resource": (1, "bytes"), "scopes": (2, "*Scope"), "schema_url": (3, "bytes")},
    "Request": {"resources": (1, "*Resource")},
}
_lens = lenses("kofagent.outline", _OUTLINE)
_Request, _Resource, _Scope = _lens["Request"], _lens["Resource"], _lens["Scope"]

# The metric's data is a oneof of five messages, each with `repeated data_points = 1`.
METRIC_KINDS = {"gauge": 5, "sum": 7, "histogram": 9, "exponential_histogram": 10, "summary": 11}
_POINTS = {"points": (1, "*bytes"), "temporality": (2, "int32"), "is_monotonic": (3, "bool")}
_METRIC: dict[str, tuple[int, str]] = {
    "name": (1, "bytes"),
    "description": (2, "bytes"),
    "unit": (3, "bytes"),
    **{kind: (number, "Points") for kind, number in METRIC_KINDS.items()},
    "metadata": (12, "*bytes"),
}
_metric_lens = lenses(
    "kofagent.metrics",
    {
        "Points": _POINTS,
        "Metric": _METRIC,
        "Scope": {**_OUTLINE["Scope"], "records": (2, "*Metric")},
        "Resource": _OUTLINE["Resource"],
        "Request": _OUTLINE["Request"],
    },
    {"Metric": {"data": list(METRIC_KINDS)}},
)
_MetricRequest, _Metric = _metric_lens["Request"], _metric_lens["Metric"]

REQUESTS = {
    "logs": "opentelemetry.proto.collector.logs.v1.ExportLogsServiceRequest",
    "metrics": "opentelemetry.proto.collector.metrics.v1.ExportMetricsServiceRequest",
    "traces": "opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest",
}


@cache
def request_descriptor(signal: str) -> Any:
    """The official descriptor of a signal's request."""
    package, _, name = REQUESTS[signal].rpartition(".")
    return getattr(import_module(f"{package}.{package.split('.')[-2]}_service_pb2"), name).DESCRIPTOR


def parse_request(payload: bytes) -> RequestView:
    """The payload through the outline lens. ValueError where the outer levels are malformed; records are not looked into."""
    request: RequestView = parse(_Request, payload)
    return request


def new_request() -> RequestView:
    """An empty request, to be filled through the outline lens."""
    request: RequestView = _Request()
    return request


def resources(payload: bytes) -> Iterable[ResourceView]:
    """The resources of a payload, to be read. ValueError as `parse_request`."""
    return parse_request(payload).resources  # type: ignore[no-any-return]


def replace(records: Any, new: Iterable[bytes]) -> None:
    """Makes `new` the content of a repeated bytes field such as `scope.records`."""
    new = list(new)
    del records[:]
    records.extend(new)


def count(signal: str, payload: bytes) -> int:
    """The items in a payload: log records, data points or spans. ValueError where the levels it walks are malformed."""
    # hot: otlp_http_span, 0.03 us a span, upb walks the outline in C and the records stay bytes
    if signal == "metrics":
        return sum(
            [
                len(getattr(metric, kind).points)
                for entry in parse(_MetricRequest, payload).resources
                for scope in entry.scopes
                for metric in scope.records
                if (kind := metric.WhichOneof("data")) is not None
            ]
        )
    return sum([len(scope.records) for entry in parse(_Request, payload).resources for scope in entry.scopes])


COUNTED = frozenset(
    (
        "resource_logs",
        "resource_metrics",
        "resource_spans",
        "scope_logs",
        "scope_metrics",
        "scope_spans",
        "log_records",
        "metrics",
        "spans",
        "data_points",
    )
)
"""The repeated fields on the way to what is counted."""


def schema(signal: str, change: Callable[[Any], None]) -> Any:
    """A pool of the messages of a signal, each one changed by `change(message)`, a DescriptorProto."""
    from google.protobuf import descriptor_pb2, descriptor_pool

    pool = descriptor_pool.DescriptorPool()

    def add(file: Any, done: set[str]) -> None:
        if file.name in done:
            return
        done.add(file.name)
        for dependency in file.dependencies:
            add(dependency, done)
        copy = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(copy)
        pending = list(copy.message_type)
        while pending:
            message = pending.pop()
            pending.extend(message.nested_type)
            change(message)
        pool.Add(copy)

    add(request_descriptor(signal).file, set())
    return pool


@cache
def checker(signal: str) -> Any:
    """The class of the whole request with every string declared as bytes, so that strings that are not UTF-8 can be read, too."""
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(schema(signal, _strings_as_bytes).FindMessageTypeByName(REQUESTS[signal]))


def _strings_as_bytes(message: Any) -> None:
    for field in message.field:
        if field.type == field.TYPE_STRING:
            field.type = field.TYPE_BYTES


def normalise(payload: bytes) -> bytes:
    """The payload without fields other than 1, which later versions of the protocol may add; the same object when it has none."""
    keep = [(start, end) if number == 1 and kind == DELIMITED else None for number, kind, start, end in fields(payload)]
    if None not in keep:
        return payload
    return b"".join([length_delimited(1, payload[part[0] : part[1]]) for part in keep if part is not None])


def map_records(payload: bytes, change: Callable[[bytes, ScopeView, ResourceView], bytes | None]) -> bytes:
    """The payload with every record replaced by `change(record, scope, resource)`; None leaves it out.

    Scopes and resources that have lost all their records are left out too; those that had none are kept. Records that
    `change` gives back as the same object cost nothing more; a payload in which nothing changed comes back as it is.
    """
    request = parse_request(payload)
    touched = False
    for i in range(len(request.resources) - 1, -1, -1):
        entry = request.resources[i]
        emptied = False
        for j in range(len(entry.scopes) - 1, -1, -1):
            scope = entry.scopes[j]
            old = list(scope.records)
            new = [changed for record in old if (changed := change(record, scope, entry)) is not None]
            if len(new) == len(old) and all(map(_is, new, old)):
                continue
            touched = True
            if new:
                replace(scope.records, new)
            else:
                del entry.scopes[j]
                emptied = True
        if emptied and not entry.scopes:
            del request.resources[i]
    return request.SerializeToString() if touched else payload


def _is(a: object, b: object) -> bool:
    return a is b


# -- metrics ---------------------------------------------------------------------------------------------------------------


def parse_metric(record: bytes) -> Any:
    """A Metric through its lens: `name`, `description`, `unit` (bytes), `metadata`, and one of `METRIC_KINDS` with `points`
    (a mutable sequence of bytes), `temporality`, `is_monotonic`; `WhichOneof("data")` names it. ValueError if malformed."""
    return parse(_Metric, record)


def points(record: bytes) -> tuple[str, list[bytes]]:
    """The kind of a Metric (`gauge`, `sum`, ..., empty without data) and its data points. ValueError if malformed."""
    metric = parse(_Metric, record)
    kind = metric.WhichOneof("data")
    return ("", []) if kind is None else (kind, list(getattr(metric, kind).points))


# -- building --------------------------------------------------------------------------------------------------------------


def build_scope(records: Iterable[bytes], scope: bytes = b"", schema_url: bytes = b"") -> bytes:
    """A ScopeLogs, ScopeMetrics or ScopeSpans message."""
    out = [length_delimited(1, scope)] if scope else []
    for record in records:
        out.append(b"\x12" + varint(len(record)))
        out.append(record)
    if schema_url:
        out.append(length_delimited(3, schema_url))
    return b"".join(out)


def build_resource(scopes: Iterable[bytes], resource: bytes = b"", schema_url: bytes = b"") -> bytes:
    """A payload of one ResourceLogs, ResourceMetrics or ResourceSpans with these scopes (`build_scope`).

    Payloads are joined by concatenation.
    """
    out = [length_delimited(1, resource)] if resource else []
    out.extend([length_delimited(2, scope) for scope in scopes])
    if schema_url:
        out.append(length_delimited(3, schema_url))
    return length_delimited(1, b"".join(out))
