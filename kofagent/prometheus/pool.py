"""All targets of one job: discovery in, scrape loops out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from kofagent.kubernetes.client import ApiClient
from kofagent.prometheus.allocation import Allocation
from kofagent.prometheus.budgets import Budgets
from kofagent.prometheus.client import Client
from kofagent.prometheus.config import ScrapeConfig
from kofagent.prometheus.discovery.file import FileDiscovery
from kofagent.prometheus.discovery.group import Discovery, Group
from kofagent.prometheus.discovery.http import HttpDiscovery
from kofagent.prometheus.discovery.static import StaticDiscovery
from kofagent.prometheus.scrape import Emit, ScrapeLoop
from kofagent.prometheus.target import Dropped, Target, build_targets, sample_rules, target_rules
from kofagent.telemetry import clock
from kofagent.telemetry.series import Series

SYNC_S = 1.0
"""Discoveries may report many changes in a row; targets are rebuilt at most this often."""


Built = tuple[Group, list[Target], list[Dropped], list[str]]
"""A group and what became of it."""


class ScrapePool:
    """One job. `superseded` is asked before a series of a gone target is ended; `allocation` says which targets are ours."""

    def __init__(
        self,
        job: ScrapeConfig,
        external: Mapping[str, str],
        emit: Emit,
        log: logging.Logger,
        *,
        user_agent: str,
        initial_delay: float = 0.0,
        trim_suffixes: bool = False,
        superseded: Callable[[Series], bool] | None = None,
        allocation: Allocation | None = None,
        api: ApiClient | None = None,
        budgets: Budgets | None = None,
    ) -> None:
        self.job = job
        self._budgets = budgets
        self.name = job.job_name
        self._external = external
        self._emit = emit
        self._log = log
        self._agent = user_agent
        self._delay = initial_delay
        self._trim = trim_suffixes
        self._superseded = superseded or self.owns
        self._client = Client(job, user_agent, api)
        self._target_rules = target_rules(job)
        self._sample_rules = sample_rules(job)
        self._allocation = allocation or Allocation()
        self._groups: dict[tuple[int, str], Group] = {}
        self._built: dict[tuple[int, str], Built] = {}
        self._loops: dict[int, tuple[ScrapeLoop, asyncio.Task[None]]] = {}
        self._discoveries: set[asyncio.Task[None]] = set()
        self._endings: set[asyncio.Task[None]] = set()
        self._sync_timer: asyncio.TimerHandle | None = None
        self._complaints: list[str] = []
        self.dropped: list[Dropped] = []
        self.dropped_count = 0

    @property
    def targets(self) -> list[Target]:
        """The targets that are scraped, in no particular order."""
        return [loop.target for loop, _ in self._loops.values()]

    @property
    def loops(self) -> list[ScrapeLoop]:
        """Their scrape loops."""
        return [loop for loop, _ in self._loops.values()]

    def owns(self, series: Series) -> bool:
        """Whether a target that is scraped now writes a series with these labels."""
        return any(loop.owns(series) for loop, _ in self._loops.values())

    async def start(self, more: Sequence[Discovery] = ()) -> None:
        """Starts discovery and, with the first targets, scraping. `more` are mechanisms the caller brings."""
        await self._client.start()
        job = self.job
        mechanisms: list[Discovery] = [StaticDiscovery(job.static_configs)] if job.static_configs else []
        mechanisms += [FileDiscovery(config, self._log) for config in job.file_sd_configs]
        mechanisms += [HttpDiscovery(config, self._log, self._agent) for config in job.http_sd_configs]
        for i, mechanism in enumerate([*mechanisms, *more]):
            self._spawn(mechanism.run(lambda groups, i=i: self._update(i, groups)), self._discoveries)  # type: ignore[misc]

    async def stop(self, *, last_scrape: bool = False) -> None:
        """Ends everything without staleness markers: who stops may start again at once, as Prometheus sees it."""
        if self._sync_timer is not None:
            self._sync_timer.cancel()
            self._sync_timer = None
        tasks = [*self._discoveries, *self._endings, *[task for _, task in self._loops.values()]]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if last_scrape:
            await asyncio.gather(*[loop.scrape(clock.now_ns() // 1_000_000) for loop in self.loops])
        self._loops.clear()
        await self._client.stop()

    async def finish_scrapes(self, *, idle: bool = False) -> None:
        """Ends the loops that are scraping, when they are done, and with `idle` the others as well."""
        ending = [(loop, task) for loop, task in self._loops.values() if idle or loop.scraping]
        for loop, task in ending:
            loop.leave(task)
        await asyncio.gather(*[task for _, task in ending], return_exceptions=True)

    async def retire(self) -> None:
        """Ends a job that is no longer configured: its targets are gone, and series that no other job writes get staleness markers.

        Returns when the last staleness marker is written, which is up to two intervals later.
        """
        if self._sync_timer is not None:
            self._sync_timer.cancel()
            self._sync_timer = None
        loops, endings = list(self._loops.values()), list(self._endings)
        self._loops.clear()
        for loop, task in loops:
            loop.leave(task)
        discoveries = list(self._discoveries)
        for discovery in discoveries:
            discovery.cancel()
        try:
            await asyncio.gather(
                *discoveries, *endings, *[self._finish(loop, task) for loop, task in loops], return_exceptions=True
            )
        finally:
            for task in endings:
                task.cancel()
            await self._client.stop()

    def _spawn(self, work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> None:
        task = asyncio.ensure_future(work)
        tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._discoveries.discard(task)
        self._endings.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._log.error("job %s: %r", self.name, task.exception(), exc_info=task.exception())

    def _update(self, mechanism: int, groups: Sequence[Group]) -> None:
        first = not self._groups
        mine = self._allocation.mine
        for group in groups:
            targets = [target for target in group.targets if mine(target, group.labels)]
            if targets:
                kept = group if len(targets) == len(group.targets) else Group(group.source, targets, group.labels)
                self._groups[mechanism, group.source] = kept
            else:
                self._groups.pop((mechanism, group.source), None)
        if self._sync_timer is None:
            self._sync_timer = asyncio.get_running_loop().call_later(0 if first else SYNC_S, self._sync)

    def _sync(self) -> None:
        self._sync_timer = None
        built = self._build()
        targets = [target for _, found, _, _ in built for target in found]
        self.dropped = [dropped for _, _, left_out, _ in built for dropped in left_out]
        problems = [problem for _, _, _, wrong in built for problem in wrong]
        self.dropped_count = len(self.dropped)
        if self.job.keep_dropped_targets:
            del self.dropped[self.job.keep_dropped_targets :]
        if problems != self._complaints:
            self._complaints = problems
            for problem in problems[:5]:
                self._log.warning("job %s: %s", self.name, problem)
        wanted = {target.hash: target for target in targets}
        for key in [key for key in self._loops if key not in wanted]:
            loop, task = self._loops.pop(key)
            loop.leave(task)
            self._spawn(self._finish(loop, task), self._endings)
        limit = self.job.target_limit
        error = f"target_limit exceeded (number of targets: {len(wanted)}, limit: {limit})" if limit and len(wanted) > limit else ""
        for key, target in wanted.items():
            known = self._loops.get(key)
            if known is not None:
                known[0].target.discovered = target.discovered
                known[0].forced_error = error
                continue
            loop = ScrapeLoop(
                target,
                self.job,
                self._client,
                rules=self._sample_rules,
                external=self._external,
                emit=self._emit,
                log=self._log,
                trim_suffixes=self._trim,
                share=self._budgets.share(target.labels, target.discovered) if self._budgets is not None else None,
            )
            loop.forced_error = error
            self._loops[key] = loop, asyncio.ensure_future(self._keep(loop))

    async def _finish(self, loop: ScrapeLoop, running: asyncio.Task[None]) -> None:
        """Waits for the last scrape of a loop that leaves, then ends its series."""
        await asyncio.gather(running, return_exceptions=True)
        if loop.scraped_once:
            await loop.end(self._superseded)

    def _build(self) -> list[Built]:
        """Targets of all groups; a group that did not change is not relabelled again."""
        built = {}
        for key, group in self._groups.items():
            known = self._built.get(key)
            built[key] = (
                known if known is not None and known[0] is group else (group, *build_targets(self.job, self._target_rules, [group]))
            )
        self._built = built
        return list(built.values())

    async def _keep(self, loop: ScrapeLoop) -> None:
        """Runs a loop; an unexpected error is logged and must not end the target."""
        delay = self._delay
        while True:
            try:
                await loop.run(delay)
                return
            except Exception:
                self._log.exception("job %s: %s: the scrape loop failed and is started again", self.name, loop.target.url)
                delay = 0.0
                await asyncio.sleep(min(loop.target.interval, 1.0))
