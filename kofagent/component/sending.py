"""`Sender`: the sending queue and the retries in front of an exporter's `send` (exporterhelper upstream).

`consume` returns when the backend took the batch. A queue in memory is no owner: it lets batches wait and bounds how much
waits, in batches and in bytes of the process' budget, and refuses what does not fit. What the backend will never take is
dropped, counted with its reason; what it did not take in time goes back to the caller. `durable.DurableSender` is the one whose
queue is on disk and owns what it holds.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NoReturn

from kofagent.component.backoff import Backoff
from kofagent.component.protocols import Context
from kofagent.config.blocks import QueueBlock, RetryBlock
from kofagent.telemetry.batch import AnyBatch, Batch, MetricBatch
from kofagent.telemetry.ledger import ExporterAccount
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal

Send = Callable[[AnyBatch], Awaitable[int | None]]
"""Delivers a batch. Returns how many items the backend took when `send` counted the others as dropped itself, else None."""
SHUTDOWN_SECONDS = 5.0
LOG_EVERY = 30.0


def backoff_of(retry: RetryBlock, keep_retrying: bool) -> Backoff:
    """The waits that `retry_on_failure` asks for; `keep_retrying`: without an end unless the user set one."""
    forever = keep_retrying and "max_elapsed_time" not in retry.model_fields_set
    spread = retry.randomization_factor
    return Backoff(
        retry.initial_interval,
        retry.max_interval or retry.initial_interval,
        multiplier=retry.multiplier,
        jitter=(1 - spread, 1 + spread),
        elapsed=0.0 if forever else retry.max_elapsed_time,
    )


class _Item:
    __slots__ = ("batch", "future", "started")

    def __init__(self, batch: AnyBatch, future: asyncio.Future[None]) -> None:
        self.batch = batch
        self.future = future
        self.started = False


def _joined(batches: list[AnyBatch]) -> AnyBatch:
    if len(batches) == 1:
        return batches[0]
    columns = [b for b in batches if isinstance(b, MetricBatch)]
    return MetricBatch.join(columns) if columns else Batch.join([b for b in batches if isinstance(b, Batch)])


class Sender:
    """Queue, consumers and retries of one exporter."""

    def __init__(
        self, context: Context, send: Send, *, queue: QueueBlock | None, retry: RetryBlock, timeout: float = 0, merge_items: int = 0
    ) -> None:
        """`merge_items`: batches that wait are joined up to this many items into one; 0: each is sent by itself."""
        self._context = context
        self._merge_items = merge_items
        self._send = send
        self._queue = queue if queue is not None and queue.enabled else None
        self._retry = retry
        self._timeout = timeout
        self._waiting: deque[_Item] = deque()
        self._size = 0
        self._ready = asyncio.Condition()
        self._room = asyncio.Event()
        self._workers: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._accounts: dict[Signal, ExporterAccount] = {}
        self._logged = 0.0
        self._healthy = True

    async def start(self) -> None:
        """Starts the consumers and shows the queue in the agent's own metrics."""
        ledger, id = self._context.ledger, self._context.id
        if self._queue is not None:
            ledger.gauge("otelcol_exporter_queue_size", "What waits in the sending queue.", lambda: self._size, exporter=id)
            ledger.gauge("otelcol_exporter_queue_capacity", "What the sending queue can hold.", exporter=id)(self._queue.queue_size)
            self._workers = [asyncio.create_task(self._work(), name=f"{id} sender") for _ in range(self._queue.num_consumers)]

    async def stop(self) -> None:
        """Sends what waits, each batch once, for at most SHUTDOWN_SECONDS; the rest goes back to its callers."""
        await self._end_workers()
        while self._waiting:
            item = self._waiting.popleft()
            self._finish(item, Refused("shutdown", "the agent stopped before the backend took the data"))
        if self._queue is not None:
            self._context.ledger.forget("otelcol_exporter_queue_size", exporter=self._context.id)
            self._context.ledger.forget("otelcol_exporter_queue_capacity", exporter=self._context.id)

    async def _end_workers(self) -> None:
        """Nothing is taken any more; consumers have SHUTDOWN_SECONDS to finish."""
        self._stopping.set()
        self._room.set()
        async with self._ready:
            self._ready.notify_all()
        if self._workers:
            _done, late = await asyncio.wait(self._workers, timeout=SHUTDOWN_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*self._workers, return_exceptions=True)
            self._workers = []

    def account(self, signal: Signal) -> ExporterAccount:
        """The exporter's account for a signal."""
        account = self._accounts.get(signal)
        if account is None:
            account = self._accounts[signal] = self._context.ledger.exporter(self._context.id, signal)
        return account

    async def consume(self, batch: AnyBatch) -> None:
        """As `Consumer.consume`."""
        if self._queue is None:
            await self._deliver(batch)
            return
        await self._make_room(batch)
        item = _Item(batch, asyncio.get_running_loop().create_future())
        self._waiting.append(item)
        async with self._ready:
            self._ready.notify()
        try:
            await item.future
        except asyncio.CancelledError:
            # nobody was promised anything: what no consumer took up yet is withdrawn
            if not item.started and item in self._waiting:
                self._waiting.remove(item)
                self._give_back(batch)
            raise

    async def _make_room(self, batch: AnyBatch) -> None:
        assert self._queue is not None
        cost = self._cost(batch)
        while True:
            if self._stopping.is_set():
                raise Refused("shutdown", "the agent is stopping", retry_after=5)
            full = self._size + cost > self._queue.queue_size and self._size > 0
            if not full and self._reserve(batch):
                self._size += cost
                return
            if not (full and self._queue.block_on_overflow):
                self.account(batch.signal).enqueue_failed(batch.count)
                raise Refused(
                    "sending queue full" if full else "memory budget used up",
                    f"{self._context.id} holds {self._size} of {self._queue.queue_size} {self._queue.sizer}",
                    retry_after=1,
                )
            self._room.clear()
            await self._room.wait()

    def _cost(self, batch: AnyBatch) -> int:
        return self._cost_of(batch.count, batch.size)

    def _cost_of(self, items: int, size: int) -> int:
        assert self._queue is not None
        return {"requests": 1, "items": items, "bytes": size}[self._queue.sizer]

    def _reserve(self, batch: AnyBatch) -> bool:
        return self._context.host.reserve(batch.size)

    def _give_back(self, batch: AnyBatch) -> None:
        self._size -= self._cost(batch)
        self._context.host.release(batch.size)
        self._room.set()

    def _finish(self, item: _Item, error: BaseException | None) -> None:
        self._give_back(item.batch)
        if item.future.done():  # the caller went away while the request was under way
            return
        if error is None:
            item.future.set_result(None)
        else:
            item.future.set_exception(error)

    async def _work(self) -> None:
        while True:
            async with self._ready:
                while not self._waiting:
                    if self._stopping.is_set():
                        return
                    await self._ready.wait()
                items = self._take()
            error: BaseException | None = None
            try:
                await self._deliver(_joined([item.batch for item in items]))
            except asyncio.CancelledError:
                error = Refused("shutdown", "the agent stopped before the backend took the data")
                raise
            except Exception as failure:
                error = failure
            finally:
                for item in items:
                    self._finish(item, error)

    def _take(self) -> list[_Item]:
        """The first waiting batch, with those behind it that may go along."""
        items = [self._waiting.popleft()]
        first, count = items[0].batch, items[0].batch.count
        while self._waiting:
            batch = self._waiting[0].batch
            count += batch.count
            if (
                count > self._merge_items
                or type(batch) is not type(first)
                or batch.metadata != first.metadata
                or batch.signal is not first.signal
            ):
                break
            items.append(self._waiting.popleft())
        for item in items:
            item.started = True
        return items

    async def _deliver(self, batch: AnyBatch) -> None:
        """One batch, tried until it is taken, refused for good or out of time."""
        backoff: Backoff | None = None
        account = self.account(batch.signal)
        while True:
            try:
                if self._timeout:
                    async with asyncio.timeout(self._timeout):
                        delivered = await self._send(batch)
                else:
                    delivered = await self._send(batch)
            except TimeoutError:
                refusal = Refused("timeout", f"no answer within {self._timeout:g} s")
            except Refused as caught:
                refusal = caught
            except Exception as error:
                # a defect of ours must not become an endless retry; the data is lost and that is counted
                self._context.log.exception("cannot send a batch")
                refusal = Refused("internal error", type(error).__name__, permanent=True)
            else:
                account.sent(batch.count if delivered is None else delivered)
                if not self._healthy:
                    self._healthy = True
                    self._context.report(None)
                    self._context.log.info("sending again")
                return
            if refusal.permanent:
                account.send_failed(batch.count)
                self._context.ledger.dropped(self._context.id, batch.signal, refusal.reason, batch.count)
                self._complain(refusal, f"dropped {batch.count} {batch.signal.items}, the backend will not take them")
                raise refusal
            if backoff is None:
                backoff = backoff_of(self._retry, self._context.host.keep_retrying)
            wait = backoff.next(refusal.retry_after)
            if not self._retry.enabled or not backoff.allows(wait) or self._stopping.is_set():
                self._give_up(batch, refusal)
            self._complain(refusal, "sending failed, will try again")
            await self._sleep(wait)

    def _give_up(self, batch: AnyBatch, refusal: Refused) -> NoReturn:
        """After the last try of what the backend may take later."""
        self.account(batch.signal).send_failed(batch.count)
        self._complain(refusal, f"giving {batch.count} {batch.signal.items} back, out of retries")
        raise Refused(refusal.reason, refusal.detail, retry_after=refusal.retry_after)

    async def _sleep(self, seconds: float) -> None:
        """Waits, but not through a shutdown."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass

    def _complain(self, refusal: Refused, consequence: str) -> None:
        """Sets the status each time, logs at most once in LOG_EVERY seconds."""
        self._healthy = False
        self._context.report(str(refusal))
        now = time.monotonic()
        if now - self._logged >= LOG_EVERY or not self._logged:
            self._logged = now
            self._context.log.warning("%s: %s", consequence, refusal)
