"""The arithmetic of `cumulativetodelta`: what is between the point before and this one.

The values of a point are tuples: (time, value) of a number, `Histogram`, `Exponential`. Times are Unix nanoseconds.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

Counts = tuple[int, tuple[int, ...]]
"""Offset and counts of exponential buckets."""


class Gone(Exception):
    """There is no delta, for this reason of `telemetry.reasons`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Histogram(NamedTuple):
    """The last point of a histogram with explicit bounds."""

    time: int
    total: int
    sum: float
    bounds: tuple[float, ...]
    counts: tuple[int, ...]


class Exponential(NamedTuple):
    """The last point of an exponential histogram."""

    time: int
    total: int
    sum: float
    scale: int
    zero_count: int
    zero_threshold: float
    positive: Counts
    negative: Counts


def values(kind: str, point: Any) -> Any:
    """The values of a point, seen through its lens."""
    if kind == "sum":
        return point.time, (point.as_int if point.HasField("as_int") else point.as_double)
    if kind == "histogram":
        return Histogram(point.time, point.count, point.sum, tuple(point.explicit_bounds), tuple(point.bucket_counts))
    return Exponential(
        point.time,
        point.count,
        point.sum,
        point.scale,
        point.zero_count,
        point.zero_threshold,
        (point.positive.offset, tuple(point.positive.bucket_counts)),
        (point.negative.offset, tuple(point.negative.bucket_counts)),
    )


def histogram(old: Histogram, new: Histogram) -> Histogram:
    """What came in between. Gone."""
    if len(new.counts) != len(old.counts) or new.bounds != old.bounds:
        raise Gone("changed buckets")
    if new.total < old.total or any(map(int.__lt__, new.counts, old.counts)):
        raise Gone("counter reset")
    counts = tuple(map(int.__sub__, new.counts, old.counts))
    return Histogram(new.time, new.total - old.total, new.sum - old.sum, new.bounds, counts)


def exponential(old: Exponential, new: Exponential) -> Exponential:
    """What came in between, at the scale and with the zero bucket of the new point. Gone.

    Of one stream the scale can only become coarser and the zero bucket wider; the old point is then made so, too.
    """
    if new.total < old.total or new.zero_threshold < old.zero_threshold or new.scale > old.scale:
        raise Gone("counter reset")
    zeros, positive, negative = old.zero_count, old.positive, old.negative
    if new.zero_threshold > old.zero_threshold:
        # the greatest i for which 2 ** (i * 2 ** -scale) is less than the threshold
        last = _index(new.zero_threshold, old.scale)
        taken, positive = _without_lowest(positive, last)
        zeros += taken
        taken, negative = _without_lowest(negative, last)
        zeros += taken
    if new.zero_count < zeros:
        raise Gone("counter reset")
    lost = min(old.scale - new.scale, 64)
    positive, negative = _coarser(positive, lost), _coarser(negative, lost)
    return new._replace(
        total=new.total - old.total,
        sum=new.sum - old.sum,
        zero_count=new.zero_count - zeros,
        positive=_between(positive, new.positive),
        negative=_between(negative, new.negative),
    )


def _index(value: float, scale: int) -> int:
    found = math.log(value) * math.ldexp(1 / math.log(2), max(-1000, min(1000, scale))) if 0 < value < math.inf else math.inf
    return math.ceil(max(-1e12, min(1e12, found))) - 1


def _without_lowest(buckets: Counts, last: int) -> tuple[int, Counts]:
    """How many are in the buckets up to `last`, and the others."""
    offset, counts = buckets
    cut = min(max(last - offset + 1, 0), len(counts))
    return sum(counts[:cut]), (offset + cut, counts[cut:])


def _coarser(buckets: Counts, bits: int) -> Counts:
    """The buckets with `bits` fewer bits in their indices."""
    offset, counts = buckets
    if not bits or not counts:
        return offset >> bits, counts
    first = offset >> bits
    out = [0] * (((offset + len(counts) - 1) >> bits) - first + 1)
    for i, count in enumerate(counts, offset):
        out[(i >> bits) - first] += count
    return first, tuple(out)


def _between(old: Counts, new: Counts) -> Counts:
    """The buckets that have more than before, from the first to the last of them. Gone where one has less."""
    (old_offset, old_counts), (offset, counts) = old, new
    shift = offset - old_offset
    out = []
    for i, count in enumerate(counts):
        at = i + shift
        less = old_counts[at] if 0 <= at < len(old_counts) else 0
        if count and count < less:
            raise Gone("counter reset")
        out.append(count - less if count else 0)
    used = [i for i, count in enumerate(out) if count]
    return (offset + used[0], tuple(out[used[0] : used[-1] + 1])) if used else (0, ())
