"""OTLP metrics to samples: the translation with its caches equals the plain one; names, values and odd points by example."""

from __future__ import annotations

import gc
import random
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Exemplar, MetricsData, NumberDataPoint

from kofagent.exporters.prometheusremotewrite import cache
from kofagent.exporters.prometheusremotewrite.cache import ROTATE_SECONDS
from kofagent.exporters.prometheusremotewrite.histograms import spans
from kofagent.exporters.prometheusremotewrite.labels import decimal, double_text, text
from kofagent.exporters.prometheusremotewrite.names import label_name, metric_name, unit_name
from kofagent.exporters.prometheusremotewrite.translate import Translator
from kofagent.exporters.prometheusremotewrite.translated import Options, Translated
from kofagent.wire.remote_write import PIECES, encode_samples, timeseries
from kofagent.wire.varint import length_delimited
from tests.reference.otlp_to_prometheus import translate as plain
from tests.support.examples import examples
from tests.support.otlp import set_value
from tests.support.remote_write import WriteRequest, is_stale, series
from tests.support.trees import maps

T0 = 1_795_257_868_123_456_789
DATA = {"gauge": "gauge", "sum": "sum", "counter": "sum", "delta": "sum", "histogram": "histogram", "summary": "summary"}


def rows(out: Translated) -> list[Any]:
    """What a translation yields, as the plain one has it."""
    pieces = encode_samples(out.labels, out.values, out.times)
    assert len(pieces) == PIECES * len(out.labels)
    request = WriteRequest.FromString(b"".join(pieces))
    return sorted(
        (tuple(labels.items()), struct.pack(">d", value), at) for labels, samples in series(request) for value, at in samples
    )


def translated(data: MetricsData, **options: Any) -> Translated:
    return Translator(Options(**options)).translate(data.SerializeToString())


def one_metric(name: str = "m", unit: str = "", **resource: str) -> tuple[MetricsData, Any]:
    data = MetricsData()
    group = data.resource_metrics.add()
    for key, value in resource.items():
        group.resource.attributes.add(key=key.replace("_", ".")).value.string_value = value
    return data, group.scope_metrics.add().metrics.add(name=name, unit=unit)


# --- the property: equal to the plain twin, whatever is cached already

KEYS = [
    "a",
    "a.b",
    "a_b",
    "_x",
    "9",
    "le",
    "job",
    "__name__",
    "__r__",
    "service.name",
    "service.namespace",
    "service.instance.id",
    "host.name",
    "otel.scope.name",
    "quantile",
    "",
]
scalars = st.one_of(
    st.text('ab;"\\<\u00e9', max_size=4),
    st.booleans(),
    st.integers(-5, 5),
    st.floats(allow_nan=False),
    st.none(),
    st.binary(max_size=3),
)
attribute_maps = maps(KEYS, scalars)
numbers = st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(), st.none())
TIMES = [0, T0, T0 + 1, T0 + 10**6, T0 + 10**9, 10**9]


def _payloads(choices: bytes, attributes: list[dict[str, Any]], values: list[Any]) -> list[Any]:
    """One to three payloads of at most three resources: the bytes choose, the attributes and values are what they choose from."""
    chosen = iter(choices)

    def up_to(most: int) -> int:
        return next(chosen, 0) % (most + 1)

    def among(what: Any) -> Any:
        return what[up_to(len(what) - 1)]

    def point() -> Any:
        at = (among(attributes), among(values), among(TIMES), bool(up_to(1)), among([0, 0, 0, 1, 2]))
        return *at, random.Random(up_to(255))

    def metric() -> Any:
        name = (among(["m", "a.b", "a_b", "x.total", "9", "._"]), among(["", "1", "s", "By/s", "{r}"]), among(sorted(DATA)))
        return *name, [point() for _ in range(up_to(4))]

    def group() -> Any:
        return among(attributes), among(attributes), [metric() for _ in range(up_to(3))]

    return [[group() for _ in range(up_to(3))] for _ in range(1 + up_to(2))]


