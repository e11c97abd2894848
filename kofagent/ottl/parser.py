"""Tokens to syntax tree, by recursive descent. `or` has the lowest precedence, then `and`, `not`, comparison, + -, * /."""

from __future__ import annotations

from kofagent.ottl import ast
from kofagent.ottl.errors import OttlError
from kofagent.ottl.lexer import Token, tokens, unquote

MAX_DEPTH = 60
MAX_LENGTH = 65536
_RESERVED = ("and", "or", "not", "true", "false", "nil", "where")


class Parser:
    """One text; `condition`, `value` or `statement` reads all of it."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_LENGTH:
            raise OttlError(f"expression of more than {MAX_LENGTH} characters", MAX_LENGTH)
        self._tokens = tokens(text)
        self._at = 0
        self._depth = 0

    # -- whole texts

    def condition(self) -> ast.Node:
        """A boolean expression."""
        node = self._or()
        self._end()
        return node

    def value(self) -> ast.Node:
        """A value expression."""
        node = self._value()
        self._end()
        return node

    def statement(self) -> ast.Statement:
        """`editor(arguments)` and perhaps `where condition`."""
        start = self._peek
        if start.kind != "word" or not start.text[0].islower() or start.text in _RESERVED or self._next.text != "(":
            raise OttlError("a statement begins with an editor, such as set(...) or route()", start.column)
        self._at += 1
        editor = self._call(start)
        if editor.keys:
            raise OttlError("the result of an editor cannot be indexed", start.column)
        where = None
        if self._take("word", "where"):
            where = self._or()
        self._end()
        return ast.Statement(editor, where, start.column)

    # -- booleans

    def _or(self) -> ast.Node:
        first = self._and()
        operands = [first]
        while self._take("word", "or"):
            operands.append(self._and())
        return first if len(operands) == 1 else ast.Or(tuple(operands), operands[0].column)

    def _and(self) -> ast.Node:
        first = self._boolean()
        operands = [first]
        while self._take("word", "and"):
            operands.append(self._boolean())
        return first if len(operands) == 1 else ast.And(tuple(operands), operands[0].column)

    def _boolean(self) -> ast.Node:
        token = self._peek
        self._enter(token)
        try:
            if self._take("word", "not"):
                return ast.Not(self._boolean(), token.column)
            start = self._at
            try:
                left = self._value()
            except OttlError:
                # `(` opens arithmetic or a condition; only the rest of the text tells.
                if token.text != "(":
                    raise
                self._at = start
                return self._group()
            operator = self._peek
            if operator.kind == "compare":
                self._at += 1
                return ast.Comparison(operator.text, left, self._value(), left.column)
            if operator.text == "=":
                raise OttlError("= is not a comparison; write ==", operator.column)
            if isinstance(left, ast.Call) or (isinstance(left, ast.Literal) and isinstance(left.value, bool)):
                return left
            if token.text == "(":
                self._at = start
                return self._group()
            raise OttlError("a condition needs a comparison here (==, !=, <, <=, >, >=)", operator.column)
        finally:
            self._depth -= 1

    def _group(self) -> ast.Node:
        self._expect("(")
        node = self._or()
        self._expect(")")
        return node

    # -- values

    def _value(self) -> ast.Node:
        left = self._product()
        while self._peek.text in ("+", "-") and self._peek.kind == "punct":
            operator = self._advance()
            left = ast.Arithmetic(operator.text, left, self._product(), left.column)
        return left

    def _product(self) -> ast.Node:
        left = self._operand()
        while self._peek.text in ("*", "/") and self._peek.kind == "punct":
            operator = self._advance()
            left = ast.Arithmetic(operator.text, left, self._operand(), left.column)
        return left

    def _operand(self) -> ast.Node:
        token = self._advance()
        self._enter(token)
        try:
            return self._operand_of(token)
        finally:
            self._depth -= 1

    def _operand_of(self, token: Token) -> ast.Node:
        if token.kind in ("int", "float", "bytes", "string"):
            return self._literal(token)
        if token.text in ("+", "-") and token.kind == "punct" and self._peek.kind in ("int", "float"):
            number = self._literal(self._advance())
            return ast.Literal(-number.value if token.text == "-" else number.value, token.column)
        if token.text == "(":
            node = self._value()
            self._expect(")")
            return node
        if token.text == "[":
            items: list[ast.Node] = []
            while not self._take("punct", "]"):
                if items:
                    self._expect(",")
                items.append(self._value())
            return ast.ListNode(tuple(items), token.column)
        if token.text == "{":
            return self._map(token)
        if token.kind != "word":
            found = repr(token.text) if token.kind != "end" else "the end"
            raise OttlError(f"expected a value, found {found}", token.column)
        if token.text in ("true", "false"):
            return ast.Literal(token.text == "true", token.column)
        if token.text == "nil":
            return ast.Literal(None, token.column)
        if token.text in _RESERVED:
            raise OttlError(f"expected a value, found {token.text!r}", token.column)
        if self._peek.text == "(":
            if token.text[0].islower():
                raise OttlError(
                    f"converters begin with a capital letter; {token.text}() is an editor and has no value", token.column
                )
            return self._call(token)
        if token.text.isupper():
            return ast.Enum(token.text, token.column)
        return self._path(token)

    def _literal(self, token: Token) -> ast.Literal:
        if token.kind == "string":
            return ast.Literal(unquote(token), token.column)
        if token.kind == "bytes":
            if len(token.text) % 2:
                raise OttlError("a byte string needs an even number of hex digits", token.column)
            return ast.Literal(bytes.fromhex(token.text[2:]), token.column)
        if token.kind == "float":
            return ast.Literal(float(token.text), token.column)
        value = int(token.text) if len(token.text) < 20 else 1 << 64
        if value >= 1 << 63:
            raise OttlError("integer exceeds 64 bits", token.column)
        return ast.Literal(value, token.column)

    def _map(self, start: Token) -> ast.MapNode:
        items: list[tuple[str, ast.Node]] = []
        while not self._take("punct", "}"):
            if items:
                self._take("punct", ",")
            key = self._advance()
            if key.kind != "string":
                raise OttlError('a map needs "key": value', key.column)
            self._expect(":")
            items.append((unquote(key), self._value()))
        return ast.MapNode(tuple(items), start.column)

    def _call(self, name: Token) -> ast.Call:
        self._expect("(")
        arguments: list[ast.Argument] = []
        while not self._take("punct", ")"):
            if arguments:
                self._expect(",")
            key = ""
            if self._peek.kind == "word" and self._peek.text[0].islower() and self._next.text == "=":
                key = self._advance().text
                self._at += 1
            elif arguments and arguments[-1].name:
                raise OttlError("a positional argument cannot follow a named one", self._peek.column)
            arguments.append(ast.Argument(key, self._value()))
        return ast.Call(name.text, tuple(arguments), self._keys(), name.column)

    def _path(self, token: Token) -> ast.Path:
        fields = [ast.Field(token.text, self._keys(), token.column)]
        while self._take("punct", "."):
            word = self._advance()
            if word.kind != "word":
                raise OttlError("expected a name after the dot", word.column)
            fields.append(ast.Field(word.text, self._keys(), word.column))
        return ast.Path(tuple(fields), token.column)

    def _keys(self) -> tuple[ast.Node, ...]:
        keys = []
        while self._take("punct", "["):
            keys.append(self._value())
            self._expect("]")
        return tuple(keys)

    # -- tokens

    @property
    def _peek(self) -> Token:
        return self._tokens[self._at]

    @property
    def _next(self) -> Token:
        return self._tokens[min(self._at + 1, len(self._tokens) - 1)]

    def _advance(self) -> Token:
        token = self._tokens[self._at]
        if token.kind != "end":
            self._at += 1
        return token

    def _take(self, kind: str, text: str) -> bool:
        token = self._tokens[self._at]
        if token.kind == kind and token.text == text:
            self._at += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        token = self._advance()
        if token.text != text or token.kind == "string":
            found = repr(token.text) if token.kind != "end" else "the end"
            raise OttlError(f"expected {text!r}, found {found}", token.column)

    def _end(self) -> None:
        token = self._peek
        if token.kind != "end":
            raise OttlError(f"unexpected {token.text!r} after the expression", token.column)

    def _enter(self, token: Token) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._depth -= 1
            raise OttlError(f"nested deeper than {MAX_DEPTH} levels", token.column)
