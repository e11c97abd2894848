"""The receiver `k8s_events`."""

from __future__ import annotations

import time
from collections.abc import Sequence

from kofagent.component.checkpoints import KeyValueStore, open_store
from kofagent.component.leading import WhileLeading
from kofagent.component.offering import Offer
from kofagent.component.protocols import Context, Receiver
from kofagent.component.statuses import Statuses
from kofagent.kubernetes.changes import Changes, Handlers, Object, Record
from kofagent.kubernetes.client import ApiClient, shared
from kofagent.kubernetes.records import log_batch
from kofagent.kubernetes.resources import CORE_EVENTS
from kofagent.kubernetes.watch import Query, Timing
from kofagent.memory.memo import Memo
from kofagent.receivers.k8s_events.config import Config
from kofagent.receivers.k8s_events.convert import SCOPE, last_seen, to_record
from kofagent.telemetry.signal import Signal

STOP_SECONDS = 2.0


class K8sEvents(Receiver[Config]):
    """One stream per namespace, or one for all of them."""

    signals = frozenset({Signal.LOGS})
    timing: Timing | None = None
    """Changed by tests only."""

    _client: ApiClient | None = None
    _store: KeyValueStore | None = None
    _streams: Sequence[Changes] = ()

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._leading = WhileLeading(context, config.k8s_leader_elector, self._begin, self._end)
        self._sent: Memo[str, float] = Memo("k8s_events.sent", entries=8192, size=2 << 20)
        """When an event was last sent (monotonic seconds), by its uid."""

    async def start(self) -> None:
        await self._leading.start()

    async def stop(self) -> None:
        await self._leading.stop()

    async def _begin(self) -> None:
        began = time.time()
        self._client = client = shared(self.context.host, self.config)
        await client.start()
        self._store = await open_store(self.context, self.config.storage)
        self._offer = Offer(self.context, self.outputs[Signal.LOGS], Signal.LOGS, "http")
        statuses = Statuses(self.context)
        self._streams = [
            self._stream(client, self._store, namespace, statuses, began) for namespace in self.config.namespaces or [""]
        ]
        for stream in self._streams:
            stream.start()

    def _stream(self, client: ApiClient, store: KeyValueStore, namespace: str, statuses: Statuses, began: float) -> Changes:
        key = f"events/{namespace}"

        async def load() -> bytes | None:
            return await store.get(key)

        async def save(value: bytes) -> None:
            await store.set(key, value)

        # The API server keeps times of events in whole seconds.
        handlers = Handlers(
            self._convert, self._deliver, lambda event, since: last_seen(event) >= int(since), load, save, statuses.of(namespace)
        )
        return Changes(
            client,
            Query(CORE_EVENTS, namespace),
            handlers,
            initial="newer",
            since=began,
            kept=self.config.storage is not None,
            timing=self.timing,
        )

    async def _end(self) -> None:
        streams, self._streams = self._streams, ()
        for stream in streams:
            await stream.stop(STOP_SECONDS)
        store, self._store = self._store, None
        if store is not None:
            await store.close()
        client, self._client = self._client, None
        if client is not None:
            await client.stop()

    def _convert(self, kind: str, event: Object) -> Record | None:
        if kind == "DELETED":
            return None
        try:
            if self._repeated(kind, event):
                self.context.ledger.filtered(self.context.id, Signal.LOGS, "dedup_interval", 1)
                return None
            return to_record(event, time.time_ns())
        except (AttributeError, TypeError, ValueError):
            self._offer.lost(1, "malformed")
            return None

    def _repeated(self, kind: str, event: Object) -> bool:
        """Whether this is an update that `dedup_interval` leaves out."""
        interval = self.config.dedup_interval
        if not interval:
            return False
        uid, now = str(event["metadata"].get("uid")), time.monotonic()
        last = self._sent.find(uid)
        if (interval < 0 and (kind == "MODIFIED" or last is not None)) or (last is not None and now - last < interval):
            return True
        self._sent[uid] = now
        return False

    async def _deliver(self, records: Sequence[Record]) -> None:
        await self._offer.until_taken(log_batch(records, SCOPE))
