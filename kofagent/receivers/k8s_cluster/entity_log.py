"""Entity events as log records, and the queue that hands them on.

The format is upstream's pkg/experimentalmetricmetadata: the scope has `otel.entity.event_as_log`, a record the attributes
`otel.entity.id`, `otel.entity.event.type` (entity_state, entity_delete), `otel.entity.type`, `otel.entity.interval` (milliseconds)
and `otel.entity.attributes`.
"""

from __future__ import annotations

import asyncio
import struct
import time

from kofagent.component.backoff import Backoff
from kofagent.component.offering import FIRST_WAIT, LONGEST_WAIT, Offer
from kofagent.component.protocols import ColumnsConsumer, Context
from kofagent.receivers.k8s_cluster.model import Entity
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.signal import Signal
from kofagent.wire.attributes import encode_attributes
from kofagent.wire.varint import length_delimited

# message ScopeLogs {InstrumentationScope scope = 1; LogRecord log_records = 2;}
# message InstrumentationScope {KeyValue attributes = 3;}   message ResourceLogs {ScopeLogs scope_logs = 2;}
_SCOPE = length_delimited(1, encode_attributes([("otel.entity.event_as_log", True)], 3))
_TIME = struct.Struct("<BQ").pack
BATCH = 1000
"""Maximum number of records in a batch."""
WAITING = 100_000
"""Maximum number of entities that wait to be sent; beyond it the oldest are dropped, counted."""
_GATHER = 0.2
TRANSPORT = "http"
"""Upstream's `transport` label of this receiver."""


def state_record(entity: Entity, interval: float, time_ns: int) -> bytes:
    """The body of a LogRecord with the current state of an entity."""
    pairs: list[tuple[str, object]] = [
        ("otel.entity.id", {entity.id_key: entity.id}),
        ("otel.entity.event.type", "entity_state"),
        ("otel.entity.type", entity.type),
    ]
    if interval:
        pairs.append(("otel.entity.interval", int(interval * 1000)))
    pairs.append(("otel.entity.attributes", entity.attributes))
    # message LogRecord {fixed64 time_unix_nano = 1; repeated KeyValue attributes = 6;}
    return _TIME(0x09, time_ns) + encode_attributes(pairs, 6)


def delete_record(entity: Entity, time_ns: int) -> bytes:
    """The body of a LogRecord for a deleted entity."""
    return _TIME(0x09, time_ns) + encode_attributes(
        [
            ("otel.entity.id", {entity.id_key: entity.id}),
            ("otel.entity.event.type", "entity_delete"),
            ("otel.entity.type", entity.type),
        ],
        6,
    )


def request(records: list[bytes]) -> bytes:
    """The body of an ExportLogsServiceRequest with these records."""
    scope_logs = _SCOPE + b"".join([length_delimited(2, record) for record in records])
    return length_delimited(1, length_delimited(2, scope_logs))


class EntityQueue:
    """Events that wait to be sent. Only the newest event of an entity waits, since each has the whole state."""

    def __init__(self, context: Context, output: ColumnsConsumer, interval: float) -> None:
        self._context = context
        self._offer = Offer(context, output, Signal.LOGS, TRANSPORT)
        self._backoff = Backoff(FIRST_WAIT, LONGEST_WAIT)
        self._interval = interval
        self._waiting: dict[tuple[str, str], bytes] = {}
        self._some = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def state(self, entity: Entity) -> None:
        """An entity is new or has changed."""
        self._put(entity, state_record(entity, self._interval, time.time_ns()))

    def delete(self, entity: Entity) -> None:
        """An entity was deleted."""
        self._put(entity, delete_record(entity, time.time_ns()))

    def _put(self, entity: Entity, record: bytes) -> None:
        waiting = self._waiting
        key = (entity.type, entity.id)
        waiting.pop(key, None)
        if len(waiting) >= WAITING:
            del waiting[next(iter(waiting))]
            self._offer.lost(1, "backlog")
        waiting[key] = record
        self._some.set()

    def start(self) -> None:
        """Starts sending."""
        self._task = asyncio.create_task(self._run(), name=f"{self._context.id} entities")

    async def stop(self) -> None:
        """Ends; what waits is dropped, counted (all entities are sent again after the next start)."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if self._waiting:
            self._offer.lost(len(self._waiting), "shutdown")
            self._waiting.clear()

    async def _run(self) -> None:
        while True:
            await self._some.wait()
            await asyncio.sleep(_GATHER)
            self._some.clear()
            while self._waiting:
                await self._send(dict(list(self._waiting.items())[:BATCH]))

    async def _send(self, records: dict[tuple[str, str], bytes]) -> None:
        """Hands one batch on, or drops it, counted. After a refusal that may pass it waits, newer states replace it."""
        batch = Batch(Signal.LOGS, request(list(records.values())), len(records))
        refused = await self._offer.attempt(batch)
        if refused is not None:
            self._offer.waits(batch, refused)
            await asyncio.sleep(self._backoff.next(refused.retry_after))
            return
        self._backoff.reset()
        for key, record in records.items():
            if self._waiting.get(key) is record:
                del self._waiting[key]
