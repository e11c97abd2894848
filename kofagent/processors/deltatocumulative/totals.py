"""The arithmetic of `deltatocumulative`: two points of a stream added up.

A state is a `Number`, a `Histogram` or an `Exponential`; `add` makes the next state of one and of a point's. Times are Unix
nanoseconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import zip_longest
from typing import Any, NamedTuple

from kofagent.transform.otlp_metrics import wrap64

MAX_BUCKETS = 160
"""Buckets of an exponential histogram on each side; of more the scale becomes coarser."""
_U64 = (1 << 64) - 1
_SCALES = 64
"""Scales beyond this are not told apart; upstream's SDKs stay below 21."""


class Number(NamedTuple):
    """A sum."""

    start: int
    time: int
    value: float


class Histogram(NamedTuple):
    """A histogram with explicit bounds; what it may lack is None."""

    start: int
    time: int
    total: int
    sum: float | None
    min: float | None
    max: float | None
    bounds: tuple[float, ...]
    counts: tuple[int, ...]


class Buckets(NamedTuple):
    """One side of an exponential histogram: `counts[i]` is that of the bucket `offset + i`."""

    offset: int
    counts: tuple[int, ...]

    def at(self, index: int) -> int:
        """The count of a bucket; 0 outside."""
        place = index - self.offset
        return self.counts[place] if 0 <= place < len(self.counts) else 0

    def coarser(self, bits: int) -> Buckets:
        """The same at a scale that is lower by `bits`."""
        if not bits or not self.counts:
            return Buckets(self.offset >> bits, self.counts)
        first = self.offset >> bits
        out = [0] * (((self.offset + len(self.counts) - 1) >> bits) - first + 1)
        for index, count in enumerate(self.counts, self.offset):
            out[(index >> bits) - first] += count
        return Buckets(first, tuple(out))

    def used(self) -> tuple[int, int] | None:
        """The first and the last bucket that are not empty."""
        places = [i for i, count in enumerate(self.counts) if count]
        return (self.offset + places[0], self.offset + places[-1]) if places else None

    def split(self, last: int) -> tuple[int, Buckets]:
        """How many are in the buckets up to `last`, and the others."""
        cut = min(max(last - self.offset + 1, 0), len(self.counts))
        return sum(self.counts[:cut]), Buckets(self.offset + cut, self.counts[cut:])


class Exponential(NamedTuple):
    """An exponential histogram; what it may lack is None."""

    start: int
    time: int
    total: int
    sum: float | None
    min: float | None
    max: float | None
    scale: int
    zero_count: int
    zero_threshold: float
    positive: Buckets
    negative: Buckets


State = Number | Histogram | Exponential


def _optional(point: Any, name: str) -> float | None:
    return getattr(point, name) if point.HasField(name) else None


def state_of(kind: str, point: Any) -> State:
    """A point, seen through its lens, as a state."""
    if kind == "sum":
        return Number(point.start, point.time, point.as_int if point.HasField("as_int") else point.as_double)
    common: Any = (point.start, point.time, point.count, *(_optional(point, name) for name in ("sum", "min", "max")))
    if kind == "histogram":
        return Histogram._make((*common, tuple(point.explicit_bounds), tuple(point.bucket_counts)))
    sides = [Buckets(side.offset, tuple(side.bucket_counts)) for side in (point.positive, point.negative)]
    return Exponential._make((*common, point.scale, point.zero_count, point.zero_threshold, *sides))


def write(state: State, point: Any) -> None:
    """Makes a point, seen through its lens, the state."""
    point.start, point.time = state.start, state.time
    if isinstance(state, Number):
        if isinstance(state.value, int):
            point.as_int = state.value
        else:
            point.as_double = state.value
        return
    point.count = state.total
    for name in ("sum", "min", "max"):
        value = getattr(state, name)
        if value is None:
            point.ClearField(name)
        else:
            setattr(point, name, value)
    if isinstance(state, Histogram):
        point.explicit_bounds[:] = state.bounds
        point.bucket_counts[:] = state.counts
        return
    point.scale, point.zero_count, point.zero_threshold = state.scale, state.zero_count, state.zero_threshold
    for side, buckets in ((point.positive, state.positive), (point.negative, state.negative)):
        side.offset = buckets.offset
        side.bucket_counts[:] = buckets.counts


