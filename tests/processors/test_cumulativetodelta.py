"""cumulativetodelta: what upstream documents and tests, by its values, and what holds with deltatocumulative behind it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from kofagent.processors.cumulativetodelta import COMPONENT
from kofagent.processors.deltatocumulative import COMPONENT as TOTALS
from tests.processors.streams import CUMULATIVE, DELTA, Line, request, settled
from tests.support.components import FakeHost
from tests.support.examples import examples

HOUR, MINUTE = 3600 * 10**9, 60 * 10**9


def sums(*points: dict[str, Any], **more: Any) -> Any:
    return request("sum", CUMULATIVE, *points, **more)


async def one(line: Line, value: float, at: int, start: int = 0, **more: Any) -> Any:
    """Sends a point; the delta, None when there is none."""
    kind = "as_int" if isinstance(value, int) else "as_double"
    out = await line.send(sums({"start_time_unix_nano": start, "time_unix_nano": at, kind: value}, **more))
    return (out[0].start_time_unix_nano, getattr(out[0], kind)) if out else None


@pytest.mark.parametrize("number", [int, float])
async def test_a_counter_that_begins_after_the_agent(number: type) -> None:
    """Upstream's sequence: first value, growth, a restart below it, growth again."""
    start = time.time_ns() + HOUR
    async with Line(COMPONENT, {}) as line:
        found = [await one(line, number(value), start + i * MINUTE, start) for i, value in enumerate([100, 225, 75, 300, 325], 1)]
    begin = [start, start + MINUTE, None, start + 3 * MINUTE, start + 4 * MINUTE]
    assert found == [None if at is None else (at, number(delta)) for at, delta in zip(begin, [100, 125, 0, 225, 25], strict=True)]
    assert line.counted("dropped") == {"counter reset": 1} and settled(line)


@pytest.mark.parametrize(
    ("initial", "start", "first"),
    [
        ("keep", HOUR, (0, 100)),
        ("drop", HOUR, None),
        ("auto", 0, None),
        ("auto", 2 * HOUR, None),  # as the time of the point
        ("auto", -HOUR, None),  # before the agent
        ("auto", HOUR, (HOUR, 100)),
    ],
)
async def test_the_first_value(initial: str, start: int, first: tuple[int, int] | None) -> None:
    now = time.time_ns()
    at, began = now + 2 * HOUR, now + start if start else 0
    async with Line(COMPONENT, {"initial_value": initial}) as line:
        found = await one(line, 100, at, began)
        assert found == (None if first is None else (now + first[0] if first[0] else 0, 100))
        assert await one(line, 225, at + MINUTE, began) == (at, 125)
    assert line.counted("filtered") == ({} if first else {"initial_value": 1}) and settled(line)


async def test_streams_are_told_apart_by_what_they_are() -> None:
    """Name, resource, attributes in any order, start and kind of value; each has its own first value."""
    base = {"time_unix_nano": 9, "as_int": 1, "attributes": {"a": 1, "b": 2}}
    same = {**base, "attributes": {"b": 2, "a": 1}}
    others = [
        sums({**base, "attributes": {"a": 1, "b": 3}}),
        sums({**base, "start_time_unix_nano": 5}),
        sums({"time_unix_nano": 9, "as_double": 1.0, "attributes": base["attributes"]}),
        sums(base, name="n"),
        sums(base, resource={"r": 1}),
    ]
    async with Line(COMPONENT, {"initial_value": "drop"}) as line:
        assert await line.send(sums(base), *others) == []
        assert len(await line.send(sums({**same, "time_unix_nano": 10}))) == 1
        # in one batch, in their order
        later = [sums({**base, "time_unix_nano": 10 + i, "as_int": 1 + i * i}) for i in range(1, 4)]
        assert [point.as_int for point in await line.send(*later)] == [1, 3, 5]


HISTOGRAM = {"count": 10, "sum": 5.0, "explicit_bounds": [1.0], "bucket_counts": [4, 6], "min": 0.0, "max": 1.0}


async def test_histograms() -> None:
    async with Line(COMPONENT, {"initial_value": "keep"}) as line:

        async def send(at: int, **fields: Any) -> Any:
            out = await line.send(request("histogram", CUMULATIVE, {**HISTOGRAM, "time_unix_nano": at, **fields}))
            return (out[0].count, out[0].sum, list(out[0].bucket_counts)) if out else None

        assert await send(1) == (10, 5.0, [4, 6])
        assert await send(2, count=15, sum=10.0, bucket_counts=[4, 11]) == (5, 5.0, [0, 5])
        assert await send(3, count=16, sum=11.0, bucket_counts=[2, 14]) is None  # a bucket has less
        assert await send(4, count=17, sum=12.0, bucket_counts=[3, 14]) == (1, 1.0, [1, 0])
        assert await send(5, explicit_bounds=[2.0]) is None
        assert await send(6, explicit_bounds=[2.0], count=11) == (1, 0.0, [0, 0])
        assert await send(7, explicit_bounds=[2.0], count=12, sum=float("nan")) is not None
    assert line.counted("dropped") == {"counter reset": 1, "changed buckets": 1} and settled(line)
    out = line.sink.batches[1].payload
    assert b"\x10\x01" in out, "the temporality is delta"


