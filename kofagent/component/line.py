"""`Line`: batches that wait for a consumer, in the order they came, and `Grouping`: which of them leave together.

Both kinds of queue, in memory and on disk, stand in one. Without `sending_queue.batch` each batch leaves alone.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Generic, Protocol, TypeVar

from kofagent.component.requests import B
from kofagent.config.blocks import QueueBlock
from kofagent.telemetry.batch import Batch, Metadata, MetricBatch

QUIET_SHARE = 1 / 20
MIN_QUIET = 0.005


def quiet_seconds(longest: float) -> float:
    """How long nothing new may come before a group leaves, of those that wait for at most `longest` seconds."""
    return max(longest * QUIET_SHARE, min(MIN_QUIET, longest))


class Entry(Protocol):
    """A batch in a line."""

    @property
    def items(self) -> int:
        """How many items it has."""
        ...

    @property
    def size(self) -> int:
        """How many bytes it takes in memory."""
        ...

    @property
    def key(self) -> object:
        """Batches of equal keys may leave together; None: this one leaves alone."""
        ...

    @property
    def since(self) -> float:
        """When it came, `time.monotonic`."""
        ...


E = TypeVar("E", bound=Entry)


class Grouping:
    """Joins batches until they have `enough` items (or bytes), never more than `most` (0: no limit), for at most `wait` seconds.

    `quiet`: a group leaves earlier when nothing new has come for this long. It is for a queue whose callers wait for an answer: a
    caller that sends one request after the other would otherwise be slowed to one request per `wait`.
    """

    def __init__(
        self,
        *,
        enough: int = 0,
        most: int = 0,
        in_bytes: bool = False,
        wait: float = 0.0,
        quiet: float = 0.0,
        partition: Sequence[str] = (),
    ) -> None:
        self.enough = enough
        self._most = most
        self._in_bytes = in_bytes
        self._wait = wait
        self._quiet = quiet
        self.partition = tuple(partition)

    def cost(self, entry: Entry) -> int:
        """What an entry counts."""
        return entry.size if self._in_bytes else entry.items

    def metadata(self, metadata: Metadata | None) -> Metadata | None:
        """What of a batch's metadata tells batches apart, and is kept of those that leave together."""
        if not self.partition:
            return metadata
        return {name: metadata[name] for name in self.partition if name in metadata} if metadata else metadata

    def choose(self, waiting: deque[E]) -> tuple[list[E], bool]:
        """The entries that leave next, in order; False when it is worth waiting for more."""
        first = waiting[0]
        if not self.enough or first.key is None:
            return [first], True
        if self.partition:
            return self._choose_apart(waiting)
        together, total = [first], self.cost(first)
        for entry in islice(waiting, 1, None):
            # what came first leaves first, so another kind of batch ends the group
            if total >= self.enough or entry.key != first.key or not self._fits(total, entry):
                return together, True
            together.append(entry)
            total += self.cost(entry)
        return together, total >= self.enough or not self._wait

    def _choose_apart(self, waiting: deque[E]) -> tuple[list[E], bool]:
        """The first partition that is full; else that of the first entry."""
        groups: list[tuple[object, list[E]]] = []
        totals: list[int] = []
        for entry in waiting:
            if entry.key is None:
                return [entry], True
            number = next((n for n, (key, _) in enumerate(groups) if key == entry.key), len(groups))
            if number == len(groups):
                groups.append((entry.key, []))
                totals.append(0)
            elif not self._fits(totals[number], entry):
                return groups[number][1], True
            groups[number][1].append(entry)
            totals[number] += self.cost(entry)
            if totals[number] >= self.enough:
                return groups[number][1], True
        return groups[0][1], not self._wait

    def _fits(self, total: int, entry: Entry) -> bool:
        return not self._most or total + self.cost(entry) <= self._most

    def due(self, first: Entry, newest: float) -> float:
        """When an entry leaves, however few have come along with it; `newest` is when the last one came."""
        due = first.since + self._wait
        return min(due, newest + self._quiet) if self._quiet else due


def grouping_of(queue: QueueBlock, merge_items: int, on_disk: bool) -> Grouping:
    """What `sending_queue.batch` asks for; without it, what waits is joined up to `merge_items` items, which delays nothing."""
    block = queue.batch
    if block is None:
        return Grouping(enough=merge_items, most=merge_items)
    return Grouping(
        enough=max(1, block.min_size),
        most=block.max_size,
        in_bytes=block.sizer == "bytes",
        wait=block.flush_timeout,
        quiet=0.0 if on_disk else quiet_seconds(block.flush_timeout),
        partition=block.partition.metadata_keys,
    )


