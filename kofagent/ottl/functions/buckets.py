"""Buckets of histograms: exponential ones as explicit ones, and several joined."""

from __future__ import annotations

import bisect
import math
import random
from itertools import pairwise
from typing import Any

from kofagent.ottl.env import Env
from kofagent.ottl.errors import EvaluationError
from kofagent.ottl.functions.core import editor
from kofagent.ottl.functions.metrics import copy, exp, take_over

_DISTRIBUTIONS = ("upper", "midpoint", "uniform", "random")


def _buckets(distribution_fn: str | None = None, explicit_bounds: list[float] | None = None, **_: Any) -> None:
    if distribution_fn is not None and distribution_fn not in _DISTRIBUTIONS:
        raise EvaluationError(f"{distribution_fn!r} is no distribution; known: {', '.join(_DISTRIBUTIONS)}")
    if explicit_bounds == []:
        raise EvaluationError("the list of bounds is empty")


@editor(
    'convert_exponential_histogram_to_histogram(distribution_fn "s", explicit_bounds [#f])',
    contexts="metric",
    env=True,
    check=_buckets,
)
def convert_exponential_histogram_to_histogram(env: Env, distribution: str, bounds: list[float]) -> None:
    """Makes an exponential histogram one with explicit bounds."""
    metric = env.metric
    if metric.WhichOneof("data") != "exponential_histogram":
        return
    source = copy(metric.exponential_histogram)
    metric.histogram.SetInParent()
    metric.histogram.aggregation_temporality = source.aggregation_temporality
    for point in source.data_points:
        new = metric.histogram.data_points.add()
        take_over(new, point)
        new.count = point.count
        for name in ("sum", "min", "max"):
            if point.HasField(name):
                setattr(new, name, getattr(point, name))
        new.flags = point.flags
        new.exemplars.extend(point.exemplars)
        new.explicit_bounds.extend(bounds)
        new.bucket_counts.extend(_distributed(point, distribution, bounds))


def _distributed(point: Any, distribution: str, bounds: list[float]) -> list[int]:
    """Counts of explicit buckets, one a bound: what lies above the last counts there. Upstream looks at positive buckets only."""
    counts = [0] * len(bounds)
    last = len(bounds) - 1
    factor = math.ldexp(math.log(2), -point.scale)
    offset = point.positive.offset
    for i, count in enumerate(point.positive.bucket_counts):
        lower, upper = exp((offset + i) * factor), exp((offset + i + 1) * factor)
        if distribution == "upper":
            counts[min(_bucket(upper, bounds), last)] += count
        elif distribution == "midpoint":
            at = _bucket((lower + upper) / 2, bounds)
            counts[last if at > last else max(at - 1, 0)] += count
        else:
            _spread(counts, min(_bucket(lower, bounds), last), min(_bucket(upper, bounds), last), count, distribution)
    return counts


def _bucket(value: float, bounds: list[float]) -> int:
    return bisect.bisect_left(bounds, value)


def _spread(counts: list[int], first: int, last: int, count: int, distribution: str) -> None:
    """Puts a bucket's items into those that it overlaps: in equal parts, or by chance."""
    for at in range(first, last):
        part = -(-count // (last - at + 1)) if distribution == "uniform" else random.randint(0, count)
        counts[at] += part
        count -= part
    counts[last] += count


def _method(method: str | None = None, **_: Any) -> None:
    if method not in (None, "remove_explicit_bound", "limit_buckets"):
        raise EvaluationError(f"{method!r} is no method; known: remove_explicit_bound, limit_buckets")


@editor(
    'merge_histogram_buckets(target_value F~, method? "s"="remove_explicit_bound")', contexts="datapoint", env=True, check=_method
)
def merge_histogram_buckets(env: Env, target: float | None, method: str) -> None:
    """Joins buckets: at a bound, or until there are no more than a number."""
    point = env.datapoint
    if "explicit_bounds" not in point.DESCRIPTOR.fields_by_name or target is None:
        return
    bounds, counts = list(point.explicit_bounds), list(point.bucket_counts)
    if len(counts) != len(bounds) + 1 or any(a >= b for a, b in pairwise(bounds)):
        return
    if method == "remove_explicit_bound":
        at = next((i for i, bound in enumerate(bounds) if math.isclose(bound, target, rel_tol=0, abs_tol=1e-12)), None)
        if at is None:
            return
        _join(bounds, counts, at)
    else:
        if target != int(target) or target <= 0:
            raise EvaluationError("limit_buckets takes a whole number above 0")
        while len(counts) > target:
            bounds, counts = bounds[1::2], [sum(counts[i : i + 2]) for i in range(0, len(counts), 2)]
            bounds = bounds[: len(counts) - 1]
    point.explicit_bounds[:] = bounds
    point.bucket_counts[:] = counts


def _join(bounds: list[float], counts: list[int], at: int) -> None:
    counts[at] += counts.pop(at + 1)
    del bounds[at]