payloads = st.builds(
    _payloads,
    st.binary(min_size=60, max_size=500),
    st.lists(attribute_maps, min_size=5, max_size=5),
    st.lists(numbers, min_size=4, max_size=4),
)


def build(groups: list[Any], natural: bool) -> bytes:
    """A payload; unless `natural`, the fields of number points are written in any order."""
    data = MetricsData()
    for resource, scope, of_scope in groups:
        group = data.resource_metrics.add()
        group.resource.SetInParent()
        fill(group.resource.attributes, resource)
        scoped = group.scope_metrics.add()
        scoped.scope.name = "s"
        fill(scoped.scope.attributes, {k: v for k, v in scope.items() if "scope" not in k and k not in ("a.b", "a_b")})
        for name, unit, kind, listed in of_scope:
            metric = scoped.metrics.add(name=name, unit=unit)
            body = getattr(metric, DATA[kind])
            body.SetInParent()
            if kind not in ("gauge", "summary"):
                body.aggregation_temporality = 1 if kind == "delta" else 2
            if kind == "counter":
                body.is_monotonic = True
            for attributes, number, at, start, flags, _ in listed:
                add_point(body, kind, attributes, number, at, start, flags)
    encoded = data.SerializeToString()
    return encoded if natural else _reordered(data, groups)


def add_point(body: Any, kind: str, attributes: dict[str, Any], number: Any, at: int, start: bool, flags: int) -> None:
    point = body.data_points.add(time_unix_nano=at, flags=flags)
    if start and kind != "summary":
        point.start_time_unix_nano = T0 - 10**10
    fill(point.attributes, attributes)
    if kind in ("gauge", "sum", "counter", "delta"):
        if isinstance(number, int):
            point.as_int = number
        elif number is not None:
            point.as_double = number
        return
    point.count = 6
    point.sum = float(number or 0)
    if kind == "summary":
        for quantile in (0, 0.5, 0.99)[: len(attributes)]:
            point.quantile_values.add(quantile=quantile, value=quantile * 2)
    elif attributes:
        point.explicit_bounds.extend([5.0, 10.5, 1e16])
        point.bucket_counts.extend([1, 2, 3, 0][: 1 + len(attributes)])
        if number is None:
            point.ClearField("sum")


def fill(target: Any, attributes: dict[str, Any]) -> None:
    for key, value in attributes.items():
        set_value(target.add(key=key).value, value)


def _reordered(data: MetricsData, groups: list[Any]) -> bytes:
    out = b""
    for group, (_, _, listed) in zip(data.resource_metrics, groups, strict=True):
        scoped = group.scope_metrics[0]
        encoded = length_delimited(1, scoped.scope.SerializeToString())
        for metric, (_, _, kind, of_metric) in zip(scoped.metrics, listed, strict=True):
            if DATA[kind] not in ("gauge", "sum"):
                encoded += length_delimited(2, metric.SerializeToString())
                continue
            body = getattr(metric, DATA[kind])
            points = b"".join(
                [length_delimited(1, _shuffled(p, spec[5])) for p, spec in zip(body.data_points, of_metric, strict=True)]
            )
            empty = type(body)()
            empty.CopyFrom(body)
            empty.ClearField("data_points")
            head = type(metric)(name=metric.name, unit=metric.unit).SerializeToString()
            field = 5 if DATA[kind] == "gauge" else 7
            encoded += length_delimited(2, head + length_delimited(field, points + empty.SerializeToString()))
        out += length_delimited(1, length_delimited(1, group.resource.SerializeToString()) + length_delimited(2, encoded))
    assert MetricsData.FromString(out) == data or "nan" in str(data)
    return out


def _shuffled(point: NumberDataPoint, rng: random.Random) -> bytes:
    fields = []
    for descriptor, _ in point.ListFields():
        alone = NumberDataPoint()
        if descriptor.name == "attributes":
            alone.attributes.extend(point.attributes)
        else:
            setattr(alone, descriptor.name, getattr(point, descriptor.name))
        fields.append(alone.SerializeToString())
    order = rng.choice(["go", "any"])
    rng.shuffle(fields)
    if order == "go":  # flags, value, time, start, attributes
        rank = {0x40: 0, 0x21: 1, 0x31: 1, 0x19: 2, 0x11: 3, 0x3A: 4}
        fields.sort(key=lambda f: rank[f[0]])
    return b"".join(fields)


