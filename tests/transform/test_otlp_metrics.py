"""The metric writer against Google's protobuf."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from kofagent.transform.otlp_metrics import Metric, MetricWriter, resource_bytes, wrap64
from kofagent.wire.attributes import encode_value

METRICS = [
    Metric("a.count", "{x}", "Counts.", "sum", monotonic=True),
    Metric("a.size", "By", "", "sum"),
    Metric("a.ratio", "1", "Ratio.", "gauge", double=True),
    Metric("a.delta", "", "", "sum", double=True, cumulative=False),
]
VALUES = st.one_of(st.text(max_size=6), st.booleans(), st.integers(-(1 << 63), (1 << 63) - 1), st.floats(allow_nan=False))
PAIRS = st.lists(st.tuples(st.sampled_from(["k", "device", "state"]), VALUES), max_size=3).map(tuple)
TIMES = st.integers(0, (1 << 64) - 1)
POINTS = st.lists(st.tuples(st.sampled_from(METRICS), st.integers(-(1 << 62), 1 << 62), PAIRS, TIMES, TIMES), max_size=6)


def plain(resources: list[tuple[Any, Any]]) -> ExportMetricsServiceRequest:
    """The plain twin: the same request made of messages."""
    request = ExportMetricsServiceRequest()
    for attributes, points in resources:
        if not points:
            continue
        entry = request.resource_metrics.add(schema_url="https://schema")
        for key, value in attributes:
            entry.resource.attributes.add(key=key, value=AnyValue.FromString(encode_value(value)))
        entry.resource.SetInParent()
        scope = entry.scope_metrics.add()
        scope.scope.name, scope.scope.version = "scope", "1"
        for metric, value, pairs, start, time in points:
            found = next((m for m in scope.metrics if m.name == metric.name), None)
            if found is None:
                found = scope.metrics.add(name=metric.name, unit=metric.unit, description=metric.description)
                if metric.kind == "sum":
                    found.sum.is_monotonic = metric.monotonic
                    found.sum.aggregation_temporality = (
                        AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
                        if metric.cumulative
                        else AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
                    )
            point = getattr(found, metric.kind).data_points.add(start_time_unix_nano=start, time_unix_nano=time)
            if metric.double:
                point.as_double = value
            else:
                point.as_int = value
            for key, v in pairs:
                point.attributes.add(key=key, value=AnyValue.FromString(encode_value(v)))
    return request


@given(st.lists(st.tuples(PAIRS, POINTS), max_size=3))
def test_equals_the_plain_twin(resources: list[tuple[Any, Any]]) -> None:
    writer = MetricWriter("scope", "1", "https://schema")
    for attributes, points in resources:
        for metric, value, pairs, start, time in points:
            writer.add(metric, value, pairs, start_ns=start, time_ns=time)
        writer.end_resource(resource_bytes(attributes))
    payload, count = writer.take()
    assert ExportMetricsServiceRequest.FromString(payload) == plain(resources)
    assert count == sum(len(points) for _, points in resources)
    assert writer.take() == (b"", 0)


def test_attributes_of_equal_hash_are_not_mixed_up() -> None:
    writer = MetricWriter("scope")
    for value in (1, True, 1.0, "1"):
        writer.add(METRICS[0], 1, (("k", value),), time_ns=1)
    writer.end_resource()
    (metric,) = ExportMetricsServiceRequest.FromString(writer.take()[0]).resource_metrics[0].scope_metrics[0].metrics
    assert [p.attributes[0].value.WhichOneof("value") for p in metric.sum.data_points] == [
        "int_value",
        "bool_value",
        "double_value",
        "string_value",
    ]


def test_kernel_counters_beyond_63_bits_wrap() -> None:
    assert (wrap64((1 << 64) - 1), wrap64(1 << 63), wrap64(5)) == (-1, -(1 << 63), 5)


def test_unknown_kind() -> None:
    with pytest.raises(ValueError, match="gauge or a sum"):
        Metric("a", "", "", "histogram")
