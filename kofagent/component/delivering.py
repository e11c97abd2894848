"""Offers batches of what stays where it was read: several at once, acknowledged in order, offered again when refused.

`Delivery` is for receivers that read files. With each batch come marks, places up to which the batch has what was read; a mark is
handed back once that batch and all before it are owned, or given up and counted.

Reading runs ahead of acknowledgement by at most `MAX_PARCELS` batches and `MAX_BYTES` bytes, so a batch processor that
answers after 200 ms costs latency and no throughput. While a batch is refused, no new one is started, and only the oldest
refused one is offered again, so that the order is kept, except for the few batches that were already offered.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from kofagent.component.backoff import Backoff
from kofagent.component.offering import Offer
from kofagent.component.protocols import ColumnsConsumer, Context
from kofagent.config.blocks import ConsumerRetryBlock
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.signal import Signal

MAX_PARCELS = 32
MAX_BYTES = 8 << 20


M = TypeVar("M")
"""A place in what is read, as the receiver notes it."""


class Parcel(Generic[M]):
    """A batch, None where nothing that was read came out, and the places that it moves."""

    __slots__ = ("batch", "done", "marks", "refused", "reserved")

    def __init__(self, batch: Batch | None, marks: Sequence[M]) -> None:
        self.batch = batch
        self.marks = marks
        self.done = False
        self.refused = False
        self.reserved = False


class Delivery(Generic[M]):
    """The way from the files to the pipeline. `moved(mark)` is called in order for everything that is owned."""

    def __init__(self, consumer: ColumnsConsumer, context: Context, retry: ConsumerRetryBlock, moved: Callable[[M], None]) -> None:
        self._context = context
        self._moved = moved
        self._offer = Offer(context, consumer, Signal.LOGS)
        keep = context.host.keep_retrying
        self._retry = retry.enabled or (keep and "enabled" not in retry.model_fields_set)
        self._first = max(retry.initial_interval, 0.001)
        self._longest = max(retry.max_interval, self._first)
        self._elapsed = 0.0 if keep and "max_elapsed_time" not in retry.model_fields_set else retry.max_elapsed_time
        self._parcels: deque[Parcel[M]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._bytes = 0
        self._change = asyncio.Condition()
        self.stopping = False

    @property
    def waiting(self) -> int:
        """Number of batches that are not owned yet."""
        return len(self._parcels)

    async def offer(self, parcel: Parcel[M]) -> None:
        """Starts delivering; waits until there is room, not until it is owned."""
        if parcel.batch is None:
            parcel.done = True
            self._parcels.append(parcel)
            self._settle()
            return
        size = parcel.batch.size
        while not self.stopping and not self._room(size):
            await self._wait(0.2)
        parcel.reserved = self._context.host.reserve(size)
        while not self.stopping and not parcel.reserved:
            await self._wait(0.05)
            parcel.reserved = self._context.host.reserve(size)
        self._bytes += size
        self._parcels.append(parcel)
        task = asyncio.create_task(self._deliver(parcel, parcel.batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # The offer is made before the next one, and a refusal at once is known before more is read.
        await asyncio.sleep(0)

    def _room(self, size: int) -> bool:
        if not self._parcels:
            return True
        return len(self._parcels) < MAX_PARCELS and self._bytes + size <= MAX_BYTES and not any(p.refused for p in self._parcels)

    async def _wait(self, seconds: float) -> None:
        async with self._change:
            try:
                async with asyncio.timeout(seconds):
                    await self._change.wait()
            except TimeoutError:
                pass

    async def _deliver(self, parcel: Parcel[M], batch: Batch) -> None:
        withdrawn = False
        try:
            await self._offer_until_owned(parcel, batch)
        except asyncio.CancelledError:
            withdrawn = True
            raise
        finally:
            self._bytes -= batch.size
            if parcel.reserved:
                self._context.host.release(batch.size)
            if not withdrawn:
                parcel.done = True
                parcel.refused = False
                self._settle()
                await self._notify()

    async def _notify(self) -> None:
        async with self._change:
            self._change.notify_all()

    async def _offer_until_owned(self, parcel: Parcel[M], batch: Batch) -> None:
        """Returns when the files may move past this batch: it is owned, or given up and counted."""
        offer, backoff = self._offer, None
        while (refused := await offer.attempt(batch)) is not None:
            # The time until giving up begins with the first refusal.
            backoff = backoff or Backoff(self._first, self._longest, multiplier=1.5, jitter=(0.5, 1.5), elapsed=self._elapsed)
            pause = backoff.next(refused.retry_after)
            if not self._retry or not backoff.allows(pause):
                offer.give_up(batch, refused.reason, refused.detail)
                return
            parcel.refused = True
            offer.waits(batch, refused)
            await asyncio.sleep(pause)
            while any(p.refused for p in self._before(parcel)):
                await self._wait(1.0)
            parcel.refused = False
            await self._notify()

    def _before(self, parcel: Parcel[M]) -> list[Parcel[M]]:
        out = []
        for other in self._parcels:
            if other is parcel:
                break
            out.append(other)
        return out

    def _settle(self) -> None:
        """Moves checkpoints for the batches at the front that are done."""
        while self._parcels and self._parcels[0].done:
            parcel = self._parcels.popleft()
            for mark in parcel.marks:
                self._moved(mark)

    async def drain(self, seconds: float, lost: bool = False) -> int:
        """Waits at most so long for what is under way, withdraws the rest; returns the number of records withdrawn.

        `lost`: they will not be read again, and are counted as dropped.
        """
        self.stopping = True
        await self._notify()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=seconds)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)
        withdrawn = sum(p.batch.count for p in self._parcels if p.batch is not None and not p.done)
        if withdrawn and lost:
            self._offer.lost(withdrawn, "shutdown")
        return withdrawn
