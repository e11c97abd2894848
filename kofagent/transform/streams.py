"""Streams: data points that follow each other, told apart by their identity, and what is remembered of each.

`map_points` gives every point of a payload to a function with the identity of its metric; `stream_of` adds that of the point.
`Streams` holds a state for each stream within a number of entries and of bytes: a state that was forgotten would make wrong
numbers, so what there is no room for is refused, and streams leave when they are stale. `Returned` remembers what was made of
points that went back to the sender: they come again, byte by byte, when the states have moved on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any, Generic, TypeVar

from kofagent.memory.account import ACCOUNT
from kofagent.memory.memo import Memo
from kofagent.wire import edit, otlp
from kofagent.wire.varint import length_delimited

S = TypeVar("S")
SWEEP_SECONDS = 60.0
"""How often stale streams are looked for, at most."""
ENTRY = 240
"""Bytes of an entry beside what its state costs: the place in the table, a key of 16 bytes, the entry itself."""


def digest(*parts: bytes) -> bytes:
    """16 bytes that stand for these parts."""
    return blake2b(b"".join([length_delimited(1, part) for part in parts]), digest_size=16).digest()


def stream_of(metric: bytes, attributes: Iterable[bytes], *more: bytes) -> bytes:
    """The identity of a stream: its metric's, the attributes of its points in whatever order, and what else tells it apart."""
    return blake2b(metric + b"".join([length_delimited(1, each) for each in [*sorted(attributes), *more]]), digest_size=16).digest()


Point = Callable[[str, bytes, bytes], bytes | None]
"""Makes a new point of (kind of metric, identity of the metric, point); None leaves it out. ValueError where it is malformed."""


def map_points(payload: bytes, temporality: tuple[int, int], wanted: Callable[[Any, str], bool], point: Point) -> tuple[bytes, int]:
    """The payload with the points of metrics that have the first temporality changed, which then have the second; and their number.

    `wanted(metric, kind)` says which metrics those are. Points are met in their order. Metrics, scopes and resources that lose all
    their points go. ValueError where the payload is malformed.
    """
    request = otlp.parse_request(payload)
    count = 0
    touched = False
    for entry in request.resources:
        of_resource: list[bytes] = []
        for scope in entry.scopes:
            new, changed = [], False
            for record in scope.records:
                metric = otlp.parse_metric(record)
                kind = metric.WhichOneof("data") or ""
                data: Any = getattr(metric, kind) if kind else None
                points = list(data.points) if data is not None else []
                if kind in TEMPORAL and points and data.temporality == temporality[0] and wanted(metric, kind):
                    changed = True
                    of_resource = of_resource or [digest(*sorted(edit.attributes(entry.resource, edit.RESOURCE)))]
                    identity = digest(
                        *of_resource, scope.scope, kind.encode(), metric.name, metric.unit, bytes([data.is_monotonic])
                    )
                    points = [made for old in points if (made := point(kind, identity, old)) is not None]
                    if not points:
                        continue
                    otlp.replace(data.points, points)
                    data.temporality = temporality[1]
                    record = metric.SerializeToString()
                count += len(points)
                new.append(record)
            if changed:
                touched = True
                otlp.replace(scope.records, new)
    if touched:
        _remove_empty(request)
    return (request.SerializeToString() if touched else payload), count


def _remove_empty(request: Any) -> None:
    for i in range(len(request.resources) - 1, -1, -1):
        scopes = request.resources[i].scopes
        for j in range(len(scopes) - 1, -1, -1):
            if not scopes[j].records:
                del scopes[j]
        if not scopes:
            del request.resources[i]


TEMPORAL = frozenset(("sum", "histogram", "exponential_histogram"))
"""Kinds of metrics that have a temporality."""


class Streams(Generic[S]):
    """States by the identities of their streams; an accounted holder of memory (`memory.account`).

    `cost` says what a state takes, in bytes. `now` is in seconds, of any clock that does not go back.
    """

    def __init__(self, name: str, entries: int, size: int, max_stale: float, cost: Callable[[S], int]) -> None:
        """`max_stale` in seconds, 0: streams never leave. `size` in bytes."""
        self.name, self.limit, self.used = name, size, 0
        self.max_entries, self.max_stale = entries, max_stale
        self._cost = cost
        self._states: dict[bytes, tuple[float, S, int]] = {}
        self._swept = float("-inf")
        ACCOUNT.join_budget(self)

    def __len__(self) -> int:
        return len(self._states)

    def get(self, key: bytes) -> S | None:
        """The state of a stream."""
        found = self._states.get(key)
        return None if found is None else found[1]

    def put(self, key: bytes, state: S, now: float) -> bool:
        """Remembers the state of a stream; False where it is a new one and there is no room."""
        cost = ENTRY + self._cost(state)
        old = self._states.get(key)
        if old is None and (len(self._states) >= self.max_entries or self.used + cost > self.limit):
            return False
        self.used += cost - (0 if old is None else old[2])
        self._states[key] = (now, state, cost)
        return True

    def forget(self, key: bytes) -> None:
        """Forgets a stream."""
        found = self._states.pop(key, None)
        if found is not None:
            self.used -= found[2]

    def sweep(self, now: float) -> None:
        """Forgets the streams that are stale. All are looked at, once in a while."""
        if not self.max_stale or now < self._swept + min(SWEEP_SECONDS, self.max_stale):
            return
        self._swept = now
        for key in [key for key, (seen, _, _) in self._states.items() if now - seen > self.max_stale]:
            self.forget(key)


class Returned:
    """What became of points that went back to their sender, to be found when they come again. Bounded: the oldest are forgotten."""

    def __init__(self) -> None:
        self._known: Memo[bytes, tuple[bytes | None, str]] = Memo("transform.returned", entries=200_000, size=32 << 20)

    def take(self, metric: bytes, point: bytes) -> tuple[bytes | None, str] | None:
        """What was made of the point: the new one or None, and what it was counted as; it is then not known any more."""
        if not self._known.entries:
            return None
        self._known.counts.lookups += 1
        return self._known.forget(digest(metric, point))

    def put(self, made: Iterable[tuple[bytes, bytes, bytes | None, str]]) -> None:
        """Remembers (identity of the metric, point, what was made of it, what it was counted as)."""
        for metric, point, new, what in made:
            self._known[digest(metric, point)] = (new, what)
