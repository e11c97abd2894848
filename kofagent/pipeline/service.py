"""The running service of one collector: its graph, its part of the ledger, component statuses, reload."""

from __future__ import annotations

import asyncio
import logging
import socket
import uuid
from collections.abc import Callable, Hashable, Mapping, MutableMapping
from typing import Any, Protocol, TypeVar

from kofagent import __version__
from kofagent.component.protocols import Context, Kubeconfig, R, in_role
from kofagent.config.errors import Problem
from kofagent.config.model import LoadedConfig
from kofagent.config.redact import without_secrets
from kofagent.memory import garbage
from kofagent.pipeline.graph import Graph, StartErrors
from kofagent.pipeline.process import Member, Process
from kofagent.telemetry.ledger import Ledger

log = logging.getLogger("kofagent.service")

WIND_DOWN_SECONDS = 60.0
"""A reload waits so long at most for what is under way, such as scrapes, which have time-outs of their own."""


class Service:
    """Runs a plan; implements `Host` for its components. Alone, or as one of several collectors of a `Process`."""

    def __init__(
        self,
        plan: LoadedConfig,
        ledger: Ledger | None = None,
        *,
        kubeconfig: Kubeconfig | None = None,
        environ: MutableMapping[str, str] | None = None,
        process: Process | None = None,
        collector: str = "",
    ) -> None:
        """`environ` is where a plan's variables are set while it runs, since libraries and plugins read them there.

        `process` and `collector` are the ones of a `Supervisor`, which then starts and stops what its services have in common.
        """
        self.ledger = ledger or Ledger()
        self.plan = plan
        self.keep_retrying = plan.keep_retrying
        self.kubeconfig = kubeconfig
        self.collector = collector
        self.resource: dict[str, str] = {
            "service.name": "kofagent",
            "service.version": __version__,
            "service.instance.id": str(uuid.uuid4()),
            "host.name": socket.gethostname(),
        }
        for key, value in plan.telemetry.resource.items():
            if value is None:
                self.resource.pop(key, None)
            else:
                self.resource[key] = str(value)
        if collector:
            self.resource["collector"] = collector
        self.process = process or Process(environ)
        self._alone = process is None
        self._status: dict[str, str | None] = {}
        self._shared: dict[Hashable, Any] = {}
        self._kept: dict[Hashable, Any] = {}
        self._wanted: set[Hashable] = set()  # of `_kept`, what the present components have asked for
        self._graph: Graph | None = None

    @property
    def graph(self) -> Graph:
        """The graph that runs; only after `start`."""
        assert self._graph is not None
        return self._graph

    @property
    def runs(self) -> bool:
        """False before `start`, and where neither a new configuration nor the old one could be started again."""
        return self._graph is not None

    def member(self) -> Member:
        """This collector, as the process sees it."""
        return Member(self.plan.telemetry, self.plan.service.memory, Context("service", "telemetry", self))

    async def start(self) -> None:
        """Builds and starts everything; StartErrors with all that is wrong, and then nothing runs."""
        problems: list[Problem] = []
        if self._alone and (failed := await self.process.start([self.member()])) is not None:
            problems.append(Problem(("service", "telemetry"), str(failed[1])))
        try:
            await self._start_graph(self.plan)
        except StartErrors as errors:
            problems += errors.problems
        if problems:
            await self.stop()
            raise StartErrors(problems)
        if self._alone:
            self.process.ready()
        log.info("%severything is ready, running %d pipelines", self._who(), len(self.plan.pipelines))

    def _who(self) -> str:
        return f"{self.collector}: " if self.collector else ""

    async def _start_graph(self, plan: LoadedConfig) -> None:
        self.process.variables.put(self, plan.environment)
        self.process.commons.leave(self)
        graph = Graph(plan, self)
        self._status = {}
        self._shared = {}
        self._wanted = set()
        self._graph = graph
        try:
            graph.build()
            await graph.start()
        except BaseException:
            self._graph = None
            raise

    async def reload(self, plan: LoadedConfig, hurry: asyncio.Event | None = None) -> None:
        """Stops the old graph and starts the new one; when that fails, the old configuration runs again and StartErrors is raised.

        What receivers have under way is ended first, such as scrapes, for WIND_DOWN_SECONDS at most and not once `hurry` is set.
        The ledger keeps its counts; `service.telemetry` stays as it was when the agent was started.
        """
        self.check(plan)
        await self.wind_down(hurry or asyncio.Event())
        await self.pause()
        try:
            await self.resume(plan)
        except StartErrors:
            await self.resume(self.plan)
            raise
        self.adopt(plan)

    def check(self, plan: LoadedConfig) -> None:
        """StartErrors when it cannot even be built; the running graph stays as it is."""
        Graph(plan, self).build()

    async def wind_down(self, hurry: asyncio.Event) -> None:
        """Ends what receivers have under way, for WIND_DOWN_SECONDS at most and not once `hurry` is set."""
        if self._graph is None:
            return
        tasks = [asyncio.create_task(self._graph.wind_down()), asyncio.create_task(hurry.wait())]
        await asyncio.wait(tasks, timeout=WIND_DOWN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def pause(self) -> None:
        """Drains and stops the pipelines; the ledger and what was learned from the data stay, for `resume`."""
        if self._graph is not None:
            await self._graph.stop()
            self._graph = None
        self.process.commons.leave(self)

    async def resume(self, plan: LoadedConfig) -> None:
        """Starts the pipelines of a plan; StartErrors, and then none run. `adopt` ends it where it stays."""
        before, self.keep_retrying = self.keep_retrying, plan.keep_retrying
        try:
            await self._start_graph(plan)
        except StartErrors:
            self.keep_retrying = before
            raise
        self._kept = {key: value for key, value in self._kept.items() if key in self._wanted}

    def adopt(self, plan: LoadedConfig) -> None:
        """The plan that has been resumed is the one of this service from now on."""
        self.plan = plan
        log.info("%sconfiguration reloaded, running %d pipelines", self._who(), len(plan.pipelines))

    async def stop(self) -> None:
        """Drains and stops everything."""
        await self.pause()
        self._kept = {}
        if self._alone:
            await self.process.stop()
        self.process.variables.put(self, {})

    # Host

    def extension(self, id: str, role: type[R]) -> R:
        """As `Host.extension`."""
        return in_role(self._graph.extensions.get(id) if self._graph is not None else None, id, role)

    def shared(self, key: Hashable, make: Callable[[], R]) -> R:
        """As `Host.shared`."""
        if key not in self._shared:
            self._shared[key] = make()
        found: R = self._shared[key]
        return found

    def common(self, key: Hashable, make: Callable[[], R]) -> R:
        """As `Host.common`."""
        return self.process.commons.get(self, key, make)

    def kept(self, key: Hashable, make: Callable[[], R]) -> R:
        """As `Host.kept`."""
        self._wanted.add(key)
        if key not in self._kept:
            self._kept[key] = make()
        found: R = self._kept[key]
        return found

    def reserve(self, size: int) -> bool:
        """As `Host.reserve`; a batch larger than the whole budget may pass alone."""
        return self.process.budget.reserve(size)

    def release(self, size: int) -> None:
        """As `Host.release`."""
        self.process.budget.release(size)

    def report(self, component: str, error: str | None) -> None:
        """As `Host.report`."""
        self._status[component] = None if error is None else without_secrets(error)

    def status(self) -> Mapping[str, str | None]:
        """As `Host.status`."""
        return self._status

    def describe(self) -> Mapping[str, Any]:
        """As `Host.describe`."""
        return self._graph.describe() if self._graph is not None else {"pipelines": {}, "extensions": []}


P_contra = TypeVar("P_contra", contravariant=True)


class Reloads(Protocol[P_contra]):
    """A service, or several."""

    async def reload(self, plan: P_contra, hurry: asyncio.Event | None = None) -> None:
        """Runs the new plan in place of the old one; when that fails, the old one runs again and the error is raised."""
        ...


async def run_until(
    service: Reloads[P_contra],
    stop: asyncio.Event,
    reload: asyncio.Event,
    read_plan: Callable[[], P_contra],
    explain: Callable[[Exception], str],
) -> None:
    """Runs a started service until `stop`; `reload` reads the configuration again and keeps the old one if it is invalid."""
    while not stop.is_set():
        waits = [asyncio.create_task(stop.wait()), asyncio.create_task(reload.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in waits:
            task.cancel()
        if reload.is_set() and not stop.is_set():
            reload.clear()
            try:
                await service.reload(read_plan(), stop)
            except Exception as error:
                log.error("the new configuration is refused, the old one stays in use:\n%s", explain(error))
            garbage.settle()
