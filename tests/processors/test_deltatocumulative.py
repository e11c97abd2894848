"""deltatocumulative: upstream's recorded cases, by their values, and its limits."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from kofagent.processors.deltatocumulative import COMPONENT, totals
from kofagent.processors.deltatocumulative.totals import Buckets, Exponential
from tests.processors.streams import CUMULATIVE, DELTA, Line, request, settled
from tests.support.components import FakeHost
from tests.support.examples import examples


def sums(*points: dict[str, Any], **more: Any) -> Any:
    return request("sum", DELTA, *points, **more)


async def test_sums_are_added_up_from_their_first_start() -> None:
    async with Line(COMPONENT, {}) as line:
        points = [{"start_time_unix_nano": i, "time_unix_nano": i + 1, "as_int": 10 + i} for i in range(1, 4)]
        out = await line.send(sums(*points))
        assert [(p.start_time_unix_nano, p.time_unix_nano, p.as_int) for p in out] == [(1, 2, 11), (1, 3, 23), (1, 4, 36)]
        assert b"\x10\x02" in line.sink.batches[0].payload, "the temporality is cumulative"
        (point,) = await line.send(sums({"time_unix_nano": 9, "as_double": 0.5}, monotonic=False))
        assert point.as_double == 0.5, "another stream"


async def test_what_is_older_or_not_newer_is_dropped() -> None:
    async with Line(COMPONENT, {}) as line:
        await line.send(sums({"start_time_unix_nano": 5, "time_unix_nano": 10, "as_int": 1}))
        for start, time in ((4, 11), (5, 10), (5, 9)):
            assert await line.send(sums({"start_time_unix_nano": start, "time_unix_nano": time, "as_int": 1})) == []
        (point,) = await line.send(sums({"start_time_unix_nano": 10, "time_unix_nano": 11, "as_int": 1}))
        assert point.as_int == 2
        for error, count in (("", 2), ("delta.ErrOlderStart", 1), ("delta.ErrOutOfOrder", 2)):
            name = "otelcol_deltatocumulative_datapoints_total"
            assert line.host.ledger.total(name, processor="p", error=error) == count
    assert line.counted("dropped") == {"older start": 1, "out of order": 2} and settled(line)


async def test_the_limit_of_streams() -> None:
    """Upstream's case: ten streams are known, an eleventh is too many, the ten go on."""
    async with Line(COMPONENT, {"max_streams": 10}) as line:
        for turn in (1, 2):
            names = [str(i) for i in range(10)] + ["x"] * (turn - 1)
            points = [{"time_unix_nano": turn, "as_double": 1.0, "attributes": {"series": name}} for name in names]
            assert [p.as_double for p in await line.send(sums(*points))] == [float(turn)] * 10
        labels = {"processor": "p", "pipeline": ""}
        assert line.host.ledger.total("otelcol_deltatocumulative_streams_tracked", **labels) == 10
        assert line.host.ledger.total("otelcol_deltatocumulative_streams_limit", **labels) == 10
        assert line.host.ledger.total("otelcol_deltatocumulative_streams_max_stale", **labels) == 300
        assert await line.send(sums({"time_unix_nano": 3, "as_int": 1}, name="y")) == []
        assert len(line.sink.batches) == 2, "nothing is left to hand on"
        both = [sums({"time_unix_nano": 4, "as_int": 1}, name="y"), request("sum", CUMULATIVE, {"time_unix_nano": 1, "as_int": 1})]
        await line.send(*both)
        assert line.sink.batches[2].payload == both[1].SerializeToString(), "what lost all its points is gone"
    assert line.counted("dropped") == {"stream limit": 3} and settled(line)


async def test_other_metrics_pass_as_they_are() -> None:
    others = [
        request("sum", CUMULATIVE, {"time_unix_nano": 1, "as_int": 1}),
        request("histogram", CUMULATIVE, {"time_unix_nano": 1, "count": 1}),
        request("sum", 0, {"time_unix_nano": 1, "as_int": 1}),
    ]
    async with Line(COMPONENT, {}) as line:
        assert len(await line.send(*others)) == 3
        assert line.sink.batches[0].payload == b"".join(each.SerializeToString() for each in others)


