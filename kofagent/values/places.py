"""Where the values of kof-collectors stand in the files that people have of KOF 1.2 and later.

They are a file of their own for kof-collectors, a part of the umbrella chart's file, or the text of an annotation of a cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kofagent.config.errors import ConfigErrors, Path, Place, Problem, suggest
from kofagent.config.source import as_map, parse
from kofagent.config.tree import Node
from kofagent.values.versions import STACK

ANNOTATION = "k0rdent.mirantis.com/kof-collectors-values"
PARTS = ("kof-child", "kof-regional", "management", "kof-collectors")
"""Parts of an umbrella chart's file: children, regional clusters, the management cluster (from 1.10, and before)."""
_WAYS: dict[str, tuple[Path, ...]] = {
    "kof-child": (("kof-child", "values", "collectors"),),
    "kof-regional": (("kof-regional", "values", "collectors"),),
    # what all clusters of kof-child get lies beneath what only the management cluster gets
    "management": (("kof-child", "values", "collectors"), ("kof-child", "values", "fromManagement", "collectors")),
    "kof-collectors": (("kof-collectors", "values"),),
}
_CHILD_WAYS: dict[str, tuple[Path, ...]] = {
    "kof-child": (("collectors",),),
    "management": (("collectors",), ("fromManagement", "collectors")),
}
"""The same in a file of the chart kof-child or kof-regional itself."""
UMBRELLA = ("kof-child", "kof-regional", "kof-collectors", "fromManagement")


@dataclass(frozen=True)
class Found:
    """Values of kof-collectors in a file: the path to them, and the tree that it leads through."""

    tree: Node
    path: Path

    @property
    def values(self) -> Node:
        """The values; an empty map where there is nothing."""
        found = self.tree.get(*self.path)
        return found if found is not None and found.is_map else Node({}, self.tree.nearest(self.path).origin)


def find(trees: Sequence[Node], part: str | None) -> list[Found]:
    """Those of each file, lowest first. `ConfigErrors` if a file has several parts and none is asked for, or not the part."""
    if part is not None and part not in PARTS:
        raise ConfigErrors([Problem((), f"unknown part {part!r}", suggest(part, PARTS), Place("--part"))])
    out = []
    for tree in trees:
        out += _of_file(_annotation(tree) or tree, part)
    return out


def newer_keys(tree: Node) -> list[Path]:
    """The keys of a file that only KOF 1.2 and later has."""
    ways: list[Path] = [(key,) for key in tree.names() if key in (STACK, "metrics-server", *UMBRELLA)]
    more: list[Path] = [("metadata", "annotations", ANNOTATION), ("collectors", STACK)]
    return ways + [way for way in more if tree.get(*way) is not None]


def _of_file(tree: Node, part: str | None) -> list[Found]:
    ways = _WAYS
    if "fromManagement" in tree.names() or tree.get("collectors", STACK) is not None:
        ways = _CHILD_WAYS
    elif not any(key in tree.names() for key in UMBRELLA):
        return [Found(tree, ())]
    there = [name for name, paths in ways.items() if tree.get(*paths[-1]) is not None]
    if part is None and len(there) > 1:
        hint = f"say with --part which of them: {', '.join(there)}"
        raise ConfigErrors([tree.problem((), "has values for several kinds of clusters", hint)])
    if part is not None and part not in there:
        # a file may have nothing for the management cluster in particular: it then gets what all clusters get
        if part == "management" and "kof-child" in there:
            return [Found(tree, ways["kof-child"][0])]
        hint = f"it has {', '.join(there)}" if there else "check --part"
        raise ConfigErrors([tree.problem((), f"has no values for {part}", hint)])
    switch = tree.get("kof-collectors", "enabled")
    if (part or (there or [""])[0]) == "kof-collectors" and switch is not None and not switch.value:
        hint = "set it to true to run them"
        raise ConfigErrors([tree.problem(("kof-collectors", "enabled"), "the collectors are turned off", hint)])
    return [Found(tree, path) for name in [part or (there or ["kof-child"])[0]] for path in ways[name]]


def _annotation(tree: Node) -> Node | None:
    """The values in the annotation of an object of Kubernetes."""
    text = tree.get("metadata", "annotations", ANNOTATION)
    if text is None or not isinstance(text.value, str):
        return None
    first = text.origin.line + ("\n" in text.value)
    return as_map(*parse(text.value, text.origin.file, yaml11=True, first_line=first))
