"""What operators write their part of a compiled chain with: names for values, and conditions as Python."""

from __future__ import annotations

from typing import Any

from kofagent.operators.expression import Expression
from kofagent.operators.expression.ast import Node
from kofagent.operators.field import Field

Bound = dict[str, Any]
"""Name in the generated source -> value: nothing that a user wrote is ever part of the source."""


def indent(lines: list[str], by: int) -> list[str]:
    """The lines, deeper by this many levels."""
    return ["    " * by + line for line in lines]


class Names:
    """Names for the values of operator number `i` of a chain; the legend of the letters is in `generate`."""

    def __init__(self, i: int, bound: Bound) -> None:
        self._i = i
        self._bound = bound

    def bind(self, letter: str, value: Any) -> str:
        """The name under which the source finds the value; one value a letter."""
        name = f"{letter}{self._i}"
        self._bound[name] = value
        return name

    def member(self, letter: str, field: Field) -> tuple[str, str] | None:
        """The dict that a field is a member of and the name of its key; None for the body and for what is further down."""
        if field.root == "body" or len(field.keys) != 1:
            return None
        return f"entry.{field.root}", self.bind(letter, field.keys[0])

    def assignment(self, source: Field, target: Field, *, remove: bool, otherwise: list[str]) -> list[str]:
        """Statements that copy, or with `remove` move, a string from a member of a dict to another or to the body.

        `otherwise` are those for all other values: maps are merged and have to be copied.
        """
        read = self.member("k", source)
        write = ("entry.body", "") if target == Field("body", ()) else self.member("t", target)
        if read is None or write is None:
            return otherwise
        return [
            f"v = {read[0]}.get({read[1]})",
            "if v.__class__ is str:",
            *([f"    del {read[0]}[{read[1]}]"] if remove else []),
            f"    {write[0]}[{write[1]}] = v" if write[1] else f"    {write[0]} = v",
            "else:",
            *indent(otherwise, 1),
        ]

    def condition(self, letter: str, expression: Expression) -> str | None:
        """A condition as Python; None where it may fail or be something else than a boolean, so that it has to be evaluated."""
        return self._condition(letter, expression.root)

    def _condition(self, letter: str, node: Node) -> str | None:
        if node.kind == "const" and isinstance(node.value, bool):
            return str(node.value)
        parts = node.children
        if node.kind == "unary" and node.value == "not":
            inner = self._condition(letter + "n", parts[0])
            return None if inner is None else f"(not {inner})"
        if node.kind != "binary":
            return None
        if node.value in ("and", "or"):
            left, right = self._condition(letter + "l", parts[0]), self._condition(letter + "r", parts[1])
            return None if left is None or right is None else f"({left} {node.value} {right})"
        if node.value == "in" and _is_string(parts[0]) and _is_root(parts[1]):
            return f"({self.bind(letter, parts[0].value)} in entry.{parts[1].value})"
        if node.value in ("==", "!=") and _is_string(parts[1]) and parts[0].kind == "member":
            of, key = parts[0].children
            if _is_root(of) and _is_string(key):
                name, value = self.bind(letter + "k", key.value), self.bind(letter, parts[1].value)
                return f"(entry.{of.value}.get({name}) {node.value} {value})"
        return None


def _is_string(node: Node) -> bool:
    return node.kind == "const" and isinstance(node.value, str)


def _is_root(node: Node) -> bool:
    return node.kind == "name" and node.value in ("attributes", "resource")
