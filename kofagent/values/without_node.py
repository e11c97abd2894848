"""Targets without a node, which upstream's target allocator gives to the agents of nodes by consistent hashing.

An agent of a node scrapes the targets of its own node and knows nothing of the others (`prometheus.allocation`). What has no node
is therefore scraped by the collector that runs once in a cluster: it gets the pipelines that such targets would have gone through,
with all that these name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kofagent.config.errors import Problem
from kofagent.config.tree import Node, node_of

_ONCE = ("deployment", "statefulset")
_LISTS = ("receivers", "processors", "exporters")
_EXTENSIONS = (("storage",), ("sending_queue", "storage"), ("auth", "authenticator"))


def collector_for(modes: dict[str, str]) -> str | None:
    """The collector that scrapes targets without a node, of these with their modes: `cluster`, else the first one."""
    once = [key for key, mode in modes.items() if mode in _ONCE]
    return "cluster" if "cluster" in once else next(iter(once), None)


def divided(config: Node) -> str | None:
    """The receiver of a configuration that scrapes the targets of its own node only; None if there is none."""
    for id in _names(config, "receivers"):
        strategy = config.get("receivers", id, "allocation", "strategy")
        if id.partition("/")[0] == "prometheus" and strategy is not None and strategy.value == "per-node":
            return id
    return None


def scraped_by_nobody(key: str, config: Node) -> Problem | None:
    """The warning of a collector whose targets without a node no other scrapes."""
    id = divided(config)
    if id is None:
        return None
    origin = config.value["receivers"].value[id].value["allocation"].origin
    message = "scrapes the targets of its node, and no collector is there for those that have none"
    hint = "enable collectors.cluster, or another whose mode is deployment"
    return Problem(("receivers", id, "allocation"), message, hint, origin.place, warning=True)


def add(config: Node, key: str, other: Node) -> bool:
    """Adds to `config` what the collector `key` with the configuration `other` would have done with its targets without a node.

    Components that both have alike are shared; those that differ get the name of the collector behind theirs. False if there is
    nothing to add.
    """
    id = divided(other)
    if id is None or config.get("service", "pipelines") is None:
        return False
    copy = _Copy(config, key, other)
    receiver = other.value["receivers"].value[id].copy()
    receiver.value.pop("api_server", None)  # the targets of this collector's node are there
    allocation = receiver.value["allocation"]
    allocation.value = node_of({"strategy": "without-node"}, allocation.origin).value
    name = f"{id}/{key}"
    if not copy.pipelines_from(id, name):
        return False
    copy.define("receivers", name, receiver)
    return True


class _Copy:
    """The components and pipelines of one collector on their way into the configuration of another."""

    def __init__(self, config: Node, key: str, other: Node) -> None:
        self._config = config
        self._key = key
        self._other = other

    def pipelines_from(self, receiver: str, name: str) -> bool:
        """Copies the pipelines that receive from `receiver`, which is called `name` there; False if there are none."""
        found = False
        pipelines = self._other.get("service", "pipelines") or Node({})
        for id in pipelines.names():
            pipeline = pipelines.value[id]
            if receiver in _entries(pipeline, "receivers"):
                found = True
                self._pipeline(id, pipeline, name)
        return found

    def _pipeline(self, id: str, pipeline: Node, receiver: str) -> None:
        signal, _, own = id.partition("/")
        new = f"{signal}/{own}/{self._key}" if own else f"{signal}/{self._key}"
        there = self._config.value["service"].value["pipelines"].value
        if new in there:  # a connector leads here by a second way
            there[new].value["receivers"].value.append(Node(receiver, pipeline.origin))
            return
        copy = Node({"receivers": Node([Node(receiver, pipeline.origin)], pipeline.origin)}, pipeline.origin)
        there[new] = copy
        for kind in ("processors", "exporters"):
            names = pipeline.get(kind)
            if names is not None and names.is_list:
                entries = [Node(self._component(kind, str(item.value)), item.origin) for item in names.value]
                copy.value[kind] = Node(entries, names.origin)

    def _component(self, kind: str, id: str) -> str:
        """The name of a component of the other collector here, where it is defined if it was not."""
        if kind == "exporters" and id not in _names(self._other, kind) and id in _names(self._other, "connectors"):
            name = f"{id}/{self._key}"
            if name not in _names(self._config, "connectors"):
                self.define("connectors", name, self._other.value["connectors"].value[id].copy())
                self.pipelines_from(id, name)
            return name
        node = self._other.get(kind, id)
        return id if node is None else self._shared(kind, id, node)

    def _shared(self, kind: str, id: str, node: Node) -> str:
        copy = node.copy()
        for way in _EXTENSIONS:
            used = copy.get(*way)
            extension = self._other.get("extensions", str(used.value)) if used is not None else None
            if used is not None and extension is not None:
                used.value = self._shared("extensions", str(used.value), extension)
                self._start(used)
        mine = self._config.get(kind, id)
        if mine is not None and mine.plain() == copy.plain():
            return id
        name = id if mine is None else f"{id}/{self._key}"
        self.define(kind, name, copy)
        return name

    def _start(self, extension: Node) -> None:
        service = self._config.value["service"].value
        names = service.setdefault("extensions", Node([], extension.origin))
        if names.is_list and extension.value not in [item.value for item in names.value]:
            names.value.append(Node(extension.value, replace(extension.origin, layer="generated", note="its use")))

    def define(self, kind: str, id: str, node: Node) -> None:
        """Puts a component into the configuration."""
        section = self._config.value.setdefault(kind, Node({}, node.origin))
        if not section.is_map:
            section.value = {}
        section.value[id] = node


def _names(config: Node, kind: str) -> list[str]:
    section = config.get(kind)
    return section.names() if section is not None and section.is_map else []


def _entries(pipeline: Node, kind: str) -> Iterator[str]:
    found = pipeline.get(kind)
    return (str(item.value) for item in (found.value if found is not None and found.is_list else []))
