"""Expressions of `if`, `expr`, routes and `EXPR(...)`: expr-lang (github.com/expr-lang/expr, docs/language-definition) as
stanza uses it, with `body`, `attributes`, `resource`, `timestamp`, `env("X")` (docs/types/expression.md).

A text becomes a tree (`Node`), the tree a Python closure. Names nobody defined are nil, as upstream allows them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from kofagent.operators import values
from kofagent.operators.entry import Entry
from kofagent.operators.functions import FUNCTIONS, PREDICATES
from kofagent.operators.regex import PatternError, pattern
from kofagent.operators.values import ExpressionError

__all__ = ["Expression", "ExpressionError", "Node", "compile_expression"]

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|(?:[0-9][0-9_]*)?\.[0-9][0-9_]*(?:[eE][+-]?[0-9]+)?|[0-9][0-9_]*(?:[eE][+-]?[0-9]+)?)
    |(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)
    |(?P<name>[A-Za-z_$][A-Za-z0-9_$]*)
    |(?P<op>\?\?|\?\.|&&|\|\||==|!=|<=|>=|\*\*|\.\.|[-+*/%^<>!?:.,()\[\]{}|\#;=])
    )""",
    re.VERBOSE | re.DOTALL,
)
_BINARY: Final = {
    "or": 10,
    "||": 10,
    "and": 15,
    "&&": 15,
    "==": 20,
    "!=": 20,
    "<": 20,
    ">": 20,
    ">=": 20,
    "<=": 20,
    "in": 20,
    "matches": 20,
    "contains": 20,
    "startsWith": 20,
    "endsWith": 20,
    "..": 25,
    "+": 30,
    "-": 30,
    "*": 60,
    "/": 60,
    "%": 60,
    "**": 100,
    "^": 100,
    "??": 500,
}
_COMPARISONS: Final = ("==", "!=", "<", ">", ">=", "<=", "in", "matches", "contains", "startsWith", "endsWith")
_NEGATABLE: Final = ("in", "matches", "contains", "startsWith", "endsWith")
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_MAX_DEPTH: Final = 100
ENTRY_NAMES: Final = ("body", "attributes", "resource", "timestamp", "$")

FAILURES: Final = (ArithmeticError, ValueError, TypeError, AttributeError, LookupError, RecursionError)
"""What evaluating can raise: `ExpressionError`, and what Python says of infinities and values of other kinds."""

Evaluate = Callable[[Entry, dict[str, Any]], Any]