async def test_histograms_are_added_up_until_their_bounds_change() -> None:
    bounds = [0.01, 0.1, 1, 10, 100]
    async with Line(COMPONENT, {}) as line:
        out = await line.send(
            request(
                "histogram",
                DELTA,
                {
                    "time_unix_nano": 10,
                    "explicit_bounds": bounds,
                    "bucket_counts": [1, 2, 3, 4, 5],
                    "count": 2,
                    "sum": 7.0,
                    "min": 1.0,
                    "max": 5.0,
                },
                {
                    "time_unix_nano": 20,
                    "explicit_bounds": bounds,
                    "bucket_counts": [1, 0, 1, 0, 1],
                    "count": 3,
                    "sum": 2.5,
                    "min": 0.5,
                    "max": 1.0,
                },
                {"time_unix_nano": 30, "explicit_bounds": bounds, "bucket_counts": [1, 0, 1, 0, 1], "count": 1},
                {"time_unix_nano": 40, "explicit_bounds": bounds[1:], "bucket_counts": [1, 2, 3, 4]},
                {"time_unix_nano": 50, "explicit_bounds": bounds[1:], "bucket_counts": [1, 2, 3, 4, 9]},
            )
        )
    assert [list(p.bucket_counts) for p in out] == [[1, 2, 3, 4, 5], [2, 2, 4, 4, 6], [3, 2, 5, 4, 7], [1, 2, 3, 4], [2, 4, 6, 8]]
    assert [p.count for p in out] == [2, 5, 6, 0, 0]
    optional = [tuple(getattr(p, name) if p.HasField(name) else None for name in ("sum", "min", "max")) for p in out]
    assert optional == [(7.0, 1.0, 5.0), (9.5, 0.5, 5.0), (None,) * 3, (None,) * 3, (None,) * 3]


async def test_exponential_histograms_are_added_up_at_the_coarser_scale() -> None:
    async with Line(COMPONENT, {}) as line:
        simple = await line.send(
            request(
                "exponential_histogram",
                DELTA,
                {
                    "time_unix_nano": 10,
                    "scale": 4,
                    "zero_count": 5,
                    "positive": (2, [4, 7, 9, 6, 25]),
                    "negative": (6, [2, 13, 7, 12, 4]),
                },
                {
                    "time_unix_nano": 20,
                    "scale": 4,
                    "zero_count": 2,
                    "positive": (2, [1, 2, 1, 2, 1]),
                    "negative": (6, [1, 2, 1, 2, 1]),
                },
            )
        )
        coarser = await line.send(
            request(
                "exponential_histogram",
                DELTA,
                {"time_unix_nano": 10, "scale": 2, "zero_count": 1, "positive": (0, [1, 2, 3, 4, 5])},
                {"time_unix_nano": 20, "scale": 1},
                name="coarser",
            )
        )
    last = simple[1]
    assert (last.scale, last.zero_count) == (4, 7)
    assert (last.positive.offset, list(last.positive.bucket_counts)) == (2, [5, 9, 10, 8, 26])
    assert (last.negative.offset, list(last.negative.bucket_counts)) == (6, [3, 15, 8, 14, 5])
    assert (coarser[1].scale, coarser[1].zero_count) == (1, 1)
    assert (coarser[1].positive.offset, list(coarser[1].positive.bucket_counts)) == (0, [3, 7, 5])


def exponential(scale: int, offset: int, counts: list[int], **more: Any) -> Exponential:
    fields = {"zero_count": 0, "zero_threshold": 0.0, "negative": Buckets(0, ()), **more}
    return Exponential(0, 1, 0, None, None, None, scale, positive=Buckets(offset, tuple(counts)), **fields)


