"""`Capacity`: how much a sending queue may hold, in the unit of its `sizer`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kofagent.component.accounts import Accounts
from kofagent.component.protocols import Context
from kofagent.config.blocks import QueueBlock
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal


class Capacity:
    """A batch is in the queue from `enter` to `leave`: while it waits and while it is being sent."""

    def __init__(self, context: Context, options: QueueBlock, accounts: Accounts) -> None:
        self._context = context
        self._options = options
        self._accounts = accounts
        self._size = 0
        self._room = asyncio.Event()
        self._closed = False

    def show(self) -> None:
        """Shows size and capacity in the agent's own metrics."""
        ledger, id = self._context.ledger, self._context.id
        ledger.gauge("otelcol_exporter_queue_size", "What waits in the sending queue.", lambda: self._size, exporter=id)
        ledger.gauge("otelcol_exporter_queue_capacity", "What the sending queue can hold.", exporter=id)(self._options.queue_size)

    def hide(self) -> None:
        """No longer shows them."""
        self._context.ledger.forget("otelcol_exporter_queue_size", exporter=self._context.id)
        self._context.ledger.forget("otelcol_exporter_queue_capacity", exporter=self._context.id)

    def close(self) -> None:
        """Callers that wait for room are refused, as are all later ones."""
        self._closed = True
        self._room.set()

    def _cost(self, items: int, size: int) -> int:
        sizer = self._options.sizer
        return 1 if sizer == "requests" else items if sizer == "items" else size

    async def enter(self, signal: Signal, items: int, size: int, reserve: Callable[[int], bool] | None) -> None:
        """Takes room for a batch; `reserve` takes its bytes from the memory budget. Refused when there is no room.

        A batch that is larger than the whole queue may pass alone.
        """
        cost = self._cost(items, size)
        while True:
            if self._closed:
                raise Refused("shutdown", "the agent is stopping", retry_after=5)
            full = self._size + cost > self._options.queue_size and self._size > 0
            if not full and (reserve is None or reserve(size)):
                self._size += cost
                return
            if not (full and self._options.block_on_overflow):
                self._accounts.not_queued(signal, items)
                raise Refused(
                    "sending queue full" if full else "memory budget used up",
                    f"{self._context.id} holds {self._size} of {self._options.queue_size} {self._options.sizer}",
                    retry_after=1,
                )
            self._room.clear()
            await self._room.wait()

    def found(self, items: int, size: int) -> None:
        """A batch that was in the queue before the start."""
        self._size += self._cost(items, size)

    def leave(self, items: int, size: int) -> None:
        """Gives its room back."""
        self._size -= self._cost(items, size)
        self._room.set()
