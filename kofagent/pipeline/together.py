"""What would clash where several collectors run in one process, and how it is told apart: ports, directories, variables.

Of the collector at index i of the list (from 0), a listener whose address an earlier collector has moves to the port 10000 * i
higher. Own metrics, Prometheus' API about targets and `health_check` do not move: equal ones are one server that answers for all,
at the address of the first. Listeners of one collector among themselves stay as they are written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel

from kofagent.component import registry
from kofagent.config.address import join_endpoint, split_endpoint
from kofagent.config.blocks import ListenBlock
from kofagent.config.errors import Path, Problem, show_path
from kofagent.config.model import LoadedConfig, MetricReader, PrometheusReader, PullExporter, PullReader
from kofagent.config.tree import Node, node_of
from kofagent.pipeline.supervisor import Plans, named

STEP = 10_000
"""Ports between those of one collector of the list and of the next."""
HIGHEST = 65535
_ALL = ("", "0.0.0.0", "::")  # noqa: S104 - compared, not bound
OWN_METRICS = "own metrics"


@dataclass
class Together:
    """What was made of the configurations, for their user."""

    notes: list[str] = field(default_factory=list)
    """What runs otherwise than it is written, a sentence each."""
    problems: list[Problem] = field(default_factory=list)
    """What cannot run together."""
    changes: dict[str, list[tuple[Path, Any, str]]] = field(default_factory=dict)
    """What is written where in the configuration of a collector, and why, for `written`."""

    def change(self, collector: str, path: Path, value: Any, why: str) -> None:
        """Notes a change."""
        self.changes.setdefault(collector, []).append((path, value, why))


@dataclass
class Listener:
    """An address that a collector listens on."""

    collector: str
    path: Path
    network: str
    host: str
    """Empty, with `port` 0, for the path of a Unix socket, which is then in `endpoint`."""
    port: int
    endpoint: str
    group: tuple[str, Any] | None
    """Those of several collectors with the same group can be one; None: with nobody."""
    put: Callable[[str, int], None]
    written: str
    """The host as it is written, with references."""
    writes: Callable[[str, int], list[tuple[Path, Any]]]
    """What an address is in the text of the configuration, of a host as it is written and a port."""

    def move(self, host: str, port: int) -> None:
        """Changes the address in the options."""
        self.put(host, port)
        self.host, self.port, self.endpoint = host, port, join_endpoint(host, port)

    def clashes(self, other: Listener, port: int | None = None) -> bool:
        """Whether both cannot be had at once; `port` in place of its own. Any free port (0) never clashes."""
        port = self.port if port is None else port
        if self.network == "unix" or other.network == "unix":
            return self.network == other.network and os.path.normpath(self.endpoint) == os.path.normpath(other.endpoint)
        if self.network != other.network or not port or port != other.port:
            return False
        mine, theirs = _host(self.host), _host(other.host)
        return mine == theirs or "" in (mine, theirs)


def tell_apart(plans: Plans) -> Together:
    """Changes the configurations so that they run together. Of those with problems some may be changed as well."""
    out = Together()
    _ports(plans, out)
    _directories(plans, out)
    _environment(plans, out)
    return out


def _ports(plans: Plans, out: Together) -> None:
    taken: list[Listener] = []
    for index, (name, plan) in enumerate(plans.items()):
        own = list(listeners(name, plan))
        for one in own if index else ():
            other = next((each for each in taken if one.clashes(each)), None)
            if other is None:
                continue
            what, whose = show_path(one.path), f"{show_path(other.path)} of {other.collector}"
            joined = next((e for e in taken if one.clashes(e) and one.group is not None and one.group == e.group), None)
            if joined is not None:
                at = "" if joined.endpoint == one.endpoint else f" instead of {one.endpoint}"
                out.notes.append(f"{name}: {what} is one with that of {joined.collector}, at {joined.endpoint}{at}")
                one.move(joined.host, joined.port)
                for path, value in one.writes(joined.written, joined.port):
                    out.change(name, path, value, f"one with that of {joined.collector}")
                continue
            port = one.port + STEP * index
            if one.network == "unix" or port > HIGHEST or any(one.clashes(e, port) for e in (*taken, *own) if e is not one):
                instead = "" if one.network == "unix" else f", and port {port} cannot be had instead"
                place = plans[other.collector].placed(Problem(other.path, "")).place
                problem = Problem(one.path, f"{one.endpoint} is taken by {whose} ({place}){instead}", "give one of them another")
                out.problems.append(named(plan.placed(problem), [name]))
                continue
            moved = join_endpoint(one.host, port)
            out.notes.append(f"{name}: {what} listens on {moved} instead of {one.endpoint}, which {whose} has")
            one.move(one.host, port)
            for path, value in one.writes(one.written, port):
                out.change(name, path, value, f"{other.collector} has port {other.port}")
        taken += own


def listeners(name: str, plan: LoadedConfig) -> Iterator[Listener]:
    """Every address that a collector listens on: receivers, extensions, own metrics."""
    used = dict.fromkeys(id for pipeline in plan.pipelines.values() for id in pipeline.receivers)
    for kind, ids in (("receivers", used), ("extensions", dict.fromkeys(plan.extensions))):
        for id in ids:
            if id in plan.components.get(kind, {}):
                type = registry.resolve(kind, registry.type_of(id)) or id
                yield from _blocks(name, plan, plan.components[kind][id], (kind, id), type)
    yield from _own_metrics(name, plan)


def _blocks(name: str, plan: LoadedConfig, options: Any, path: Path, type: str) -> Iterator[Listener]:
    """The blocks in options that say where to listen. What is not enabled does not listen."""
    if isinstance(options, ListenBlock):
        if (listener := _of_block(name, plan, options, path, type)) is not None:
            yield listener
    elif isinstance(options, BaseModel):
        if getattr(options, "enabled", True) is False:
            return
        for key, option in options.__class__.model_fields.items():
            yield from _blocks(name, plan, getattr(options, key), (*path, option.alias or key), type)
    elif isinstance(options, dict):
        for key, value in options.items():
            yield from _blocks(name, plan, value, (*path, key), type)
    elif isinstance(options, list):
        for index, value in enumerate(options):
            yield from _blocks(name, plan, value, (*path, index), type)


def _of_block(name: str, plan: LoadedConfig, block: Any, path: Path, type: str) -> Listener | None:
    group = None
    if block.joins is not None and block.auth is None:
        group = (type, block.model_dump(exclude={"endpoint", *block.joins}))
    if getattr(block, "transport", "") == "unix":
        return Listener(name, path, "unix", "", 0, block.endpoint, None, lambda *_: None, "", lambda *_: [])
    try:
        host, port = split_endpoint(block.endpoint)
    except ValueError:
        return None  # an error of its own

    def put(host: str, port: int) -> None:
        block.endpoint = join_endpoint(host, port)

    def writes(host: str, port: int) -> list[tuple[Path, Any]]:
        return [((*path, "endpoint"), f"{host}:{port}")]

    written = _host_as_written(plan, (*path, "endpoint"), block.endpoint)
    return Listener(name, path, block.network, host, port, block.endpoint, group, put, written, writes)


def _host_as_written(plan: LoadedConfig, path: Path, endpoint: str) -> str:
    """The part of an endpoint before the port, as the text of the configuration has it."""
    host, _, port = endpoint.rpartition(":")
    node = plan.root.get(*path)
    text = node.value if node is not None and isinstance(node.value, str) else ""
    return text.removesuffix(f":{port}") if text.endswith(f":{port}") else host


def _own_metrics(name: str, plan: LoadedConfig) -> Iterator[Listener]:
    metrics, path = plan.telemetry.metrics, ("service", "telemetry", "metrics")
    if metrics.level.lower() == "none":
        return
    unset = metrics.readers is None and not metrics.address
    if unset:
        # the default, written out so that it can be changed
        reader = PrometheusReader(host="localhost", port=8888)
        metrics.readers = [MetricReader(pull=PullReader(exporter=PullExporter(prometheus=reader)))]
    if metrics.address:

        def put(host: str, port: int) -> None:
            metrics.address = join_endpoint(host, port)

        host, port = split_endpoint(metrics.address)
        at = (*path, "address")
        written = _host_as_written(plan, at, metrics.address)
        yield _of_page(name, at, host, port, PrometheusReader(), put, written, lambda host, port: [(at, f"{host}:{port}")])
    for index, each in enumerate(metrics.readers or []):
        if each.pull is not None and each.pull.exporter.prometheus is not None:
            yield _of_reader(name, plan, (*path, "readers"), index, each.pull.exporter.prometheus, unset)


def _of_reader(name: str, plan: LoadedConfig, readers: Path, index: int, page: PrometheusReader, unset: bool) -> Listener:
    at = (*readers, index, "pull", "exporter", "prometheus")

    def put(host: str, port: int) -> None:
        page.host, page.port = host, port

    def writes(host: str, port: int) -> list[tuple[Path, Any]]:
        host = host.removeprefix("[").removesuffix("]")
        if unset:
            return [(readers, [{"pull": {"exporter": {"prometheus": {"host": host, "port": port}}}}])]
        return [((*at, "host"), host), ((*at, "port"), port)]

    node = plan.root.get(*at, "host")
    written = node.value if node is not None and isinstance(node.value, str) and "$" in node.value else page.host
    return _of_page(name, at, page.host, page.port, page, put, f"[{written}]" if ":" in page.host else written, writes)


def _of_page(
    name: str,
    path: Path,
    host: str,
    port: int,
    page: PrometheusReader,
    put: Callable[[str, int], None],
    written: str,
    writes: Callable[[str, int], list[tuple[Path, Any]]],
) -> Listener:
    group = (OWN_METRICS, page.model_dump(exclude={"host", "port"}))
    return Listener(name, path, "tcp", host, port, join_endpoint(host, port), group, put, written, writes)


def written(root: Node, changes: Sequence[tuple[Path, Any, str]]) -> Node:
    """The text of a configuration with the changes of a collector."""
    root = root.copy()
    for path, value, why in changes:
        node, origin = root, replace(root.nearest(path).origin, layer="generated", note=why)
        for part in path[:-1]:
            child = node.child(part)
            if child is None or child.value is None:
                child = node.value[part] = Node({}, origin)
            node = child
        node.value[path[-1]] = node_of(value, origin)
    return root


def _host(host: str) -> str:
    """One word for each address: empty for all of the machine."""
    return "" if host in _ALL else "127.0.0.1" if host.lower() == "localhost" else host.lower()


def _directories(plans: Plans, out: Together) -> None:
    """A directory of `file_storage` that an earlier collector has is one below it: components of both may have the same names."""
    taken: dict[str, str] = {}
    for name, plan in plans.items():
        own: dict[str, str] = {}
        for id in plan.extensions:
            options: Any = plan.components.get("extensions", {}).get(id)
            if options is None or registry.resolve("extensions", registry.type_of(id)) != "file_storage":
                continue
            directory = os.path.abspath(options.directory)
            if directory in taken:
                below = os.path.join(directory, name)
                whose = f"{directory} is that of {taken[directory]}"
                out.notes.append(f"{name}: extensions.{id} keeps its files in {below}, since {whose}")
                options.directory, options.create_directory = below, True
                for option, value in (("directory", below), ("create_directory", True)):
                    out.change(name, ("extensions", id, option), value, f"{directory} is {taken[directory]}")
                directory = below
            own[directory] = f"extensions.{id} of {name}"
        taken = {**own, **taken}


def _environment(plans: Plans, out: Together) -> None:
    """Variables are those of the process; a collector reads its own while it starts, and in its configuration."""
    first: dict[str, tuple[str, str]] = {}
    for name, plan in plans.items():
        for variable, value in plan.environment.items():
            other, known = first.setdefault(variable, (name, value))
            if known != value:
                out.notes.append(
                    f"{name}: the environment variable {variable} differs from that of {other}; each collector reads its own "
                    "while it starts, and all read the same one later"
                )
    logs = [(name, plan.telemetry.logs.model_dump(exclude={"level"})) for name, plan in plans.items()]
    for name, options in logs[1:]:
        if options != logs[0][1]:
            out.notes.append(
                f"{name}: service.telemetry.logs is not used but for the level: the log is written as {logs[0][0]} says"
            )
