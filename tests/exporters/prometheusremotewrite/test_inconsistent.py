"""Points of OTLP whose parts contradict each other: repaired where that can be done in one way, else left out whole and counted."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData

from kofagent.exporters.prometheusremotewrite.translate import Translator
from kofagent.exporters.prometheusremotewrite.translated import Options, Translated
from kofagent.wire.remote_write import encode_samples
from tests.reference.otlp_to_prometheus import consistent
from tests.support.examples import examples
from tests.support.remote_write import WriteRequest, is_stale, series

T0 = 1_795_257_868_000_000_000
INCONSISTENT = "inconsistent histogram"
NAN, INF = math.nan, math.inf
LARGEST = 2**64 - 1


def translate(kind: str, points: list[dict[str, Any]], **options: Any) -> tuple[Translated, list[Any]]:
    """The translation of points of a metric `m`, each a series of its own, and the points. Buckets: (offset, counts)."""
    data = MetricsData()
    body = getattr(data.resource_metrics.add().scope_metrics.add().metrics.add(name="m"), kind)
    if kind != "summary":
        body.aggregation_temporality = 2
    for number, parts in enumerate(points):
        point = body.data_points.add(time_unix_nano=T0)
        point.attributes.add(key="n").value.int_value = number
        for name, value in parts.items():
            if name in ("positive", "negative"):
                buckets = getattr(point, name)
                buckets.offset = value[0]
                buckets.bucket_counts.extend(value[1])
            elif name == "quantiles":
                for quantile in value:
                    point.quantile_values.add(quantile=quantile, value=1.5)
            elif isinstance(value, list):
                getattr(point, name).extend(value)
            else:
                setattr(point, name, value)
    return Translator(Options(**options)).translate(data.SerializeToString()), list(body.data_points)


def check(out: Translated) -> dict[str, set[str]]:
    """Checks what a backend demands of histograms; the series of each point by `n`, as name and `le` or `quantile`."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for labels, samples in series(WriteRequest.FromString(b"".join(encode_samples(out.labels, out.values, out.times)))):
        bound = labels.get("le", labels.get("quantile", ""))
        ((value, _),) = samples
        found[labels["n"]][f"{labels['__name__']} {bound}".strip()] = value
        if "quantile" in labels:
            assert 0 <= float(bound) <= 1
    for parts in found.values():
        buckets = sorted((float(name.split()[1]), value) for name, value in parts.items() if name.startswith("m_bucket "))
        if not buckets or is_stale(parts["m_count"]):
            continue
        assert not any(math.isnan(bound) for bound, _ in buckets) and buckets[0][0] > -INF
        counts = [value for _, value in buckets]
        assert counts == sorted(counts) and buckets[-1] == (INF, parts["m_count"])
    for one in WriteRequest.FromString(b"".join(out.extras)).timeseries:
        (histogram,) = one.histograms
        validate(histogram)
        found[{label.name: label.value for label in one.labels}["n"]]["m"] = histogram.sum
    return {number: set(parts) for number, parts in found.items()}


def validate(histogram: Any) -> None:
    """What Prometheus asks of a native histogram before it takes a request."""
    total = histogram.zero_count_int
    for spans, deltas in (
        (histogram.positive_spans, histogram.positive_deltas),
        (histogram.negative_spans, histogram.negative_deltas),
    ):
        assert sum(span.length for span in spans) == len(deltas)
        assert all(span.offset >= 0 for span in spans[1:])
        count = 0
        for delta in deltas:
            count += delta
            assert count >= 0
            total += count
    if math.isnan(histogram.sum):
        assert total <= histogram.count_int
    else:
        assert total == histogram.count_int
    assert histogram.zero_threshold >= 0
    if histogram.schema == -53:
        bounds = list(histogram.custom_values)
        assert bounds == sorted(set(bounds)) and all(map(math.isfinite, bounds))
        assert all(span.offset >= 0 for span in histogram.positive_spans)
        assert sum(span.offset + span.length for span in histogram.positive_spans) <= len(bounds) + 1
    else:
        assert -4 <= histogram.schema <= 8


counts = st.one_of(st.integers(0, 3), st.sampled_from([2**63 - 1, 2**63, LARGEST]))
flags = st.sampled_from([0, 0, 0, 1])
sums = st.sampled_from([0.0, 3.5, NAN])


@st.composite
def explicit(draw: Any) -> dict[str, Any]:
    """A point that is right, then changed a little."""
    bounds = draw(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1e16]), max_size=4, unique=True).map(sorted))
    if draw(st.booleans()):
        bounds = draw(st.permutations([*bounds, draw(st.sampled_from([NAN, INF, -INF, 0.0, 7.0]))]))
    buckets = draw(st.lists(counts, min_size=max(0, len(bounds) - 1), max_size=len(bounds) + 2))
    count = min(LARGEST, max(0, sum(buckets) + draw(st.sampled_from([0, 0, 0, 1, -1]))))
    return {"explicit_bounds": bounds, "bucket_counts": buckets, "count": count, "sum": draw(sums), "flags": draw(flags)}


