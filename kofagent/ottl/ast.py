"""The syntax tree. Every node knows the column (from 1) it began at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Node = Any
"""One of the classes below."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A string, number, boolean, byte string or nil."""

    value: Any
    column: int


@dataclass(frozen=True, slots=True)
class Enum:
    """A named number, as SEVERITY_NUMBER_WARN."""

    name: str
    column: int


@dataclass(frozen=True, slots=True)
class FunctionName:
    """The name of a converter where a function is asked for: `function=ToUpperCase`."""

    name: str
    column: int


@dataclass(frozen=True, slots=True)
class Field:
    """One step of a path with its indexes: `attributes["a"][0]`."""

    name: str
    keys: tuple[Node, ...]
    column: int


@dataclass(frozen=True, slots=True)
class Path:
    """`resource.attributes["x"]`: at least one field."""

    fields: tuple[Field, ...]
    column: int


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a call, `name` empty for a positional one."""

    name: str
    value: Node
    column: int


@dataclass(frozen=True, slots=True)
class Call:
    """A converter (`IsMatch(...)`) or, as a statement, an editor (`set(...)`)."""

    name: str
    arguments: tuple[Argument, ...]
    keys: tuple[Node, ...]
    column: int


@dataclass(frozen=True, slots=True)
class ListNode:
    """`[1, 2]`"""

    items: tuple[Node, ...]
    column: int


@dataclass(frozen=True, slots=True)
class MapNode:
    """`{"a": 1}`"""

    items: tuple[tuple[str, Node], ...]
    column: int


@dataclass(frozen=True, slots=True)
class Sign:
    """`-operand` or `+operand`: also before a number, which is no literal then."""

    op: str
    operand: Node
    column: int


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """`left op right`, op one of + - * /"""

    op: str
    left: Node
    right: Node
    column: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """`left op right`, op one of == != < <= > >="""

    op: str
    left: Node
    right: Node
    column: int


@dataclass(frozen=True, slots=True)
class Not:
    """`not operand`"""

    operand: Node
    column: int


@dataclass(frozen=True, slots=True)
class And:
    """All of the operands."""

    operands: tuple[Node, ...]
    column: int


@dataclass(frozen=True, slots=True)
class Or:
    """Any of the operands."""

    operands: tuple[Node, ...]
    column: int


@dataclass(frozen=True, slots=True)
class Statement:
    """`editor(...) where condition`"""

    editor: Call
    where: Node | None
    column: int