@pytest.mark.parametrize(
    ("state", "point", "scale", "offset", "counts"),
    [
        (exponential(0, 5, [1, 1, 1]), exponential(0, 2, [1, 1, 1, 1, 1]), 0, 2, [1, 1, 1, 2, 2, 1, 0, 0]),
        (exponential(0, 0, [1] * 5), exponential(0, 0, [1] * 8), 0, 0, [2] * 5 + [1] * 3),
        (exponential(0, -2, [1, 2]), exponential(0, -5, [1, 2, 3]), 0, -5, [1, 2, 3, 1, 2]),
        (exponential(0, 0, [1] * 8), exponential(0, 6, [2] * 8), -1, 0, [2, 2, 2, 6, 4, 4, 4]),
        (exponential(0, -6, [1] * 8), exponential(0, 6, [2] * 8), -2, -2, [2, 4, 2, 4, 8, 4]),
        (exponential(0, -2, [0, 0, 1, 5, 5, 1, 0, 0]), exponential(0, 0, [0, 2, 2, 3, 3, 2, 2, 0]), 0, 0, [1, 7, 7, 4, 3, 2, 2]),
        (
            exponential(0, -4, [0, 0, 1, 10, 10, 1, 0, 0]),
            exponential(0, 4, [0, 0, 2, 10, 10, 2, 0, 0]),
            -1,
            -1,
            [11, 11, 0, 0, 12, 12],
        ),
    ],
)
def test_buckets_within_a_limit_of_eight(
    state: Exponential, point: Exponential, scale: int, offset: int, counts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(totals, "MAX_BUCKETS", 8)
    for one, two in ((state, point), (point, state)):
        got = totals.add(one, two)
        assert (got.scale, got.positive.offset) == (scale, offset)
        assert got.positive.counts == tuple(counts[: max(i for i, count in enumerate(counts) if count) + 1])


@pytest.mark.parametrize(
    ("thresholds", "state", "point", "zero_threshold", "zeros", "buckets"),
    [
        ((0.0, 2.0), Buckets(-1, (0, 1, 1, 1)), Buckets(1, (1, 1)), 2.0, 5, Buckets(1, (2, 2))),
        ((0.2, 0.3), Buckets(-2, (1, 1, 1)), Buckets(-1, (1, 1)), 0.5, 5, Buckets(-1, (2, 2))),
        ((0.0, 4.0), Buckets(1, (1,)), Buckets(2, (1,)), 4.0, 5, Buckets(2, (1,))),  # a power of two is the end of its bucket
    ],
)
def test_the_zero_bucket_is_the_wider_one(
    thresholds: tuple[float, float], state: Buckets, point: Buckets, zero_threshold: float, zeros: int, buckets: Buckets
) -> None:
    one = exponential(0, 0, [], zero_count=2, zero_threshold=thresholds[0])._replace(positive=state)
    two = exponential(0, 0, [], zero_count=2, zero_threshold=thresholds[1])._replace(positive=point)
    got = totals.add(one, two)
    assert (got.zero_threshold, got.zero_count, got.positive) == (pytest.approx(zero_threshold), zeros, buckets)


@pytest.mark.parametrize("scale", [-(1 << 31), -11, 20, (1 << 31) - 1])
@pytest.mark.parametrize("threshold", [0.0, 5e-324, 1.7, 2.0, 1.7e308, float("inf"), float("nan")])
def test_no_point_is_too_odd(scale: int, threshold: float) -> None:
    """Whatever a sender writes: neither an error nor much memory."""
    far = [Buckets(-(1 << 31), (1,)), Buckets((1 << 31) - 1, (1, 2))]
    one = exponential(scale, 0, [], zero_threshold=threshold)._replace(positive=far[0], negative=far[1])
    two = exponential(3, 0, [])._replace(positive=far[1], negative=far[0])
    for state, point in ((one, two), (two, one)):
        got = totals.add(state, point)
        assert max(len(got.positive.counts), len(got.negative.counts)) <= totals.MAX_BUCKETS


async def test_what_was_refused_for_now_comes_again_as_the_same_total() -> None:
    async with Line(COMPONENT, {}) as line:
        await line.send(sums({"time_unix_nano": 1, "as_int": 1}))
        second = sums({"time_unix_nano": 2, "as_int": 10})
        await line.refused(second)
        assert [p.as_int for p in await line.send(second)] == [11]
        assert [p.as_int for p in await line.send(sums({"time_unix_nano": 3, "as_int": 100}))] == [111]
        assert await line.send(second) == [], "that one is out of order"


async def test_a_reload_keeps_the_totals_and_takes_the_new_limits() -> None:
    host = FakeHost()
    async with Line(COMPONENT, {}, host) as line:
        await line.send(sums({"time_unix_nano": 1, "as_int": 1}))
    async with Line(COMPONENT, {"max_streams": 1}, host) as line:
        assert [p.as_int for p in await line.send(sums({"time_unix_nano": 2, "as_int": 1}))] == [2]
        assert await line.send(sums({"time_unix_nano": 2, "as_int": 1}, name="n")) == []


@pytest.mark.parametrize("options", [{"max_stale": "0s"}, {"max_streams": -1}])
def test_options_that_do_not_fit(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        COMPONENT.Config.model_validate(options)


_VALUES = st.lists(st.floats(0.001, 1000), min_size=1, max_size=8)


@settings(max_examples=examples(40))
@given(st.lists(st.tuples(st.integers(-3, 6), _VALUES), min_size=1, max_size=6))
def test_a_total_is_the_histogram_of_all_values(steps: list[tuple[int, list[float]]]) -> None:
    """Deltas of different scales, against one histogram of everything at the scale of the total."""

    def buckets(scale: int, values: list[float]) -> tuple[int, list[int]]:
        indices = [totals._index(value, scale) for value in values]
        first = min(indices)
        return first, [indices.count(i) for i in range(first, max(indices) + 1)]

    async def check() -> None:
        everything: list[float] = []
        async with Line(COMPONENT, {}) as line:
            for i, (scale, values) in enumerate(steps):
                everything += values
                point = {"time_unix_nano": 1 + i, "scale": scale, "count": len(values), "positive": buckets(scale, values)}
                (got,) = await line.send(request("exponential_histogram", DELTA, point))
                assert got.count == len(everything)
                want = buckets(got.scale, everything)
                assert got.scale <= min(s for s, _ in steps[: i + 1])
                assert (got.positive.offset, list(got.positive.bucket_counts)) == want

    asyncio.run(check())
