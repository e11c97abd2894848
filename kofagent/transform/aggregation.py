"""Data points that say the same become one: sums, means and others of numbers, sums of histograms.

Points are Google's messages. Upstream: internal/coreinternal/aggregateutil, which `metricstransform` and OTTL share as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from kofagent.transform.anyvalue import to_json, to_python
from kofagent.transform.otlp_metrics import wrap64

DELTA = 1
"""AGGREGATION_TEMPORALITY_DELTA."""
MAX_BUCKETS = 10_000
"""Buckets of points whose offsets are further apart are not aligned."""


def _divided(total: Any, parts: int) -> Any:
    """Integers are divided as Go does, towards zero."""
    if isinstance(total, int):
        return total // parts if total >= 0 else -(-total // parts)
    return total / parts


def _median(values: list[Any]) -> Any:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else _divided(ordered[half - 1] + ordered[half], 2)


NUMBERS: dict[str, Callable[[list[Any]], Any]] = {
    "sum": sum,
    "max": max,
    "min": min,
    "mean": lambda values: _divided(sum(values), len(values)),
    "median": _median,
    "count": len,
}
"""What can be made of the values of several points."""


def merged(metric: Any, function: str, points: Iterable[Any]) -> list[Any]:
    """One point instead of those with equal attributes and times, in the order of the first of each; histograms are summed.

    `metric` says of what kind they are. ValueError where exponential histograms are too far apart.
    """
    kind = metric.WhichOneof("data")
    delta = getattr(getattr(metric, kind), "aggregation_temporality", 0) == DELTA
    groups: dict[Any, list[Any]] = {}
    for point in points:
        attributes = to_json({i.key: to_python(i.value) for i in point.attributes})
        # Cumulative points of one time are one whenever they began; the spans of delta points differ.
        key: Any = (attributes, point.start_time_unix_nano if delta else 0, point.time_unix_nano)
        if kind == "histogram":
            key = (*key, tuple(point.explicit_bounds))
        elif kind == "exponential_histogram":
            key = (*key, point.scale)
        groups.setdefault(key, []).append(point)
    merge = _numbers if kind in ("gauge", "sum") else _histograms
    return [merge(group, function) if len(group) > 1 or function == "count" else group[0] for group in groups.values()]


def _numbers(group: list[Any], function: str) -> Any:
    """The first point has the kind of value that all get."""
    first = group[0]
    if first.WhichOneof("value") == "as_int":
        values = [p.as_int if p.HasField("as_int") else _whole(p.as_double) for p in group]
        first.as_int = wrap64(NUMBERS[function](values))
    else:
        first.as_double = float(NUMBERS[function]([p.as_double if p.HasField("as_double") else float(p.as_int) for p in group]))
    first.start_time_unix_nano = min(point.start_time_unix_nano for point in group)
    return first


def _whole(value: float) -> int:
    try:
        return max(-(1 << 63), min((1 << 63) - 1, int(value)))
    except (ValueError, OverflowError):  # no number, or infinite
        return 0


def _histograms(group: list[Any], function: str) -> Any:
    first = group[0]
    for other in group[1:]:
        first.count = first.count + other.count & _U64
        if other.HasField("sum"):
            first.sum += other.sum
        for name, choose in (("min", min), ("max", max)):
            if first.HasField(name) and other.HasField(name):
                setattr(first, name, choose(getattr(first, name), getattr(other, name)))
        if hasattr(first, "explicit_bounds"):
            first.bucket_counts[:] = _added(first.bucket_counts, other.bucket_counts)
        else:
            first.zero_count = first.zero_count + other.zero_count & _U64
            for side in ("positive", "negative"):
                _add_buckets(getattr(first, side), getattr(other, side))
        first.exemplars.extend(other.exemplars)
        first.start_time_unix_nano = min(first.start_time_unix_nano, other.start_time_unix_nano)
    return first


_U64 = (1 << 64) - 1


def _add_buckets(mine: Any, theirs: Any) -> None:
    if not theirs.bucket_counts:
        return
    if not mine.bucket_counts:
        mine.CopyFrom(theirs)
        return
    first = min(mine.offset, theirs.offset)
    if max(mine.offset, theirs.offset) - first > MAX_BUCKETS:
        raise ValueError("the buckets of the histograms are too far apart")
    one = [0] * (mine.offset - first) + list(mine.bucket_counts)
    mine.bucket_counts[:] = _added(one, [0] * (theirs.offset - first) + list(theirs.bucket_counts))
    mine.offset = first


def _added(left: Iterable[int], right: Iterable[int]) -> list[int]:
    one, two = list(left), list(right)
    size = max(len(one), len(two))
    pairs = zip(one + [0] * (size - len(one)), two + [0] * (size - len(two)), strict=True)
    return [a + b & _U64 for a, b in pairs]
