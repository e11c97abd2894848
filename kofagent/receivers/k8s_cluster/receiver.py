"""The receiver `k8s_cluster`: metrics every `collection_interval`, all entities every `metadata_collection_interval`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from kofagent import __version__
from kofagent.component.leading import WhileLeading
from kofagent.component.offering import Offer
from kofagent.component.polling import Polling
from kofagent.component.protocols import Context, Receiver
from kofagent.kubernetes.client import ApiClient, shared
from kofagent.receivers.k8s_cluster import catalog
from kofagent.receivers.k8s_cluster.config import Config
from kofagent.receivers.k8s_cluster.entity_log import BATCH, TRANSPORT, EntityQueue
from kofagent.receivers.k8s_cluster.model import Selection
from kofagent.receivers.k8s_cluster.snapshot import Snapshot, payloads
from kofagent.receivers.k8s_cluster.watcher import Watcher
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.clock import now_ns
from kofagent.telemetry.signal import Signal

MOST_POINTS = 8192
"""Approximate number of points in a batch: 200 nodes with 5000 pods have 25 000 points, too many for one request."""


class K8sCluster(Receiver[Config]):
    """Sends the state of the cluster's objects as metrics and as entity events."""

    signals = frozenset({Signal.METRICS, Signal.LOGS})

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._leading = WhileLeading(context, config.k8s_leader_elector, self._begin, self._end)
        self.outputs = {}
        self._selection = Selection(config)
        self._client: ApiClient | None = None
        self._watcher: Watcher | None = None
        self._queue: EntityQueue | None = None
        self._polling: Polling | None = None
        self._telling: asyncio.Task[None] | None = None

    def explain(self) -> str:
        """The metrics that are on."""
        config = self.config
        names = sorted(self._selection.metrics)
        names += [f"k8s.node.condition_{catalog.snake_case(c)}" for c in config.node_conditions_to_report]
        names += [f"k8s.node.allocatable_{catalog.snake_case(a)}" for a in config.allocatable_types_to_report]
        return f"metrics: {', '.join(names)}\n"

    async def start(self) -> None:
        await self._leading.start()

    async def stop(self) -> None:
        await self._leading.stop()

    async def _begin(self) -> None:
        config = self.config
        client = shared(self.context.host, config)
        await client.start()
        self._client = client
        start_ns = now_ns()
        metrics, logs = self.outputs.get(Signal.METRICS), self.outputs.get(Signal.LOGS)
        if logs is not None:
            self._queue = EntityQueue(self.context, logs, config.metadata_collection_interval)
            self._queue.start()
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
            self._polling = Polling(
                self.context,
                self._collect,
                Offer(self.context, metrics, Signal.METRICS, TRANSPORT).or_drop,
                interval=config.collection_interval,
                initial_delay=config.collection_interval,
            )
            self._polling.start()
        if logs is not None:
            self._telling = asyncio.create_task(self._tell_all(), name=f"{self.context.id} all entities")

    async def _end(self) -> None:
        if self._polling is not None:
            polling, self._polling = self._polling, None
            await polling.stop()
        if self._telling is not None:
            telling, self._telling = self._telling, None
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
        if self._watcher is not None:
            watcher, self._watcher = self._watcher, None
            await watcher.stop()
        if self._queue is not None:
            queue, self._queue = self._queue, None
            await queue.stop()
        if self._client is not None:
            client, self._client = self._client, None
            await client.stop()

    async def _collect(self) -> AsyncIterator[Batch]:
        """The metrics of everything that is known."""
        assert self._watcher is not None
        for payload, count in payloads(self._watcher.snapshots, now_ns(), MOST_POINTS):
            yield Batch(Signal.METRICS, payload, count)

    async def _tell_all(self) -> None:
        """Sends all entities once they are known, and again every interval; in parts, so that the event loop stays free."""
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
