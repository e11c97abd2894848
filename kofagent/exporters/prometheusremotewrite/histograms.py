"""Histograms of OTLP as native histograms of Prometheus, and whether the parts of a point agree.

A backend refuses a request for a histogram that contradicts itself, or calculates garbage from it: such a point is left out, as a
scraped one is on its way to OTLP. Repaired is what can be understood in one way only: a bound +Inf that is listed, the count of
the last bucket that is not, values that are counted but in no bucket (they are above the last bound), bounds without counts.

Bucket i of OTLP covers (base**i, base**(i+1)], bucket i of Prometheus (base**(i-1), base**i]: indices differ by one. A scale
above 8, the finest that Prometheus has, is merged down; one below -4 cannot be written.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from operator import lt, sub
from typing import Any

from kofagent.wire.remote_write import Buckets, native_histogram

INCONSISTENT = "inconsistent histogram"
"""The reason of points whose parts contradict each other."""
MIN_SCALE, MAX_SCALE = -4, 8
CUSTOM_BUCKETS = -53
"""Schema of a native histogram whose bounds are listed."""
DEFAULT_ZERO_THRESHOLD = 1e-128
STALE_COUNT = 0x7FF0000000000002
_GAP = 2
"""Up to this many empty buckets are written as such; a larger gap starts a new span."""


_MOST = 1 << 63
"""Counts are below this: differences of them are signed on the wire."""
_INDEX = 1 << 31


def apart(bounds: Sequence[float]) -> bool:
    """Whether bounds rise, and are finite."""
    return all(map(lt, (-math.inf, *bounds), (*bounds, math.inf)))


def below(point: Any) -> tuple[tuple[float, ...], list[int]] | None:
    """The bounds of a HistogramDataPoint without +Inf, and how many values are not above each; None where counts contradict.

    It has no bounds where it has no counts. Whether bounds rise is for `apart` to say, once for each series. Counts of a point
    without a value are not looked at.
    """
    rising = list(accumulate(point.bucket_counts))
    if not rising:
        return ((), []) if point.count < _MOST else None
    bounds = tuple(point.explicit_bounds)
    above = 1
    if bounds and bounds[-1] == math.inf:
        bounds, above = bounds[:-1], 2
    if not point.flags & 1 and (not 0 <= len(rising) - len(bounds) <= above or not rising[-1] <= point.count < _MOST):
        return None
    return bounds, rising[: len(bounds)]


def within(quantiles: Mapping[float, float], point: Any) -> bool:
    """Whether the quantiles of a SummaryDataPoint are all different, and none is below 0 or above 1."""
    return len(quantiles) == len(point.quantile_values) and all(0 <= quantile <= 1 for quantile in quantiles)


def counted(point: Any) -> tuple[list[int], list[int]] | None:
    """The counts of the buckets of an ExponentialHistogramDataPoint, positive and negative.

    None where they do not add up, or cannot be written. Of a point without a value there are none.
    """
    if point.flags & 1:
        return [], []
    positive, negative = list(point.positive.bucket_counts), list(point.negative.bucket_counts)
    total, count = point.zero_count + sum(positive) + sum(negative), point.count
    if not total <= count < _MOST or (total < count and not math.isnan(point.sum)):
        return None  # a NaN that was observed is in no bucket, and makes the sum NaN
    last = max(point.positive.offset + len(positive), point.negative.offset + len(negative))
    return (positive, negative) if last < _INDEX and 0 <= point.zero_threshold < math.inf else None


def from_exponential(point: Any, counts: tuple[Sequence[int], Sequence[int]], timestamp_ms: int, stale: float) -> bytes:
    """The `histograms` field of an ExponentialHistogramDataPoint of at least MIN_SCALE; `counts` are what is `counted` in it."""
    down = max(0, point.scale - MAX_SCALE)
    no_value = point.flags & 1
    return native_histogram(
        count=STALE_COUNT if no_value else point.count,
        sum=stale if no_value else point.sum,
        schema=min(point.scale, MAX_SCALE),
        zero_threshold=DEFAULT_ZERO_THRESHOLD if no_value else point.zero_threshold or DEFAULT_ZERO_THRESHOLD,
        zero_count=0 if no_value else point.zero_count,
        positive=_dense(point.positive.offset, counts[0], down),
        negative=_dense(point.negative.offset, counts[1], down),
        timestamp_ms=timestamp_ms,
    )


def _dense(offset: int, counts: Sequence[int], down: int) -> Buckets:
    if not down:
        return spans([(index, count) for index, count in enumerate(counts, offset + 1) if count])
    merged: dict[int, int] = {}
    for index, count in enumerate(counts, offset):
        if count:
            at = (index >> down) + 1
            merged[at] = merged.get(at, 0) + count
    return spans(merged.items())


def spans(counts: Iterable[tuple[int, int]]) -> Buckets:
    """Spans and deltas of `(index, count)` in ascending order of index, counts not zero."""
    out: list[list[int]] = []
    deltas: list[int] = []
    span: list[int] = []
    before = 0
    end: int | None = None
    for index, count in counts:
        if index == end:
            span[1] += 1
        elif end is None or index - end > _GAP:
            span = [index - (end or 0), 1]
            out.append(span)
        else:
            span[1] += index - end + 1
            for _ in range(index - end):
                deltas.append(-before)
                before = 0
        deltas.append(count - before)
        before = count
        end = index + 1
    return [(offset, length) for offset, length in out], deltas


def from_explicit(point: Any, bounds: Sequence[float], rising: Sequence[int], timestamp_ms: int, stale: float) -> bytes:
    """A HistogramDataPoint as a native histogram with custom buckets; `bounds` and `rising` are what is `below` in it."""
    if point.flags & 1:
        return native_histogram(
            count=0,
            sum=stale,
            schema=CUSTOM_BUCKETS,
            zero_threshold=0.0,
            zero_count=0,
            positive=((), ()),
            timestamp_ms=timestamp_ms,
        )
    counts = map(sub, (*rising, point.count), (0, *rising))
    return native_histogram(
        count=point.count,
        sum=point.sum,
        schema=CUSTOM_BUCKETS,
        zero_threshold=0.0,
        zero_count=0,
        positive=spans((i, c) for i, c in enumerate(counts) if c),
        timestamp_ms=timestamp_ms,
        custom_values=bounds,
    )
