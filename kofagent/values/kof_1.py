"""Values of KOF 1.2 and later: the collectors of kof-collectors and those that a user adds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kofagent.config.errors import ConfigErrors, Path, Problem
from kofagent.config.load import read_config
from kofagent.config.merge import merge_files
from kofagent.config.tree import Node
from kofagent.values import without_node
from kofagent.values.files import lay_over
from kofagent.values.kube_stack import Collector, Stack, lay, render, sections_in_config
from kofagent.values.meaning import Around, as_meant
from kofagent.values.mistakes import errors_of, ignored_part, warnings_of
from kofagent.values.places import Found, find
from kofagent.values.rendered import Rendered
from kofagent.values.versions import NEWEST, STACK, find_version, is_at_least, stack_defaults


def render_collector(
    trees: Sequence[Node],
    key: str,
    *,
    part: str | None = None,
    version: str | None = None,
    release: str = "kof-collectors",
    namespace: str = "kof",
    over: Sequence[str] = (),
) -> Rendered:
    """One collector; `ConfigErrors` if there is none of that name or it is turned off."""
    release_values = Release(trees, part, version)
    try:
        collector = render(release_values.stack, key, release, namespace)
    except ConfigErrors as errors:
        raise ConfigErrors([problem.under((STACK,)) for problem in errors.errors]) from None
    config = lay_over(collector.config, read_config(over)) if over else collector.config
    wanted = release_values.with_sections(key, collector, release, namespace)
    if wanted is not collector.config and over:
        wanted = lay_over(wanted, read_config(over))
    elif over:
        wanted = config
    meant, changes = as_meant(wanted, release_values.around(key, collector))
    beside, unscraped = release_values.targets_without_node(key, meant, collector.env, release, namespace)
    return Rendered(
        release_values.version,
        key,
        collector.name,
        collector.mode,
        config,
        collector.env,
        _is_root(collector.fields.get("securityContext")),
        release_values.stack.values,
        deleted=[replace(d, path=(STACK, *d.path)) for d in collector.deleted],
        errors=errors_of(release_values.found, key),
        fields=collector.fields,
        warnings=[*release_values.ignored(), *warnings_of(release_values.found, key), *changes, *unscraped],
        meant=meant,
        env_beside=beside,
        written=release_values.written(key),
        note=release_values.note,
    )


def _is_root(context: Any) -> bool:
    return isinstance(context, dict) and context.get("runAsUser") == 0


def collector_names(trees: Sequence[Node], part: str | None, version: str | None) -> list[str]:
    """The collectors that run with these values."""
    return Release(trees, part, version).stack.names()


class Release:
    """A release of kof-collectors: its user's values, its version, and all layers."""

    def __init__(self, trees: Sequence[Node], part: str | None, version: str | None) -> None:
        self.found: list[Found] = find(trees, part)
        self.user = merge_files([found.values for found in self.found]) if self.found else Node({})
        self.note = ""
        self.version = (find_version(version) if version not in (None, "auto") and version else None) or self._told()
        switch = self.user.get("collectors", "enabled")
        if switch is not None and not switch.value:
            hint = "set it to true to run them"
            raise ConfigErrors([self.user.problem(("collectors", "enabled"), "the collectors are turned off", hint)])
        below = self.user.get(STACK)
        self.globals = merge_files([stack_defaults(self.version).value["global"], *self._own_globals()])
        self.stack: Stack = lay(below if below is not None and below.is_map else Node({}, self.user.origin), self.version)

    def _told(self) -> str:
        """The version by the tag of the image that the charts of KOF write for a cluster; else the newest."""
        tag = self.user.get(STACK, "collectors", "daemon", "image", "tag")
        found = find_version(tag.value) if tag is not None and isinstance(tag.value, str) else None
        if found is None or tag is None:
            return NEWEST
        self.note = f"told by collectors.daemon.image.tag at {tag.origin.place}"
        return found

    def _own_globals(self) -> list[Node]:
        own = self.user.get("global")
        return [own] if own is not None and own.is_map else []

    def around(self, key: str, collector: Collector) -> Around:
        """What a collector's configuration does not say itself."""
        name = self.stack.values.get("clusterName")
        if name is None or not name.value:
            name = self.globals.get("clusterName") or Node("", self.globals.origin)
        namespace = self.globals.get("clusterNamespace") or Node("", self.globals.origin)
        default = self.stack.values.get("defaultCRConfig") or Node({})
        return Around(key, collector.name, collector.values, default, name, namespace)

    def with_sections(self, key: str, collector: Collector, release: str, namespace: str) -> Node:
        """A collector's configuration with the sections in it that stand beside it."""
        moved = sections_in_config(self.stack, key)
        return collector.config if moved is None else render(moved, key, release, namespace).config

    def targets_without_node(
        self, key: str, meant: Node, env: Node, release: str, namespace: str
    ) -> tuple[tuple[Node, ...], list[Problem]]:
        """Adds to the configuration of a collector the targets without a node that DaemonSets leave to it.

        Returns the variables that these need beside `env`, and a warning if nobody scrapes those of this one.
        """
        modes = self.stack.modes()
        taker = without_node.collector_for(modes)
        if taker != key:
            problem = without_node.scraped_by_nobody(key, meant) if taker is None else None
            return (), [problem] if problem is not None else []
        variables: dict[str, Node] = {}
        for other in [other for other, mode in modes.items() if mode == "daemonset"]:
            collector = render(self.stack, other, release, namespace)
            wanted = self.with_sections(other, collector, release, namespace)
            theirs, _ = as_meant(wanted, self.around(other, collector))
            if without_node.add(meant, other, theirs):
                variables |= {str(entry.value["name"].value): entry for entry in collector.env.value}
        for entry in env.value:
            variables.pop(str(entry.value["name"].value), None)
        return tuple(variables.values()), []

    def ignored(self) -> list[Problem]:
        """Warnings of what the charts of this version do not read at all."""
        return ignored_part(self.found) if is_at_least(self.version, "1.10.0") else []

    def written(self, key: str) -> tuple[tuple[Node, Path], ...]:
        """Where the user's configuration of a collector stands, what is more specific first."""
        ways: tuple[Path, ...] = ((STACK, "collectors", key, "config"), (STACK, "defaultCRConfig", "config"))
        beside = tuple(way[:-1] for way in ways)
        return tuple((found.tree, (*found.path, *way)) for way in (*ways, *beside) for found in reversed(self.found))
