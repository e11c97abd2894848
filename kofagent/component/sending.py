"""`Sending`: what stands between an exporter's `consume` and its backend: a queue, then retries, then `send`.

    sending = Sending(context, requests, send, queue=config.sending_queue, retry=config.retry_on_failure)

The exporter says which requests a batch is made into and sends one of them; all else is here and in the parts that this is made of:
`memory_queue` and `disk_queue` (who owns a batch that waits), `line` (which batches leave together), `splitting` (none is larger
than configured), `retrying` (what is tried again, and cut when it is too large), `requests.Work` (what is left of a batch).

Without a queue and with one in memory, `consume` returns when the backend took the batch; what it did not take in time goes back
to the caller. With `sending_queue.storage` it returns when the batch is on disk. What a backend will never take is dropped, counted
with its reason; `consume` raises that refusal when nothing of the batch was taken. Of batches that were joined only those go back
that were not sent as a whole. A batch that goes back after some of its requests were taken is counted as not sent, since its sender
offers all of it again; what the backend has is left out then (`half_sent`), where it is known which items that are.
Upstream: exporter/exporterhelper.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Any, Generic

from kofagent.component.accounts import Accounts
from kofagent.component.disk_queue import DiskQueue
from kofagent.component.half_sent import HalfSent
from kofagent.component.line import grouping_of
from kofagent.component.memory_queue import MemoryQueue
from kofagent.component.protocols import Context
from kofagent.component.queue import Group, Queue
from kofagent.component.queue_storage import log_of
from kofagent.component.requests import B, Drop, MakeRequests, R, Send, Work
from kofagent.component.retrying import Retrying
from kofagent.component.size_limit import SizeLimit
from kofagent.component.splitting import cut
from kofagent.component.stored import OTLP, Form
from kofagent.config.blocks import QueueBlock, RetryBlock
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal

SHUTDOWN_SECONDS = 5.0


class Sending(Generic[B, R]):
    """Queue, consumers and retries of one exporter."""

    def __init__(
        self,
        context: Context,
        requests: MakeRequests[B, R],
        send: Send[R],
        *,
        queue: QueueBlock,
        retry: RetryBlock,
        limit: SizeLimit | None = None,
        merge_items: int = 0,
        form: Form = OTLP,
        directory: str = "",
        exact: bool = False,
    ) -> None:
        """`limit` learns what size the backend takes; `requests` should obey it.

        `merge_items`: without `sending_queue.batch`, waiting batches are joined up to this many items; 0: each is sent alone.
        `form`: what a queue on disk keeps; `requests` is then given batches in that form. `directory`: where it is, if
        it is not in a storage extension. `exact`: requests have the items of a batch in order and count them one by one.
        """
        self._context = context
        self._requests: MakeRequests[B, R] = requests
        self._stopping = asyncio.Event()
        self._accounts = Accounts(context)
        self._retrying = Retrying(context, send, retry, limit, self._stopping)
        self._consumers = queue.num_consumers
        self._workers: list[asyncio.Task[None]] = []
        self._exact = exact
        self._half_sent = HalfSent()
        self._under_way = 0
        """Calls of `consume`, without a queue."""
        self._none_under_way = asyncio.Event()
        self._most_items = self._most_bytes = 0
        on_disk = bool(queue.storage or directory)
        self._split = form.split if queue.enabled and on_disk else None
        self._queue: Queue[B, Any] | None = None
        if queue.enabled:
            if queue.batch is not None:
                in_bytes = queue.batch.sizer == "bytes"
                self._most_items, self._most_bytes = (0, queue.batch.max_size) if in_bytes else (queue.batch.max_size, 0)
            grouping = grouping_of(queue, merge_items, on_disk)
            if on_disk:
                make_log = partial(log_of, options=queue, directory=directory)
                self._queue = DiskQueue(context, queue, grouping, self._accounts, form, make_log)
            else:
                self._queue = MemoryQueue(context, queue, grouping, self._accounts)

    async def start(self) -> None:
        """Opens the queue and starts the consumers. StartError."""
        if self._queue is not None:
            await self._queue.start()
            self._workers = [
                asyncio.create_task(self._consume_queue(self._queue), name=f"{self._context.id} sender")
                for _ in range(self._consumers)
            ]

    async def stop(self) -> None:
        """Sends what waits, each request once, for at most SHUTDOWN_SECONDS; the rest goes back, or stays on disk."""
        self._stopping.set()
        if self._queue is None:
            if self._under_way:
                try:
                    async with asyncio.timeout(SHUTDOWN_SECONDS):
                        await self._none_under_way.wait()
                except TimeoutError:
                    pass
            return
        self._queue.close()
        if self._workers:
            _done, late = await asyncio.wait(self._workers, timeout=SHUTDOWN_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*self._workers, return_exceptions=True)
            self._workers = []
        await self._queue.stop()

    async def consume(self, batch: B) -> None:
        """As `Consumer.consume`."""
        rest, before = self._half_sent.rest(batch) if self._half_sent else (batch, 0)
        try:
            await self._offer(rest)
        except Refused as refused:
            if not refused.permanent:
                self._half_sent.note(batch, before + refused.sent)
            if not refused.permanent or not before:
                raise
        except asyncio.CancelledError:
            self._half_sent.note(batch, before)
            raise
        if before:
            self._accounts.sent(batch.signal, before)

    async def _offer(self, batch: B) -> None:
        if self._queue is not None:
            await self._queue.put(batch)
            return
        work = self._work(batch)
        self._under_way += 1
        try:
            await self._retrying.deliver(work)
        except Refused as refusal:
            self._give_back(batch.signal, batch.count, refusal)
            refusal.sent = self._known_sent(work)
            raise
        finally:
            work.end()
            self._under_way -= 1
            if not self._under_way and self._stopping.is_set():
                self._none_under_way.set()
        self._accounts.close(work)
        if work.answer is not None:
            raise work.answer.copy()  # this frame has `work`, and the exception will have this frame

    def _work(self, batch: B) -> Work[R]:
        work: Work[R] = Work(batch.signal, batch.count)
        if self._most_items or self._most_bytes:
            work.begin(self._cut_requests(batch, work.drop))
        else:
            try:
                work.begin(self._requests(batch, work.drop))
            except Exception as error:
                work.begin(_raising(error))  # as if the first request raised it: `deliver` knows what to do
        return work

    def _cut_requests(self, batch: B, drop: Drop) -> Iterator[R]:
        for part in cut(batch, self._most_items, self._most_bytes, self._split):
            yield from self._requests(part, drop)

    async def _consume_queue(self, queue: Queue[B, Any]) -> None:
        # a call for each group: a consumer that waits for the next one must not hold the last one in its variables
        going = True
        while going:
            try:
                going = await self._send_next(queue)
            except Exception:  # a defect must not end the consumer: what waits would wait for ever
                self._context.log.exception("a consumer of the sending queue failed and continues")
                await self._retrying.pause(1.0)

    async def _send_next(self, queue: Queue[B, Any]) -> bool:
        """Sends what is next in the queue; False at its end."""
        group = await queue.take()
        if group is None:
            return False
        work = self._work(group.batch)
        try:
            await self._retrying.deliver(work)
        except Refused as raised:
            refusal = raised.copy()  # without the frames that it passed, which have the batch
            if not queue.owns or self._stopping.is_set():
                await self._put_back(queue, group, work, refusal)
                return True
            work.give_up(refusal)
            self._retrying.complain(refusal, f"dropped {work.failed} {work.signal.items}, out of retries")
        except BaseException:
            queue.put_back(group, Refused("shutdown", "the agent stopped before the backend took the data"))
            raise
        finally:
            work.end()
        try:
            self._accounts.close(work)
        finally:  # whatever goes wrong, the callers get their answer
            await queue.done(group, work.answer)
        return True

    def _known_sent(self, work: Work[R]) -> int:
        """How many items at the front of a batch the backend has, where it is known that it has those and no others."""
        return work.sent if self._exact and not work.dropped else 0

    async def _put_back(self, queue: Queue[B, Any], group: Group[B, Any], work: Work[R], refusal: Refused) -> None:
        """Of a group goes back what was not sent: batches in front that were sent as a whole are settled."""
        first, sent, known = 0, 0, self._known_sent(work)
        for entry in group.entries:
            if sent + entry.items > known:
                break
            first, sent = first + 1, sent + entry.items
        if sent:
            self._accounts.sent(work.signal, sent)
            await queue.done(Group(group.batch, group.entries[:first]), None)
        left = Group(group.batch, group.entries[first:])
        if not queue.owns:
            self._give_back(group.batch.signal, sum([entry.items for entry in left.entries]), refusal)
        if known > sent and not queue.owns:  # a part of the first one
            begun = refusal.copy()
            begun.sent = known - sent
            queue.put_back(Group(group.batch, left.entries[:1]), begun)
            left = Group(group.batch, left.entries[1:])
        if left.entries:
            queue.put_back(left, refusal)

    def _give_back(self, signal: Signal, items: int, refusal: Refused) -> None:
        self._accounts.given_back(signal, items)
        why = "the agent stops" if self._stopping.is_set() else "out of retries"
        self._retrying.complain(refusal, f"giving {items} {signal.items} back, {why}")


def _raising(error: Exception) -> Iterator[Any]:
    raise error
    yield
