"""groupbyattrs: upstream's documented examples, and what holds for any input."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kofagent.processors.groupbyattrs import COMPONENT
from kofagent.telemetry.signal import Signal
from kofagent.transform.anyvalue import attributes
from tests.processors.support import batch, logs, metrics, pairs, processor, run, spans
from tests.support.components import FakeHost
from tests.support.examples import examples


def flat(request: Any) -> list[tuple[dict[str, Any], str, str, str, list[dict[str, Any]]]]:
    """(resource, scope, metric, kind, attributes of the points), in order."""
    return [
        (
            attributes(entry.resource.attributes),
            scope.scope.name,
            metric.name,
            metric.WhichOneof("data"),
            [attributes(point.attributes) for point in getattr(metric, metric.WhichOneof("data")).data_points],
        )
        for entry in request.resource_metrics
        for scope in entry.scope_metrics
        for metric in scope.metrics
    ]


def points(request: Any, name: str, kind: str, *hosts: str | None) -> None:
    """Adds a metric, a point for each host."""
    metric = request.resource_metrics[0].scope_metrics[0].metrics.add(name=name)
    for host in hosts:
        point = getattr(metric, kind).data_points.add()
        point.attributes.extend(pairs({"id": "eth0"} if host is None else {"host.name": host, "id": "eth0"}))


async def test_points_of_metrics_move_as_documented() -> None:
    given_request = metrics(resource={"host.name": "localhost", "source": "prom"})
    points(given_request, "gauge-1", "gauge", "A", "A", "B")
    points(given_request, "gauge-1", "gauge", "A", "A", "B")
    points(given_request, "mixed-type", "gauge", "A", "A", "B")
    points(given_request, "mixed-type", "sum", "A", "A")
    points(given_request, "dont-move", "gauge", None)
    host = FakeHost()
    out = await run(COMPONENT, {"keys": ["host.name"]}, batch(Signal.METRICS, given_request), host)
    eth0 = {"id": "eth0"}
    a, b = ({"host.name": name, "source": "prom"} for name in "AB")
    assert flat(out) == [
        (a, "", "gauge-1", "gauge", [eth0] * 4),
        (a, "", "mixed-type", "gauge", [eth0] * 2),
        (a, "", "mixed-type", "sum", [eth0] * 2),
        (b, "", "gauge-1", "gauge", [eth0] * 2),
        (b, "", "mixed-type", "gauge", [eth0]),
        ({"host.name": "localhost", "source": "prom"}, "", "dont-move", "gauge", [eth0]),
    ]
    assert len(out.resource_metrics[0].resource.attributes) == 2, "one value for each attribute"
    total = host.ledger.total
    assert total("otelcol_processor_groupbyattrs_num_grouped_metrics_total", processor="p") == 11
    assert total("otelcol_processor_groupbyattrs_num_non_grouped_metrics_total", processor="p") == 1
    assert total("otelcol_processor_groupbyattrs_metric_groups_sum", processor="p") == 3


async def test_equal_resources_and_scopes_become_one_as_documented() -> None:
    there = {"host.name": "localhost"}
    first = spans({"name": "1"}, resource=there, scope="MyLibrary")
    other = first.resource_spans[0].scope_spans.add()
    other.scope.name = "OtherLibrary"
    other.spans.add(name="2")
    requests = [
        first,
        spans({"name": "3"}, resource=there, scope="MyLibrary"),
        spans({"name": "4"}, resource=there, scope="MyLibrary"),
        spans({"name": "5"}, resource={"host.name": "otherhost"}, scope="MyLibrary"),
    ]
    out = await run(COMPONENT, {}, batch(Signal.TRACES, *requests))
    found = [
        (attributes(entry.resource.attributes)["host.name"], scope.scope.name, [span.name for span in scope.spans])
        for entry in out.resource_spans
        for scope in entry.scope_spans
    ]
    assert found == [
        ("localhost", "MyLibrary", ["1", "3", "4"]),
        ("localhost", "OtherLibrary", ["2"]),
        ("otherhost", "MyLibrary", ["5"]),
    ]


async def test_the_order_of_attributes_does_not_matter_and_schemas_are_not_mixed() -> None:
    one, two = logs({"body": 1}, resource={"a": 1, "b": 2}), logs({"body": 2}, resource={"b": 2, "a": 1})
    three = logs({"body": 3}, resource={"a": 1, "b": 2})
    three.resource_logs[0].schema_url = "https://example.test/1"
    out = await run(COMPONENT, {}, batch(Signal.LOGS, one, two, three))
    assert [(e.schema_url, len(e.scope_logs[0].log_records)) for e in out.resource_logs] == [("", 2), ("https://example.test/1", 1)]


async def test_what_need_not_change_is_passed_on_as_it_is() -> None:
    made, sink = processor(COMPONENT, {"keys": ["k"]}, Signal.METRICS)
    await made.start()
    same = batch(Signal.METRICS, metrics("m", "n", points=2, resource={"a": 1}), metrics("m", resource={"a": 2}))
    await made.consume(same)
    assert sink.batches == [same]
    twice = batch(Signal.METRICS, metrics("m", "m", resource={"a": 1}))
    await made.consume(twice)
    assert sink.batches[1].payload != twice.payload and sink.batches[1].count == 2


_RECORD = st.dictionaries(st.sampled_from(["k", "l", "m"]), st.integers(0, 2), max_size=3)
_RESOURCE = st.dictionaries(st.sampled_from(["k", "r"]), st.integers(0, 2), max_size=2)


@settings(max_examples=examples(50))
@given(st.lists(st.tuples(_RESOURCE, st.lists(_RECORD, min_size=1, max_size=4)), max_size=4), st.sampled_from(list(Signal)))
def test_no_item_is_lost_and_each_keeps_what_it_says(
    entries: list[tuple[dict[str, int], list[dict[str, int]]]], signal: Signal
) -> None:
    def seen(request: Any) -> Counter[Any]:
        """Each item by what its attributes and those of its resource say together; what is at the item counts."""
        found: Counter[Any] = Counter()
        for entry in getattr(request, request.DESCRIPTOR.fields[0].name):
            resource = attributes(entry.resource.attributes)
            if signal is Signal.METRICS:
                items = [p for s in entry.scope_metrics for m in s.metrics for p in m.gauge.data_points]
            elif signal is Signal.LOGS:
                items = [r for s in entry.scope_logs for r in s.log_records]
            else:
                items = [r for s in entry.scope_spans for r in s.spans]
            found.update(tuple(sorted((resource | attributes(item.attributes)).items())) for item in items)
        return found

    requests = []
    for resource, records in entries:
        if signal is Signal.METRICS:
            request = metrics("m", resource=resource, points=0)
            for record in records:
                request.resource_metrics[0].scope_metrics[0].metrics[0].gauge.data_points.add().attributes.extend(pairs(record))
        else:
            make = logs if signal is Signal.LOGS else spans
            request = make(*({"attributes": record} for record in records), resource=resource)
        requests.append(request)
    given_batch = batch(signal, *requests)
    out = asyncio.run(run(COMPONENT, {"keys": ["k", "l"]}, given_batch))
    assert seen(out) == sum((seen(request) for request in requests), Counter())
    named = [tuple(sorted(attributes(e.resource.attributes).items())) for e in getattr(out, out.DESCRIPTOR.fields[0].name)]
    assert len(named) == len(set(named)), "equal resources are one"