def add(state: Any, point: Any) -> Any:
    """The state after a point of the same kind; its start stays."""
    if isinstance(state, Number):
        total = state.value + point.value
        return Number(state.start, point.time, wrap64(total) if isinstance(total, int) else total)
    return _histogram(state, point) if isinstance(state, Histogram) else _exponential(state, point)


def _both(choose: Callable[[float, float], float], one: float | None, two: float | None) -> float | None:
    return None if one is None or two is None else choose(one, two)


def _plus(one: float, two: float) -> float:
    return one + two


def _common(state: Any, point: Any) -> Any:
    """What histograms of both kinds begin with."""
    return (
        state.start,
        point.time,
        state.total + point.total & _U64,
        _both(_plus, state.sum, point.sum),
        _both(min, state.min, point.min),
        _both(max, state.max, point.max),
    )


def _histogram(state: Histogram, point: Histogram) -> Histogram:
    if state.bounds != point.bounds:
        return point  # nothing can be added: it begins anew
    counts = tuple([a + b & _U64 for a, b in zip_longest(state.counts, point.counts, fillvalue=0)])[: len(state.counts)]
    return Histogram._make((*_common(state, point), state.bounds, counts))


def _exponential(state: Exponential, point: Exponential) -> Exponential:
    if not (math.isfinite(state.zero_threshold) and math.isfinite(point.zero_threshold)):
        return point
    scale = min(state.scale, point.scale)
    state, point = _at(state, scale), _at(point, scale)
    lower = max(_bits(state.positive, point.positive), _bits(state.negative, point.negative))
    state, point = _at(state, scale - lower), _at(point, scale - lower)
    if state.zero_threshold < point.zero_threshold:
        state = _widened(state, point.zero_threshold)
    elif point.zero_threshold < state.zero_threshold:
        point = _widened(point, state.zero_threshold)
    zeros = state.zero_count + point.zero_count & _U64
    sides = (_merged(state.positive, point.positive), _merged(state.negative, point.negative))
    return Exponential._make((*_common(state, point), state.scale, zeros, state.zero_threshold, *sides))


def _at(state: Exponential, scale: int) -> Exponential:
    bits = min(state.scale - scale, 64)
    if not bits:
        return state
    return state._replace(scale=scale, positive=state.positive.coarser(bits), negative=state.negative.coarser(bits))


def _range(one: Buckets, two: Buckets) -> tuple[int, int] | None:
    used = [used for used in (one.used(), two.used()) if used is not None]
    return (min(first for first, _ in used), max(last for _, last in used)) if used else None


def _bits(one: Buckets, two: Buckets) -> int:
    """By how much the scale has to be lower so that there are MAX_BUCKETS at most."""
    found = _range(one, two)
    if found is None:
        return 0
    bits = 0
    while (found[1] >> bits) - (found[0] >> bits) >= MAX_BUCKETS:
        bits += 1
    return bits


def _merged(one: Buckets, two: Buckets) -> Buckets:
    if not two.counts or not one.counts:
        return one if one.counts else two
    found = _range(one, two)
    if found is None:
        return Buckets(one.offset, ())
    first, last = found
    return Buckets(first, tuple([one.at(i) + two.at(i) & _U64 for i in range(first, last + 1)]))


def _widened(state: Exponential, width: float) -> Exponential:
    """The zero bucket made as wide as `width`, up to the upper bound of the bucket that it is in."""
    last = _index(width, state.scale)
    zeros, positive = state.positive.split(last)
    more, negative = state.negative.split(last)
    count = state.zero_count + zeros + more & _U64
    return state._replace(zero_count=count, zero_threshold=_upper(last, state.scale), positive=positive, negative=negative)


def _index(value: float, scale: int) -> int:
    """The bucket of a value: the base to the power of it is less than the value, to the power of the next one it is not."""
    scale = max(-_SCALES, min(_SCALES, scale))
    fraction, exponent = math.frexp(value)
    if fraction == 0.5:  # a power of two, which logarithms may miss
        power = exponent - 1
        return (power << scale if scale >= 0 else -(-power >> -scale)) - 1
    return math.floor(math.log(value) * math.ldexp(1 / math.log(2), scale))


def _upper(index: int, scale: int) -> float:
    power = (index + 1) * math.ldexp(math.log(2), -max(-_SCALES, min(_SCALES, scale)))
    return math.exp(power) if power < 709 else math.inf
