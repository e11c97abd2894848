"""The rounds of `k8s_cluster`: a set of metrics every `collection_interval`, all entities every `metadata_collection_interval`."""

from __future__ import annotations

import asyncio
import time

from kofagent import __version__
from kofagent.component.protocols import Context, Receiver
from kofagent.kubernetes.client import ApiClient, shared
from kofagent.receivers.k8s_cluster import catalog
from kofagent.receivers.k8s_cluster.config import Config
from kofagent.receivers.k8s_cluster.entity_log import BATCH, EntityQueue
from kofagent.receivers.k8s_cluster.model import Selection
from kofagent.receivers.k8s_cluster.snapshot import Snapshot, payloads
from kofagent.receivers.k8s_cluster.watcher import Watcher
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal

MOST_POINTS = 8192
"""About as many points one batch has: 200 nodes with 5000 pods are 25 000 points, too many for one request."""


class K8sCluster(Receiver[Config]):
    """Sends the state of the cluster's objects as metrics and as entity events."""

    signals = frozenset({Signal.METRICS, Signal.LOGS})

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self.outputs = {}
        self._selection = Selection(config)
        self._client: ApiClient | None = None
        self._watcher: Watcher | None = None
        self._queue: EntityQueue | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._account = context.ledger.receiver(context.id, Signal.METRICS)
        self._said: set[str] = set()

    def explain(self) -> str:
        """The metrics that are on."""
        config = self.config
        names = sorted(self._selection.metrics)
        names += [f"k8s.node.condition_{catalog.snake_case(c)}" for c in config.node_conditions_to_report]
        names += [f"k8s.node.allocatable_{catalog.snake_case(a)}" for a in config.allocatable_types_to_report]
        return f"metrics: {', '.join(names)}\n"

    async def start(self) -> None:
        config = self.config
        if config.metadata_exporters:
            self.context.log.warning(
                "metadata_exporters has no effect: no exporter takes metadata; use the receiver in a logs pipeline"
            )
        if config.k8s_leader_elector:
            self.context.log.warning("k8s_leader_elector has no effect: run one instance of this receiver per cluster")
        client = shared(self.context.host, config)
        await client.start()
        self._client = client
        start_ns = time.time_ns()
        metrics, logs = self.outputs.get(Signal.METRICS), self.outputs.get(Signal.LOGS)
        if logs is not None:
            self._queue = EntityQueue(self.context, config.metadata_collection_interval)
            self._queue.start(logs)
        self._watcher = Watcher(
            client,
            config,
            self._selection,
            (lambda: Snapshot(catalog.SCOPE, __version__, catalog.SCHEMA_URL, start_ns)) if metrics is not None else None,
            self._queue,
            self.context.report,
        )
        self._watcher.start()
        if metrics is not None:
            self._tasks.append(asyncio.create_task(self._rounds(), name=self.context.id))
        if logs is not None:
            self._tasks.append(asyncio.create_task(self._tell_all(), name=f"{self.context.id} all entities"))

    async def stop(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._watcher is not None:
            watcher, self._watcher = self._watcher, None
            await watcher.stop()
        if self._queue is not None:
            queue, self._queue = self._queue, None
            await queue.stop()
        if self._client is not None:
            client, self._client = self._client, None
            await client.stop()

    async def _rounds(self) -> None:
        interval = self.config.collection_interval
        loop = asyncio.get_running_loop()
        at = loop.time() + interval
        while True:
            await asyncio.sleep(at - loop.time())
            try:
                await self._send()
            except Exception:  # a mistake in one round must not end the rounds
                self.context.log.exception("a set of metrics failed; the next one comes as usual")
            at += interval * max(1, -(-(loop.time() - at) // interval))

    async def _send(self) -> None:
        """One set of metrics of everything that is known."""
        assert self._watcher is not None
        for payload, count in payloads(self._watcher.snapshots, time.time_ns(), MOST_POINTS):
            try:
                await self.outputs[Signal.METRICS].consume(Batch(Signal.METRICS, payload, count))
            except Refused as refused:
                self._account.refused(count)
                if not refused.permanent:
                    self.context.ledger.dropped(self.context.id, Signal.METRICS, refused.reason, count)
                if refused.reason not in self._said and len(self._said) < 100:
                    self._said.add(refused.reason)
                    self.context.log.warning("metrics were refused: %s (further ones are counted, not logged)", refused)
            except Exception:
                self.context.ledger.dropped(self.context.id, Signal.METRICS, "internal error", count)
                raise
            else:
                self._account.accepted(count)

    async def _tell_all(self) -> None:
        """All entities, once they are known and again every interval; in parts, so that the event loop stays free."""
        assert self._watcher is not None and self._queue is not None
        await self._watcher.settle()
        while True:
            told = 0
            for entities in self._watcher.all_entities():
                for entity in entities:
                    self._queue.state(entity)
                told += len(entities)
                if told >= BATCH:
                    told = 0
                    await asyncio.sleep(0)
            if not self.config.metadata_collection_interval:
                return
            await asyncio.sleep(self.config.metadata_collection_interval)
