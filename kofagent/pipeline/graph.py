"""Components of a validated configuration: connected, started and stopped in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from kofagent.component import registry
from kofagent.component.protocols import (
    ColumnsConsumer,
    Component,
    Connector,
    Context,
    Exporter,
    Extension,
    Host,
    Processor,
    Receiver,
    StartError,
)
from kofagent.config.errors import Path, Problem
from kofagent.config.model import LoadedConfig
from kofagent.net.os_errors import os_reason
from kofagent.pipeline.fanout import entry, fan_out
from kofagent.telemetry.signal import Signal

log = logging.getLogger("kofagent.graph")


class StartErrors(StartError):
    """Everything that kept the components from starting, with the paths of the components in the configuration."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(map(str, problems)))


def signal_of(pipeline: str) -> Signal:
    """The signal in a pipeline's name: `logs` of `logs/audit`."""
    return Signal(pipeline.split("/", 1)[0])


class Graph:
    """All components of one configuration. `start` once, `stop` once."""

    def __init__(self, plan: LoadedConfig, host: Host) -> None:
        self._plan = plan
        self._host = host
        self.extensions: dict[str, Extension[Any]] = {}
        self.receivers: dict[str, Receiver[Any]] = {}
        self.exporters: dict[str, Exporter[Any]] = {}
        self.connectors: dict[str, Connector[Any]] = {}
        self.processors: dict[str, list[Processor[Any]]] = {}  # by pipeline, in order
        self.heads: dict[str, ColumnsConsumer] = {}  # what receivers hand their data to, by pipeline
        self._started: list[tuple[Path, Component[Any]]] = []

    def build(self) -> None:
        """Creates and connects all components, without any I/O. StartErrors names all that cannot be created."""
        problems: list[Problem] = []
        plan = self._plan
        for id in plan.extensions:
            self._make("extensions", id, self.extensions, problems)
        connectors = set(plan.components.get("connectors", {}))
        for pipeline in plan.pipelines.values():
            for id in pipeline.exporters:
                into: dict[str, Any] = self.connectors if id in connectors else self.exporters
                if id not in into:
                    self._make("connectors" if id in connectors else "exporters", id, into, problems)
            for id in pipeline.receivers:
                if id in connectors:
                    if id not in self.connectors:
                        self._make("connectors", id, self.connectors, problems)
                elif id not in self.receivers:
                    self._make("receivers", id, self.receivers, problems)
        for name, pipeline in plan.pipelines.items():
            chain: list[Processor[Any]] = []
            for id in pipeline.processors:
                made: dict[str, Processor[Any]] = {}
                self._make("processors", id, made, problems)
                if id in made:
                    made[id].signal, made[id].pipeline = signal_of(name), name
                    chain.append(made[id])
            self.processors[name] = chain
        if problems:
            raise StartErrors(problems)
        self._wire()

    def _make(self, kind: str, id: str, into: dict[str, Any], problems: list[Problem]) -> None:
        try:
            cls = registry.load(kind, registry.type_of(id))
            into[id] = cls(self._plan.components[kind][id], Context(kind[:-1], id, self._host))
        except (StartError, ValueError) as error:
            problems.append(Problem((kind, id), str(error)))

    def _find(self, kind: str, id: str, pipeline: str) -> Component[Any] | None:
        if id in self.connectors:
            return self.connectors[id]
        if kind == "processors":
            return next((p for p in self.processors[pipeline] if p.context.id == id), None)
        return (self.receivers if kind == "receivers" else self.exporters).get(id)

    def _wire(self) -> None:
        for name, pipeline in self._plan.pipelines.items():
            ends = [self.connectors.get(id) or self.exporters[id] for id in pipeline.exporters]
            drop = partial(self._host.ledger.dropped, name, signal_of(name))
            head = entry(ends, signal_of(name), drop)
            for processor in reversed(self.processors[name]):
                processor.next = head
                head = entry([processor], processor.signal, drop)
            self.heads[name] = head
        for id, receiver in self.receivers.items():
            heads: dict[Signal, list[ColumnsConsumer]] = {}
            for name, pipeline in self._plan.pipelines.items():
                if id in pipeline.receivers:
                    heads.setdefault(signal_of(name), []).append(self.heads[name])
            receiver.outputs = {signal: fan_out(consumers) for signal, consumers in heads.items()}
        for id, connector in self.connectors.items():
            connector.outputs = {name: self.heads[name] for name, p in self._plan.pipelines.items() if id in p.receivers}

    async def start(self) -> None:
        """Extensions, exporters, connectors, processors, receivers; every failure is collected, then all is stopped again."""
        problems: list[Problem] = []
        order: list[tuple[Path, Component[Any]]] = [(("extensions", i), c) for i, c in self.extensions.items()]
        order += [(("exporters", i), c) for i, c in self.exporters.items()]
        order += [(("connectors", i), c) for i, c in self.connectors.items()]
        order += [(("processors", p.context.id), p) for chain in self.processors.values() for p in reversed(chain)]
        order += [(("receivers", i), c) for i, c in self.receivers.items()]
        for path, component in order:
            self._started.append((path, component))
            try:
                await component.start()
            except StartError as error:
                problems.append(Problem(path, str(error)))
            except OSError as error:
                problems.append(Problem(path, os_reason(error)))
            else:
                component.context.report(None)
        if problems:
            await self.stop()
            raise StartErrors(problems)
        for extension in self.extensions.values():
            extension.pipelines_ready()

    async def wind_down(self) -> None:
        """Returns when no receiver has anything under way that a `stop` would lose; everything else runs on meanwhile."""
        receivers = list(self.receivers.values())
        for receiver, error in zip(
            receivers, await asyncio.gather(*[r.wind_down() for r in receivers], return_exceptions=True), strict=True
        ):
            if error is not None:
                receiver.context.log.error("failed while winding down: %r", error)

    async def stop(self, seconds: float = 9.0) -> None:
        """Receivers stop taking data, then each pipeline passes on what it holds, exporters drain, extensions stop last."""
        deadline = asyncio.get_running_loop().time() + seconds
        for extension in self.extensions.values():
            extension.pipelines_stopping()
        await self._stop_all(self.receivers.values(), deadline - 0.6 * seconds)
        left = dict(self.connectors)
        for name in self._pipelines_downstream():
            # The pipelines that end in these have stopped; what they hold passes through this one.
            feeding = [left.pop(id) for id in self._plan.pipelines[name].receivers if id in left]
            await self._stop_all(feeding, deadline - 0.5 * seconds)
            for processor in self.processors[name]:
                await self._stop_all([processor], deadline - 0.5 * seconds)
        await self._stop_all(left.values(), deadline - 0.5 * seconds)
        await self._stop_all(self.exporters.values(), deadline)
        await self._stop_all(self.extensions.values(), deadline + 0.5)

    def _pipelines_downstream(self) -> list[str]:
        """Pipelines with those that feed others through connectors before the ones they feed."""
        order: list[str] = []

        def visit(name: str, seen: tuple[str, ...]) -> None:
            if name in order or name in seen:
                return
            for id in self._plan.pipelines[name].receivers:
                if id in self.connectors:
                    for other, pipeline in self._plan.pipelines.items():
                        if id in pipeline.exporters:
                            visit(other, (*seen, name))
            order.append(name)

        for name in self._plan.pipelines:
            visit(name, ())
        return order

    async def _stop_all(self, components: Iterable[Component[Any]], deadline: float) -> None:
        async def stop(component: Component[Any]) -> None:
            try:
                async with asyncio.timeout_at(deadline):
                    await component.stop()
            except TimeoutError:
                component.context.log.warning("did not stop in time; what it still held stays with its senders")
            except Exception:
                component.context.log.exception("failed while stopping")

        await asyncio.gather(*[stop(c) for c in components])

    def describe(self) -> dict[str, Any]:
        """Pipelines and components as plain data."""
        return {
            "pipelines": {
                name: {"receivers": list(p.receivers), "processors": list(p.processors), "exporters": list(p.exporters)}
                for name, p in self._plan.pipelines.items()
            },
            "extensions": list(self._plan.extensions),
        }

    def explain(self, pipeline: str) -> str:
        """The compiled chain of a pipeline, component by component."""
        plan = self._plan.pipelines[pipeline]
        out = [f"# pipeline {pipeline}"]
        for kind, ids in (("receivers", plan.receivers), ("processors", plan.processors), ("exporters", plan.exporters)):
            for id in ids:
                component = self._find(kind, id, pipeline)
                assert component is not None
                form = "columns and OTLP bytes" if isinstance(component, ColumnsConsumer) else "OTLP bytes"
                takes = "" if kind == "receivers" else f", takes {form}"
                out.append(f"\n# {component.context.kind} {id} ({type(component).__module__}{takes})")
                if explained := component.explain():
                    out.append(explained)
        return "\n".join(out) + "\n"