@settings(max_examples=examples(100), deadline=None)
@given(payloads, st.booleans(), st.booleans())
def test_equals_the_plain_translation(several: list[Any], natural: bool, copy: bool) -> None:
    options = Options(external_labels={"cluster": "c", "a": "ext"}, copy=(lambda _: True) if copy else None)
    clock = [0.0]
    translator = Translator(options, clock=lambda: clock[0])
    for groups in [*several, *several, several[0]]:
        payload = build(groups, natural)
        assert rows(translator.translate(payload)) == plain(payload, {"cluster": "c", "a": "ext"}, copy)
        clock[0] += ROTATE_SECONDS / 2 + 1  # caches rotate under way


# --- names and values


@pytest.mark.parametrize(
    ("name", "unit", "kind", "expected"),
    [
        ("system.memory.usage", "By", "gauge", "system_memory_usage_bytes"),
        ("process.cpu.utilization", "1", "gauge", "process_cpu_utilization_ratio"),
        ("a_ratio_b", "1", "gauge", "a_b_ratio"),
        ("x", "1", "sum", "x"),
        ("requests", "1", "counter", "requests_total"),
        ("bytes.sent_total", "By", "counter", "bytes_sent_total"),
        ("total.x", "", "counter", "x_total"),
        ("disk.io", "By/s", "gauge", "disk_io_bytes_per_second"),
        ("disk.io", "{op}/s", "gauge", "disk_io_per_second"),
        ("speed", "m/s", "gauge", "speed_meters_per_second"),
        ("fuel", "km/{lap}", "gauge", "fuel_km"),
        ("t", "%", "gauge", "t_percent"),
        ("9lives", "", "gauge", "_9lives"),
        ("a:b", "", "gauge", "a:b"),
        ("a..b__c-", "", "gauge", "a_b_c"),
        ("gr\u00fc\u00dfe", "", "gauge", "gr_e"),
        ("x", "foo-bar", "gauge", "x_foo_bar"),
        ("._.", "", "gauge", ""),
        ("", "", "gauge", ""),
        ("latency_seconds", "s", "gauge", "latency_seconds"),
    ],
)
def test_metric_names(name: str, unit: str, kind: str, expected: str) -> None:
    assert metric_name(name, unit, suffixes=True, counter=kind == "counter", gauge=kind == "gauge") == expected


@pytest.mark.parametrize(
    ("name", "namespace", "expected"),
    [("system.memory.usage", "", "system_memory_usage"), ("a__b", "", "a__b"), ("9x", "", "_9x"), ("x", "my ns", "my_ns_x")],
)
def test_metric_names_without_suffixes(name: str, namespace: str, expected: str) -> None:
    assert metric_name(name, "By", suffixes=False, counter=True, gauge=False, namespace=namespace) == expected


def test_a_namespace_goes_first() -> None:
    assert metric_name("x.y", "s", suffixes=True, counter=True, gauge=False, namespace="ns") == "ns_x_y_seconds_total"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("http.method", "http_method"),
        ("room-name", "room_name"),
        ("1st", "key_1st"),
        ("_under", "key_under"),
        ("__reserved", "key_reserved"),
        ("__name__", "__name__"),
        ("__a b__", "__a_b__"),
        ("a..b", "a_b"),
        ("", ""),
        ("____", ""),
        ("\u00fc", "key_"),
    ],
)
def test_label_names(name: str, expected: str) -> None:
    assert label_name(name) == expected


def test_units() -> None:
    assert [unit_name(u) for u in ("s", "By/s", "1", "{x}", "1/s", "a b")] == [
        "seconds",
        "bytes_per_second",
        "",
        "",
        "per_second",
        "a_b",
    ]


