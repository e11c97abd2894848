"""`batch`: joins what arrives within `timeout` into batches of at least `send_batch_size` items.

`consume` returns when the joined batch has an owner, so no sender gets an early acknowledgement. Because senders wait, a
batch is sent before `timeout` when nothing new has arrived for a twentieth of it: a client that sends one request after
another is not limited to one request per timeout. Serialized OTLP is joined by concatenation; scraped samples stay columns.
When a batch is split into parts and one of them is refused for now after another was taken, only that part is offered again,
for a minute; then senders are answered by what became of their own items. A batch is refused for good only when no part was
taken. Upstream: processor/batchprocessor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from pydantic import Field, model_validator

from kofagent.component.line import quiet_seconds
from kofagent.component.parts import PartlyTaken, offer_parts
from kofagent.component.protocols import ColumnsConsumer, Context, Processor
from kofagent.component.splitting import cut
from kofagent.config.base import ComponentConfig, Duration
from kofagent.net.peer import sender
from kofagent.telemetry.batch import AnyBatch, Batch, MetricBatch
from kofagent.telemetry.ledger import ProcessorAccount
from kofagent.telemetry.refused import Refused


class Config(ComponentConfig):
    """Options of batch."""

    timeout: Duration = Field(0.2, ge=0, description="Maximum time to wait for more items; 0: send at once.")
    send_batch_size: int = Field(
        8192, ge=0, description="Number of items at which a batch is sent at once, whatever the timeout; 0: always."
    )
    send_batch_max_size: int = Field(0, ge=0, description="Maximum number of items in a batch; larger ones are split. 0: no limit.")
    metadata_keys: list[str] = Field([], description="Requests with different values of these headers are never joined.")
    metadata_cardinality_limit: int = Field(1000, ge=1, description="Maximum number of combinations of metadata_keys at a time.")

    @model_validator(mode="after")
    def _check(self) -> Config:
        if self.send_batch_max_size and self.send_batch_max_size < self.send_batch_size:
            raise ValueError("send_batch_max_size must be greater than or equal to send_batch_size")
        lowered = [key.lower() for key in self.metadata_keys]
        twice = {key for key in lowered if lowered.count(key) > 1}
        if twice:
            raise ValueError(f"metadata_keys names {', '.join(sorted(twice))} more than once")
        self.metadata_keys = lowered
        return self


class _Waiting:
    """What is being joined for one combination of metadata values: the batches, and the future that their senders wait for."""

    __slots__ = ("batches", "count", "deadline", "future", "quiet_at")

    def __init__(self, deadline: float, future: asyncio.Future[PartlyTaken | None]) -> None:
        self.batches: list[AnyBatch] = []
        self.count = 0
        self.deadline = deadline
        self.quiet_at = 0.0
        self.future = future

    def end_of(self, batch: AnyBatch) -> int:
        """How many items of the joined batch there are up to the end of this one."""
        end = total = 0
        for one in self.batches:
            total += one.count
            if one is batch:
                end = total
        return end


class BatchProcessor(Processor[Config], ColumnsConsumer):
    """One instance per pipeline; OTLP bytes and columns are joined separately."""

    _account: ProcessorAccount

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._groups: dict[tuple[object, ...], _Waiting] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._quiet = quiet_seconds(config.timeout)

    async def start(self) -> None:
        ledger, id = self.context.ledger, self.context.id
        self._account = ledger.processor(id, self.signal)
        self._size = ledger.histogram("otelcol_processor_batch_batch_send_size", "Items of the batches sent.", processor=id)
        self._by_size = ledger.counter(
            "otelcol_processor_batch_batch_size_trigger_send", "Batches sent because of their size.", processor=id
        )
        self._by_time = ledger.counter(
            "otelcol_processor_batch_timeout_trigger_send", "Batches sent because of their age.", processor=id
        )
        ledger.gauge(
            "otelcol_processor_batch_metadata_cardinality",
            "Combinations of metadata values being batched.",
            lambda: len(self._groups),
            processor=id,
        )

    async def stop(self) -> None:
        """Sends what waits and waits for its answer."""
        self._stopping.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for key in list(self._groups):
            self._flush(key)
        if self._sending:
            await asyncio.gather(*self._sending, return_exceptions=True)

    async def consume(self, batch: AnyBatch) -> None:
        """Joins the batch to what waits; returns when the joined batch has an owner."""
        self._account.incoming(batch.count)
        config = self.config
        key: tuple[object, ...] = (batch.signal, isinstance(batch, MetricBatch))
        if config.metadata_keys:
            found = batch.metadata or {}
            key += tuple(found.get(name, ()) for name in config.metadata_keys)
        now = asyncio.get_running_loop().time()
        waiting = self._groups.get(key)
        if waiting is None:
            if config.metadata_keys and len(self._groups) >= config.metadata_cardinality_limit:
                raise Refused(
                    "metadata cardinality limit",
                    "there are more combinations of metadata_keys than metadata_cardinality_limit",
                    retry_after=1,
                )
            waiting = self._groups[key] = _Waiting(now + config.timeout, asyncio.get_running_loop().create_future())
        waiting.batches.append(batch)
        waiting.count += batch.count
        waiting.quiet_at = now + self._quiet
        if config.timeout == 0 or waiting.count >= config.send_batch_size:
            self._by_size(1)
            self._flush(key)
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._quiet, self._tick)
        try:
            # shielded: all senders whose items were joined share the answer
            partly = await asyncio.shield(waiting.future)
        except asyncio.CancelledError:
            if self._groups.get(key) is waiting and batch in waiting.batches:
                waiting.batches.remove(batch)
                waiting.count -= batch.count
                if not waiting.batches:
                    del self._groups[key]
            raise
        if partly is not None and waiting.end_of(batch) > partly.settled:
            raise partly.refusal.copy()

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time() + 1e-4
        self._timer = None
        for key, waiting in list(self._groups.items()):
            if now >= waiting.deadline or now >= waiting.quiet_at:
                self._by_time(1)
                self._flush(key)
        if self._groups:
            due = min(min(w.deadline, w.quiet_at) for w in self._groups.values())
            self._timer = loop.call_at(due, self._tick)

    def _flush(self, key: tuple[object, ...]) -> None:
        waiting = self._groups.pop(key)
        task = asyncio.get_running_loop().create_task(self._send(waiting), name=f"{self.context.id} sends")
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, waiting: _Waiting) -> None:
        sender.set(None)  # several senders' data; the task was made within a request of one of them
        error: BaseException | None = None
        partly: PartlyTaken | None = None
        try:
            await offer_parts(self.next, self._joined(waiting.batches), self._stopping, self._taken)
        except PartlyTaken as some:
            partly = some
        except Exception as failure:
            error = failure
        future = waiting.future
        if error is None:
            future.set_result(partly)
        else:
            future.set_exception(error)
            future.exception()  # retrieved here: all callers may have been cancelled

    def _taken(self, batch: AnyBatch) -> None:
        self._size(batch.count)
        self._account.outgoing(batch.count)

    def _joined(self, batches: list[AnyBatch]) -> Iterator[AnyBatch]:
        """The batches as one, or as several of at most send_batch_max_size items."""
        joined: AnyBatch
        if isinstance(batches[0], MetricBatch):
            joined = MetricBatch.join([b for b in batches if isinstance(b, MetricBatch)])
        else:
            joined = Batch.join([b for b in batches if isinstance(b, Batch)])
        try:
            yield from cut(joined, self.config.send_batch_max_size, 0)
        except Refused as refused:  # it cannot be decoded
            self.context.ledger.dropped(self.context.id, joined.signal, refused.reason, joined.count)
            raise


COMPONENT = BatchProcessor
