"""A collector of opentelemetry-kube-stack from the values of a release: Helm's layers, `defaultCRConfig`, presets.

    user's files > kof-collectors > the chart's own values    Helm: maps merge, lists and scalars replace
    collectors.NAME > defaultCRConfig                         the same, and what is false, empty or null replaces as well
    configuration > presets                                   a preset is beneath what was written

A null of the first line deletes its key where the chart's own values have it, so that it is inherited from `defaultCRConfig`; any
other stays, wins over `defaultCRConfig` and stands in the result (Helm 3.17.1 and later).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from kofagent.config.errors import ConfigErrors, Path, suggest
from kofagent.config.merge import Deleted, merge_files
from kofagent.config.tree import Node
from kofagent.values.model import CONFIG_SECTIONS
from kofagent.values.presets import append_scrape_file, apply_presets, truthy
from kofagent.values.versions import read, stack_defaults
from kofagent.values.workload import environment, fields, object_name


@dataclass
class Stack:
    """The values of a release with all layers beneath them."""

    values: Node
    """Below `opentelemetry-kube-stack`."""
    deleted: list[Deleted] = field(default_factory=list)

    def names(self) -> list[str]:
        """The collectors that are there and turned on."""
        found = self.values.get("collectors") or Node({})
        return [name for name in found.names() if truthy(found.value[name].child("enabled"))]

    def modes(self) -> dict[str, str]:
        """The mode of each of them."""
        out = {}
        for name in self.names():
            mode = self.values.get("collectors", name, "mode") or self.values.get("defaultCRConfig", "mode")
            out[name] = str(mode.value) if mode is not None else ""
        return out


@dataclass
class Collector:
    """One OpenTelemetryCollector as the chart renders it."""

    name: str
    mode: str
    config: Node
    env: Node
    fields: dict[str, Any]
    values: Node
    """`collectors.NAME` over `defaultCRConfig`."""
    deleted: list[Deleted]


def lay(user: Node, version: str) -> Stack:
    """The layers of the first line. `user` is what stands below `opentelemetry-kube-stack` in the user's files."""
    below, chart = merge_files([stack_defaults(version), user]), read("sub_chart", "chart")
    deleted: list[Deleted] = []
    below.value.pop("global", None)
    _coalesce(below, chart, (), deleted)
    return Stack(below, deleted)


def _coalesce(over: Node, chart: Node, path: Path, deleted: list[Deleted]) -> None:
    """Fills in what only the chart has, and deletes the nulls over what it has."""
    for key, theirs in chart.value.items():
        ours = over.value.get(key)
        if ours is None:
            over.value[key] = theirs.copy()
        elif ours.value is None:
            deleted.append(Deleted((*path, key), ours.origin, theirs.origin))
            del over.value[key]
        elif ours.is_map and theirs.is_map:
            _coalesce(ours, theirs, (*path, key), deleted)


def render(stack: Stack, key: str, release: str, namespace: str) -> Collector:
    """The collector of a key; `ConfigErrors` if there is none or it is turned off."""
    collectors = stack.values.get("collectors") or Node({}, stack.values.origin)
    own = collectors.get(key)
    if own is None:
        gone = next((d for d in stack.deleted if d.path == ("collectors", key)), None)
        place = gone.by.place if gone is not None else collectors.origin.place
        what = "was deleted by a null" if gone is not None else "there is no such collector"
        problem = collectors.problem((key,), what, suggest(key, stack.names())).under(("collectors",))
        raise ConfigErrors([type(problem)(problem.path, what, problem.hint, place)])
    if not truthy(own.child("enabled")):
        hint = "set enabled: true to run it"
        raise ConfigErrors([collectors.problem((key, "enabled"), "the collector is turned off", hint).under(("collectors",))])
    whole = merge_files([stack.values.get("defaultCRConfig") or Node({}), own])
    name = object_name(stack.values, whole, release)
    written = whole.get("config")
    config = written.copy() if written is not None and written.is_map else Node({}, whole.origin)
    file = whole.get("scrape_configs_file")
    if file is not None and truthy(file):
        config = append_scrape_file(config, file)
    override = stack.values.get("namespaceOverride")
    where = override.value if override is not None and override.value else namespace
    config = apply_presets(whole, config, f"/var/log/pods/{where}_{name}*_*/opentelemetry-kube-stack/*.log")
    mode = whole.get("mode")
    return Collector(
        name,
        str(mode.value) if mode is not None else "",
        config,
        environment(stack.values, whole),
        fields(whole),
        whole,
        [*_deleted(stack, key)],
    )


def sections_in_config(stack: Stack, key: str) -> Stack | None:
    """The values with the sections of a collector's configuration that stand beside `config` moved into it; None without any."""
    out = Stack(stack.values.copy(), stack.deleted)
    found = False
    for holder in (out.values.get("defaultCRConfig"), out.values.get("collectors", key)):
        beside = {name: holder.value[name] for name in holder.names() if name in CONFIG_SECTIONS} if holder is not None else {}
        if holder is None or not beside:
            continue
        found = True
        config = holder.get("config")
        own = config if config is not None and config.is_map else Node({}, holder.origin)
        holder.value["config"] = merge_files([own, Node(beside, holder.origin)])
    return out if found else None


def _deleted(stack: Stack, key: str) -> Iterator[Deleted]:
    """The nulls of a collector that deleted something, with what is inherited instead, and those of all collectors."""
    for each in stack.deleted:
        if each.path[:2] == ("collectors", key):
            instead = stack.values.get("defaultCRConfig", *each.path[2:])
            yield replace(each, then=instead.origin if instead is not None else None)
        elif each.path[:1] == ("defaultCRConfig",):
            yield each
