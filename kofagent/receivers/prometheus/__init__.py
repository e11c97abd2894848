"""Prometheus receiver: scrapes targets with Prometheus' own configuration and hands over columns of interned series.

Promises what Prometheus promises: a target is scraped at its own moment of every interval whatever the backends do; a page
is all or nothing, a failed one is `up 0` with its reason at `/api/v1/targets` and in the log; series that end get a
staleness marker. A scrape nobody takes is dropped and counted (`refused: ...`, `backlog`).

Spec: prometheus.io/docs/prometheus/latest/configuration/configuration (scrape_config), receiver/prometheusreceiver of the
OpenTelemetry Collector. Not here: the protobuf format and with it native histograms; discovery other than static, file, HTTP and
Kubernetes reports at start that its job finds nothing. Own blocks: `monitors` (ServiceMonitors and the like become jobs) and
`allocation` (which agent scrapes which target); see kofagent.prometheus.monitors and kofagent.prometheus.allocation.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from pydantic import AliasChoices, Field, field_validator, model_validator

from kofagent.component.protocols import Component, Consumer, Context, Receiver
from kofagent.config.base import ComponentConfig, Duration
from kofagent.config.blocks import HttpServerBlock
from kofagent.prometheus.config import PrometheusConfig
from kofagent.prometheus.monitors.options import AllocationBlock, MonitorsBlock
from kofagent.prometheus.pool import ScrapePool
from kofagent.prometheus.target import Target
from kofagent.receivers.prometheus.api import ApiServer
from kofagent.receivers.prometheus.pools import Pools
from kofagent.telemetry.batch import MetricBatch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal

OUTSTANDING = 16
"""Scrapes of one target that may wait for an owner at once; more are dropped, counted as `backlog`."""


def _default_server() -> HttpServerBlock:
    return HttpServerBlock(endpoint="localhost:9090", read_timeout=600.0)


class ApiServerBlock(ComponentConfig):
    """`api_server`."""

    enabled: bool = Field(False, description="Serve Prometheus' API about targets.")
    max_connections: int = Field(512, ge=1, description="Connections that may wait to be served.")
    server_config: HttpServerBlock = Field(_default_server(), description="Where it listens.")

    @field_validator("server_config", mode="before")
    @classmethod
    def _endpoint(cls, value: Any) -> Any:
        if value is None:
            return _default_server()
        return {"endpoint": "localhost:9090", "read_timeout": "10m", **value} if isinstance(value, dict) else value


class Config(ComponentConfig):
    """Options of the prometheus receiver."""

    config: PrometheusConfig = Field(PrometheusConfig(), description="Prometheus' configuration: global, scrape_configs.")
    api_server: ApiServerBlock = Field(
        ApiServerBlock(),
        description="Prometheus' API about targets.",
        validation_alias=AliasChoices("api_server", "prometheus_api_server"),
    )
    monitors: MonitorsBlock = Field(MonitorsBlock(), description="Scrape what ServiceMonitors and the like ask for.")
    allocation: AllocationBlock = Field(AllocationBlock(), description="Which part of all targets this agent scrapes.")
    target_allocator: dict[str, Any] | None = Field(None, description="Accepted with a warning: monitors does its work.")
    trim_metric_suffixes: bool = Field(False, description="Remove type and unit from names in OTLP.")
    use_start_time_metric: bool = Field(False, description="Accepted for compatibility; removed upstream.")
    start_time_metric_regex: str = Field("", description="Accepted for compatibility; removed upstream.")
    report_extra_scrape_metrics: bool = Field(False, description="Old name of extra_scrape_metrics in global.")
    ignore_metadata: bool = Field(False, description="Accepted for compatibility.")
    scrape_on_shutdown: bool = Field(False, description="Scrape every target once more before stopping.")
    discovery_reload_on_startup: bool = Field(False, description="Accepted: discovery always starts at once.")
    initial_scrape_offset: Duration = Field(0.0, ge=0, description="Wait this long before the first scrape.")
    buffer_period: Duration = Field(0.0, description="Accepted for compatibility; removed upstream.")
    buffer_count: int = Field(0, description="Accepted for compatibility; removed upstream.")

    @model_validator(mode="before")
    @classmethod
    def _empty_blocks(cls, data: Any) -> Any:
        return {k: v for k, v in data.items() if v is not None} if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _has_jobs(self) -> Config:
        jobs = self.config.scrape_configs or self.config.scrape_config_files or self.monitors.enabled
        if not jobs and self.target_allocator is None:
            raise ValueError("there is nothing to scrape; write config.scrape_configs or set monitors.enabled")
        return self


class PrometheusReceiver(Receiver):
    """The receiver."""

    Config = Config
    signals = frozenset({Signal.METRICS})
    columns = True

    def __init__(self, config: Any, context: Context) -> None:
        super().__init__(config, context)
        self._account = context.ledger.receiver(context.id, Signal.METRICS, "http")
        self._waiting: Counter[int] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._complained: dict[str, float] = {}
        self._api: ApiServer | None = None
        self._pools: Pools | None = None

    @property
    def pools(self) -> dict[str, ScrapePool]:
        """The jobs that are scraped now; empty before `start`."""
        return self._pools.by_name if self._pools is not None else {}

    async def start(self) -> None:
        """Binds the API server, then starts discovery and scraping."""
        self._consumer: Consumer = self.outputs[Signal.METRICS]
        pools = self._pools = Pools(self.config, self.context, self._emit)
        if self.config.api_server.enabled:
            self._api = ApiServer(
                self.config.api_server.server_config,
                self.config.api_server.max_connections,
                self.config.config,
                pools.by_name,
                self.context,
            )
            await self._api.start()
        if self.config.target_allocator is not None:
            self.context.log.warning("target_allocator is not asked: write config.scrape_configs, or set monitors.enabled")
        await pools.start()

    async def stop(self) -> None:
        """Stops scraping, then waits a moment for scrapes that are on their way to an owner."""
        if self._pools is not None:
            await self._pools.stop()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._api is not None:
            await self._api.stop()
            self._api = None

    def _emit(self, target: Target, batch: MetricBatch) -> None:
        """Gives a scrape to the pipelines in a task of its own, so that no timer waits for a backend."""
        if self._waiting[target.hash] >= OUTSTANDING:
            self._drop("backlog", "scrapes of this target are waiting for a slow backend", batch)
            return
        self._waiting[target.hash] += 1
        task = asyncio.ensure_future(self._deliver(target.hash, batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, key: int, batch: MetricBatch) -> None:
        try:
            await self._consumer.consume(batch)
            self._account.accepted(batch.count)
        except Refused as refused:
            if refused.permanent:
                self._account.refused(batch.count)
            else:
                self._drop(f"refused: {refused.reason}", refused.detail, batch)
        except asyncio.CancelledError:
            self._drop("shutdown", "nobody took the scrape before the end", batch)
            raise
        except Exception:
            self._drop("error", "", batch)
            self.context.log.exception("a scrape of %d samples was lost", batch.count)
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]

    def _drop(self, reason: str, detail: str, batch: MetricBatch) -> None:
        self._account.refused(batch.count)
        self.context.ledger.dropped(self.context.id, Signal.METRICS, reason, batch.count)
        now = asyncio.get_running_loop().time()
        if now - self._complained.get(reason, -3600.0) > 60:
            self._complained[reason] = now
            self.context.log.warning("%d samples dropped: %s%s", batch.count, reason, f" ({detail})" if detail else "")


COMPONENT: type[Component] = PrometheusReceiver
