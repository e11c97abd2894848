"""The jobs of the receiver: those of its configuration, and those of monitors, which come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from kofagent import __version__
from kofagent.component.protocols import Context, StartError
from kofagent.kubernetes.client import ApiClient, shared
from kofagent.kubernetes.options import ApiOptions
from kofagent.net.transport import denied
from kofagent.prometheus.budgets import Budgets
from kofagent.prometheus.config import ScrapeConfig
from kofagent.prometheus.discovery.group import Discovery
from kofagent.prometheus.discovery.kubernetes.connect import connector
from kofagent.prometheus.discovery.kubernetes.discovery import KubernetesDiscovery, Select, describe
from kofagent.prometheus.monitors.watch import Monitors, Wanted
from kofagent.prometheus.pool import ScrapePool
from kofagent.prometheus.scrape import Emit
from kofagent.receivers.prometheus.config import Config
from kofagent.telemetry.series import Series

AGENT = f"kofagent/{__version__}"


class Pools:
    """All scrape pools by the name of their job. All errors together are the component's status."""

    def __init__(self, config: Config, context: Context, emit: Emit, over_budget: Callable[[str, int], None]) -> None:
        """`over_budget(namespace, samples)` counts samples beyond the series budget of a namespace."""
        self._config = config
        self._context = context
        self._emit = emit
        self._allocation = config.allocation.allocation()
        self.budgets = Budgets(config.series_budget.per_namespace, over_budget)
        self._wanted: dict[str, Wanted] = {}
        self._running: dict[str, Wanted] = {}
        self._changed = asyncio.Event()
        self._started = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._problems: dict[str, str] = {}
        # Outside the cluster (--kubeconfig) its API server has another name and other credentials.
        self._api = shared(context.host, ApiOptions()) if context.host.kubeconfig is not None else None
        self.by_name: dict[str, ScrapePool] = {}
        for job in config.config.jobs():
            if config.report_extra_scrape_metrics:
                job.extra_scrape_metrics = True
            self.by_name[job.job_name] = self._pool(job, self._api)

    async def start(self) -> None:
        """Starts the jobs of the configuration, and to read monitors."""
        self._context.report(describe(self._problems))
        if self._api is not None:
            await self._api.start()
            self._started = True
        for pool in list(self.by_name.values()):
            self._warn(pool.job)
            await pool.start(self._discoveries(pool.job))
        block = self._config.monitors
        if block.enabled:
            monitors = Monitors(
                block,
                self._config.config.global_,
                lambda: shared(self._context.host, ApiOptions()),
                self._context.log,
                self.report,
                self._want,
                allocation=self._allocation,
            )
            self._spawn(self._read(monitors))
            self._spawn(self._follow())

    async def wind_down(self) -> None:
        """Ends all loops, each with the scrape that is under way.

        Those that are not scraping go on until the others are done, so that a target that takes its whole time-out to fail does
        not cost the others a scrape.
        """
        pools = list(self.by_name.values())
        await asyncio.gather(*[pool.finish_scrapes() for pool in pools])
        await asyncio.gather(*[pool.finish_scrapes(idle=True) for pool in pools])

    async def stop(self) -> None:
        """Ends all jobs, without staleness markers."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pool in list(self.by_name.values()):
            await pool.stop(last_scrape=self._config.scrape_on_shutdown)
        if self._api is not None and self._started:
            self._started = False
            await self._api.stop()

    def owns(self, series: Series) -> bool:
        """Whether a target that is scraped now writes a series with these labels."""
        return any(pool.owns(series) for pool in self.by_name.values())

    def report(self, what: str, why: str | None) -> None:
        """Notes an error or its end, and sets the component's status."""
        before = dict(self._problems)
        if why is None:
            self._problems.pop(what, None)
        else:
            self._problems[what] = why
        if before != self._problems:
            self._context.report(describe(self._problems))

    def _pool(self, job: ScrapeConfig, api: ApiClient | None, *, probes: bool = False) -> ScrapePool:
        config = self._config
        allocation = self._allocation.of_probes() if probes else self._allocation
        return ScrapePool(
            job,
            config.config.global_.external_labels,
            self._emit,
            self._context.log,
            user_agent=AGENT,
            initial_delay=config.initial_scrape_offset,
            trim_suffixes=config.trim_metric_suffixes,
            superseded=self.owns,
            allocation=allocation,
            api=api,
            budgets=self.budgets,
        )

    def _discoveries(self, job: ScrapeConfig, select: Select | None = None) -> list[Discovery]:
        # Jobs of monitors choose from watches of the whole cluster, so that a hundred of them cost one watch.
        shared_watch = [""] if select is not None and not self._config.monitors.namespaces else None
        return [
            KubernetesDiscovery(
                entry,
                connector(entry, self._context.host, AGENT),
                self._context.log,
                lambda what, why: self.report(f"job {job.job_name}: {what}", why),
                allocation=self._allocation,
                select=select,
                namespaces=shared_watch,
            )
            for entry in job.kubernetes_sd_configs
        ]

    def _warn(self, job: ScrapeConfig) -> None:
        log, name = self._context.log, job.job_name
        if job.other_sd_configs:
            missing = ", ".join(job.other_sd_configs)
            log.warning("job %s: %s is not supported; it discovers no targets for this job", name, missing)
            self.report(f"job {name}", f"{missing} is not supported")

    # jobs of monitors

    async def _read(self, monitors: Monitors) -> None:
        try:
            await monitors.run()
        except StartError as error:
            self._context.log.error("monitors: %s", error)
            self.report("monitors", str(error))

    def _want(self, wanted: Mapping[str, Wanted]) -> None:
        self._wanted = dict(wanted)
        self._changed.set()

    async def _follow(self) -> None:
        denied.set(self._config.monitors.denied())  # for this task and all that it starts: the jobs of monitors
        while True:
            await self._changed.wait()
            self._changed.clear()
            for name in [name for name, running in self._running.items() if self._wanted.get(name) is not running]:
                del self._running[name]
                self._spawn(self.by_name.pop(name).retire())
                if name not in self._wanted:
                    self._context.log.info("job %s is no longer wanted by any monitor", name)
            for name, wanted in list(self._wanted.items()):
                if name in self.by_name:
                    if name not in self._running:
                        self.report(f"job {name}", "a monitor has the name of a configured job and is left out")
                    continue
                self._running[name] = wanted
                self._warn(wanted.config)
                pool = self.by_name[name] = self._pool(wanted.config, probes=wanted.probes, api=None)
                await pool.start(self._discoveries(wanted.config, wanted.select))

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._context.log.error("monitors: %r", task.exception(), exc_info=task.exception())
            self.report("monitors", "internal error, see the log")
