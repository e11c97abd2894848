"""The defaults of KOF 1.2 and later: the newest version is written out, older ones are what differs from the next newer one."""

from __future__ import annotations

import functools
import importlib.resources
import re
from dataclasses import replace

from kofagent.config.source import parse
from kofagent.config.tree import Node

NEWEST = "1.11.0"
STACK = "opentelemetry-kube-stack"
COLLECTORS = ("cluster", "target-allocator", "daemon", "controller-k0s")
"""Those of kof-collectors; a user may add others."""
_FOLDER = "kube_stack"
_WANTED = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?(?:-rc\.?\d+)?\Z")


def read(name: str, layer: str) -> Node:
    """A file of the defaults, every value of it in one layer."""
    file = f"defaults/{_FOLDER}/{name}.yaml"
    text = (importlib.resources.files("kofagent.values") / file).read_text("utf-8")
    return parse(text, f"kofagent/values/{file}", layer=layer)[0]


@functools.cache
def versions() -> tuple[str, ...]:
    """All that are known, the newest first."""
    return (NEWEST, *read("older", "collector").names())


def find_version(wanted: str) -> str | None:
    """The version that somebody means: `1.9`, `v1.9.0` and `1.9.0-rc1` are 1.9.0. None if it is not known."""
    match = _WANTED.match(wanted)
    if match is None:
        return None
    major, minor, patch = match[1], match[2], match[3]
    known = [v for v in versions() if v.split(".")[:2] == [major, minor] and patch in (None, v.split(".")[2])]
    return known[0] if known else None


def is_at_least(version: str, other: str) -> bool:
    """Whether a known version is another one, or newer."""
    return versions().index(version) <= versions().index(other)


def stack_defaults(version: str) -> Node:
    """What kof-collectors sets below `opentelemetry-kube-stack`, and `global`, at a version. The caller may change it."""
    return _defaults(version).copy()


@functools.lru_cache(maxsize=2)
def _defaults(version: str) -> Node:
    tree = read("kof", "chart")
    _in_layer(tree.value["defaultCRConfig"], "defaultCRConfig")
    collectors = {name: read(name, "collector") for name in COLLECTORS}
    tree.value["collectors"] = Node(collectors, tree.origin)
    if version != NEWEST:
        for each, edits in read("older", "collector").value.items():
            for edit in edits.value or ():
                _apply(tree, edit)
            if each == version:
                break
    return tree


def _apply(tree: Node, edit: Node) -> None:
    """One line of `older.yaml`."""
    action = next(name for name in ("drop", "set", "insert") if edit.get(name) is not None)
    *way, last = [int(part) if part.isdigit() else part for part in str(edit.value[action].value).split(" > ")]
    holder = tree.get(*way)
    if holder is None:
        raise AssertionError(f"{edit.origin.place}: there is nothing at {way}")
    new = edit.get("to") or edit.get("value")
    if new is not None and way[0] == "defaultCRConfig":
        _in_layer(new, "defaultCRConfig")
    if action == "drop":
        del holder.value[last]
    elif action == "insert":
        holder.value.insert(last, new)
    else:
        holder.value[last] = new


def _in_layer(tree: Node, layer: str) -> None:
    for _, node in tree.walk():
        node.origin = replace(node.origin, layer=layer)