async def test_min_and_max_are_of_no_delta() -> None:
    async with Line(COMPONENT, {"initial_value": "keep"}) as line:
        await line.send(request("histogram", CUMULATIVE, {**HISTOGRAM, "time_unix_nano": 1}))
        (point,) = await line.send(request("histogram", CUMULATIVE, {**HISTOGRAM, "time_unix_nano": 2}))
    assert not point.HasField("min") and not point.HasField("max")


@pytest.mark.parametrize(
    ("before", "after", "want"),
    [
        (
            {"scale": 0, "positive": (2, [1, 2, 3])},
            {"scale": 0, "positive": (1, [1, 1, 4, 3])},
            (4 - 2, {"positive": (1, [1, 0, 2])}),
        ),
        ({"scale": 1, "positive": (2, [1, 2, 3])}, {"scale": 0, "positive": (1, [3, 5])}, (2, {"positive": (2, [2])})),
        (
            {"scale": 0, "zero_count": 1, "positive": (-2, [1, 2, 3])},  # (0.25, 0.5], (0.5, 1], (1, 2]
            {"scale": 0, "zero_count": 5, "zero_threshold": 1.0, "positive": (0, [4])},
            (2, {"positive": (0, [1]), "zero_count": 1}),
        ),
        ({"scale": 0, "positive": (2, [1])}, {"scale": 1, "positive": (2, [1])}, None),
        ({"scale": 0, "zero_threshold": 1.0}, {"scale": 0, "zero_threshold": 0.5}, None),
        ({"scale": 0, "negative": (2, [3])}, {"scale": 0, "negative": (2, [2])}, None),
        ({"scale": 0, "zero_count": 3}, {"scale": 0, "zero_count": 2}, None),
    ],
)
async def test_exponential_histograms(before: dict[str, Any], after: dict[str, Any], want: Any) -> None:
    async with Line(COMPONENT, {"initial_value": "keep"}) as line:
        await line.send(request("exponential_histogram", CUMULATIVE, {"time_unix_nano": 1, "count": 7, **before}))
        out = await line.send(request("exponential_histogram", CUMULATIVE, {"time_unix_nano": 2, "count": 9, **after}))
    if want is None:
        assert out == [] and line.counted("dropped") == {"counter reset": 1}
        return
    (point,) = out
    count, fields = want
    sides = {side: (getattr(point, side).offset, list(getattr(point, side).bucket_counts)) for side in ("positive", "negative")}
    assert point.count == count and point.zero_count == fields.pop("zero_count", 0)
    assert sides == {"negative": (0, []), **fields}


@pytest.mark.parametrize(
    ("options", "converted"),
    [
        ({}, {"requests.sum", "requests.histogram", "other.sum"}),
        ({"include": {"match_type": "strict", "metrics": ["other.sum"]}}, {"other.sum"}),
        ({"include": {"match_type": "regexp", "metrics": ["^req"]}}, {"requests.sum", "requests.histogram"}),
        ({"include": {"metric_types": ["Histogram"]}}, {"requests.histogram"}),
        (
            {"include": {"match_type": "regexp", "metrics": ["req"]}, "exclude": {"metric_types": ["histogram"]}},
            {"requests.sum"},
        ),
        (
            {"exclude": {"match_type": "regexp", "metrics": ["^other"], "metric_types": ["histogram"]}},
            {"requests.sum"},
        ),
    ],
)
async def test_what_is_converted(options: dict[str, Any], converted: set[str]) -> None:
    given = [
        request("sum", CUMULATIVE, {"time_unix_nano": 1, "as_int": 1}, name="requests.sum"),
        request("histogram", CUMULATIVE, {"time_unix_nano": 1, "count": 1}, name="requests.histogram"),
        request("sum", CUMULATIVE, {"time_unix_nano": 1, "as_int": 1}, name="other.sum"),
        request("sum", CUMULATIVE, {"time_unix_nano": 1, "as_int": 1}, name="up and down", monotonic=False),
        request("sum", DELTA, {"time_unix_nano": 1, "as_int": 1}, name="delta"),
    ]
    async with Line(COMPONENT, {**options, "initial_value": "drop"}) as line:
        out = await line.send(*given)
    assert 5 - len(out) == len(converted) == line.counted("filtered")["initial_value"]
    kept = line.sink.batches[0].payload
    assert all((name.encode() in kept) is (name not in converted) for name in ("requests.sum", "requests.histogram", "other.sum"))


async def test_points_without_a_value_go_and_no_numbers_stay_as_they_are() -> None:
    async with Line(COMPONENT, {"initial_value": "drop"}) as line:
        out = await line.send(
            sums({"time_unix_nano": 1, "flags": 1, "as_int": 1}), sums({"time_unix_nano": 1, "as_double": float("nan")})
        )
    assert len(out) == 1 and line.counted("filtered") == {"no recorded value": 1} and settled(line)


