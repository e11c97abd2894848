"""Work on the body that can be done ahead of the operators: searches of patterns, conditions on nothing but the body."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kofagent.operators.emit import Bound
from kofagent.operators.entry import Entry
from kofagent.operators.expression import Expression
from kofagent.operators.expression.ast import Node
from kofagent.operators.expression.compile import FAILURES, as_expression_error
from kofagent.operators.operator import AnyOperator
from kofagent.operators.regex import Pattern
from kofagent.operators.simple import SimpleSearch, simple_search


class Lift:
    """Work on the body done ahead: `key` is what operators look it up under, `code` the lines that compute `word`."""

    def __init__(self, key: Any, kind: str, bound: Any, search: SimpleSearch | None = None) -> None:
        self.key = key
        self.kind = kind
        self.bound = bound
        self.search = search

    def value(self, word: Any) -> Any:
        """What operators see for this word."""
        if self.kind != "regex":
            return word
        if word is None:
            return None
        words = word if isinstance(word, tuple) else (word,)
        return {name: w.decode() for (name, _), w in zip(self.bound.names, words, strict=True)}

    def describe(self) -> str:
        """What it computes, in words."""
        if self.kind == "regex":
            return f"the groups {', '.join(n for n, _ in self.bound.names)} of {self.key.id}'s pattern {self.bound.source!r}"
        return f"a condition on the body ({self.kind})"


def lift_operators(operators: list[AnyOperator]) -> list[Lift] | None:
    """What these operators read of the body; None when one of them changes the body, reads it in another way, or does not
    declare what it does."""
    lifts: list[Lift] = []
    return lifts if all(_lift_operator(operator, lifts) for operator in operators) else None


def _lift_operator(operator: AnyOperator, lifts: list[Lift]) -> bool:
    """Adds what the operator reads of the body to `lifts`; False when the operator cannot run on a stand-in."""
    access = operator.access()
    if access is None or any(field.root == "body" for field in access.fields):
        return False
    if access.search is not None:
        lifts.append(Lift(operator, "regex", access.search, simple_search(access.search)))
    return all(_lift_expression(expression, lifts) for expression in access.expressions)


def _lift_expression(expression: Expression, lifts: list[Lift]) -> bool:
    if not expression.repeatable:
        return False
    found: list[Node] = []

    def visit(node: Node) -> bool:
        if node.kind == "name" and node.value in ("body", "$", "$env", "timestamp"):
            return False
        if node.liftable:
            found.append(node)
            return True
        return all(visit(child) for child in node.children)

    if not visit(expression.root):
        return False
    for node in found:
        lifts.append(_lift_node(expression, node))
    return True


def _lift_node(expression: Expression, node: Node) -> Lift:
    left, right = node.children
    if left.kind == "name" and right.kind == "const" and isinstance(right.value, str):
        if node.value == "matches":
            return Lift(node, "test", Pattern(right.value), simple_search(Pattern(right.value)))
        kind = {"contains": "contains", "startsWith": "starts", "endsWith": "ends", "==": "equals"}.get(node.value)
        if kind is not None:
            return Lift(node, kind, right.value.encode("utf-8", "replace"))
    return Lift(node, "call", expression.plain(node))


def lift_code(i: int, lift: Lift, engine: str, bound: Bound) -> list[str]:
    """The lines that compute word `i` from `body`."""
    name = f"x{i}"
    search = lift.search
    if lift.kind in ("contains", "starts", "ends", "equals"):
        bound[name] = lift.bound
        return [
            {
                "contains": f"w{i} = {name} in body",
                "starts": f"w{i} = body.startswith({name})",
                "ends": f"w{i} = body.endswith({name})",
                "equals": f"w{i} = body == {name}",
            }[lift.kind]
        ]
    if lift.kind == "call":
        bound[name] = _guarded(lift.bound)
        return [f"w{i} = {name}(body)"]
    if search is not None and engine == "re":
        bound[name] = search.search
        text = "body.lower()" if search.lower else "body"
        if lift.kind == "test":
            return [f"w{i} = {name}({text}) is not None"]
        lines = [f"m = {name}({text})", "if m is None:", f"    w{i} = None", "    misses += 1", "else:"]
        if search.whole:
            return [*lines, "    s, e = m.span()", f"    w{i} = body[s:e]"]
        parts = ", ".join([f"body[m.start({g}):m.end({g})] if m.start({g}) >= 0 else b''" for g in search.groups])
        return [*lines, f"    w{i} = ({parts})"]
    if lift.kind == "test":
        bound[name] = lift.bound.match
        return [f"w{i} = {name}(U, body, 0, len(body))[0][0] >= 0"]
    if search is not None and search.whole:
        bound[name] = Pattern(search.re2_source).match
        return [
            f"(s, e), = {name}(U, body, 0, len(body))",
            "if s < 0:",
            f"    w{i} = None",
            "    misses += 1",
            "else:",
            f"    w{i} = body[s:e]",
        ]
    bound[name] = lift.bound.match
    numbers = [number for _, number in lift.bound.names]
    parts = ", ".join([f"body[m[{g}][0]:m[{g}][1]] if m[{g}][0] >= 0 else b''" for g in numbers])
    return [
        f"m = {name}(U, body, 0, len(body))",
        "if m[0][0] < 0:",
        f"    w{i} = None",
        "    misses += 1",
        "else:",
        f"    w{i} = ({parts})",
    ]


def _guarded(evaluate: Callable[[Entry, dict[str, Any]], Any]) -> Callable[[bytes], Any]:
    """A condition on the body; an error becomes a string, which is raised where an operator asks."""

    def run(body: bytes) -> Any:
        try:
            return evaluate(Entry(body.decode("utf-8", "replace"), {}, {}, 0), {})
        except FAILURES as error:
            return str(as_expression_error(error))

    return run
