"""The tree of an expression, and what can be read off it without evaluating it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

COMPARISONS: Final = ("==", "!=", "<", ">", ">=", "<=", "in", "matches", "contains", "startsWith", "endsWith")
ENTRY_NAMES: Final = ("body", "attributes", "resource", "timestamp", "$")
"""Names of what an expression reads of an entry; `$` is the body, as in stanza."""
_OF_TEXT_ALONE: Final = ("len", "lower", "upper", "trim")
_DEPENDS_ON_MORE: Final = ("now",)
"""Functions that give different values for the same arguments."""


class Node:
    """A node of the tree: `kind` is one of const, name, member, call, unary, binary, ternary, list, map, slice, predicate, let."""

    __slots__ = ("children", "kind", "value")

    def __init__(self, kind: str, value: Any = None, children: tuple[Node, ...] = ()) -> None:
        self.kind = kind
        self.value = value
        self.children = children

    def walk(self) -> Iterator[Node]:
        """This node and all below it, parents first."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.children))

    def names(self) -> set[str]:
        """Names of the entry this tree reads; `$` counts as body, `$env` as everything."""
        out: set[str] = set()
        for node in self.walk():
            if node.kind == "name":
                if node.value == "$env":
                    out.update(("body", "attributes", "resource", "timestamp"))
                elif node.value in ENTRY_NAMES:
                    out.add("body" if node.value == "$" else node.value)
        return out

    @property
    def repeatable(self) -> bool:
        """False when the value depends on more than the entry, such as the time."""
        return not any(node.kind == "call" and node.value in _DEPENDS_ON_MORE for node in self.walk())

    @property
    def liftable(self) -> bool:
        """Whether this is a comparison of nothing but the body and constants, which can be evaluated ahead of the operators."""
        return (
            self.kind == "binary"
            and self.value in COMPARISONS
            and self.names() == {"body"}
            and all(
                node.kind in ("const", "unary", "binary", "member", "list")
                or (node.kind == "name" and node.value in ("body", "$"))
                or (node.kind == "call" and node.value in _OF_TEXT_ALONE)
                for node in self.walk()
            )
        )
