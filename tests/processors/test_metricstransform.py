"""metricstransform: the cases of upstream's documentation and tests, by their values."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric, Summary
from pydantic import ValidationError

from kofagent import __version__
from kofagent.processors.metricstransform import COMPONENT
from kofagent.telemetry.signal import Signal
from kofagent.transform.anyvalue import attributes
from tests.processors.support import batch, pairs, processor, resource_of, run
from tests.support.components import FakeHost

Point = tuple[int, int, float, dict[str, str]]
"""Start, time, value (an int or a float as the point has it), labels."""


def numbers(name: str, kind: str = "gauge", *points: Point, unit: str = "") -> Metric:
    metric = Metric(name=name, unit=unit)
    getattr(metric, kind).SetInParent()
    for start, time, value, labels in points:
        point = getattr(metric, kind).data_points.add(start_time_unix_nano=start, time_unix_nano=time)
        setattr(point, "as_int" if isinstance(value, int) else "as_double", value)
        point.attributes.extend(pairs(labels))
    return metric


def gauge(name: str, *points: Point, unit: str = "") -> Metric:
    return numbers(name, "gauge", *points, unit=unit)


def histogram(name: str, *points: tuple[int, int, int, float, list[float], list[int], dict[str, str]]) -> Metric:
    metric = Metric(name=name)
    metric.histogram.SetInParent()
    for start, time, count, total, bounds, counts, labels in points:
        point = metric.histogram.data_points.add(start_time_unix_nano=start, time_unix_nano=time, count=count, sum=total)
        point.explicit_bounds.extend(bounds)
        point.bucket_counts.extend(counts)
        point.attributes.extend(pairs(labels))
    return metric


def request(*metrics: Metric) -> ExportMetricsServiceRequest:
    made = ExportMetricsServiceRequest()
    entry = made.resource_metrics.add()
    entry.resource.attributes.extend(pairs({"host": "h"}))
    entry.scope_metrics.add().metrics.extend(metrics)
    return made


async def after(transforms: Any, *metrics: Metric, host: FakeHost | None = None) -> list[Metric]:
    """The metrics of the first resource; one transform or a list of them."""
    options = {"transforms": transforms if isinstance(transforms, list) else [transforms]}
    out = await run(COMPONENT, options, batch(Signal.METRICS, request(*metrics)), host)
    return list(out.resource_metrics[0].scope_metrics[0].metrics) if out.resource_metrics else []


def seen(metrics: list[Metric]) -> list[Any]:
    """Names and numbers, to compare."""
    found: list[Any] = []
    for metric in metrics:
        data = getattr(metric, metric.WhichOneof("data") or "gauge").data_points
        found.append(
            (
                metric.name,
                [
                    (
                        p.start_time_unix_nano,
                        p.time_unix_nano,
                        getattr(p, p.WhichOneof("value")) if hasattr(p, "as_int") else p.count,
                        attributes(p.attributes),
                    )
                    for p in data
                ],
            )
        )
    return found


UPDATE = {"include": "m", "action": "update"}
ONE = gauge("m", (1, 2, 3, {"a": "x"}))


@pytest.mark.parametrize(
    ("transforms", "names", "want"),
    [
        ([{**UPDATE, "new_name": "n"}], ["m", "other"], ["n", "other"]),
        ([{**UPDATE, "new_name": "n"}, {"include": "n", "action": "update", "new_name": "o"}], ["m"], ["o"]),
        ([{**UPDATE, "include": "nobody", "new_name": "n"}], ["m"], ["m"]),
        (
            [
                {
                    "include": r"^system\.cpu\.(.*)$",
                    "match_type": "regexp",
                    "action": "update",
                    "new_name": "system.processor.${1}.stat",
                }
            ],
            ["system.cpu.usage", "system.memory"],
            ["system.processor.usage.stat", "system.memory"],
        ),
        ([{**UPDATE, "action": "insert", "new_name": "n"}], ["m", "other"], ["m", "other", "n"]),
        (
            [{**UPDATE, "action": "insert", "new_name": "n"}, {**UPDATE, "action": "insert", "new_name": "o"}],
            ["m"],
            ["m", "n", "o"],
        ),
    ],
)
async def test_names(transforms: list[dict[str, Any]], names: list[str], want: list[str]) -> None:
    assert [m.name for m in await after(transforms, *(gauge(name, (1, 2, 3, {})) for name in names))] == want


@pytest.mark.parametrize(
    ("operation", "before", "want"),
    [
        ({"action": "update_label", "label": "a", "new_label": "b"}, {"a": "x"}, {"b": "x"}),
        ({"action": "update_label", "label": "a", "new_label": "b"}, {"a": "x", "b": "y"}, {"b": "x"}),
        ({"action": "update_label", "label": "z", "new_label": "b"}, {"a": "x"}, {"a": "x"}),
        ({"action": "update_label", "label": "a", "value_actions": [{"value": "x", "new_value": "y"}]}, {"a": "x"}, {"a": "y"}),
        (
            {
                "action": "update_label",
                "label": "a",
                "new_label": "b",
                "value_actions": [{"value": "x", "new_value": "{{version}}"}],
            },
            {"a": "x"},
            {"b": __version__},
        ),
        ({"action": "add_label", "new_label": "b", "new_value": "v {{version}}"}, {}, {"b": f"v {__version__}"}),
        ({"action": "add_label", "new_label": "a", "new_value": "v"}, {"a": "x"}, {"a": "x"}),
    ],
)
async def test_labels(operation: dict[str, Any], before: dict[str, str], want: dict[str, str]) -> None:
    (metric,) = await after({**UPDATE, "operations": [operation]}, gauge("m", (1, 2, 3, before)))
    assert attributes(metric.gauge.data_points[0].attributes) == want


@pytest.mark.parametrize(
    ("function", "values", "want"),
    [
        ("sum", [3, 1], 4),
        ("mean", [3, 1], 2),
        ("mean", [-3, -4], -3),  # towards zero
        ("max", [3, 1], 3),
        ("min", [3, 1], 1),
        ("count", [3, 1], 2),
        ("median", [3, 1, 2], 2),
        ("median", [3.0, 1.0], 2.0),
        ("sum", [3.5, 1.0], 4.5),
        ("mean", [3.0, 2.0], 2.5),
        ("sum", [3, 1.9], 4),
        ("sum", [1.5, 2], 3.5),
        ("sum", [(1 << 63) - 1, 1], -(1 << 63)),  # as Go's int64
    ],
)
async def test_aggregation(function: str, values: list[float], want: float) -> None:
    operation = {"action": "aggregate_labels", "label_set": ["a"], "aggregation_type": function}
    given = gauge("m", *((1 + i, 5, value, {"a": "x", "b": str(i)}) for i, value in enumerate(values)))
    host = FakeHost()
    out = await after({**UPDATE, "operations": [operation]}, given, host=host)
    assert seen(out) == [("m", [(1, 5, want, {"a": "x"})])]
    assert type(seen(out)[0][1][0][2]) is type(values[0])
    lost = host.ledger.total("kofagent_filtered_items_total", component="p", signal="metrics", rule="transforms[0]")
    assert lost == len(values) - 1, "points that are merged are accounted for"


async def test_aggregation_over_the_values_of_a_label() -> None:
    operation = {
        "action": "aggregate_label_values",
        "label": "b",
        "aggregated_values": ["1", "2"],
        "new_value": "new",
        "aggregation_type": "sum",
    }
    given = gauge("m", (0, 2, 3, {"b": "1"}), (0, 2, 1, {"b": "2"}), (1, 2, 1, {"b": "3"}), (2, 2, 4, {"b": "4"}))
    out = await after({**UPDATE, "operations": [operation]}, given)
    assert seen(out) == [("m", [(0, 2, 4, {"b": "new"}), (1, 2, 1, {"b": "3"}), (2, 2, 4, {"b": "4"})])]


async def test_histograms_are_summed() -> None:
    operation = {"action": "aggregate_labels", "label_set": ["a"], "aggregation_type": "sum"}
    labels = [{"a": "x", "b": str(i)} for i in range(3)]
    given = histogram(
        "m",
        (0, 1, 3, 6, [1, 2, 3], [0, 1, 1, 1], labels[0]),
        (0, 1, 5, 10, [1, 2, 3], [0, 2, 1, 2], labels[1]),
        (1, 1, 7, 14, [1, 2, 3], [0, 3, 1, 3], labels[2]),
    )
    (out,) = await after({**UPDATE, "operations": [operation]}, given)
    assert out == histogram("m", (0, 1, 15, 30, [1, 2, 3], [0, 6, 3, 6], {"a": "x"}))


async def test_an_empty_set_of_labels_takes_all() -> None:
    operation = {"action": "aggregate_labels", "label_set": [], "aggregation_type": "sum"}
    assert seen(await after({**UPDATE, "operations": [operation]}, ONE)) == [("m", [(1, 2, 3, {})])]


MATCHING = {**UPDATE, "experimental_match_labels": {"a": "x"}}


async def test_a_metric_of_which_only_some_points_match_is_not_changed_as_a_whole() -> None:
    given = gauge("m", (1, 2, 3, {"a": "x", "b": "1"}), (0, 2, 1, {"a": "y", "b": "2"}))
    whole = [
        {"action": "aggregate_labels", "label_set": ["a"], "aggregation_type": "sum"},
        {"action": "add_label", "new_label": "c", "new_value": "d"},
        {"action": "delete_label_value", "label": "a", "label_value": "y"},
    ]
    assert await after({**MATCHING, "new_name": "n", "operations": whole}, given) == [given]
    each = [
        {"action": "experimental_scale_value", "experimental_scale": 100},
        {"action": "toggle_scalar_data_type"},
        {"action": "update_label", "label": "b", "new_label": "c"},
    ]
    out = await after({**MATCHING, "operations": each}, given)
    assert seen(out) == [("m", [(1, 2, 300.0, {"a": "x", "c": "1"}), (0, 2, 1, {"a": "y", "b": "2"})])]


@pytest.mark.parametrize(
    ("labels", "match_type", "copied"),
    [
        ({"a": "x"}, "strict", [3]),
        ({"a": "(.|\\s)*\\S(.|\\s)*"}, "regexp", [3, 4]),
        ({"a": "nobody"}, "strict", None),
        ({"nokey": "x"}, "strict", None),
        ({"nokey": ""}, "strict", [3, 4]),
        ({"nokey": "^$"}, "regexp", [3, 4]),
    ],
)
async def test_a_copy_has_the_points_that_match(labels: dict[str, str], match_type: str, copied: list[int] | None) -> None:
    transform = {**UPDATE, "action": "insert", "new_name": "n", "match_type": match_type, "experimental_match_labels": labels}
    out = seen(await after(transform, gauge("m", (1, 2, 3, {"a": "x"}), (1, 2, 4, {"a": "y"}))))
    assert [len(points) for name, points in out if name == "m"] == [2]
    assert [[p[2] for p in points] for name, points in out if name == "n"] == ([] if copied is None else [copied])


async def test_an_inserted_metric_is_aggregated_by_itself() -> None:
    transform = {
        **MATCHING,
        "action": "insert",
        "new_name": "new/m",
        "operations": [{"action": "aggregate_labels", "label_set": ["b"], "aggregation_type": "sum"}],
    }
    given = gauge(
        "m", (1, 2, 3.0, {"a": "x", "b": "1", "c": "1"}), (1, 2, 1.0, {"a": "x", "b": "1", "c": "2"}), (1, 2, 1.0, {"a": "y"})
    )
    out = await after(transform, given)
    assert out[0] == given and seen(out)[1] == ("new/m", [(1, 2, 4.0, {"b": "1"})])


COMBINE = {
    "include": "^([mM]etric)(?P<named>[12])$",
    "match_type": "regexp",
    "action": "combine",
    "new_name": "new",
    "aggregation_type": "sum",
}


async def test_metrics_are_combined_by_the_groups_of_their_names() -> None:
    given = [gauge("Metric1", (1, 1, 1, {})), gauge("metric2", (1, 1, 2, {})), gauge("metric3", (1, 1, 3, {}))]
    out = seen(await after({**COMBINE, "submatch_case": "lower"}, *given))
    assert out == [
        ("metric3", [(1, 1, 3, {})]),
        ("new", [(1, 1, 1, {"$1": "metric", "named": "1"}), (1, 1, 2, {"$1": "metric", "named": "2"})]),
    ]
    host = FakeHost()
    out = seen(await after({**COMBINE, "include": "^metric[23]$"}, *given, host=host))
    assert out == [("Metric1", [(1, 1, 1, {})]), ("new", [(1, 1, 5, {})])]
    assert host.ledger.sum("kofagent_filtered_items_total") == 1
    operations = [
        {"action": "add_label", "new_label": "l", "new_value": "v"},
        {"action": "aggregate_labels", "aggregation_type": "sum", "label_set": ["$1", "l"]},
    ]
    out = seen(await after({**COMBINE, "submatch_case": "upper", "operations": operations}, *given))
    assert out[1] == ("new", [(1, 1, 3, {"$1": "METRIC", "l": "v"})])


@pytest.mark.parametrize(
    "other",
    [
        numbers("metric2", "sum", (1, 1, 2, {})),
        gauge("metric2", (1, 1, 2, {}), unit="ms"),
        gauge("metric2", (1, 1, 2, {"c": "3"})),
        Metric(name="metric2", summary=Summary()),
    ],
    ids=["type", "unit", "labels", "summary"],
)
async def test_what_differs_is_not_combined(other: Metric, caplog: pytest.LogCaptureFixture) -> None:
    given = [gauge("metric1", (1, 1, 1, {})), other, gauge("metric3", (1, 1, 3, {}))]
    assert await after(COMBINE, *given) == given
    assert "cannot be combined" in caplog.text


async def test_combining_leaves_the_points_that_do_not_match() -> None:
    given = gauge("metric1", (1, 1, 1, {"a": "x"}), (1, 1, 2, {"a": "y"}))
    out = seen(await after({**COMBINE, "experimental_match_labels": {"a": "x"}}, given))
    assert [(name, [p[2] for p in points]) for name, points in out] == [("metric1", [2]), ("new", [1])]


@pytest.mark.parametrize(
    ("operation", "before", "want"),
    [
        ({"action": "toggle_scalar_data_type"}, 1, 1.0),
        ({"action": "toggle_scalar_data_type"}, 3.9, 3),
        ({"action": "toggle_scalar_data_type"}, float("nan"), 0),
        ({"action": "toggle_scalar_data_type"}, float("-inf"), -(1 << 63)),
        ({"action": "experimental_scale_value", "experimental_scale": 1000}, 2, 2000),
        ({"action": "experimental_scale_value", "experimental_scale": 0.1}, 25, 2),
        ({"action": "experimental_scale_value", "experimental_scale": 0.001}, 2500.0, 2.5),
    ],
)
async def test_values(operation: dict[str, Any], before: float, want: float) -> None:
    ((_, [(_, _, value, _)]),) = seen(await after({**UPDATE, "operations": [operation]}, gauge("m", (1, 1, before, {}))))
    assert value == want and type(value) is type(want)


@pytest.mark.parametrize(
    ("scale", "factor", "side", "offset", "want"),
    [
        (4, 1000, "positive", 53, 212),
        (2, 0.1, "positive", -52, -65),
        (7, 100000, "positive", 21, 2147),
        (20, 42.123, "negative", 1048575, 6707253),
    ],
)
async def test_exponential_histograms_are_scaled_by_their_offset(
    scale: int, factor: float, side: str, offset: int, want: int
) -> None:
    given = Metric(name="m")
    point = given.exponential_histogram.data_points.add(count=1, sum=2, min=1, max=3, scale=scale, zero_threshold=5)
    buckets = getattr(point, side)
    buckets.offset = offset
    buckets.bucket_counts.extend([1, 0, 2])
    point.exemplars.add(as_double=100)
    operation = {"action": "experimental_scale_value", "experimental_scale": factor}
    (out,) = await after({**UPDATE, "operations": [operation]}, given)
    scaled = out.exponential_histogram.data_points[0]
    assert (getattr(scaled, side).offset, list(getattr(scaled, side).bucket_counts), scaled.scale) == (want, [1, 0, 2], scale)
    assert [scaled.sum, scaled.min, scaled.max, scaled.zero_threshold] == [2 * factor, factor, 3 * factor, 5 * factor]
    assert scaled.exemplars[0].as_double == 100 * factor


async def test_histograms_are_scaled_with_their_bounds() -> None:
    operation = {"action": "experimental_scale_value", "experimental_scale": 10}
    given = histogram("m", (1, 1, 1, 1, [1], [1, 1], {"a": "x"}), (1, 1, 2, 4, [2], [1, 2], {"a": "y"}))
    want = histogram("m", (1, 1, 1, 10, [10], [1, 1], {"a": "x"}), (1, 1, 2, 4, [2], [1, 2], {"a": "y"}))
    assert await after({**MATCHING, "operations": [operation]}, given) == [want]


async def test_points_with_a_value_are_deleted_and_counted_and_a_metric_with_its_last_point() -> None:
    operation = {"action": "delete_label_value", "label": "a", "label_value": "x"}
    host = FakeHost()
    given = gauge("m", (1, 2, 3, {"a": "x"}), (1, 2, 4, {"a": "y"}))
    assert seen(await after({**UPDATE, "operations": [operation]}, given, host=host)) == [("m", [(1, 2, 4, {"a": "y"})])]
    assert await after({**UPDATE, "operations": [operation]}, ONE, host=host) == []
    assert host.ledger.total("kofagent_filtered_items_total", component="p", signal="metrics", rule="transforms[0]") == 2
    assert host.ledger.total("otelcol_processor_outgoing_items_total", processor="p", otel_signal="metrics") == 1


@pytest.mark.parametrize("action", ["aggregate_labels", "aggregate_label_values"])
async def test_summaries_pass_unaggregated(action: str, caplog: pytest.LogCaptureFixture) -> None:
    given = Metric(name="m")
    for i in range(2):
        given.summary.data_points.add(count=i).attributes.extend(pairs({"a": str(i)}))
    assert await after({**UPDATE, "operations": [{"action": action, "label": "a", "aggregation_type": "sum"}]}, given) == [given]
    assert "summaries cannot be aggregated" in caplog.text


async def test_groups_get_resources_of_their_own() -> None:
    transforms = [
        {"include": f"^{kind}\\.", "match_type": "regexp", "action": "group", "group_resource_labels": {"resource.type": kind}}
        for kind in ("pod", "container", "nobody")
    ]
    given = request(*(gauge(name, (1, 2, 3, {})) for name in ("pod.a", "container.a", "node.a", "pod.b")))
    out = await run(COMPONENT, {"transforms": transforms}, batch(Signal.METRICS, given))
    found = [(resource_of(out, i), [m.name for m in e.scope_metrics[0].metrics]) for i, e in enumerate(out.resource_metrics)]
    assert found == [
        ({"host": "h"}, ["node.a"]),
        ({"host": "h", "resource.type": "pod"}, ["pod.a", "pod.b"]),
        ({"host": "h", "resource.type": "container"}, ["container.a"]),
    ]


async def test_metrics_that_nothing_matches_keep_their_bytes() -> None:
    made, sink = processor(COMPONENT, {"transforms": [{**UPDATE, "include": "x", "new_name": "y"}, COMBINE]}, Signal.METRICS)
    await made.start()
    same = batch(Signal.METRICS, request(ONE))
    await made.consume(same)
    assert sink.batches == [same]


@pytest.mark.parametrize(
    ("transform", "said"),
    [
        ({"action": "update"}, "include"),
        ({"include": "m"}, "action"),
        ({**UPDATE, "action": "insert"}, "insert needs new_name"),
        ({**UPDATE, "action": "combine"}, "combine needs new_name and aggregation_type"),
        ({**UPDATE, "action": "group"}, "group needs group_resource_labels"),
        ({**UPDATE, "include": "(", "match_type": "regexp"}, "not a regular expression"),
        ({**UPDATE, "operations": [{"action": "update_label"}]}, "update_label needs label"),
        ({**UPDATE, "operations": [{"action": "add_label"}]}, "add_label needs new_label and new_value"),
        ({**UPDATE, "operations": [{"action": "experimental_scale_value"}]}, "needs experimental_scale"),
    ],
)
def test_options_that_do_not_fit(transform: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        COMPONENT.Config.model_validate({"transforms": [transform]})