class Node:
    """A node of the tree: `kind` is one of const, name, member, call, unary, binary, ternary, list, map, slice, predicate, let."""

    __slots__ = ("children", "kind", "plain", "value")
    plain: Evaluate
    """Its closure, of a liftable node only."""

    def __init__(self, kind: str, value: Any = None, children: tuple[Node, ...] = ()) -> None:
        self.kind = kind
        self.value = value
        self.children = children

    def walk(self) -> Iterator[Node]:
        """This node and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()

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
    def liftable(self) -> bool:
        """Whether this is a comparison of nothing but the body and constants, which can be evaluated ahead of the operators."""
        if self.kind != "binary" or self.value not in _COMPARISONS:
            return False
        nodes = list(self.walk())
        return self.names() == {"body"} and all(
            n.kind in ("const", "unary", "binary", "member", "list")
            or (n.kind == "name" and n.value in ("body", "$"))
            or (n.kind == "call" and n.value in ("len", "lower", "upper", "trim"))
            for n in nodes
        )


def as_expression_error(error: Exception) -> ExpressionError:
    """The error if it is one of ours, else one that names the kind of failure."""
    return error if isinstance(error, ExpressionError) else ExpressionError(f"cannot be evaluated ({type(error).__name__})")


class Expression:
    """A compiled expression."""

    def __init__(self, text: str, root: Node) -> None:
        self.text = text
        self.root = root
        self._run = _closure(root)

    def evaluate(self, entry: Entry) -> Any:
        """Its value for the entry; ExpressionError where a value has the wrong kind."""
        try:
            return self._run(entry, {})
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
        """False when the outcome depends on the time it is evaluated."""
        return not any(n.kind == "call" and n.value in ("now",) for n in self.root.walk())

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<Expression {self.text!r}>"


def compile_expression(text: str) -> Expression:
    """The expression of `text`; ExpressionError says what is wrong and where."""
    parser = _Parser(text)
    root = parser.sequence()
    if parser.kind != "end":
        raise parser.error(f"{parser.token!r} is unexpected")
    return Expression(text, root)


class _Parser:
    """Precedence climbing over tokens; precedences are expr-lang's."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = self.start = 0
        self.kind = self.token = ""
        self.depth = 0
        self.advance()

    def error(self, message: str) -> ExpressionError:
        return ExpressionError(f"expression {self.text!r}: {message} at column {self.start + 1}")

    def advance(self) -> None:
        match = _TOKEN.match(self.text, self.at)
        if match is None:
            rest = self.text[self.at :].lstrip()
            self.start = len(self.text) - len(rest)
            if rest:
                raise self.error(f"{rest[0]!r} is unexpected")
            self.kind, self.token = "end", "the end"
            return
        self.kind = str(match.lastgroup)
        self.token = match[self.kind]
        self.start = match.start(self.kind)
        self.at = match.end()

    def take(self, token: str) -> bool:
        if self.kind in ("op", "name") and self.token == token:
            self.advance()
            return True
        return False

    def expect(self, token: str) -> None:
        if not self.take(token):
            raise self.error(f"{token!r} is missing before {self.token!r}")

    def sequence(self) -> Node:
        if self.kind == "name" and self.token == "let":
            self.advance()
            name = self.name()
            self.expect("=")
            value = self.expression(0)
            self.expect(";")
            return Node("let", name, (value, self.sequence()))
        return self.expression(0)

    def name(self) -> str:
        if self.kind != "name":
            raise self.error(f"a name is missing before {self.token!r}")
        name = self.token
        self.advance()
        return name

    def expression(self, lowest: int) -> Node:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise self.error("the expression is nested too deeply")
        left = self.unary()
        while True:
            if self.kind not in ("op", "name"):
                break
            op = self.token
            if op == "|" and lowest == 0:
                self.advance()
                left = self.call(self.name(), [left])
                left = self.postfix(left)
                continue
            negate = False
            if op == "not":
                save = (self.at, self.start, self.kind, self.token)
                self.advance()
                if self.token not in _NEGATABLE:
                    self.at, self.start, self.kind, self.token = save
                    break
                negate, op = True, self.token
            rank = _BINARY.get(op)
            if rank is None or rank < lowest:
                break
            self.advance()
            right = self.expression(rank if op in ("**", "^") else rank + 1)
            left = self.binary(op, left, right)
            if negate:
                left = Node("unary", "not", (left,))
        if lowest == 0 and self.kind == "op" and self.token == "?":
            self.advance()
            if self.take(":"):
                left = Node("binary", "or_else", (left, self.expression(0)))
            else:
                yes = self.expression(0)
                self.expect(":")
                left = Node("ternary", None, (left, yes, self.expression(0)))
        self.depth -= 1
        return left

    def binary(self, op: str, left: Node, right: Node) -> Node:
        op = {"&&": "and", "||": "or", "^": "**"}.get(op, op)
        if op == "matches" and right.kind == "const" and isinstance(right.value, str):
            try:
                pattern(right.value)
            except PatternError as error:
                raise self.error(f"{right.value!r} is not a regular expression ({error})") from None
        return Node("binary", op, (left, right))

    def unary(self) -> Node:
        if self.kind in ("op", "name") and self.token in ("!", "not", "-", "+"):
            op = self.token
            self.advance()
            # `not` and `!` bind looser than arithmetic, tighter than comparison; signs tighter than both.
            operand = self.expression(50 if op in ("!", "not") else 90)
            return Node("unary", "not" if op == "!" else op, (operand,))
        return self.postfix(self.primary())

    def postfix(self, node: Node) -> Node:
        while self.kind == "op":
            if self.token in (".", "?."):
                optional = self.token == "?."
                self.advance()
                if optional and self.take("["):
                    key = self.expression(0)
                    self.expect("]")
                else:
                    name = self.name()
                    if self.kind == "op" and self.token == "(":
                        raise self.error(f"the method {name!r} is unknown")
                    key = Node("const", name)
                node = Node("member", optional, (node, key))
            elif self.token == "[":
                self.advance()
                if self.take(":"):
                    node = self.slice(node, Node("const", None))
                    continue
                key = self.expression(0)
                if self.take(":"):
                    node = self.slice(node, key)
                    continue
                self.expect("]")
                node = Node("member", False, (node, key))
            else:
                break
        return node

    def slice(self, node: Node, low: Node) -> Node:
        high = Node("const", None)
        if not (self.kind == "op" and self.token == "]"):
            high = self.expression(0)
        self.expect("]")
        return Node("slice", None, (node, low, high))

    def primary(self) -> Node:
        kind, token = self.kind, self.token
        if kind == "number":
            self.advance()
            text = token.replace("_", "")
            try:
                if text[:2].lower() in ("0x", "0b", "0o"):
                    return Node("const", int(text, 0))
                return Node("const", float(text) if any(c in text for c in ".eE") else int(text))
            except ValueError:
                raise self.error(f"{token!r} is not a number") from None
        if kind == "string":
            value = self.string(token)
            self.advance()
            return Node("const", value)
        if kind == "name":
            self.advance()
            if token in ("true", "false"):
                return Node("const", token == "true")
            if token in ("nil", "null"):
                return Node("const", None)
            if self.kind == "op" and self.token == "(":
                return self.call(token, [])
            return Node("name", token)
        if self.take("("):
            node = self.sequence()
            self.expect(")")
            return node
        if self.take("["):
            return Node("list", None, tuple(self.items("]")))
        if self.take("{"):
            return self.map()
        if self.take("#"):
            if self.kind == "name" and self.token in ("index", "acc"):
                return Node("name", "#" + self.name())
            return Node("name", "#")
        if kind == "op" and token == ".":
            self.advance()
            return Node("member", False, (Node("name", "#"), Node("const", self.name())))
        raise self.error(f"{token!r} is unexpected")

    def items(self, end: str) -> list[Node]:
        out: list[Node] = []
        while not self.take(end):
            if out:
                self.expect(",")
                if self.take(end):
                    break
            out.append(self.expression(0))
        return out

    def map(self) -> Node:
        out: list[Node] = []
        while not self.take("}"):
            if out:
                self.expect(",")
                if self.take("}"):
                    break
            if self.kind == "string":
                key = Node("const", self.string(self.token))
                self.advance()
            elif self.kind in ("name", "number"):
                key = Node("const", self.token)
                self.advance()
            else:
                self.expect("(")
                key = self.expression(0)
                self.expect(")")
            self.expect(":")
            out += [key, self.expression(0)]
        return Node("map", None, tuple(out))

    def call(self, name: str, first: list[Node]) -> Node:
        self.expect("(")
        if name in PREDICATES:
            args = list(first)
            if not args:
                args.append(self.expression(0))
                if not self.take(","):
                    self.expect(")")
                    return Node("predicate", name, (args[0],))
            braces = self.take("{")
            if not (self.kind == "op" and self.token == ")"):
                args.append(self.sequence())
            if braces:
                self.expect("}")
            args += [self.expression(0)] if self.take(",") else []
            self.take(",")
            self.expect(")")
            return Node("predicate", name, tuple(args))
        args = first + self.items(")")
        if name not in FUNCTIONS:
            raise self.error(f"the function {name!r} is unknown")
        low, high, _ = FUNCTIONS[name]
        if not low <= len(args) <= high:
            raise self.error(f"{name} takes {low} to {high} arguments, not {len(args)},")
        return Node("call", name, tuple(args))

    def string(self, token: str) -> str:
        body = token[1:-1]
        if token[0] == "`" or "\\" not in body:
            return body

        def unescape(match: re.Match[str]) -> str:
            code = match[1]
            if code[0] in "xuU" and len(code) > 1:
                return chr(int(code[1:], 16))
            if len(code) == 3:
                return chr(int(code, 8))
            if code in _ESCAPES:
                return _ESCAPES[code]
            if code in "\\\"'`/?":
                return code
            raise self.error(f"\\{code} is not an escape; write \\\\ for a backslash")

        try:
            return re.sub(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-3][0-7]{2}|.)", unescape, body, flags=re.DOTALL)
        except (ValueError, OverflowError):
            raise self.error("an escape names no character") from None


def _closure(node: Node) -> Evaluate:
    """The tree as nested closures: the plain twin of the compiled expression."""
    kind, value = node.kind, node.value
    if kind == "const":
        return lambda entry, scope: value
    if kind == "name":
        return _name(value)
    parts = [_closure(child) for child in node.children]
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
        return _lifted(node, evaluate) if node.liftable else evaluate
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


def _lifted(node: Node, evaluate: Evaluate) -> Evaluate:
    """The comparison, or its outcome where the compiler evaluated it ahead (text: the error it gave)."""
    node.plain = evaluate

    def run(entry: Entry, scope: dict[str, Any]) -> Any:
        if entry.lifted is not None and node in entry.lifted:
            found = entry.lifted[node]
            if isinstance(found, str):
                raise ExpressionError(found)
            return found
        return evaluate(entry, scope)

    return run


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
