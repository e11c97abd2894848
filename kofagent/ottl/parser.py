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
        name = self._name()
        if not name or name[0].isupper() or name in _RESERVED or self._peek.text != "(":
            if name and name[0].isupper() and self._peek.text == "(":
                raise OttlError(f"{name} is a converter; a statement begins with an editor, such as set(...)", start.column)
            raise OttlError("a statement begins with an editor, such as set(...) or route()", start.column)
        editor = self._call(Token("lower", name, start.column))
        if editor.keys:
            raise OttlError("the result of an editor cannot be indexed", start.column)
        where = None
        if self._take("lower", "where"):
            where = self._or()
        self._end()
        return ast.Statement(editor, where, start.column)

    # -- booleans

    def _or(self) -> ast.Node:
        first = self._and()
        operands = [first]
        while self._take("keyword", "or"):
            operands.append(self._and())
        return first if len(operands) == 1 else ast.Or(tuple(operands), operands[0].column)

    def _and(self) -> ast.Node:
        first = self._boolean()
        operands = [first]
        while self._take("keyword", "and"):
            operands.append(self._boolean())
        return first if len(operands) == 1 else ast.And(tuple(operands), operands[0].column)

    def _boolean(self) -> ast.Node:
        token = self._peek
        self._enter(token)
        try:
            if self._take("keyword", "not"):
                if self._peek.text == "not":
                    raise OttlError("`not not` is not allowed; write `not (not ...)`", self._peek.column)
                return ast.Not(self._test(), token.column)
            return self._test()
        finally:
            self._depth -= 1

    def _test(self) -> ast.Node:
        token, start = self._peek, self._at
        try:
            left = self._value()
        except OttlError as error:
            # `(` opens arithmetic or a condition; only the rest of the text tells.
            if token.text != "(" or token.kind == "string":
                raise
            return self._group_at(start, error)
        operator = self._peek
        if operator.kind == "compare":
            self._at += 1
            return ast.Comparison(operator.text, left, self._value(), left.column)
        if operator.text == "=":
            raise OttlError("= is not a comparison; write ==", operator.column)
        if isinstance(left, ast.Call) or (isinstance(left, ast.Literal) and isinstance(left.value, bool)):
            return left
        if token.text == "(" and token.kind != "string":
            return self._group_at(start, None)
        raise OttlError("a condition needs a comparison here (==, !=, <, <=, >, >=)", operator.column)

    def _group_at(self, start: int, failed: OttlError | None) -> ast.Node:
        """What is in parentheses, as a condition. Of two errors the one that came further is told."""
        self._at = start
        try:
            return self._group()
        except OttlError as error:
            if failed is not None and failed.column > error.column:
                raise failed from None
            raise

    def _group(self) -> ast.Node:
        self._expect("(")
        node = self._or()
        self._expect(")")
        return node

    # -- values

    def _value(self) -> ast.Node:
        token = self._peek
        self._enter(token)
        try:
            plain = self._plain(token)
        finally:
            self._depth -= 1
        if plain is None:
            return self._sum()
        if self._peek.kind == "punct" and self._peek.text in "+-*/":
            raise OttlError("only numbers, times, durations, paths and converters can be calculated with", self._peek.column)
        return plain

    def _plain(self, token: Token) -> ast.Node | None:
        """A value that cannot be calculated with; None where none begins here."""
        if token.kind in ("bytes", "string"):
            return self._literal(self._advance())
        if token.text == "[" and token.kind == "punct":
            return self._list(self._advance())
        if token.text == "{" and token.kind == "punct":
            return self._map(self._advance())
        if token.kind in ("keyword", "lower") and token.text in ("true", "false", "nil"):
            self._at += 1
            return ast.Literal({"true": True, "false": False, "nil": None}[token.text], token.column)
        if token.kind == "upper" and self._next.kind != "lower" and self._next.text != "(":
            self._at += 1
            return ast.Enum(token.text, token.column)
        return None

    def _sum(self) -> ast.Node:
        left = self._product()
        while self._peek.text in ("+", "-") and self._peek.kind == "punct":
            operator = self._advance()
            left = ast.Arithmetic(operator.text, left, self._product(), left.column)
        return left

    def _product(self) -> ast.Node:
        left = self._signed()
        while self._peek.text in ("*", "/") and self._peek.kind == "punct":
            operator = self._advance()
            left = ast.Arithmetic(operator.text, left, self._signed(), left.column)
        return left

    def _signed(self) -> ast.Node:
        token = self._peek
        self._enter(token)
        try:
            if token.text in ("+", "-") and token.kind == "punct":
                self._at += 1
                return ast.Sign(token.text, self._operand(self._advance()), token.column)
            return self._operand(self._advance())
        finally:
            self._depth -= 1

    def _operand(self, token: Token) -> ast.Node:
        if token.kind in ("int", "float"):
            return self._literal(token)
        if token.text == "(" and token.kind == "punct":
            node = self._sum()
            self._expect(")")
            return node
        if token.kind not in ("upper", "lower"):
            found = repr(token.text) if token.kind != "end" else "the end"
            raise OttlError(f"expected a value, found {found}", token.column)
        if token.kind == "lower" and token.text in _RESERVED:
            raise OttlError(f"expected a value, found {token.text!r}", token.column)
        start = self._at
        self._at -= 1
        name = self._name()
        if self._peek.text == "(" and self._peek.kind == "punct":
            if name[0].islower():
                raise OttlError(f"converters begin with a capital letter; {name}() is an editor and has no value", token.column)
            return self._call(Token("upper", name, token.column))
        if token.kind == "upper":
            raise OttlError(f"expected {name}(...), a path or a literal", token.column)
        self._at = start
        return self._path(token)

    def _name(self) -> str:
        """The name of a function: tokens of letters in a row. Empty where none begins here."""
        parts: list[str] = []
        while self._peek.kind in ("upper", "lower"):
            if parts and self._peek.text == "where":
                break
            parts.append(self._advance().text)
        return "".join(parts)

    def _list(self, start: Token) -> ast.ListNode:
        items: list[ast.Node] = []
        while not self._take("punct", "]"):
            if items:
                self._expect(",")
            items.append(self._value())
        return ast.ListNode(tuple(items), start.column)

    def _literal(self, token: Token) -> ast.Literal:
        if token.kind == "string":
            return ast.Literal(unquote(token), token.column)
        if token.kind == "bytes":
            if len(token.text) % 2:
                raise OttlError("a byte string needs an even number of hex digits", token.column)
            return ast.Literal(bytes.fromhex(token.text[2:]), token.column)
        if token.kind == "float":
            return ast.Literal(float(token.text), token.column)
        value = int(token.text) if len(token.text.lstrip("0")) < 20 else 1 << 64
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
            column = self._peek.column
            key = self._argument_name()
            if not key and arguments and arguments[-1].name:
                raise OttlError("a positional argument cannot follow a named one", self._peek.column)
            arguments.append(ast.Argument(key, self._argument(), column))
        return ast.Call(name.text, tuple(arguments), self._keys(), name.column)

    def _argument_name(self) -> str:
        start = self._at
        if self._peek.kind == "lower":
            name = self._name()
            if self._take("punct", "="):
                return name
        self._at = start
        return ""

    def _argument(self) -> ast.Node:
        token, start = self._peek, self._at
        if token.kind == "upper" and self._next.kind == "lower":
            name = self._name()
            if self._peek.text in (",", ")") and self._peek.kind == "punct":
                return ast.FunctionName(name, token.column)
            self._at = start
        return self._value()

    def _path(self, token: Token) -> ast.Path:
        fields = [ast.Field(token.text, self._keys(), token.column)]
        while self._take("punct", "."):
            word = self._advance()
            if word.kind != "lower":
                raise OttlError("expected a name after the dot", word.column)
            fields.append(ast.Field(word.text, self._keys(), word.column))
        return ast.Path(tuple(fields), token.column)

    def _keys(self) -> tuple[ast.Node, ...]:
        keys = []
        while self._take("punct", "["):
            token = self._peek
            if token.kind in ("string", "int"):
                self._at += 1
                keys.append(self._literal(token))
            else:
                keys.append(self._sum())
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
