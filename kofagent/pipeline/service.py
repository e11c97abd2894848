"""The running service: one graph, the agent's own telemetry, the memory budget, component statuses, reload."""

from __future__ import annotations

import asyncio
import logging
import socket
import uuid
from collections.abc import Callable, Hashable, Mapping, MutableMapping
from typing import Any

from kofagent import __version__
from kofagent.component.protocols import Context, Kubeconfig, R, StartError, in_role
from kofagent.config.errors import Problem
from kofagent.config.model import LoadedConfig
from kofagent.config.redact import without_secrets
from kofagent.memory import garbage
from kofagent.memory import usage as memory
from kofagent.memory.budget import Budget
from kofagent.pipeline.graph import Graph, StartErrors
from kofagent.pipeline.guard import Guard
from kofagent.pipeline.telemetry import OwnTelemetry
from kofagent.telemetry.ledger import Ledger

log = logging.getLogger("kofagent.service")

BUDGET_SHARE = 0.25
BUDGET_MAX = 256 * 1024 * 1024
"""Data waiting in memory may take a quarter of the available memory, at most this many bytes."""
WIND_DOWN_SECONDS = 60.0
"""A reload waits so long at most for what is under way, such as scrapes, which have time-outs of their own."""


class Service:
    """Runs a plan; implements `Host` for its components."""

    def __init__(
        self,
        plan: LoadedConfig,
        ledger: Ledger | None = None,
        *,
        kubeconfig: Kubeconfig | None = None,
        environ: MutableMapping[str, str] | None = None,
    ) -> None:
        """`environ` is where a plan's variables are set while it runs, since libraries and plugins read them there."""
        self.ledger = ledger or Ledger()
        self.plan = plan
        self.keep_retrying = plan.keep_retrying
        self.kubeconfig = kubeconfig
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
        self._environ: MutableMapping[str, str] = {} if environ is None else environ
        self._replaced: dict[str, str | None] = {}
        self._budget = Budget("in_flight", min(BUDGET_MAX, int(memory.total() * BUDGET_SHARE)))
        self._guard = Guard(plan.service.memory)
        self._status: dict[str, str | None] = {}
        self._shared: dict[Hashable, Any] = {}
        self._kept: dict[Hashable, Any] = {}
        self._wanted: set[Hashable] = set()  # of `_kept`, what the present components have asked for
        self._graph: Graph | None = None
        self._own: OwnTelemetry | None = None

    @property
    def graph(self) -> Graph:
        """The graph that runs; only after `start`."""
        assert self._graph is not None
        return self._graph

    async def start(self) -> None:
        """Builds and starts everything; StartErrors with all that is wrong, and then nothing runs."""
        problems: list[Problem] = []
        own = OwnTelemetry(self.plan.telemetry, Context("service", "telemetry", self))
        own.ready = False
        try:
            await own.start()
        except StartError as error:
            problems.append(Problem(("service", "telemetry"), str(error)))
        self._guard.start()
        try:
            await self._start_graph(self.plan)
        except StartErrors as errors:
            problems += errors.problems
        if problems:
            if self._graph is not None:
                await self._graph.stop()
                self._graph = None
            await own.stop()
            self._set_variables({})
            await self._guard.stop()
            raise StartErrors(problems)
        self._own = own
        own.ready = True
        log.info("everything is ready, running %d pipelines", len(self.plan.pipelines))

    async def _start_graph(self, plan: LoadedConfig) -> None:
        self._set_variables(plan.environment)
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
        Graph(plan, self).build()  # a configuration that cannot even be built does not stop the running one
        old = self.plan
        await self._wind_down(hurry or asyncio.Event())
        await self.graph.stop()
        try:
            self.keep_retrying = plan.keep_retrying
            await self._start_graph(plan)
        except StartErrors:
            self.keep_retrying = old.keep_retrying
            await self._start_graph(old)
            raise
        finally:
            self._kept = {key: value for key, value in self._kept.items() if key in self._wanted}
        self.plan = plan
        log.info("configuration reloaded, running %d pipelines", len(plan.pipelines))

    async def _wind_down(self, hurry: asyncio.Event) -> None:
        tasks = [asyncio.create_task(self.graph.wind_down()), asyncio.create_task(hurry.wait())]
        await asyncio.wait(tasks, timeout=WIND_DOWN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _set_variables(self, variables: Mapping[str, str]) -> None:
        """Sets these in place of those that were set before, which get their old values again."""
        for name, value in self._replaced.items():
            if value is None:
                self._environ.pop(name, None)
            else:
                self._environ[name] = value
        self._replaced = {name: self._environ.get(name) for name in variables}
        self._environ.update(variables)

    async def stop(self) -> None:
        """Drains and stops everything."""
        if self._graph is not None:
            await self._graph.stop()
            self._graph = None
        self._kept = {}
        if self._own is not None:
            await self._own.stop()
            self._own = None
        self._set_variables({})
        await self._guard.stop()

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

    def kept(self, key: Hashable, make: Callable[[], R]) -> R:
        """As `Host.kept`."""
        self._wanted.add(key)
        if key not in self._kept:
            self._kept[key] = make()
        found: R = self._kept[key]
        return found

    def reserve(self, size: int) -> bool:
        """As `Host.reserve`; a batch larger than the whole budget may pass alone."""
        return self._budget.reserve(size)

    def release(self, size: int) -> None:
        """As `Host.release`."""
        self._budget.release(size)

    def report(self, component: str, error: str | None) -> None:
        """As `Host.report`."""
        self._status[component] = None if error is None else without_secrets(error)

    def status(self) -> Mapping[str, str | None]:
        """As `Host.status`."""
        return self._status

    def describe(self) -> Mapping[str, Any]:
        """As `Host.describe`."""
        return self._graph.describe() if self._graph is not None else {"pipelines": {}, "extensions": []}


async def run_until(
    service: Service,
    stop: asyncio.Event,
    reload: asyncio.Event,
    read_plan: Callable[[], LoadedConfig],
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
