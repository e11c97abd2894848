"""`MemoryQueue`: batches wait in memory. It owns nothing: `put` returns when the backend has the batch."""

from __future__ import annotations

import asyncio
import time
from typing import ClassVar, Generic

from kofagent.component.accounts import Accounts
from kofagent.component.capacity import Capacity
from kofagent.component.line import Grouping, Line, joined
from kofagent.component.protocols import Context
from kofagent.component.queue import Group
from kofagent.component.requests import B
from kofagent.config.blocks import QueueBlock
from kofagent.telemetry.refused import Refused


class Waiting(Generic[B]):
    """A batch and the answer that its caller waits for."""

    __slots__ = ("answer", "batch", "items", "key", "since", "size")

    def __init__(self, batch: B, key: object) -> None:
        self.batch: B = batch
        self.key = key
        self.items = batch.count
        self.size = batch.size
        self.since = time.monotonic()
        self.answer: asyncio.Future[Refused | None] = asyncio.get_running_loop().create_future()


class MemoryQueue(Generic[B]):
    """As `Queue`. Bounded by `queue_size` and by the process' budget of bytes in memory."""

    owns: ClassVar[bool] = False

    def __init__(self, context: Context, options: QueueBlock, grouping: Grouping, accounts: Accounts) -> None:
        self._context = context
        self._grouping = grouping
        self._capacity = Capacity(context, options, accounts)
        self._line: Line[Waiting[B]] = Line(grouping)

    async def start(self) -> None:
        """As `Queue.start`."""
        self._capacity.show()

    async def put(self, batch: B) -> None:
        """As `Queue.put`. Cancelled: the batch is withdrawn where no consumer took it up."""
        await self._capacity.enter(batch.signal, batch.count, batch.size, reserve=self._context.host.reserve)
        key = (type(batch), batch.signal, self._grouping.metadata(batch.metadata)) if self._grouping.enough else None
        waiting = Waiting(batch, key)
        self._line.add(waiting)
        try:
            refused = await waiting.answer is not None
        except asyncio.CancelledError:
            if self._line.withdraw(waiting):
                self._leave(waiting)
            raise
        if refused:
            raise _told(waiting)

    async def take(self) -> Group[B, Waiting[B]] | None:
        """As `Queue.take`."""
        entries = await self._line.take()
        if entries is None:
            return None
        batches = [entry.batch for entry in entries]
        return Group(joined(batches, self._grouping.metadata(batches[0].metadata)), entries)

    async def done(self, group: Group[B, Waiting[B]], refusal: Refused | None) -> None:
        """As `Queue.done`."""
        for waiting in group.entries:
            self._answer(waiting, refusal)

    def put_back(self, group: Group[B, Waiting[B]], refusal: Refused) -> None:
        """As `Queue.put_back`: to the callers."""
        for waiting in group.entries:
            self._answer(waiting, refusal)

    def _answer(self, waiting: Waiting[B], refusal: Refused | None) -> None:
        self._leave(waiting)
        if not waiting.answer.done():  # the caller may have gone away while the request was under way
            waiting.answer.set_result(refusal)

    def _leave(self, waiting: Waiting[B]) -> None:
        self._capacity.settled(waiting.batch.signal, waiting.items)
        self._capacity.leave(waiting.items, waiting.size)
        self._context.host.release(waiting.size)

    def close(self) -> None:
        """As `Queue.close`; what waits is still given out."""
        self._capacity.close()
        self._line.close(drain=True)

    async def stop(self) -> None:
        """As `Queue.stop`."""
        refusal = Refused("shutdown", "the agent stopped before the backend took the data")
        for waiting in self._line.rest():
            self.put_back(Group(waiting.batch, [waiting]), refusal)
        self._capacity.hide()


def _told(waiting: Waiting[B]) -> Refused:
    """The refusal to raise: a copy, since an exception keeps the frames it passes, and those keep what has the original."""
    refusal = waiting.answer.result()
    assert refusal is not None
    told = refusal.copy()
    told.sent = refusal.sent
    return told
