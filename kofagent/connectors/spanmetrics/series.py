"""What `spanmetrics` counts: series of sums and histograms, by resource, within a number of bytes."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator

from kofagent.memory.account import ACCOUNT
from kofagent.memory.memo import Memo
from kofagent.transform.points import POINTS
from kofagent.wire.attributes import encode_attribute
from kofagent.wire.varint import length_delimited

SIZE = 64 << 20
"""Bytes that all series of a connector may take."""
_SERIES = 700
"""Bytes of a series without its key, attributes and buckets."""
_RESOURCE = 1200
MAX_SCALE = 20
OVERFLOW = encode_attribute("otel.metric.overflow", True)

Key = tuple[bytes, ...]
Start = Callable[[Key, int], int]
"""The start of a point, of its series' key and the time when that began."""


class Explicit:
    """A histogram with bounds."""

    __slots__ = ("bounds", "counts", "sum", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total, self.sum = 0, 0.0

    @property
    def size(self) -> int:
        """Bytes, roughly."""
        return 200 + 16 * len(self.counts)

    def observe(self, value: float, times: int) -> None:
        """Counts a value, several times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += times
        self.sum += value * times


class Exponential:
    """An exponential histogram of values from 0 on, whose scale is as fine as its size allows."""

    __slots__ = ("_most", "counts", "highest", "lowest", "max", "min", "scale", "sum", "total", "zeros")

    def __init__(self, most: int) -> None:
        self._most = max(2, most)
        self.counts: dict[int, int] = {}
        self.scale = MAX_SCALE
        self.lowest = self.highest = 0
        self.total = self.zeros = 0
        self.sum, self.min, self.max = 0.0, math.inf, 0.0

    @property
    def size(self) -> int:
        """Bytes at most, roughly."""
        return 400 + 100 * min(self._most, 160)

    def observe(self, value: float, times: int) -> None:
        """Counts a value, several times."""
        self.total += times
        self.sum += value * times
        self.min, self.max = min(self.min, value), max(self.max, value)
        if value <= 0:
            self.zeros += times
            return
        index = _index(value, self.scale)
        low, high = (min(self.lowest, index), max(self.highest, index)) if self.counts else (index, index)
        bits = 0
        while (high >> bits) - (low >> bits) >= self._most:
            bits += 1
        if bits:
            self.scale -= bits
            counts: dict[int, int] = {}
            for at, count in self.counts.items():
                counts[at >> bits] = counts.get(at >> bits, 0) + count
            self.counts = counts
            index, low, high = index >> bits, low >> bits, high >> bits
        self.lowest, self.highest = low, high
        self.counts[index] = self.counts.get(index, 0) + times


def _index(value: float, scale: int) -> int:
    """The bucket: its upper bound is the first power of the base that is not less than the value."""
    fraction, exponent = math.frexp(value)
    if fraction == 0.5:  # a power of two
        power = exponent - 1
        return (power << scale if scale >= 0 else -(-power >> -scale)) - 1
    return math.floor(math.ldexp(math.log2(value), scale))


class Series:
    """One series. `distribution` is None for a sum."""

    __slots__ = ("attributes", "count", "distribution", "exemplars", "first", "seen", "size", "start")

    def __init__(self, attributes: list[bytes], start: int, distribution: Explicit | Exponential | None, size: int) -> None:
        self.attributes = attributes
        self.size = size
        self.start = start
        self.distribution = distribution
        self.count = 0
        self.first = True
        self.seen = 0.0
        self.exemplars: list[bytes] = []

    def point(self, start: int, time: int, cumulative: bool) -> bytes:
        """The data point, `time` in Unix nanoseconds. Of a cumulative sum the first is 0."""
        distribution = self.distribution
        if distribution is None:
            point = POINTS["sum"](start=start, time=time, as_int=0 if cumulative and self.first else self.count)
            self.first = False
        elif isinstance(distribution, Explicit):
            point = POINTS["histogram"](start=start, time=time, count=distribution.total, sum=distribution.sum)
            point.bucket_counts[:] = distribution.counts
            point.explicit_bounds[:] = distribution.bounds
        else:
            point = POINTS["exponential_histogram"](start=start, time=time, count=distribution.total, sum=distribution.sum)
            point.scale, point.zero_count = distribution.scale, distribution.zeros
            point.min, point.max = distribution.min, distribution.max
            if distribution.counts:
                first, last = min(distribution.counts), max(distribution.counts)
                point.positive.offset = first
                point.positive.bucket_counts[:] = [distribution.counts.get(i, 0) for i in range(first, last + 1)]
        point.attributes.extend(self.attributes)
        number = 5 if distribution is None else 8 if isinstance(distribution, Explicit) else 11
        stamp = b"\x11" + time.to_bytes(8, "little")
        exemplars = [length_delimited(number, stamp + exemplar) for exemplar in self.exemplars]
        made: bytes = point.SerializeToString()
        return made + b"".join(exemplars)


class Resource:
    """The series of one resource, by metric."""

    __slots__ = ("calls", "durations", "events", "message", "seen", "size")

    def __init__(self, message: bytes) -> None:
        self.message = message
        self.calls: dict[Key, Series] = {}
        self.durations: dict[Key, Series] = {}
        self.events: dict[Key, Series] = {}
        self.seen = 0.0
        self.size = _RESOURCE + 2 * len(message)

    def tables(self) -> tuple[dict[Key, Series], ...]:
        """Those of calls, durations and events."""
        return self.calls, self.durations, self.events


class Counted:
    """All that is counted, kept over a reload; an accounted holder of memory (`memory.account`)."""

    def __init__(self, resources: int, limit: int, new: Callable[[], Explicit | Exponential]) -> None:
        """At most so many resources, `limit` series of a metric and resource (0: any), and new histograms by `new`."""
        self.name, self.limit, self.used = "spanmetrics", SIZE, 0
        self._most, self._series, self._new = resources, limit, new
        self.resources: dict[bytes, Resource] = {}
        self.evicted: dict[bytes, Resource] = {}
        """Resources that made room for others since the last batch of metrics; they are in the next one."""
        self.overflow = Resource(b"")
        self._starts: Memo[tuple[bytes, str, Key], int] | None = None
        ACCOUNT.join_budget(self)

    def remember(self, series: int) -> None:
        """Remembers where the next deltas of so many series begin."""
        self._starts = Memo("spanmetrics.timestamps", entries=2 * series, size=32 << 20)

    def start_of(self, series: tuple[bytes, str, Key], began: int, now: int) -> int:
        """Where a delta begins that ends now: at the end of the one before; where that is not known, when the series began."""
        if self._starts is None:
            return began
        self._starts.counts.lookups += 1
        last = self._starts.find(series)
        self._starts[series] = now
        return began if last is None else last

    def resource(self, key: bytes, message: bytes, now: float) -> Resource:
        """The resource with this key; the one of the overflow where there is no room."""
        found = self.resources.pop(key, None) or self.evicted.pop(key, None)
        if found is None:
            found = Resource(message)
            if self.used + found.size > self.limit:
                return self.overflow
            self.used += found.size
        if len(self.resources) >= self._most:
            oldest = next(iter(self.resources))
            if len(self.evicted) < self._most:
                self.evicted[oldest] = self.resources.pop(oldest)
            else:
                self.used -= found.size
                return self.overflow
        self.resources[key] = found
        found.seen = now
        return found

    def series(
        self, resource: Resource, table: dict[Key, Series], key: Key, attributes: Callable[[], list[bytes]], now: tuple[int, float]
    ) -> tuple[Series, bool]:
        """The series with this key, and whether it is its own and not that of the overflow.

        `now` is the time in Unix nanoseconds and in seconds of a clock that does not go back.
        """
        found, own = table.get(key), True
        if found is None:
            distribution = self._new() if table is resource.durations else None
            made = attributes()
            size = _SERIES + sum(map(len, key)) + 120 * len(made) + sum(map(len, made)) + (distribution.size if distribution else 0)
            full = (self._series and len(table) >= self._series) or self.used + size > self.limit
            if full or resource is self.overflow:
                key, made, own = (), [OVERFLOW], False
                found = table.get(key)
            if found is None:
                found = table[key] = Series(made, now[0], distribution, size)
                self.used += size
                resource.size += size
        found.seen = now[1]
        return found, own

    def all(self) -> Iterator[Resource]:
        """The resources that have something to tell."""
        yield from self.resources.values()
        yield from self.evicted.values()
        if any(self.overflow.tables()):
            yield self.overflow

    def flushed(self, now: float, forget: bool, expiration: float, series_expiration: float) -> None:
        """After a batch of metrics: forgets everything (deltas), or what was evicted, is stale, or was an exemplar."""
        self.evicted.clear()
        if forget:
            self.resources.clear()
            self.overflow = Resource(b"")
        for key, resource in list(self.resources.items()):
            if expiration and now - resource.seen >= expiration:
                del self.resources[key]
        self.used = 0
        for resource in self.all():
            for table in resource.tables():
                for name, series in list(table.items()):
                    series.exemplars.clear()
                    if series_expiration and now - series.seen >= series_expiration:
                        resource.size -= series.size
                        del table[name]
            self.used += resource.size
