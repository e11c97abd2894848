"""OTLP requests for tests: hypothesis strategies over the official messages, and small builders."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.trees import grow, shapes, trees

REQUEST: dict[str, Any] = {
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
    "traces": ExportTraceServiceRequest,
}

text = st.text(max_size=8)
_leaf = st.one_of(
    text, st.booleans(), st.integers(-(1 << 63), (1 << 63) - 1), st.floats(allow_nan=False), st.binary(max_size=8), st.none()
)
values = trees(_leaf, text)


def _mapped(keys: list[str], leaves: list[Any], nested: list[str], nodes: list[bytes]) -> dict[str, Any]:
    return {key: grow(n, leaves[i:] + leaves[:i], nested) for i, (key, n) in enumerate(zip(keys, nodes, strict=False))}


_leaves = st.lists(_leaf, min_size=4, max_size=4)
attributes = st.builds(
    _mapped, st.lists(text, max_size=4), _leaves, st.lists(text, min_size=3, max_size=3), st.lists(shapes(), min_size=4, max_size=4)
)


def set_value(any_value: Any, value: Any) -> None:
    """Sets an official AnyValue from a Python value."""
    if value is None:
        return
    if isinstance(value, bool):
        any_value.bool_value = value
    elif isinstance(value, str):
        any_value.string_value = value
    elif isinstance(value, int):
        any_value.int_value = value
    elif isinstance(value, float):
        any_value.double_value = value
    elif isinstance(value, bytes):
        any_value.bytes_value = value
    elif isinstance(value, list):
        any_value.array_value.SetInParent()
        for item in value:
            set_value(any_value.array_value.values.add(), item)
    else:
        any_value.kvlist_value.SetInParent()
        set_attributes(any_value.kvlist_value.values, value)


def set_attributes(repeated: Any, items: dict[str, Any]) -> None:
    """Adds official KeyValues."""
    for key, value in items.items():
        pair = repeated.add(key=key)
        pair.value.SetInParent()
        set_value(pair.value, value)


class _Drawing:
    """Draws for one request. What it is made of comes from a few that are drawn first, and one string of bytes makes all choices:
    it is the number of draws that costs time."""

    def __init__(self, draw: Any) -> None:
        self._choices = iter(draw(_choices))
        self._texts: list[str] = draw(_texts)
        self._attributes: list[dict[str, Any]] = draw(_several)
        self._leaves: list[Any] = draw(_leaves)
        self._integers: list[int] = draw(_integers)
        self._number = 0

    def up_to(self, most: int) -> int:
        return next(self._choices, 0) % (most + 1)

    def text(self) -> str:
        return self._texts[self.up_to(2)]

    def attributes(self) -> dict[str, Any]:
        return self._attributes[self.up_to(2)]

    def value(self) -> Any:
        first, nodes = self.up_to(3), bytes([next(self._choices, 0) for _ in range(self.up_to(4))])
        return grow(nodes, self._leaves[first:] + self._leaves[:first], self._texts)

    def integer(self) -> int:
        return self._integers[self.up_to(2)]

    def number(self) -> int:
        """Tells items apart."""
        self._number += 1
        return self._number


_choices = st.binary(min_size=40, max_size=300)
_texts = st.tuples(text, text, text)
_several = st.tuples(attributes, attributes, st.just({}))
_int64 = st.integers(-(1 << 63), (1 << 63) - 1)
_integers = st.tuples(_int64, _int64, _int64)
_FIELDS = {
    "logs": ("resource_logs", "scope_logs"),
    "metrics": ("resource_metrics", "scope_metrics"),
    "traces": ("resource_spans", "scope_spans"),
}


@st.composite
def requests(draw: Any, signal: str) -> Any:
    """An official request message of the signal, of a few resources, scopes and records."""
    given = _Drawing(draw)
    request = REQUEST[signal]()
    resources, scopes = _FIELDS[signal]
    for _ in range(given.up_to(3)):
        entry = getattr(request, resources).add()
        if given.up_to(1):
            entry.resource.SetInParent()
            set_attributes(entry.resource.attributes, given.attributes())
        entry.schema_url = given.text()
        for _ in range(given.up_to(2)):
            scope = getattr(entry, scopes).add()
            if given.up_to(1):
                scope.scope.name = given.text()
                set_attributes(scope.scope.attributes, given.attributes())
            scope.schema_url = given.text()
            for _ in range(given.up_to(4)):
                _record(given, signal, scope)
    return request


def _record(given: _Drawing, signal: str, scope: Any) -> None:
    if signal == "logs":
        record = scope.log_records.add(time_unix_nano=given.number() << given.up_to(55), severity_number=given.up_to(24))
        record.body.SetInParent()
        set_value(record.body, given.value())
        record.trace_id = bytes(range(16 * given.up_to(1)))
        set_attributes(record.attributes, given.attributes())
    elif signal == "traces":
        span = scope.spans.add(
            trace_id=bytes(range(16)), span_id=given.number().to_bytes(8, "big"), name=given.text(), kind=given.up_to(5)
        )
        set_attributes(span.attributes, given.attributes())
        for _ in range(given.up_to(2)):
            set_attributes(span.events.add(name=given.text()).attributes, given.attributes())
        if given.up_to(1):
            span.links.add(trace_id=bytes(range(16)), span_id=bytes(range(8)))
            span.status.code = 2
    else:
        metric = scope.metrics.add(name=given.text(), unit=given.text())
        kind = ["", "gauge", "sum", "histogram", "exponential_histogram", "summary"][given.up_to(5)]
        if not kind:
            return
        data = getattr(metric, kind)
        data.SetInParent()
        if kind in ("sum", "histogram", "exponential_histogram"):
            data.aggregation_temporality = given.up_to(2)
        for _ in range(given.up_to(5)):
            point = data.data_points.add(time_unix_nano=given.number() << given.up_to(55))
            set_attributes(point.attributes, given.attributes())
            if kind in ("gauge", "sum"):
                point.as_int = given.integer()
            elif kind == "histogram":
                point.bucket_counts.extend([1, 2])
                point.explicit_bounds.append(0.5)
            elif kind == "summary":
                point.quantile_values.add(quantile=0.5, value=1.5)
            else:
                point.positive.offset = -3
                point.positive.bucket_counts.extend([1, 0, 7])


def items(signal: str, request: Any) -> int:
    """The plain count of items of an official request."""
    total = 0
    if signal == "logs":
        for entry in request.resource_logs:
            for scope in entry.scope_logs:
                total += len(scope.log_records)
    elif signal == "traces":
        for entry in request.resource_spans:
            for scope in entry.scope_spans:
                total += len(scope.spans)
    else:
        for entry in request.resource_metrics:
            for scope in entry.scope_metrics:
                for metric in scope.metrics:
                    kind = metric.WhichOneof("data")
                    if kind:
                        total += len(getattr(metric, kind).data_points)
    return total


def trace_request(spans: int = 100, attributes: int = 6, name: str = "GET /orders") -> bytes:
    """A realistic trace payload: one resource, one scope."""
    request = ExportTraceServiceRequest()
    entry = request.resource_spans.add()
    set_attributes(entry.resource.attributes, {"service.name": "shop", "host.name": "node-1"})
    scope = entry.scope_spans.add()
    scope.scope.name = "lib"
    for _ in range(spans):
        span = scope.spans.add(
            trace_id=os.urandom(16),
            span_id=os.urandom(8),
            name=name,
            kind=2,
            start_time_unix_nano=1_700_000_000_000_000_000,
            end_time_unix_nano=1_700_000_000_001_000_000,
        )
        set_attributes(span.attributes, {f"http.attribute{i}": "value of it" for i in range(attributes)})
    return request.SerializeToString()


def log_request(*bodies: str) -> bytes:
    """A log payload with these bodies."""
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    for body in bodies:
        records.add().body.string_value = body
    return request.SerializeToString()


def metric_request(points: int = 3, *, series: bool = False) -> bytes:
    """A gauge with this many points, with `series` each of a series of its own."""
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="load")
    for i in range(points):
        point = metric.gauge.data_points.add(as_double=i, time_unix_nano=1_700_000_000_000_000_000)
        if series:
            point.attributes.add(key="i").value.int_value = i
    return request.SerializeToString()