def joined(batches: list[B], metadata: Metadata | None) -> B:
    """One batch of the items of all, which are of one kind, with this metadata."""
    if len(batches) == 1:
        return batches[0]
    if isinstance(batches[0], MetricBatch):
        return MetricBatch.join([b for b in batches if isinstance(b, MetricBatch)])
    batch = Batch.join([b for b in batches if isinstance(b, Batch)])
    return Batch(batch.signal, batch.payload, batch.count, metadata)


class Line(Generic[E]):
    """First in, first out."""

    def __init__(self, grouping: Grouping) -> None:
        self._grouping = grouping
        self._entries: deque[E] = deque()
        self._idle: deque[asyncio.Future[None]] = deque()
        """Consumers that wait, where each batch leaves alone."""
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()
        """For the one consumer that gathers a group; the others wait for their turn."""
        self._total = 0
        self._wanted = 0
        self._newest = 0.0
        self._closed = False
        self._drain = True

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[E]:
        return iter(self._entries)

    def first(self) -> E | None:
        """What came first."""
        return self._entries[0] if self._entries else None

    def shed(self) -> E | None:
        """Takes out what came first, not to be sent."""
        if not self._entries:
            return None
        entry = self._entries.popleft()
        self._total -= self._grouping.cost(entry)
        return entry

    def add(self, entry: E) -> None:
        """At the end."""
        self._entries.append(entry)
        if not self._grouping.enough:
            self._wake()
            return
        self._total += self._grouping.cost(entry)
        self._newest = entry.since
        if self._total >= self._wanted:
            self._changed.set()

    def put_back(self, entries: list[E]) -> None:
        """In front of all others."""
        self._entries.extendleft(reversed(entries))
        self._total += sum(map(self._grouping.cost, entries))
        self._changed.set()
        self._wake()

    def withdraw(self, entry: E) -> bool:
        """Takes an entry out; False when it left already."""
        if entry not in self._entries:
            return False
        self._entries.remove(entry)
        self._total -= self._grouping.cost(entry)
        return True

    def close(self, drain: bool) -> None:
        """Nothing is waited for any more. What is there is still given out when `drain` says so."""
        self._closed, self._drain = True, drain
        self._changed.set()
        while self._idle:
            self._wake()

    def rest(self) -> list[E]:
        """Takes out all that is left."""
        rest = list(self._entries)
        self._entries.clear()
        self._total = 0
        return rest

    async def take(self) -> list[E] | None:
        """The next entries to send together, None when the line is closed. Several consumers may wait, one of them is served."""
        if not self._grouping.enough:
            return await self._take_one()
        async with self._turn:
            while True:
                if self._closed and not (self._drain and self._entries):
                    return None
                if not self._entries:
                    await self._wait(0, None)
                    continue
                together, final = self._grouping.choose(self._entries)
                seconds = 0.0 if final or self._closed else self._grouping.due(together[0], self._newest) - time.monotonic()
                if seconds > 0:
                    # woken by what makes a group full, not by every batch
                    await self._wait(self._grouping.enough if self._total < self._grouping.enough else self._total + 1, seconds)
                    continue
                self._remove(together)
                return together

    async def _take_one(self) -> list[E] | None:
        # hot: otlp_http_span, 10 us a batch with all of the queue, one wake-up: a lock would wake the next consumer as well
        while not self._entries or (self._closed and not self._drain):
            if self._closed:
                return None
            wake = asyncio.get_running_loop().create_future()
            self._idle.append(wake)
            try:
                await wake
            except asyncio.CancelledError:
                if not wake.cancelled():
                    self._wake()  # it was for us, and is the next one's now
                raise
        return [self._entries.popleft()]

    def _wake(self) -> None:
        while self._idle:
            wake = self._idle.popleft()
            if not wake.done():  # else its consumer was cancelled
                wake.set_result(None)
                return

    async def _wait(self, wanted: int, seconds: float | None) -> None:
        self._wanted = wanted
        self._changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass

    def _remove(self, together: list[E]) -> None:
        if all(a is b for a, b in zip(together, self._entries, strict=False)):
            for _ in together:
                self._entries.popleft()
        else:
            leaving = set(map(id, together))
            self._entries = deque([entry for entry in self._entries if id(entry) not in leaving])
        self._total -= sum(map(self._grouping.cost, together))
