"""spanmetrics: what is counted, under which names and dimensions, and what becomes of it."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pydantic import ValidationError

from kofagent.component import registry
from kofagent.connectors.spanmetrics import COMPONENT, connector, series
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from kofagent.transform.anyvalue import attributes
from tests.processors.support import pairs
from tests.support.components import FakeHost, Sink, make

MS = 10**6
DELTA: dict[str, Any] = {"aggregation_temporality": "AGGREGATION_TEMPORALITY_DELTA"}
TRACE, SPAN = b"t" * 16, b"s" * 8
SHORT: dict[str, Any] = {"exclude_dimensions": ["collector.instance.id", "span.kind", "status.code"]}


def spans(*given: dict[str, Any], resource: dict[str, Any] | None = None, scope: tuple[str, str] = ("", "")) -> Batch:
    """A span has name, ms, kind, code, state, attributes and events (dicts of attributes)."""
    request = ExportTraceServiceRequest()
    entry = request.resource_spans.add()
    entry.resource.attributes.extend(pairs({"service.name": "shop"} if resource is None else resource))
    into = entry.scope_spans.add()
    into.scope.name, into.scope.version = scope
    for one in given:
        span = into.spans.add(name=one.get("name", "GET"), kind=one.get("kind", 2), trace_id=TRACE, span_id=SPAN)
        span.start_time_unix_nano, span.end_time_unix_nano = 1000 * MS, 1000 * MS + int(one.get("ms", 5) * MS)
        span.status.code, span.trace_state = one.get("code", 0), one.get("state", "")
        span.attributes.extend(pairs(one.get("attributes", {})))
        for event in one.get("events", ()):
            span.events.add().attributes.extend(pairs(event))
    return Batch(Signal.TRACES, request.SerializeToString(), len(given))


class Line:
    """A connector that is asked for its metrics, instead of waiting for the timer."""

    def __init__(self, host: FakeHost | None = None, **options: Any) -> None:
        self.sink = Sink()
        self.made = make(COMPONENT, options, kind="connectors", id="span_metrics", host=host)
        self.made.outputs = {"metrics": self.sink}

    async def __aenter__(self) -> Line:
        await self.made.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.made.stop()

    async def flush(self) -> dict[str, list[Any]]:
        """The points of each metric of the batch that is due now."""
        batch = await self.made._collect()
        before = len(self.sink.batches)
        if batch is not None:
            await self.made._send(batch)
        return metrics_of([b for b in self.sink.batches[before:] if isinstance(b, Batch)])


def metrics_of(batches: list[Batch]) -> dict[str, list[Any]]:
    out: dict[str, list[Any]] = {}
    for batch in batches:
        request = ExportMetricsServiceRequest.FromString(batch.payload)
        for metric in [m for e in request.resource_metrics for s in e.scope_metrics for m in s.metrics]:
            out.setdefault(metric.name, []).extend(getattr(metric, metric.WhichOneof("data") or "sum").data_points)
        assert batch.count == sum(
            len(getattr(m, m.WhichOneof("data") or "sum").data_points)
            for e in request.resource_metrics
            for s in e.scope_metrics
            for m in s.metrics
        )
    return out


def shown(points: list[Any]) -> list[tuple[dict[str, Any], int]]:
    return [(attributes(p.attributes), p.as_int) for p in points]


async def test_calls_and_durations_have_the_common_dimensions() -> None:
    host = FakeHost()
    async with Line(host, **DELTA) as line:
        await line.made.consume(spans({}, {"ms": 12}, {"code": 2, "kind": 3}, resource={"service.name": "shop", "k": "v"}))
        found = await line.flush()
        assert await line.flush() == {}, "deltas begin anew"
    common = {"service.name": "shop", "span.name": "GET", "collector.instance.id": "test"}
    server = {**common, "span.kind": "SPAN_KIND_SERVER", "status.code": "STATUS_CODE_UNSET"}
    client = {**common, "span.kind": "SPAN_KIND_CLIENT", "status.code": "STATUS_CODE_ERROR"}
    assert shown(found["traces.span.metrics.calls"]) == [(server, 2), (client, 1)]
    one, two = found["traces.span.metrics.duration"]
    assert (one.count, one.sum, attributes(one.attributes)) == (2, 17.0, server)
    assert list(one.explicit_bounds) == [2, 4, 6, 8, 10, 50, 100, 200, 400, 800, 1000, 1400, 2000, 5000, 10000, 15000]
    assert list(one.bucket_counts) == [0, 0, 1, 0, 0, 1] + [0] * 11 and two.count == 1
    out = ExportMetricsServiceRequest.FromString(line.sink.batches[0].payload)  # type: ignore[union-attr]
    entry = out.resource_metrics[0]
    assert attributes(entry.resource.attributes) == {"service.name": "shop", "k": "v"}
    assert entry.scope_metrics[0].scope.name == "spanmetricsconnector"
    calls, duration = entry.scope_metrics[0].metrics
    assert calls.sum.is_monotonic and calls.sum.aggregation_temporality == 1 == duration.histogram.aggregation_temporality
    assert (calls.unit, duration.unit) == ("", "ms")
    assert host.ledger.total("otelcol_connector_consumed_items_total", connector="span_metrics") == 3
    assert host.ledger.sum("otelcol_receiver_accepted_metric_points_total") == 4


async def test_a_cumulative_series_begins_with_nothing() -> None:
    async with Line() as line:
        await line.made.consume(spans({}, {}))
        first = await line.flush()
        await line.made.consume(spans({}))
        second = await line.flush()
    calls, durations = "traces.span.metrics.calls", "traces.span.metrics.duration"
    assert [p.as_int for p in first[calls]] == [0] and [p.as_int for p in second[calls]] == [3]
    assert [p.count for p in first[durations]] == [2] and [p.count for p in second[durations]] == [3]
    assert first[calls][0].start_time_unix_nano == second[calls][0].start_time_unix_nano
    assert first[calls][0].time_unix_nano < second[calls][0].time_unix_nano


async def test_deltas_follow_each_other() -> None:
    async with Line(**DELTA) as line:
        await line.made.consume(spans({}))
        (first,) = (await line.flush())["traces.span.metrics.calls"]
        await line.made.consume(spans({}))
        (second,) = (await line.flush())["traces.span.metrics.calls"]
    assert first.start_time_unix_nano <= first.time_unix_nano == second.start_time_unix_nano < second.time_unix_nano


async def test_dimensions_come_from_the_span_then_the_resource_then_their_defaults() -> None:
    options: dict[str, Any] = {
        "dimensions": [
            {"name": "http.method", "default": "GET"},
            {"name": "zone"},
            {"name": "none"},
            {"glob": "k8s.*.name"},
            {"glob": "db.**.x"},
        ],
        "calls_dimensions": [{"name": "http.url", "default": "/ping"}],
        "histogram": {"dimensions": [{"name": "url.scheme", "default": "https"}]},
        **SHORT,
    }
    resource = {"service.name": "shop", "zone": "a", "k8s.pod.name": "p", "k8s.pod.label.name": "l", "db.a.b.x": 1}
    async with Line(**DELTA, **options) as line:
        await line.made.consume(
            spans({}, {"attributes": {"http.method": "PUT", "zone": "b", "k8s.pod.name": "q"}}, resource=resource)
        )
        found = await line.flush()
    base = {"service.name": "shop", "span.name": "GET", "db.a.b.x": 1}
    one = {**base, "http.method": "GET", "zone": "a", "k8s.pod.name": "p"}
    two = {**base, "http.method": "PUT", "zone": "b", "k8s.pod.name": "q"}
    assert shown(found["traces.span.metrics.calls"]) == [({**one, "http.url": "/ping"}, 1), ({**two, "http.url": "/ping"}, 1)]
    durations = [attributes(p.attributes) for p in found["traces.span.metrics.duration"]]
    assert durations == [{**one, "url.scheme": "https"}, {**two, "url.scheme": "https"}]


async def test_events_and_scopes_and_the_sampling_method() -> None:
    options: dict[str, Any] = {
        "events": {"enabled": True, "dimensions": [{"name": "exception.type"}]},
        "include_instrumentation_scope": ["express"],
        "enable_metrics_sampling_method": True,
        "namespace": "",
        **SHORT,
    }
    async with Line(**DELTA, **options) as line:
        events = [{"exception.type": "E"}, {"exception.type": "E"}, {"other": 1}]
        await line.made.consume(spans({"events": events, "state": "ot=th:8"}, scope=("express", "1")))
        await line.made.consume(spans({}, scope=("other", "1")))
        found = await line.flush()
    scoped = {"span.instrumentation.scope.name": "express", "span.instrumentation.scope.version": "1"}
    base = {"service.name": "shop", "span.name": "GET"}
    extrapolated = {**base, **scoped, "sampling.method": "extrapolated"}
    assert shown(found["calls"]) == [(extrapolated, 2), ({**base, "sampling.method": "counted"}, 1)]
    assert shown(found["events"]) == [({**extrapolated, "exception.type": "E"}, 4), (extrapolated, 2)]


async def test_spans_stand_for_those_that_were_not_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """25 % is 4; 40 % is 2.5, which is 2 or 3 by chance; what says nothing valid is 1."""
    monkeypatch.setattr("kofagent.connectors.spanmetrics.connector.random.randrange", lambda limit: limit // 2 - 1)
    async with Line(**DELTA, **SHORT) as line:
        for state in ("ot=th:c", "ot=th:9999999999999a", "ot=th:x", "vendor=1"):
            await line.made.consume(spans({"state": state, "name": state}))
        found = await line.flush()
    assert [p.as_int for p in found["traces.span.metrics.calls"]] == [4, 3, 1, 1]
    assert [(p.count, p.sum) for p in found["traces.span.metrics.duration"]] == [(4, 20), (3, 15), (1, 5), (1, 5)]


async def test_exponential_histograms_in_seconds() -> None:
    options: dict[str, Any] = {"histogram": {"exponential": {"max_size": 4}, "unit": "S"}, **SHORT}
    async with Line(**DELTA, **options) as line:
        await line.made.consume(spans(*({"ms": ms} for ms in (0, 1000, 2000, 4000, 16000))))
        (point,) = (await line.flush())["traces.span.metrics.duration"]
        assert b"\x1a\x01s" in line.sink.batches[0].payload  # type: ignore[union-attr]
    assert (point.count, point.sum, point.min, point.max, point.zero_count, point.scale) == (5, 23.0, 0.0, 16.0, 1, -1)
    # at scale -1 a bucket is as wide as two powers of two: (1/4, 1], (1, 4], (4, 16]
    assert (point.positive.offset, list(point.positive.bucket_counts)) == (-1, [1, 2, 1])


@pytest.mark.parametrize("value", [1e-9, 0.3, 1.0, 1.7, 1024.0])
def test_a_value_is_in_its_bucket(value: float) -> None:
    histogram = series.Exponential(160)
    histogram.observe(value, 3)
    (index,) = histogram.counts
    base = 2.0 ** (2.0**-histogram.scale)
    assert base**index < value * (1 + 1e-9) and value <= base ** (index + 1) * (1 + 1e-9) and histogram.counts == {index: 3}


async def test_exemplars_are_those_of_one_batch() -> None:
    async with Line(exemplars={"enabled": True, "max_per_data_point": 2}, **SHORT) as line:
        await line.made.consume(spans({"ms": 3}, {"ms": 4}, {"ms": 5}))
        first = await line.flush()
        second = await line.flush()
    for name in ("calls", "duration"):
        (point,) = first[f"traces.span.metrics.{name}"]
        assert [(e.trace_id, e.span_id, e.as_double, e.time_unix_nano) for e in point.exemplars] == [
            (TRACE, SPAN, value, point.time_unix_nano) for value in (3.0, 4.0)
        ]
        assert not second[f"traces.span.metrics.{name}"][0].exemplars


async def test_what_is_beyond_the_limit_is_counted_as_overflow() -> None:
    async with Line(**DELTA, **SHORT, aggregation_cardinality_limit=2) as line:
        await line.made.consume(spans(*({"name": name} for name in "abcdb")))
        found = await line.flush()
    base = {"service.name": "shop"}
    want = [({**base, "span.name": "a"}, 1), ({**base, "span.name": "b"}, 2), ({"otel.metric.overflow": True}, 2)]
    assert shown(found["traces.span.metrics.calls"]) == want
    assert [p.count for p in found["traces.span.metrics.duration"]] == [1, 2, 2]


async def test_memory_is_bounded_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series, "SIZE", 50_000)
    async with Line(**DELTA, **SHORT, resource_metrics_cache_size=10) as line:
        for i in range(300):
            await line.made.consume(spans({"name": f"n{i}"}, resource={"service.name": f"s{i % 40}"}))
        counted = line.made._counted
        assert 40_000 < counted.used < 100_000 and len(counted.resources) <= 10 and len(counted.evicted) <= 10
        found = await line.flush()
        assert counted.used == 0
    assert sum(p.as_int for p in found["traces.span.metrics.calls"]) == 300
    assert sum(p.count for p in found["traces.span.metrics.duration"]) == 300
    assert any(attributes(p.attributes) == {"otel.metric.overflow": True} for p in found["traces.span.metrics.calls"])


async def test_resources_are_told_apart_by_what_is_asked_for() -> None:
    async with Line(**DELTA, **SHORT, resource_metrics_key_attributes=["service.name"]) as line:
        for pid in (1, 2):
            await line.made.consume(spans({}, resource={"service.name": "shop", "pid": pid}))
        assert [p.as_int for p in (await line.flush())["traces.span.metrics.calls"]] == [2]
    async with Line(**DELTA, **SHORT, resource_metrics_cache_size=1) as line:
        for pid in (1, 2, 1):
            await line.made.consume(spans({}, resource={"service.name": "shop", "pid": pid}))
        assert sorted(p.as_int for p in (await line.flush())["traces.span.metrics.calls"]) == [1, 2], "evicted ones are sent, too"


async def test_series_and_resources_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("kofagent.connectors.spanmetrics.connector.time.monotonic", lambda: now)
    async with Line(**SHORT, series_expiration="10s", metrics_expiration="30s") as line:
        await line.made.consume(spans({"name": "a"}, {"name": "b"}))
        await line.flush()
        now = 108.0
        await line.made.consume(spans({"name": "a"}))
        now = 111.0
        assert len((await line.flush())["traces.span.metrics.calls"]) == 2
        used = line.made._counted.used
        assert len((await line.flush())["traces.span.metrics.calls"]) == 1, "b has expired"
        now = 139.0
        await line.flush()
        assert await line.flush() == {} and line.made._counted.used == 0 < used


async def test_deltas_that_are_refused_for_now_come_with_the_next() -> None:
    async with Line(**DELTA, **SHORT, histogram={"disable": True}) as line:
        line.sink.refuse = Refused("sending queue full", retry_after=1)
        for i in range(connector.MOST_WAITING + 2):
            await line.made.consume(spans({"name": str(i)}))
            assert await line.flush() == {}
        line.sink.refuse = None
        await line.made.consume(spans({"name": "last"}))
        found = await line.flush()
    names = [attributes(p.attributes)["span.name"] for p in found["traces.span.metrics.calls"]]
    assert names == [*map(str, range(2, connector.MOST_WAITING + 2)), "last"]
    ledger = line.made.context.ledger
    assert ledger.total("kofagent_dropped_items_total", component="span_metrics", signal="metrics", reason="backlog") == 2


async def test_the_stop_sends_what_was_counted_and_a_reload_goes_on() -> None:
    host = FakeHost()
    async with Line(host, **SHORT) as line:
        await line.made.consume(spans({}))
    (first,) = metrics_of(line.sink.batches)["traces.span.metrics.calls"]  # type: ignore[arg-type]
    async with Line(host, **SHORT, metrics_flush_interval="5s") as line:
        await line.made.consume(spans({}))
        (second,) = (await line.flush())["traces.span.metrics.calls"]
    assert (first.as_int, second.as_int) == (0, 2) and first.start_time_unix_nano == second.start_time_unix_nano
    async with Line(host, **SHORT, namespace="other") as line:
        assert await line.flush() == {}, "other options, other series"


async def test_spans_without_a_service_and_what_cannot_be_read() -> None:
    async with Line(**DELTA) as line:
        await line.made.consume(spans({}, {}, resource={"a": 1}))
        with pytest.raises(Refused) as refused:
            await line.made.consume(Batch(Signal.TRACES, spans({}).payload + b"\x0a\x03\x12\x01\xff", 2))
        assert refused.value.permanent and await line.flush() == {}, "nothing of it is counted"
        ledger = line.made.context.ledger
    assert ledger.total("kofagent_filtered_items_total", component="span_metrics", signal="traces", rule="no service.name") == 2
    assert ledger.total("kofagent_dropped_items_total", component="span_metrics", signal="traces", reason="malformed") == 2


async def test_the_timer_sends() -> None:
    async with Line(metrics_flush_interval="10ms") as line:
        await line.made.consume(spans({}))
        await line.sink.wait_for(lambda sink: len(sink.batches) > 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dimensions": [{"name": "service.name"}]}, "always there"),
        ({"dimensions": [{"name": "a"}, {"name": "a"}]}, "twice"),
        ({"dimensions": [{"name": "a", "glob": "b"}]}, "either name or glob"),
        ({"calls_dimensions": [{}]}, "either name or glob"),
        ({"dimensions": [{"glob": "a*", "default": "x"}]}, "default"),
        ({"dimensions": [{"glob": "span.*"}]}, "which is there already"),
        ({"dimensions": [{"glob": "["}]}, "no glob"),
        ({"events": {"enabled": True}}, "events need dimensions"),
        ({"histogram": {"explicit": {}, "exponential": {}}}, "either explicit or exponential"),
        ({"histogram": {"explicit": {"buckets": ["2s", "1s"]}}}, "grow"),
        ({"histogram": {"unit": "us"}}, "ms"),
        ({"metrics_flush_interval": "0s"}, "greater than 0"),
        ({"aggregation_temporality": "delta"}, "AGGREGATION"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        COMPONENT.Config.model_validate(options)


def test_both_spellings_and_an_empty_block() -> None:
    assert registry.resolve("connectors", "span_metrics") == registry.resolve("connectors", "spanmetrics") == "spanmetrics"
    config: Any = COMPONENT.Config.model_validate({"histogram": {"exponential": None}})
    assert config.histogram.exponential.max_size == 160
