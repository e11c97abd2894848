"""Values with expressions in backticks: the parts are compiled once, and filled from each endpoint.

A value that is one expression and nothing else keeps the kind of what the expression gives (a number, true); with text around it
becomes text. A backtick is written as ``\\```; expressions are in the values of maps and lists, not in keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kofagent.config.errors import Path
from kofagent.config.tree import Node, node_of
from kofagent.operators.expression import Expression, ExpressionError
from kofagent.operators.expression.functions import FUNCTIONS
from kofagent.receivers.receiver_creator.expressions import compiled, evaluate

shown: Callable[[Any], str] = FUNCTIONS["string"][2]
"""A value as the text that it becomes between others."""


class Template:
    """One text. ValueError says what is wrong with it."""

    def __init__(self, text: str) -> None:
        self.parts = list(_parts(text))
        self.expressions = [part for part in self.parts if isinstance(part, Expression)]

    def fill(self, env: Mapping[str, Any]) -> Any:
        """The value for an endpoint; ExpressionError where an expression cannot be evaluated."""
        values = [part if isinstance(part, str) else evaluate(part, env) for part in self.parts]
        if len(values) == 1:
            return values[0]
        return "".join([value if isinstance(value, str) else shown(value) for value in values])


def _parts(text: str) -> Iterator[str | Expression]:
    literal, at, size = "", 0, len(text)
    while at < size:
        char = text[at]
        if char == "\\" and text[at + 1 : at + 2] == "`":
            literal += "`"
            at += 2
        elif char == "`":
            end = text.find("`", at + 1)
            if end < 0:
                raise ValueError(f"a backtick is not closed: {text[at:][:60]!r}; write \\` for one that is meant")
            if not text[at + 1 : end].strip():
                raise ValueError("there is nothing between two backticks")
            if literal:
                yield literal
            literal = ""
            yield compiled(text[at + 1 : end])
            at = end + 1
        else:
            literal += char
            at += 1
    if literal or not text:
        yield literal


def is_template(value: object) -> bool:
    """Whether a value has to be filled."""
    return isinstance(value, str) and "`" in value


def compile_templates(value: Any) -> Any:
    """The same tree with a Template in place of every text that has to be filled. ValueError for one that is none."""
    if isinstance(value, str):
        return Template(value) if "`" in value else value
    if isinstance(value, dict):
        return {key: compile_templates(each) for key, each in value.items()}
    return [compile_templates(each) for each in value] if isinstance(value, list) else value


def fill(value: Any, env: Mapping[str, Any]) -> Any:
    """A copy of a compiled tree for an endpoint. ExpressionError where an expression cannot be evaluated."""
    if isinstance(value, Template):
        return value.fill(env)
    if isinstance(value, dict):
        return {key: fill(each, env) for key, each in value.items()}
    return [fill(each, env) for each in value] if isinstance(value, list) else value


def templates(value: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Every text in a tree that has to be filled, with its path."""
    if is_template(value):
        yield path, value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from templates(each, (*path, str(key)))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from templates(each, (*path, index))


def filled(node: Node, env: Mapping[str, Any]) -> tuple[Node, frozenset[Path]]:
    """A copy of a part of a configuration with all texts filled, null where that fails; and the paths of those texts."""
    copy, paths = node.copy(), []
    for path, each in copy.walk():
        if is_template(each.value):
            paths.append(path)
            try:
                each.value, each.text = node_of(Template(each.value).fill(env), each.origin).value, None
            except (ExpressionError, ValueError):
                each.value, each.text = None, None
    return copy, frozenset(paths)