@pytest.mark.parametrize(
    ("value", "le", "label"),
    [
        (1.0, "1", "1"),
        (0.1, "0.1", "0.1"),
        (1e16, "10000000000000000", "10000000000000000"),
        (1e-7, "0.0000001", "1e-7"),
        (1.5e21, "1500000000000000000000", "1.5e+21"),
        (-0.0, "-0", "-0"),
        (float("inf"), "+Inf", "Infinity"),
        (float("-inf"), "-Inf", "-Infinity"),
        (float("nan"), "NaN", "NaN"),
        (1e-300, "0." + "0" * 299 + "1", "1e-300"),
    ],
)
def test_doubles_as_text(value: float, le: str, label: str) -> None:
    assert (decimal(value), double_text(value)) == (le, label)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["a", 1, 2.0, True, None, b"\x01\x02", {"b": 1, "a": [0.5]}], '["a",1,2,true,null,"AQI=",{"a":[0.5],"b":1}]'),
        ({"k": "<&>\u00e9\n"}, '{"k":"<&>\u00e9\\n"}'),
        ([], "[]"),
        ({}, "{}"),
        ([float("nan")], '["NaN"]'),
    ],
)
def test_lists_and_maps_are_json(value: Any, expected: str) -> None:
    any_value = AnyValue()
    set_value(any_value, value)
    if value == {}:
        any_value.kvlist_value.SetInParent()
    assert text(any_value) == expected


# --- points


def test_no_recorded_value_is_the_stale_marker() -> None:
    data, metric = one_metric()
    metric.gauge.data_points.add(time_unix_nano=T0, as_double=5, flags=1)
    assert is_stale(translated(data).values[0])


def test_points_that_cannot_be_written_are_counted_by_reason() -> None:
    data, metric = one_metric()
    metric.sum.aggregation_temporality = 1
    metric.sum.data_points.add(time_unix_nano=T0, as_int=1)
    metrics = data.resource_metrics[0].scope_metrics[0].metrics
    metrics.add(name="h").histogram.data_points.add(time_unix_nano=T0)
    metrics.add(name="___").gauge.data_points.add(time_unix_nano=T0)
    metrics.add(name="g").gauge.data_points.add(as_double=1)
    coarse = metrics.add(name="e").exponential_histogram
    coarse.aggregation_temporality = 2
    coarse.data_points.add(time_unix_nano=T0, scale=-5)
    metrics.add(name="empty")
    out = translated(data)
    assert out.dropped == {
        "delta temporality": 1,
        "unknown temporality": 1,
        "unusable metric name": 1,
        "no timestamp": 1,
        "histogram scale below -4": 1,
    }
    assert not out.labels and not out.extras


def test_malformed_points_and_attributes_do_not_take_the_others_along() -> None:
    point = NumberDataPoint(time_unix_nano=T0, as_int=1).SerializeToString()
    bad_text = point + length_delimited(7, length_delimited(1, b"\xff"))
    body = b"".join([length_delimited(1, p) for p in (point, point[:-1], bad_text, b"\x08", point + b"\x3a\x7f", point)])
    payload = length_delimited(1, length_delimited(2, length_delimited(2, b"\x0a\x01m" + length_delimited(5, body))))
    translator = Translator(Options())
    for _ in range(2):  # the second time with the series known
        out = translator.translate(payload)
        assert out.values == [1]
        assert out.duplicates == 1
        assert out.dropped == {"undecodable point": 3, "undecodable attributes": 1}


@pytest.mark.parametrize(
    "payload",
    [
        b"\x0a\xff",
        length_delimited(1, length_delimited(1, b"\x0a\xff")),
        length_delimited(1, length_delimited(2, length_delimited(1, b"\x0a\x01\xff"))),
    ],
    ids=["whole", "resource", "scope"],
)
def test_a_payload_that_is_not_otlp(payload: bytes) -> None:
    with pytest.raises(ValueError, match="not OTLP metrics"):
        Translator(Options()).translate(payload)


