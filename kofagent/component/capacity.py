"""`Capacity`: how much a sending queue may hold, in the unit of its `sizer`, and on disk in bytes as well; and its gauges."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kofagent.component.accounts import Accounts
from kofagent.component.protocols import Context
from kofagent.config.blocks import QueueBlock
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal

ITEMS = "kofagent_exporter_queue_items"
BYTES = "kofagent_exporter_queue_bytes"


class Capacity:
    """A batch is in the queue from `enter` to `leave`: while it waits and while it is being sent.

    `stored` is what a batch takes on disk, 0 in memory.
    """

    def __init__(self, context: Context, options: QueueBlock, accounts: Accounts, on_disk: bool = False) -> None:
        self._context = context
        self._options = options
        self._accounts = accounts
        self._on_disk = on_disk
        self._size = 0
        self._bytes = 0
        self._by_items, self._by_requests = options.sizer == "items", options.sizer == "requests"
        self._items = {signal.value: 0 for signal in Signal}
        self._in_files: Callable[[], int] = lambda: 0
        self._room = asyncio.Event()
        self._closed = False

    def show(self, in_files: Callable[[], int] | None = None) -> None:
        """Shows size and capacity in the agent's own metrics; `in_files`: bytes that the files of a queue on disk take."""
        ledger, id = self._context.ledger, self._context.id
        ledger.gauge("otelcol_exporter_queue_size", "What waits in the sending queue.", lambda: self._size, exporter=id)
        ledger.gauge("otelcol_exporter_queue_capacity", "What the sending queue can hold.", exporter=id)(self._options.queue_size)
        if in_files is not None:
            self._in_files = in_files
        for signal in Signal:
            self._show_items(signal)
        ledger.gauge(BYTES, "Bytes of the sending queue, on disk or in memory.", self._held, exporter=id)

    def _show_items(self, signal: Signal) -> None:
        self._context.ledger.gauge(
            ITEMS,
            "Items in the sending queue. Those on disk were accepted, those in memory will be when they are sent.",
            lambda: self._items[signal.value],
            exporter=self._context.id,
            signal=signal.value,
            queue="disk" if self._on_disk else "memory",
        )

    def _held(self) -> int:
        return max(self._bytes, self._in_files())

    def hide(self) -> None:
        """No longer shows them; what stays on disk is still shown, since the agent owns it although nothing sends it."""
        ledger, id = self._context.ledger, self._context.id
        for name in ("otelcol_exporter_queue_size", "otelcol_exporter_queue_capacity", BYTES):
            ledger.forget(name, exporter=id)
        self._in_files = lambda: 0
        for signal in Signal:
            labels = {"exporter": id, "signal": signal.value, "queue": "disk" if self._on_disk else "memory"}
            left = self._items[signal.value]
            ledger.forget(ITEMS, **labels)
            if left and self._on_disk:
                ledger.gauge(ITEMS, "", None, **labels)(left)

    def close(self) -> None:
        """Callers that wait for room are refused, as are all later ones."""
        self._closed = True
        self._room.set()

    def _cost(self, requests: int, items: int, size: int) -> int:
        return requests if self._by_requests else items if self._by_items else size

    def fits(self, items: int, size: int, stored: int) -> str | None:
        """None when there is room for a batch, else what there is no room for. One larger than the whole queue may pass alone."""
        if self._size <= 0:
            return None
        options = self._options
        if self._size + self._cost(1, items, size) > options.queue_size:
            return f"{self._context.id} holds {self._size} of {options.queue_size} {options.sizer}"
        if stored and self._held() + stored > options.storage_max_size:
            return f"{self._context.id} has {self._held()} of {options.storage_max_size} bytes on disk (storage_max_size)"
        return None

    async def enter(
        self, signal: Signal, items: int, size: int, stored: int = 0, reserve: Callable[[int], bool] | None = None
    ) -> None:
        """Takes room for a batch; `reserve` takes its bytes from the memory budget. Refused when there is no room."""
        while True:
            if self._closed:
                raise Refused("shutdown", "the agent is stopping", retry_after=5)
            full = self.fits(items, size, stored)
            if full is None and (reserve is None or reserve(size)):
                # hot: otlp_http_span, 10 us a batch with all of the queue: the word is hashed once, a member of an enum in Python
                self._items[signal._value_] += items
                self._size += self._cost(1, items, size)
                self._bytes += stored if self._on_disk else size
                return
            if full is None or not self._options.block_on_overflow:
                self._accounts.not_queued(signal, items)
                if full is None:
                    raise Refused("memory budget used up", f"{self._context.id} has no memory for {size} bytes", retry_after=1)
                raise Refused("sending queue full", full, retry_after=1)
            self._room.clear()
            await self._room.wait()

    def found(self, signal: Signal, requests: int, items: int, size: int, stored: int) -> None:
        """Batches that were in the queue before the start."""
        self._items[signal._value_] += items
        self._size += self._cost(requests, items, size)
        self._bytes += stored if self._on_disk else size

    def settled(self, signal: Signal, items: int) -> None:
        """What became of these items is in the ledger: they are no longer counted as queued."""
        self._items[signal._value_] -= items

    def leave(self, items: int, size: int, stored: int = 0, requests: int = 1) -> None:
        """Gives the room back, when the memory or the disk has it."""
        self._size -= self._cost(requests, items, size)
        self._bytes -= stored if self._on_disk else size
        self._room.set()
