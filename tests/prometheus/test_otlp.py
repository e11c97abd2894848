"""Scraped samples as OTLP, decoded with Google's protobuf."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from kofagent.prometheus.columns import Columns, TargetResource
from kofagent.prometheus.otlp import to_otlp
from kofagent.prometheus.page import PageReader
from kofagent.prometheus.units import trim_suffixes, ucum
from kofagent.telemetry.batch import MetricBatch, Samples
from kofagent.telemetry.series import SCRAPE_SCOPE, STALE_BITS, sorted_labels

NOW = 1_795_257_868_123
STALE = struct.unpack("<d", struct.pack("<Q", STALE_BITS))[0]
RESOURCE = TargetResource(
    {"service.name": "j", "service.instance.id": "h:1", "server.address": "h", "server.port": "1", "url.scheme": "http"}
)


def finish(pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return sorted_labels({"job": "j", "instance": "h:1", **dict(pairs)})


def convert(page: bytes, openmetrics: bool = False, resource: TargetResource = RESOURCE) -> tuple[list[Any], int]:
    scraped = PageReader(finish).read(page, openmetrics, NOW)
    times = scraped.timestamps
    column: Any = NOW if times is None else [NOW if t is None else t for t in times]
    batch = to_otlp(MetricBatch([Samples(scraped.series, scraped.values, column, resource, scraped.exemplars)]))
    request = ExportMetricsServiceRequest.FromString(batch.payload)
    points = sum(
        len(getattr(m, str(m.WhichOneof("data"))).data_points)
        for r in request.resource_metrics
        for s in r.scope_metrics
        for m in s.metrics
    )
    assert points == batch.count
    return list(request.resource_metrics), batch.count


def metrics(page: bytes, openmetrics: bool = False) -> dict[str, Any]:
    found, _ = convert(page, openmetrics)
    assert len(found) == 1 and len(found[0].scope_metrics) == 1
    return {m.name: m for m in found[0].scope_metrics[0].metrics}


def attributes(pairs: Any) -> dict[str, str]:
    return {pair.key: pair.value.string_value for pair in pairs}


def test_counter_gauge_and_what_has_no_type() -> None:
    found = metrics(b'# TYPE c counter\n# HELP c Some.\nc{x="1"} 5\nc{x="2"} 6\n# TYPE g gauge\ng -1.5\nu NaN\n')
    counter = found["c"]
    assert counter.sum.is_monotonic and counter.sum.aggregation_temporality == 2 and counter.description == "Some."
    assert [(attributes(p.attributes), p.as_double, p.time_unix_nano) for p in counter.sum.data_points] == [
        ({"x": "1"}, 5.0, NOW * 1_000_000),
        ({"x": "2"}, 6.0, NOW * 1_000_000),
    ]
    assert attributes(counter.metadata) == {"prometheus.type": "counter"} and attributes(found["u"].metadata) == {
        "prometheus.type": "unknown"
    }
    assert found["g"].gauge.data_points[0].as_double == -1.5 and math.isnan(found["u"].gauge.data_points[0].as_double)


def test_resource_and_scope() -> None:
    found, _ = convert(b"a 1\n")
    assert attributes(found[0].resource.attributes) == dict(RESOURCE)
    assert found[0].scope_metrics[0].scope.name == SCRAPE_SCOPE


def test_histogram() -> None:
    page = (
        b'# TYPE h histogram\nh_bucket{p="x",le="0.1"} 2\nh_bucket{p="x",le="1"} 5\nh_bucket{p="x",le="+Inf"} 7\nh_sum{p="x"} 3.5\n'
        b'h_count{p="x"} 7\nh_bucket{p="y",le="+Inf"} 1\n'
    )
    metric = metrics(page)["h"]
    assert metric.histogram.aggregation_temporality == 2
    first, second = metric.histogram.data_points
    assert (first.count, first.sum, list(first.explicit_bounds), list(first.bucket_counts)) == (7, 3.5, [0.1, 1.0], [2, 3, 2])
    assert attributes(first.attributes) == {"p": "x"}
    # Without _count upstream loses the point; the +Inf bucket says the same.
    assert (second.count, second.HasField("sum"), list(second.bucket_counts)) == (1, False, [1])


def test_summary() -> None:
    page = b'# TYPE s summary\ns{quantile="0.5"} 0.2\ns{quantile="0.99"} NaN\ns_sum 9\ns_count 44\n'
    point = metrics(page)["s"].summary.data_points[0]
    assert (point.count, point.sum, [q.quantile for q in point.quantile_values]) == (44, 9.0, [0.5, 0.99])
    assert point.quantile_values[0].value == 0.2 and math.isnan(point.quantile_values[1].value)


def test_parts_without_the_rest_are_kept_as_gauges() -> None:
    found = metrics(b"# TYPE h histogram\nh_sum 3\nh_bucket 4\n# TYPE s summary\ns_sum 1\n")
    assert {name: m.gauge.data_points[0].as_double for name, m in found.items()} == {"h_sum": 3.0, "h_bucket": 4.0, "s_sum": 1.0}


@pytest.mark.parametrize("stamp", ["99999999999", "999999999999999"])
def test_an_exemplar_of_the_future_costs_itself_alone(stamp: str) -> None:
    """The second is within 64 bits of milliseconds, not of nanoseconds: nothing of the whole batch could be encoded."""
    page = f'# TYPE r counter\nr_total 5 # {{k="v"}} 1 {stamp}\n# TYPE s counter\ns_total 5 # {{k="v"}} 1\n# EOF\n'.encode()
    found = metrics(page, True)
    assert [len(found[name].sum.data_points[0].exemplars) for name in ("r_total", "s_total")] == [0, 1]


def test_openmetrics_created_units_exemplars_and_times() -> None:
    page = (
        b"# TYPE r_bytes counter\n# UNIT r_bytes bytes\n"
        b'r_bytes_total{x="1"} 5 1600000000.5 # {trace_id="0af7651916cd43dd8448eb211c80319c",span_id="b7ad6b7169203331",k="v"} 0.5 1600000000.25\n'
        b'r_bytes_created{x="1"} 1500000000.5 1600000000.5\n# TYPE i info\ni_info{v="2"} 1\n# EOF\n'
    )
    found = metrics(page, True)
    assert set(found) == {"r_bytes_total", "i_info"} and found["r_bytes_total"].unit == "By"
    point = found["r_bytes_total"].sum.data_points[0]
    assert (point.start_time_unix_nano, point.time_unix_nano) == (1_500_000_000_500_000_000, 1_600_000_000_500_000_000)
    exemplar = point.exemplars[0]
    assert (exemplar.trace_id.hex(), exemplar.span_id.hex()) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    assert (exemplar.as_double, exemplar.time_unix_nano, attributes(exemplar.filtered_attributes)) == (
        0.5,
        1_600_000_000_250_000_000,
        {"k": "v"},
    )
    assert not found["i_info"].sum.is_monotonic


def test_markers_become_the_flag() -> None:
    reader = PageReader(finish)
    page = b'# TYPE h histogram\nh_bucket{le="1"} 1\nh_bucket{le="+Inf"} 1\nh_sum 1\nh_count 1\n# TYPE s summary\ns{quantile="0.5"} 1\ns_count 1\ng 1\n'
    stale = (reader.read(page, False, NOW), reader.fail())[1]
    batch = to_otlp(MetricBatch([Samples(stale, [STALE] * len(stale), NOW, RESOURCE)]))
    request = ExportMetricsServiceRequest.FromString(batch.payload)
    for metric in request.resource_metrics[0].scope_metrics[0].metrics:
        point = getattr(metric, str(metric.WhichOneof("data"))).data_points[0]
        assert point.flags == 1 and point.time_unix_nano == NOW * 1_000_000
        if metric.name == "g":
            assert point.WhichOneof("value") is None
        else:
            assert point.count == 0


def test_scopes_and_other_targets() -> None:
    page = b'a{otel_scope_name="lib",otel_scope_version="2",otel_scope_k="v"} 1\nb 1\nc{job="other",instance="x:9"} 1\n'
    found, count = convert(page)
    assert count == 3
    by_service = {attributes(r.resource.attributes)["service.name"]: r for r in found}
    own = by_service["j"]
    scopes = {s.scope.name: s for s in own.scope_metrics}
    assert attributes(scopes["lib"].scope.attributes) == {"k": "v"} and scopes["lib"].scope.version == "2"
    assert attributes(scopes["lib"].metrics[0].gauge.data_points[0].attributes) == {}
    other = attributes(by_service["other"].resource.attributes)
    assert (other["service.instance.id"], other["server.address"], other["server.port"]) == ("x:9", "x", "9")


def test_what_is_remembered_follows_the_values() -> None:
    reader = PageReader(finish)
    payloads = []
    for i in range(3):
        scraped = reader.read(b"# TYPE c counter\nc %d\nd 1\n" % i, False, NOW)
        payloads.append(to_otlp(MetricBatch([Samples(scraped.series, scraped.values, NOW + i, RESOURCE)])).payload)
    found = [
        ExportMetricsServiceRequest.FromString(p).resource_metrics[0].scope_metrics[0].metrics[0].sum.data_points[0]
        for p in payloads
    ]
    assert [(p.as_double, p.time_unix_nano) for p in found] == [(float(i), (NOW + i) * 1_000_000) for i in range(3)]
    scraped = reader.read(b"# TYPE c gauge\nc 5\nd 1\n", False, NOW)
    retyped = to_otlp(MetricBatch([Samples(scraped.series, scraped.values, NOW, RESOURCE)])).payload
    assert (
        ExportMetricsServiceRequest.FromString(retyped).resource_metrics[0].scope_metrics[0].metrics[0].WhichOneof("data")
        == "gauge"
    )


def test_trimmed_names() -> None:
    trimming = TargetResource(RESOURCE)
    trimming.trim_suffixes = True
    found, _ = convert(b"# TYPE c_total counter\nc_total 1\n", resource=trimming)
    assert found[0].scope_metrics[0].metrics[0].name == "c"
    assert trim_suffixes("a_bytes_total", "counter", "bytes") == "a"


@pytest.mark.parametrize(("unit", "symbol"), [("seconds", "s"), ("bytes_per_second", "By/s"), ("cats", "cats"), ("", "")])
def test_units(unit: str, symbol: str) -> None:
    assert ucum(unit) == symbol


def test_what_is_derived_of_a_column_is_computed_once_and_four_are_kept() -> None:
    column, keys, made = Columns(), [TargetResource() for _ in range(5)], []

    def derived(n: int) -> int:
        return column.derived(keys[n], lambda: made.append(n) or n)

    assert [derived(n) for n in (0, 1, 0, 1, 2, 3, 0)] == [0, 1, 0, 1, 2, 3, 0]
    assert made == [0, 1, 2, 3], "equal resources are not the same one, and each is computed once"
    assert [derived(n) for n in (4, 3, 0)] == [4, 3, 0]
    assert made == [0, 1, 2, 3, 4, 0], "the oldest is forgotten"