@given(st.binary(max_size=60))
def test_any_bytes_are_translated_or_refused(payload: bytes) -> None:
    try:
        Translator(Options()).translate(payload)
    except ValueError:
        pass


def test_samples_of_one_series_are_sorted_and_one_a_millisecond() -> None:
    data, metric = one_metric()
    for at, value in ((3, 1), (1, 2), (2, 3), (1, 4)):
        metric.gauge.data_points.add(time_unix_nano=T0 + at * 10**6, as_int=value)
    out = translated(data)
    assert out.values == [2, 3, 1]
    assert out.times == [T0 // 10**6 + i for i in (1, 2, 3)]
    assert out.duplicates == 1


def test_colliding_names_are_counted_and_warned_about_once() -> None:
    data, metric = one_metric("a.b")
    metric.gauge.data_points.add(time_unix_nano=T0, as_int=1)
    other = data.resource_metrics[0].scope_metrics[0].metrics.add(name="a_b").gauge
    other.data_points.add(time_unix_nano=T0, as_int=2)
    warned: list[str] = []
    translator = Translator(Options(), warned.append)
    for _ in range(3):
        out = translator.translate(data.SerializeToString())
        assert out.colliding == 1
        assert out.values == [1]
        assert out.duplicates == 1
    assert len(warned) == 1
    assert "'a.b' and 'a_b'" in warned[0]


def test_exemplars_of_counters_and_histograms() -> None:
    data, metric = one_metric("c")
    metric.sum.aggregation_temporality, metric.sum.is_monotonic = 2, True
    point = metric.sum.data_points.add(time_unix_nano=T0, as_int=1)
    mark = Exemplar(time_unix_nano=T0, as_int=7, trace_id=bytes(range(16)), span_id=bytes(range(8)))
    mark.filtered_attributes.add(key="user.id").value.string_value = "u"
    point.exemplars.append(mark)
    long = Exemplar(time_unix_nano=T0, as_double=0.5)
    long.filtered_attributes.add(key="x").value.string_value = "y" * 200
    point.exemplars.append(long)
    histogram = data.resource_metrics[0].scope_metrics[0].metrics.add(name="h").histogram
    histogram.aggregation_temporality = 2
    bars = histogram.data_points.add(time_unix_nano=T0, count=3, explicit_bounds=[1, 2], bucket_counts=[1, 1, 1])
    bars.exemplars.add(time_unix_nano=T0, as_double=1.5)
    bars.exemplars.add(time_unix_nano=T0, as_double=99)
    for out in (translated(data), translated(data)):
        by_labels = {
            i: dict(labels)
            for i, (labels, _) in enumerate(
                series(WriteRequest.FromString(b"".join(encode_samples(out.labels, out.values, out.times))))
            )
        }
        got = {
            (by_labels[i]["__name__"], by_labels[i].get("le", "")): WriteRequest.FromString(timeseries(b"", fields))
            .timeseries[0]
            .exemplars
            for i, fields in out.exemplars.items()
        }
        assert set(got) == {("c_total", ""), ("h_bucket", "2"), ("h_bucket", "+Inf")}
        assert [x.value for x in got["h_bucket", "2"]] == [1.5] and [x.value for x in got["h_bucket", "+Inf"]] == [99]
        first, second = got["c_total", ""]
        assert {x.name: x.value for x in first.labels} == {
            "trace_id": bytes(range(16)).hex(),
            "span_id": bytes(range(8)).hex(),
            "user_id": "u",
        }
        assert (first.value, first.timestamp) == (7, T0 // 10**6)
        assert not second.labels  # 128 characters are the most


def native(data: MetricsData, **options: Any) -> Any:
    out = translated(data, **options)
    (one,) = WriteRequest.FromString(b"".join(out.extras)).timeseries
    return one


def test_a_gap_of_two_empty_buckets_is_part_of_a_span() -> None:
    assert spans([(1, 5), (4, 6), (8, 1)]) == ([(1, 4), (3, 1)], [5, -5, 0, 6, -5])


def test_exponential_histograms_are_native_ones() -> None:
    data, metric = one_metric("e", "s")
    metric.exponential_histogram.aggregation_temporality = 2
    point = metric.exponential_histogram.data_points.add(time_unix_nano=T0, count=14, sum=9.5, scale=2, zero_count=3)
    point.positive.offset = -2
    point.positive.bucket_counts.extend([1, 0, 2, 0, 0, 0, 0, 4])
    point.negative.offset = 5
    point.negative.bucket_counts.extend([4])
    one = native(data)
    assert {x.name: x.value for x in one.labels} == {"__name__": "e_seconds"}
    histogram = one.histograms[0]
    assert (histogram.count_int, histogram.sum, histogram.schema, histogram.zero_count_int) == (14, 9.5, 2, 3)
    assert histogram.zero_threshold == 1e-128
    assert histogram.timestamp == T0 // 10**6
    assert _buckets(histogram.positive_spans, histogram.positive_deltas) == {-1: 1, 0: 0, 1: 2, 6: 4}
    assert _buckets(histogram.negative_spans, histogram.negative_deltas) == {6: 4}


@given(st.integers(-20, 20), st.lists(st.integers(0, 3), max_size=40), st.integers(-4, 11))
def test_buckets_are_kept_or_merged_down(offset: int, counts: list[int], scale: int) -> None:
    data, metric = one_metric("e")
    metric.exponential_histogram.aggregation_temporality = 2
    point = metric.exponential_histogram.data_points.add(time_unix_nano=T0, count=sum(counts), scale=scale)
    point.positive.offset = offset
    point.positive.bucket_counts.extend(counts)
    histogram = native(data).histograms[0]
    down = max(0, scale - 8)
    expected: dict[int, int] = {}
    for index, count in enumerate(counts, offset):
        expected[(index >> down) + 1] = expected.get((index >> down) + 1, 0) + count
    got = _buckets(histogram.positive_spans, histogram.positive_deltas)
    assert {k: v for k, v in got.items() if v} == {k: v for k, v in expected.items() if v}
    assert histogram.schema == min(scale, 8)


def test_a_stale_exponential_histogram() -> None:
    data, metric = one_metric("e")
    metric.exponential_histogram.aggregation_temporality = 2
    metric.exponential_histogram.data_points.add(time_unix_nano=T0, flags=1)
    assert is_stale(native(data).histograms[0].sum)


def test_explicit_histograms_with_custom_buckets() -> None:
    data, metric = one_metric("h")
    metric.histogram.aggregation_temporality = 2
    metric.histogram.data_points.add(time_unix_nano=T0, count=7, sum=3, explicit_bounds=[1, 2.5], bucket_counts=[1, 2, 4])
    one = native(data, custom_buckets=True)
    histogram = one.histograms[0]
    assert (histogram.schema, list(histogram.custom_values), histogram.count_int) == (-53, [1, 2.5], 7)
    assert _buckets(histogram.positive_spans, histogram.positive_deltas) == {0: 1, 1: 2, 2: 4}
    assert not translated(data, custom_buckets=True).labels
    assert len(translated(data, custom_buckets=True, keep_classic=True).labels) == 5


def _buckets(spans: Any, deltas: Any) -> dict[int, int]:
    out, index, at, count = {}, 0, 0, 0
    for span in spans:
        index += span.offset
        for _ in range(span.length):
            count += deltas[at]
            out[index] = count
            at, index = at + 1, index + 1
    assert at == len(deltas)
    return out


def test_metadata_once_a_minute() -> None:
    data, metric = one_metric("m", "s")
    metric.description = "How long"
    metric.gauge.data_points.add(time_unix_nano=T0, as_int=1)
    clock = [0.0]
    translator = Translator(Options(metadata=True), clock=lambda: clock[0])
    payload = data.SerializeToString()
    (entry,) = WriteRequest.FromString(b"".join(translator.translate(payload).metadata)).metadata
    assert (entry.metric_family_name, entry.type, entry.help, entry.unit) == ("m_seconds", 2, "How long", "seconds")
    assert not translator.translate(payload).metadata
    clock[0] = 61
    assert translator.translate(payload).metadata


def test_options_of_target_info_and_scope() -> None:
    data, metric = one_metric("m", service_name="s", host_name="h")
    metric.gauge.data_points.add(time_unix_nano=T0, as_int=1)
    data.resource_metrics[0].scope_metrics[0].scope.name = "lib"
    assert len(rows(translated(data))) == 2
    ((labels, _, _),) = rows(translated(data, target_info=False, scope_info=False))
    assert dict(labels) == {"__name__": "m", "job": "s"}
    named = [dict(labels)["__name__"] for labels, _, _ in rows(translated(data, namespace="ns"))]
    assert sorted(named) == ["ns_m", "ns_target_info"]


def test_series_that_are_gone_are_forgotten() -> None:
    clock = [0.0]
    translator = Translator(Options(), clock=lambda: clock[0])
    for i in range(50):
        data, metric = one_metric("m", service_name=f"s{i}", host_name="h")
        point = metric.gauge.data_points.add(time_unix_nano=T0, as_int=1)
        point.attributes.add(key="i").value.int_value = i
        translator.translate(data.SerializeToString())
        clock[0] += ROTATE_SECONDS + 1
    assert len(translator._cache.root.new) + len(translator._cache.root.old) <= 3


def labels_of_many(translator: Translator, names: range) -> list[bytes]:
    """The labels of one point for each of these services, in one payload."""
    payload = b""
    for i in names:
        data, metric = one_metric("m", service_name=f"s{i}", host_name="h")
        metric.gauge.data_points.add(time_unix_nano=T0, as_int=1)
        payload += data.SerializeToString()
    return list(translator.translate(payload).labels)


def test_more_series_than_a_generation_takes_are_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MANY", 20)
    clock = [0.0]
    translator = Translator(Options(), clock=lambda: clock[0])
    first: dict[int, bytes] = {}
    for _ in range(20):
        for part in range(10):  # a round comes in parts
            for i, labels in enumerate(labels_of_many(translator, range(part * 10, part * 10 + 10))):
                assert first.setdefault(part * 100 + i, labels) is labels or i >= 10, "worked out again"
        clock[0] += 30


def test_many_series_that_come_and_go_are_forgotten_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MANY", 20)
    clock = [0.0]
    translator = Translator(Options(), clock=lambda: clock[0])
    for turn in range(50):
        labels_of_many(translator, range(turn * 10, turn * 10 + 10))
        clock[0] += 30
        root = translator._cache.root
        assert len(root.new) + len(root.old) <= 80
    monkeypatch.setattr(cache, "MOST", 100)
    for turn in range(50):
        labels_of_many(translator, range(turn * 1000, turn * 1000 + 10))
        assert len(translator._cache.root.new) + len(translator._cache.root.old) <= 80, "a flood ends a generation at once"


def test_a_generation_ends_when_it_has_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MOST_BYTES", 50_000)
    translator = Translator(Options(), clock=lambda: 0.0)
    series = translator._cache
    before, largest = series.counts.evictions, 0
    for turn in range(100):
        labels_of_many(translator, range(turn * 10, turn * 10 + 10))
        largest = max(largest, series.size)
    assert 50_000 < largest < 2 * (50_000 + 20_000), "a payload more in each generation"
    assert series.counts.evictions > before
    root = series.root
    assert series.entries == 4 * (len(root.new) + len(root.old)), "resource, scope, metric and series of each service"
    while series.size:
        series.shrink()
    assert not root.new and not root.old


def test_what_is_forgotten_goes_at_once() -> None:
    """Without the garbage collector, which an agent runs rarely."""
    clock = [0.0]
    translator = Translator(Options(), clock=lambda: clock[0])
    gc.collect()
    gc.disable()
    try:
        for turn in range(10):
            labels_of_many(translator, range(turn * 10, turn * 10 + 10))
            clock[0] += ROTATE_SECONDS + 1
        assert sum(isinstance(o, cache.KnownMetric) for o in gc.get_objects()) <= 30
    finally:
        gc.enable()
