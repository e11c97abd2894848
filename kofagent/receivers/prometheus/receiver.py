"""The receiver `prometheus`; see the package's docstring for what it promises."""

from __future__ import annotations

import asyncio
from collections import Counter

from kofagent.component.offering import Offer
from kofagent.component.protocols import Context, Receiver
from kofagent.prometheus.budgets import MOST_NAMESPACES, OTHERS
from kofagent.prometheus.pool import ScrapePool
from kofagent.prometheus.target import Target
from kofagent.receivers.prometheus.api import ApiServer
from kofagent.receivers.prometheus.config import Config
from kofagent.receivers.prometheus.pools import Pools
from kofagent.telemetry.batch import MetricBatch
from kofagent.telemetry.signal import Signal

STOP_SECONDS = 5.0
"""Seconds that scrapes may still wait for an owner when the receiver stops."""
OUTSTANDING = 16
"""Scrapes of one target that may wait for an owner in any case; more wait as long as the memory budget has room for them, and are
dropped when it has none, counted as `backlog`."""
_TASK_BYTES = 8 << 10
"""What a scrape that waits takes besides its samples, about."""


class PrometheusReceiver(Receiver[Config]):
    """The receiver."""

    signals = frozenset({Signal.METRICS})

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._waiting: Counter[int] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._over: set[str] = set()
        self._api: ApiServer | None = None
        self._pools: Pools | None = None

    @property
    def pools(self) -> dict[str, ScrapePool]:
        """The jobs that are scraped now; empty before `start`."""
        return self._pools.by_name if self._pools is not None else {}

    async def start(self) -> None:
        """Binds the API server, then starts discovery and scraping."""
        self._offer = Offer(self.context, self.outputs[Signal.METRICS], Signal.METRICS, "http")
        pools = self._pools = Pools(self.config, self.context, self._emit, self._over_budget)
        if self.config.api_server.enabled:
            self._api = ApiServer(
                self.config.api_server.server_config,
                self.config.api_server.max_connections,
                self.config.config,
                pools.by_name,
                self.context,
            )
            await self._api.start()
        await pools.start()

    async def wind_down(self) -> None:
        """Lets the scrapes that are under way end."""
        if self._pools is not None:
            await self._pools.wind_down()

    async def stop(self) -> None:
        """Stops scraping, then waits a moment for scrapes that have no owner yet."""
        if self._pools is not None:
            await self._pools.stop()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_SECONDS)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._api is not None:
            await self._api.stop()
            self._api = None

    def _emit(self, target: Target, batch: MetricBatch) -> None:
        """Offers a scrape to the pipelines in a separate task, so that no timer waits for a backend."""
        reserved = 0
        if self._waiting[target.hash] >= OUTSTANDING:
            reserved = batch.size + _TASK_BYTES
            if not self.context.host.reserve(reserved):
                self._offer.give_up(batch, "backlog", "scrapes of this target wait for a slow backend, and memory is used up")
                return
        self._waiting[target.hash] += 1
        task = asyncio.ensure_future(self._deliver(target.hash, batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if reserved:
            task.add_done_callback(lambda _: self.context.host.release(reserved))

    def _over_budget(self, namespace: str, samples: int) -> None:
        """Counts samples that were left out, as the targets of their namespace have too many series."""
        self._offer.lost(samples, "namespace series budget")
        if len(self._over) < MOST_NAMESPACES:
            self._over.add(namespace)
        elif namespace not in self._over:
            namespace = OTHERS
        self.context.ledger.counter(
            "kofagent_scrape_namespace_overflow_samples",
            "Scraped samples that were left out because their namespace has as many series as series_budget allows.",
            receiver=self.context.id,
            namespace=namespace,
        )(samples)

    async def _deliver(self, key: int, batch: MetricBatch) -> None:
        try:
            await self._offer.or_drop(batch)
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]