async def test_what_was_refused_for_now_comes_again_as_the_same_delta() -> None:
    """Also when newer points of the stream have passed meanwhile, and joined with others."""
    async with Line(COMPONENT, {"initial_value": "drop"}) as line:
        a, b = {"attributes": {"s": "a"}}, {"attributes": {"s": "b"}}
        await line.send(sums({"time_unix_nano": 1, "as_int": 10, **a}))
        second = sums({"time_unix_nano": 2, "as_int": 17, **a})
        await line.refused(second, sums({"time_unix_nano": 2, "as_int": 5, **b}))
        assert [p.as_int for p in await line.send(sums({"time_unix_nano": 3, "as_int": 20, **a}))] == [3]
        again = await line.send(sums({"time_unix_nano": 2, "as_int": 5, **b}), second)
        assert [(p.start_time_unix_nano, p.as_int) for p in again] == [(1, 7)], "the first value of b is still a first value"
        assert [p.as_int for p in await line.send(second)] == [], "once"
    assert line.counted("filtered") == {"initial_value": 2}


async def test_a_reload_keeps_the_streams() -> None:
    host = FakeHost()
    async with Line(COMPONENT, {"initial_value": "drop"}, host) as line:
        await one(line, 100, 1)
    async with Line(COMPONENT, {}, host) as line:
        assert await one(line, 125, 2) == (1, 25)
        labels = {"processor": "p", "pipeline": ""}
        assert host.ledger.total("otelcol_cumulativetodelta_streams_tracked", **labels) == 1
        assert host.ledger.total("otelcol_cumulativetodelta_datapoints_total", processor="p", metric_type="sum") == 1
    assert host.ledger.total("otelcol_cumulativetodelta_streams_tracked", **labels) == 0


async def test_streams_are_bounded_and_leave_when_they_are_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("kofagent.processors.cumulativetodelta.processor.time.monotonic", lambda: now)
    async with Line(COMPONENT, {"initial_value": "keep", "max_staleness": "30s"}) as line:
        streams = line.made._state.streams
        streams.max_entries = 2
        for name in ("a", "b", "c"):
            await one(line, 5, 1, name=name)
        assert line.counted("dropped") == {"stream limit": 1} and len(streams) == 2
        now = 25.0
        assert await one(line, 7, 2, name="a") == (1, 2)
        now = 31.0
        assert await one(line, 9, 3, name="c") == (0, 9), "b has left"
        assert len(streams) == 2 and 0 < streams.used < 2000
        for state in list(streams._states):
            streams.forget(state)
        assert streams.used == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"include": {"metrics": ["a"]}}, "match_type"),
        ({"exclude": {"match_type": "strict"}}, "match_type needs metrics"),
        ({"include": {"metric_types": ["gauge"]}}, "not one of sum, histogram, exponentialhistogram"),
        ({"include": {"match_type": "regexp", "metrics": ["("]}}, "not a regular expression"),
        ({"initial_value": "first"}, "auto"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        COMPONENT.Config.model_validate(options)


_COUNTS = st.lists(st.integers(0, 5), min_size=4, max_size=4)


@settings(max_examples=examples(40))
@given(st.lists(_COUNTS, min_size=1, max_size=6), st.sampled_from(["sum", "histogram", "exponential_histogram"]))
def test_deltas_add_up_to_what_they_were_made_of(steps: list[list[int]], kind: str) -> None:
    """Growing totals -> deltas -> totals: the same values."""

    def point(i: int, counts: list[int]) -> dict[str, Any]:
        total = sum(counts)
        common = {"start_time_unix_nano": 1, "time_unix_nano": 2 + i}
        if kind == "sum":
            return {**common, "as_int": total}
        if kind == "histogram":
            return {**common, "count": total, "sum": float(total), "explicit_bounds": [1.0, 2.0, 3.0], "bucket_counts": counts}
        return {**common, "count": total, "sum": float(total), "positive": (-1, counts)}

    def seen(point: Any) -> Any:
        if kind == "sum":
            return point.time_unix_nano, point.as_int
        if kind == "histogram":
            return point.time_unix_nano, point.count, point.sum, list(point.bucket_counts)
        counts = {point.positive.offset + i: c for i, c in enumerate(point.positive.bucket_counts) if c}
        return point.time_unix_nano, point.count, point.sum, counts

    async def both() -> None:
        async with Line(COMPONENT, {"initial_value": "keep"}) as deltas, Line(TOTALS, {}) as totals:
            counts = [0] * 4
            for i, step in enumerate(steps):
                counts = [a + b for a, b in zip(counts, step, strict=True)]
                whole = request(kind, CUMULATIVE, point(i, counts))
                await deltas.send(whole)
                await totals.made.consume(deltas.sink.batches[-1])
                out = type(whole).FromString(totals.sink.batches[-1].payload)
                (got,) = getattr(out.resource_metrics[0].scope_metrics[0].metrics[0], kind).data_points
                (want,) = getattr(whole.resource_metrics[0].scope_metrics[0].metrics[0], kind).data_points
                assert seen(got) == seen(want)

    asyncio.run(both())
