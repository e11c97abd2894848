"""Several collectors in one process: each a `Service` with its own graph and ledger, started, reloaded and stopped together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel

from kofagent.component.protocols import Kubeconfig
from kofagent.config.errors import Problem
from kofagent.config.model import LoadedConfig
from kofagent.pipeline.graph import StartErrors
from kofagent.pipeline.process import Process
from kofagent.pipeline.service import Service

log = logging.getLogger("kofagent.service")

Plans = Mapping[str, LoadedConfig]
"""The configurations of collectors by their names, in the order in which they were asked for."""


class CollectorErrors(StartErrors):
    """What keeps collectors from running: problems at their lines, each with the name of its collector."""


class Supervisor:
    """Runs the collectors of `plans`. What they have in common is that of one `Process`."""

    def __init__(
        self, plans: Plans, *, kubeconfig: Kubeconfig | None = None, environ: MutableMapping[str, str] | None = None
    ) -> None:
        """`environ` as that of a `Service`."""
        self.process = Process(environ)
        self.services = {
            name: Service(plan, kubeconfig=kubeconfig, process=self.process, collector=name) for name, plan in plans.items()
        }

    async def start(self) -> None:
        """Starts all; CollectorErrors with what is wrong with any of them, and then none runs."""
        services = self.services
        problems: list[Problem] = []
        if (failed := await self.process.start([service.member() for service in services.values()])) is not None:
            context, error = failed
            plan = services[context.host.collector].plan
            problems += _placed(context.host.collector, plan, [Problem(("service", "telemetry"), str(error))])
        problems += await self._start({name: service.plan for name, service in services.items()})
        if problems:
            await self.stop()
            raise CollectorErrors(problems)
        self.process.ready()
        log.info("everything is ready, running %d collectors: %s", len(services), ", ".join(services))

    async def reload(self, plans: Plans, hurry: asyncio.Event | None = None) -> None:
        """Runs the new configurations of collectors whose configuration has changed, or that do not run; others do not notice.

        When one cannot run, all old ones run again and CollectorErrors is raised. Otherwise as `Service.reload`.
        """
        services = self.services
        changed = {name: plan for name, plan in plans.items() if not (services[name].runs and same(plan, services[name].plan))}
        if not changed:
            log.info("no configuration has changed")
            return
        problems: list[Problem] = []
        for name, plan in changed.items():
            try:
                self.services[name].check(plan)
            except StartErrors as errors:
                problems += _placed(name, plan, errors.problems)
        if problems:
            raise CollectorErrors(problems)
        those = [services[name] for name in changed]
        hurry = hurry or asyncio.Event()
        await asyncio.gather(*[service.wind_down(hurry) for service in those])
        await asyncio.gather(*[service.pause() for service in those])
        if problems := await self._start(changed):
            await asyncio.gather(*[service.pause() for service in those])
            if again := await self._start({name: self.services[name].plan for name in changed}):
                log.error("the old configuration does not start again either: %s", "; ".join(map(str, again)))
            raise CollectorErrors(problems)
        for name, plan in changed.items():
            self.services[name].adopt(plan)

    async def stop(self) -> None:
        """Drains and stops everything."""
        await asyncio.gather(*[service.stop() for service in self.services.values()])
        await self.process.stop()

    async def _start(self, plans: Plans) -> list[Problem]:
        """One after the other, since each reads its own variables of the environment while it starts; what is wrong with them."""
        problems: list[Problem] = []
        for name, plan in plans.items():
            try:
                await self.services[name].resume(plan)
            except StartErrors as errors:
                problems += _placed(name, plan, errors.problems)
        return problems


def same(one: LoadedConfig, other: LoadedConfig) -> bool:
    """Whether two configurations run the same."""
    parts = ((c.components, c.service, c.keep_retrying, dict(c.environment)) for c in (one, other))
    return _equal(*parts)


def _equal(one: Any, other: Any) -> bool:
    """Whether options have equal values. What they were compiled to is not compared: it is made of them, and never equal."""
    if type(one) is not type(other):
        return False
    if isinstance(one, BaseModel):
        return all(_equal(getattr(one, name), getattr(other, name)) for name in type(one).model_fields)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)


def _placed(collector: str, plan: LoadedConfig, problems: Iterable[Problem]) -> list[Problem]:
    return [named(plan.placed(problem), [collector]) for problem in problems]


def named(problem: Problem, collectors: Sequence[str]) -> Problem:
    """A problem that says which collectors have it."""
    return replace(problem, message=f"{', '.join(collectors)}: {problem.message}")


def of_several(found: Mapping[str, Iterable[Problem]]) -> list[Problem]:
    """The problems of several collectors, in their order; one that several have is there once, with the names of all."""
    who: dict[str, tuple[Problem, list[str]]] = {}
    for collector, problems in found.items():
        for problem in problems:
            names = who.setdefault(str(problem), (problem, []))[1]
            if collector not in names:
                names.append(collector)
    return [named(problem, names) for problem, names in who.values()]