@st.composite
def exponential(draw: Any) -> dict[str, Any]:
    offsets = st.one_of(st.integers(-3, 3), st.sampled_from([-(2**31), 2**31 - 3, 2**31 - 1]))
    positive, negative = [(draw(offsets), draw(st.lists(counts, max_size=3))) for _ in range(2)]
    zero = draw(counts)
    total = sum(positive[1]) + sum(negative[1]) + zero
    return {
        "positive": positive,
        "negative": negative,
        "zero_count": zero,
        "zero_threshold": draw(st.sampled_from([0.0, 0.0, 1e-3, -1.0, NAN, INF])),
        "count": min(LARGEST, max(0, total + draw(st.sampled_from([0, 0, 0, 1, -1])))),
        "sum": draw(sums),
        "scale": draw(st.integers(-4, 10)),
        "flags": draw(flags),
    }


summaries = st.fixed_dictionaries(
    {
        "count": counts,
        "sum": sums,
        "flags": flags,
        "quantiles": st.lists(st.sampled_from([0.0, 0.5, 0.99, 1.0, 1.5, -0.1, NAN]), max_size=3),
    }
)
KINDS = {"histogram": explicit(), "exponential_histogram": exponential(), "summary": summaries}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=examples(60), deadline=None)
@given(st.data(), st.booleans(), st.booleans())
def test_nothing_that_contradicts_itself_is_sent(kind: str, data: st.DataObject, custom_buckets: bool, keep_classic: bool) -> None:
    drawn = data.draw(st.lists(KINDS[kind], max_size=4))
    out, points = translate(kind, drawn, custom_buckets=custom_buckets, keep_classic=keep_classic)
    kept = {str(number) for number, point in enumerate(points) if consistent(kind, point)}
    assert set(check(out)) == kept
    assert out.dropped == ({INCONSISTENT: len(points) - len(kept)} if len(kept) < len(points) else {})


@pytest.mark.parametrize(
    ("point", "buckets"),
    [
        ({"explicit_bounds": [1, INF], "bucket_counts": [1, 2], "count": 3}, {"1": 1, "+Inf": 3}),
        ({"explicit_bounds": [1, INF], "bucket_counts": [1, 2, 0], "count": 3}, {"1": 1, "+Inf": 3}),
        ({"explicit_bounds": [1, 2], "bucket_counts": [1, 2], "count": 5}, {"1": 1, "2": 3, "+Inf": 5}),
        ({"explicit_bounds": [1], "bucket_counts": [1, 2], "count": 5}, {"1": 1, "+Inf": 5}),
        ({"explicit_bounds": [1, 2], "count": 5}, {"+Inf": 5}),
        ({"explicit_bounds": [1, 2], "bucket_counts": [1], "count": 5}, None),
        ({"explicit_bounds": [1], "bucket_counts": [1, 1, 1], "count": 3}, None),
        ({"explicit_bounds": [1], "bucket_counts": [1, 2], "count": 2}, None),
        ({"explicit_bounds": [2, 1], "bucket_counts": [1, 1, 1], "count": 3}, None),
        ({"explicit_bounds": [1, 1], "bucket_counts": [1, 1, 1], "count": 3}, None),
        ({"explicit_bounds": [1, NAN], "bucket_counts": [1, 1, 1], "count": 3}, None),
    ],
)
def test_what_is_repaired_and_what_is_left_out(point: dict[str, Any], buckets: dict[str, int] | None) -> None:
    good = {"explicit_bounds": [1], "bucket_counts": [1, 1], "count": 2}
    out, _ = translate("histogram", [point, good])
    found = series(WriteRequest.FromString(b"".join(encode_samples(out.labels, out.values, out.times))))
    assert {"1"} == {labels["n"] for labels, _ in found if labels["n"] != "0"}
    got = {labels["le"]: samples[0][0] for labels, samples in found if labels["n"] == "0" and "le" in labels}
    assert got == (buckets or {})
    assert out.dropped == ({} if buckets else {INCONSISTENT: 1})


def test_a_point_that_is_left_out_counts_for_the_time_of_target_info() -> None:
    data = MetricsData()
    group = data.resource_metrics.add()
    for key in ("service.name", "host.name"):
        group.resource.attributes.add(key=key).value.string_value = "a"
    histogram = group.scope_metrics.add().metrics.add(name="m").histogram
    histogram.aggregation_temporality = 2
    histogram.data_points.add(time_unix_nano=T0, count=1, explicit_bounds=[2, 1], bucket_counts=[1, 0, 0])
    out = Translator(Options()).translate(data.SerializeToString())
    assert (out.values, out.times) == ([1.0], [T0 // 10**6])
