"""Exponential histograms of OTLP as native histograms of Prometheus.

Bucket i of OTLP covers (base**i, base**(i+1)], bucket i of Prometheus (base**(i-1), base**i]: indices differ by one. A scale
above 8, the finest that Prometheus has, is merged down; one below -4 cannot be written.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from kofagent.wire.remote_write import Buckets, native_histogram

MIN_SCALE, MAX_SCALE = -4, 8
CUSTOM_BUCKETS = -53
"""Schema of a native histogram whose bounds are listed."""
DEFAULT_ZERO_THRESHOLD = 1e-128
STALE_COUNT = 0x7FF0000000000002
_GAP = 2
"""Up to this many empty buckets are written as such; a larger gap starts a new span."""


def from_exponential(point: Any, timestamp_ms: int, stale: float) -> bytes | None:
    """The `histograms` field of an ExponentialHistogramDataPoint, None when its scale is too coarse."""
    if point.scale < MIN_SCALE:
        return None
    down = max(0, point.scale - MAX_SCALE)
    no_value = point.flags & 1
    return native_histogram(
        count=STALE_COUNT if no_value else point.count,
        sum=stale if no_value else point.sum,
        schema=min(point.scale, MAX_SCALE),
        zero_threshold=point.zero_threshold or DEFAULT_ZERO_THRESHOLD,
        zero_count=point.zero_count,
        positive=_dense(point.positive, down),
        negative=_dense(point.negative, down),
        timestamp_ms=timestamp_ms,
    )


def _dense(buckets: Any, down: int) -> Buckets:
    merged: dict[int, int] = {}
    offset = buckets.offset
    for index, count in enumerate(buckets.bucket_counts, offset):
        if count:
            at = (index >> down) + 1
            merged[at] = merged.get(at, 0) + count
    return spans(merged.items())


def spans(counts: Iterable[tuple[int, int]]) -> Buckets:
    """Spans and deltas of `(index, count)` in ascending order of index, counts not zero."""
    out: list[tuple[int, int]] = []
    deltas: list[int] = []
    before = 0
    end: int | None = None
    for index, count in counts:
        gap = index if end is None else index - end
        if end is None or gap > _GAP:
            out.append((gap, 1))
        else:
            out[-1] = (out[-1][0], out[-1][1] + gap + 1)
            for _ in range(gap):
                deltas.append(-before)
                before = 0
        deltas.append(count - before)
        before = count
        end = index + 1
    return out, deltas


def from_explicit(point: Any, bounds: Sequence[float], timestamp_ms: int, stale: float) -> bytes:
    """A HistogramDataPoint as a native histogram with custom buckets."""
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
    finite = [b for b in bounds if not math.isinf(b)]
    counts = list(point.bucket_counts)
    counts = [*counts[: len(finite)], sum(counts[len(finite) :])]
    counts += [0] * (len(finite) + 1 - len(counts))
    total = sum(counts)
    if point.count > total:  # what the buckets do not tell of lies above the last bound
        counts[-1] += point.count - total
        total = point.count
    return native_histogram(
        count=total,
        sum=point.sum,
        schema=CUSTOM_BUCKETS,
        zero_threshold=0.0,
        zero_count=0,
        positive=spans((i, c) for i, c in enumerate(counts) if c),
        timestamp_ms=timestamp_ms,
        custom_values=finite,
    )
