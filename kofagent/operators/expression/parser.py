"""Tokens to tree, by precedence climbing; the precedences are expr-lang's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from kofagent.operators.expression.ast import Node
from kofagent.operators.expression.functions import FUNCTIONS, PREDICATES
from kofagent.operators.expression.lexer import Token, tokens, unquote, wrong
from kofagent.operators.expression.values import ExpressionError
from kofagent.operators.regex import PatternError, pattern

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
_NEGATABLE: Final = ("in", "matches", "contains", "startsWith", "endsWith")
MAX_DEPTH: Final = 100
Macros = Mapping[str, Callable[[Node], Node]]
"""Deepest nesting of brackets, operators on the right side and `let`."""


def parse(text: str, macros: Macros = {}) -> Node:  # noqa: B006 - never changed
    """The tree of an expression; ExpressionError says what is wrong and where.

    `macros`: functions of one argument that are written as the tree they stand for.
    """
    parser = _Parser(text, macros)
    root = parser.sequence()
    if parser.kind != "end":
        raise parser.unexpected()
    return root


class _Parser:
    """One expression; `sequence` reads all of it that is one."""

    def __init__(self, text: str, macros: Macros) -> None:
        self.text = text
        self.macros = macros
        self.tokens = tokens(text)
        self.at = 0
        self.depth = 0

    @property
    def current(self) -> Token:
        return self.tokens[self.at]

    @property
    def kind(self) -> str:
        return self.tokens[self.at].kind

    @property
    def token(self) -> str:
        return self.tokens[self.at].text

    def error(self, message: str) -> ExpressionError:
        return wrong(self.text, message, self.current.column)

    def unexpected(self) -> ExpressionError:
        return self.error(f"unexpected {self.shown()}")

    def shown(self) -> str:
        return "end" if self.kind == "end" else repr(self.token)

    def advance(self) -> Token:
        """The current token, which is behind us then; `end` stays."""
        token = self.current
        if token.kind != "end":
            self.at += 1
        return token

    def take(self, token: str) -> bool:
        if self.kind in ("op", "name") and self.token == token:
            self.advance()
            return True
        return False

    def expect(self, token: str) -> None:
        if not self.take(token):
            raise self.error(f"expected {token!r}, found {self.shown()}")

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error("the expression is nested too deeply")

    def sequence(self) -> Node:
        if self.kind == "name" and self.token == "let":
            self.advance()
            name = self.name()
            self.expect("=")
            value = self.expression(0)
            self.expect(";")
            self.deeper()
            inner = self.sequence()
            self.depth -= 1
            return Node("let", name, (value, inner))
        return self.expression(0)

    def name(self) -> str:
        if self.kind != "name":
            raise self.error(f"expected a name, found {self.shown()}")
        return self.advance().text

    def expression(self, lowest: int) -> Node:
        self.deeper()
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
                following = self.tokens[self.at + 1].text
                if following not in _NEGATABLE:
                    break
                self.advance()
                negate, op = True, following
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
                raise self.error(str(error)) from None
        return Node("binary", op, (left, right))

    def unary(self) -> Node:
        if self.kind in ("op", "name") and self.token in ("!", "not", "-", "+"):
            op = self.advance().text
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
            return Node("const", unquote(self.text, self.advance()))
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
        raise self.unexpected()

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
                key = Node("const", unquote(self.text, self.advance()))
            elif self.kind in ("name", "number"):
                key = Node("const", self.advance().text)
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
        if name in self.macros and len(args) == 1:
            return self.macros[name](args[0])
        if name not in FUNCTIONS:
            raise self.error(f"the function {name!r} is unknown")
        low, high, _ = FUNCTIONS[name]
        if not low <= len(args) <= high:
            count = f"{low} argument{'' if low == 1 else 's'}" if low == high else f"{low} to {high} arguments"
            raise self.error(f"{name} takes {count}, not {len(args)},")
        return Node("call", name, tuple(args))
