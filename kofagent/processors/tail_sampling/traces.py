"""The spans that `tail_sampling` holds: by trace, in the order in which they are decided on."""

from __future__ import annotations

import heapq
from collections.abc import Generator, Iterator

from kofagent.memory.memo import Memo
from kofagent.wire import otlp
from kofagent.wire.lens import lenses, parse

_Span = lenses("kofagent.tail_sampling_parts", {"Span": {"trace_id": (1, "bytes"), "parent": (4, "bytes")}})["Span"]
TRACE_OVERHEAD = 900
"""Bytes of a trace beside its spans."""

_STEP = 100
"""Spans, or parts of traces, that are worked on without a break."""


class Part:
    """The spans of one trace in one request."""

    __slots__ = ("count", "payload", "root")

    def __init__(self, payload: bytes, count: int, root: bool) -> None:
        self.payload, self.count, self.root = payload, count, root

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return len(self.payload) + 100


def by_trace(payload: bytes) -> Generator[None, None, dict[bytes, Part]]:
    """The spans of a payload by their trace IDs, in steps. ValueError where it is malformed."""
    payloads: dict[bytes, list[bytes]] = {}
    counts: dict[bytes, int] = {}
    roots: set[bytes] = set()
    for entry in otlp.resources(payload):
        scopes: dict[bytes, list[bytes]] = {}
        for scope in entry.scopes:
            records: dict[bytes, list[bytes]] = {}
            for n, record in enumerate(scope.records):
                if not n % _STEP:
                    yield
                span = parse(_Span, record)
                id = span.trace_id
                records.setdefault(id, []).append(record)
                counts[id] = counts.get(id, 0) + 1
                if not any(span.parent):
                    roots.add(id)
            for n, (id, found) in enumerate(records.items()):
                if not n % _STEP:
                    yield
                scopes.setdefault(id, []).append(otlp.build_scope(found, scope.scope, scope.schema_url))
        for n, (id, built) in enumerate(scopes.items()):
            if not n % _STEP:
                yield
            payloads.setdefault(id, []).append(otlp.build_resource(built, entry.resource, entry.schema_url))
    return {id: Part(b"".join(parts), counts[id], id in roots) for id, parts in payloads.items()}


class Waiting:
    """A trace that is not decided on."""

    __slots__ = ("bytes", "count", "due", "parts", "reserved")

    def __init__(self, due: float) -> None:
        self.due = due
        self.parts: list[bytes] = []
        self.count = self.bytes = 0
        self.reserved = TRACE_OVERHEAD
        """Bytes taken from the host's budget."""


class Traces:
    """The traces that wait, the oldest first. Times are in seconds of a clock that does not go back."""

    def __init__(self) -> None:
        self.waiting: dict[bytes, Waiting] = {}
        self._due: list[tuple[float, bytes]] = []
        self.spans = 0

    def add(self, id: bytes, part: Part, due: float) -> Waiting:
        """Adds spans; `due` is when their trace is decided on, if it is a new one."""
        trace = self.waiting.get(id)
        if trace is None:
            trace = self.waiting[id] = Waiting(due)
            heapq.heappush(self._due, (due, id))
        trace.parts.append(part.payload)
        trace.count += part.count
        trace.bytes += len(part.payload)
        trace.reserved += part.size
        self.spans += part.count
        return trace

    def hasten(self, id: bytes, due: float) -> None:
        """Decides on a trace no later than this."""
        trace = self.waiting[id]
        if due < trace.due:
            trace.due = due
            heapq.heappush(self._due, (due, id))

    def next_due(self) -> float | None:
        """When a trace is due; None without any."""
        while self._due:
            due, id = self._due[0]
            trace = self.waiting.get(id)
            if trace is not None and trace.due == due:
                return due
            heapq.heappop(self._due)
        return None

    def due(self, now: float) -> Iterator[tuple[bytes, Waiting]]:
        """Takes out the traces that are due."""
        while (due := self.next_due()) is not None and due <= now:
            _, id = heapq.heappop(self._due)
            yield id, self.take(id)

    def take(self, id: bytes) -> Waiting:
        """Takes out one trace."""
        trace = self.waiting.pop(id)
        self.spans -= trace.count
        return trace


class Decisions:
    """Decisions that were taken, kept over a reload; of as many traces of each kind as is asked for at least."""

    def __init__(self, sampled: int, not_sampled: int) -> None:
        size = 64 << 20
        self._sampled: Memo[bytes, bool] = Memo("tail_sampling.sampled", entries=2 * sampled, size=size)
        self._not_sampled: Memo[bytes, bool] = Memo("tail_sampling.not_sampled", entries=2 * not_sampled, size=size)

    def of(self, id: bytes) -> bool | None:
        """What was decided on a trace; None where that is not known."""
        self._sampled.counts.lookups += 1
        self._not_sampled.counts.lookups += 1
        if self._sampled.find(id) is not None:
            return True
        return False if self._not_sampled.find(id) is not None else None

    def put(self, id: bytes, sampled: bool) -> None:
        """Remembers a decision."""
        (self._sampled if sampled else self._not_sampled)[id] = True
