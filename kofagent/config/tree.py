"""A configuration as a tree of `Node`s: every value remembers the file, the line and the layer it came from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from kofagent.config.errors import Path, Place, Problem


@dataclass(frozen=True)
class Origin:
    """Where a value was written. `layer` is `default`, `generated` or `user`; `note` is what a generated value comes from."""

    file: str = ""
    line: int = 0
    layer: str = "user"
    note: str = ""

    @property
    def place(self) -> Place:
        """The file and the line."""
        return Place(self.file, self.line)

    def __str__(self) -> str:
        return " ".join(filter(None, (self.layer, f"from {self.note}" if self.note else "", str(self.place))))


@dataclass(slots=True)
class Node:
    """A value and where it came from. `value` is a dict of nodes, a list of nodes, or a scalar.

    `text` is the scalar as it was written, if it was not a string. `hidden` marks what came from the
    environment, a file or a Secret: no message ever shows it. `replaced` is what was discarded when it replaced a list or a map.
    """

    value: Any
    origin: Origin = Origin()
    text: str | None = None
    hidden: bool = False
    replaced: Replaced | None = field(default=None)

    @property
    def is_map(self) -> bool:
        """Whether it has keys."""
        return isinstance(self.value, dict)

    @property
    def is_list(self) -> bool:
        """Whether it has entries."""
        return isinstance(self.value, list)

    def plain(self) -> Any:
        """The same as dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {k: v.plain() for k, v in self.value.items()}
        if isinstance(self.value, list):
            return [v.plain() for v in self.value]
        return self.value

    def copy(self) -> Node:
        """A copy that can be changed without changing this one."""
        value = self.value
        if isinstance(value, dict):
            value = {k: v.copy() for k, v in value.items()}
        elif isinstance(value, list):
            value = [v.copy() for v in value]
        return Node(value, self.origin, self.text, self.hidden, self.replaced)

    def child(self, part: str | int) -> Node | None:
        """The node under a key or index, None if it does not exist."""
        if isinstance(self.value, dict):
            found = self.value.get(part)
            return found if isinstance(found, Node) else None
        if isinstance(self.value, list) and isinstance(part, int) and not isinstance(part, bool) and -1 < part < len(self.value):
            item = self.value[part]
            return item if isinstance(item, Node) else None
        return None

    def get(self, *path: str | int) -> Node | None:
        """The node at a path, None if it does not exist."""
        node: Node | None = self
        for part in path:
            if node is None:
                return None
            node = node.child(part)
        return node

    def nearest(self, path: Path) -> Node:
        """The node at a path, or the deepest one on the way to it."""
        node = self
        for part in path:
            found = node.child(part)
            if found is None:
                break
            node = found
        return node

    def walk(self, path: Path = ()) -> Iterator[tuple[Path, Node]]:
        """This node and all below, parents first."""
        yield path, self
        if isinstance(self.value, dict):
            for key, node in self.value.items():
                yield from node.walk((*path, key))
        elif isinstance(self.value, list):
            for index, node in enumerate(self.value):
                yield from node.walk((*path, index))

    def problem(self, path: Path, message: str, hint: str = "", *, warning: bool = False) -> Problem:
        """A problem of `path` below this node, at the line of the deepest node that exists on the way."""
        return Problem(path, message, hint, self.nearest(path).origin.place, warning)

    def names(self) -> list[str]:
        """Keys of a map, nothing for anything else."""
        return list(self.value) if isinstance(self.value, dict) else []


@dataclass(frozen=True)
class Replaced:
    """What a value replaced: the place of the former list or map, and the names of entries or keys that are gone.

    `earlier` is what it had replaced in the layer below its own before.
    """

    origin: Origin
    lost: tuple[str, ...]
    earlier: Replaced | None = None


def node_of(value: Any, origin: Origin) -> Node:
    """A tree of plain data that all came from one place; nodes inside are kept as they are."""
    if isinstance(value, Node):
        return value
    if isinstance(value, dict):
        return Node({str(k): node_of(v, origin) for k, v in value.items()}, origin)
    if isinstance(value, list | tuple):
        return Node([node_of(v, origin) for v in value], origin)
    return Node(value, origin)
