"""A tree becomes nested Python closures over the entry and the scope (names of `let`, and `#` of predicates)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from kofagent.operators.entry import Entry
from kofagent.operators.expression import values
from kofagent.operators.expression.ast import Node
from kofagent.operators.expression.functions import FUNCTIONS, PREDICATES
from kofagent.operators.expression.parser import Macros, parse
from kofagent.operators.expression.values import ExpressionError

FAILURES: Final = (ArithmeticError, ValueError, TypeError, AttributeError, LookupError, RecursionError)
"""What evaluating can raise: `ExpressionError`, and what Python says of infinities and values of other kinds."""

Evaluate = Callable[[Entry, dict[str, Any]], Any]


def as_expression_error(error: Exception) -> ExpressionError:
    """The error if it is an ExpressionError, else one that names the kind of failure."""
    return error if isinstance(error, ExpressionError) else ExpressionError(f"cannot be evaluated ({type(error).__name__})")


class Expression:
    """A compiled expression."""

    def __init__(self, text: str, root: Node) -> None:
        self.text = text
        self.root = root
        self._plain: dict[Node, Evaluate] = {}
        self._run = self._closure(root)

    def evaluate(self, entry: Entry, names: dict[str, Any] | None = None) -> Any:
        """Its value for the entry and further names; ExpressionError where a value has the wrong kind."""
        try:
            return self._run(entry, names or {})
        except FAILURES as error:
            raise as_expression_error(error) from None

    def test(self, entry: Entry) -> bool:
        """Its value, which must be a boolean."""
        value = self.evaluate(entry)
        if value is True or value is False:
            return value
        raise ExpressionError(f"{values.kind(value)} where a boolean is needed")

    @property
    def repeatable(self) -> bool:
        """False when the value depends on more than the entry, such as the time."""
        return self.root.repeatable

    def plain(self, node: Node) -> Evaluate:
        """The closure of a liftable node of this tree that evaluates it, whatever was computed ahead."""
        return self._plain[node]

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<Expression {self.text!r}>"

    def _closure(self, node: Node) -> Evaluate:
        """The tree as nested closures: the plain twin of the compiled expression."""
        kind, value = node.kind, node.value
        if kind == "const":
            return lambda entry, scope: value
        if kind == "name":
            return _name(value)
        parts = [self._closure(child) for child in node.children]
        if kind == "member":
            of, key = parts
            return lambda entry, scope: values.member(of(entry, scope), key(entry, scope), value)
        if kind == "slice":
            of, low, high = parts
            return lambda entry, scope: values.sliced(of(entry, scope), low(entry, scope), high(entry, scope))
        if kind == "unary":
            (operand,) = parts
            apply = values.UNARY[value]
            return lambda entry, scope: apply(operand(entry, scope))
        if kind == "binary":
            evaluate = _binary(value, parts)
            return self._lifted(node, evaluate) if node.liftable else evaluate
        if kind == "ternary":
            test, yes, no = parts
            return lambda entry, scope: yes(entry, scope) if values.boolean(test(entry, scope)) else no(entry, scope)
        if kind == "list":
            return lambda entry, scope: [p(entry, scope) for p in parts]
        if kind == "map":
            pairs = list(zip(parts[::2], parts[1::2], strict=True))
            return lambda entry, scope: {values.text(k(entry, scope)): v(entry, scope) for k, v in pairs}
        if kind == "call":
            function = FUNCTIONS[value][2]
            return lambda entry, scope: function(*[p(entry, scope) for p in parts])
        if kind == "let":
            bound, inner = parts
            return lambda entry, scope: inner(entry, {**scope, value: bound(entry, scope)})
        return _predicate(value, parts)

    def _lifted(self, node: Node, evaluate: Evaluate) -> Evaluate:
        """The comparison, or its outcome where the compiler evaluated it ahead (text: the error it gave)."""
        self._plain[node] = evaluate

        def run(entry: Entry, scope: dict[str, Any]) -> Any:
            if entry.lifted is not None and node in entry.lifted:
                found = entry.lifted[node]
                if isinstance(found, str):
                    raise ExpressionError(found)
                return found
            return evaluate(entry, scope)

        return run


def compile_expression(text: str, macros: Macros = {}) -> Expression:  # noqa: B006 - never changed
    """The expression of `text`; ExpressionError says what is wrong and where. `macros` as `parse`."""
    try:
        return Expression(text, parse(text, macros))
    except RecursionError:
        raise ExpressionError(f"expression {text[:100]!r}: it is nested too deeply") from None


def _name(name: str) -> Evaluate:
    if name in ("body", "$"):
        return lambda entry, scope: entry.body
    if name == "attributes":
        return lambda entry, scope: entry.attributes
    if name == "resource":
        return lambda entry, scope: entry.resource
    if name == "timestamp":
        return lambda entry, scope: entry.timestamp
    if name == "$env":
        return lambda entry, scope: {
            "body": entry.body,
            "attributes": entry.attributes,
            "resource": entry.resource,
            "timestamp": entry.timestamp,
        }
    return lambda entry, scope: scope.get(name)


def _binary(op: str, parts: list[Evaluate]) -> Evaluate:
    left, right = parts
    if op == "and":
        return lambda entry, scope: values.boolean(left(entry, scope)) and values.boolean(right(entry, scope))
    if op == "or":
        return lambda entry, scope: values.boolean(left(entry, scope)) or values.boolean(right(entry, scope))
    if op in ("??", "or_else"):

        def otherwise(entry: Entry, scope: dict[str, Any]) -> Any:
            found = left(entry, scope)
            return right(entry, scope) if found is None else found

        return otherwise
    apply = values.BINARY[op]
    return lambda entry, scope: apply(left(entry, scope), right(entry, scope))


def _predicate(name: str, parts: list[Evaluate]) -> Evaluate:
    items, *rest = parts
    apply = PREDICATES[name]
    test = rest[0] if rest else None

    def run(entry: Entry, scope: dict[str, Any]) -> Any:
        found = values.items(items(entry, scope))

        def each(item: Any, index: int, acc: Any = None) -> Any:
            if test is None:
                return item
            return test(entry, {**scope, "#": item, "#index": index, "#acc": acc})

        if name == "reduce" and len(rest) > 1:
            return apply(found, each, rest[1](entry, scope))
        return apply(found, each)

    return run
