"""Text to tokens."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from kofagent.operators.expression.values import ExpressionError

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|(?:[0-9][0-9_]*)?\.[0-9][0-9_]*(?:[eE][+-]?[0-9]+)?|[0-9][0-9_]*(?:[eE][+-]?[0-9]+)?)
    |(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)
    |(?P<name>[A-Za-z_$][A-Za-z0-9_$]*)
    |(?P<op>\?\?|\?\.|&&|\|\||==|!=|<=|>=|\*\*|\.\.|[-+*/%^<>!?:.,()\[\]{}|\#;=])
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-3][0-7]{2}|.)", re.DOTALL)
_SIMPLE: Final = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


class Token(NamedTuple):
    """`kind` is the group's name in the pattern, or `end`; `column` counts from 1."""

    kind: str
    text: str
    column: int


def wrong(text: str, message: str, column: int) -> ExpressionError:
    """The error of an expression that cannot be read."""
    return ExpressionError(f"expression {text!r}: {message} at column {column}")


def tokens(text: str) -> list[Token]:
    """All tokens, followed by one of kind `end`. ExpressionError for a character that begins none."""
    out = []
    at = 0
    while match := _TOKEN.match(text, at):
        kind = str(match.lastgroup)
        out.append(Token(kind, match[kind], match.start(kind) + 1))
        at = match.end()
    rest = text[at:].lstrip()
    column = len(text) - len(rest) + 1
    if rest:
        raise wrong(text, "a string is not closed" if rest[0] in "\"'`" else f"unexpected {rest[0]!r}", column)
    return [*out, Token("end", "the end", column)]


def unquote(text: str, token: Token) -> str:
    """The value of a string token of the expression `text`; the escapes are Go's."""
    body = token.text[1:-1]
    if token.text[0] == "`" or "\\" not in body:
        return body

    def one(match: re.Match[str]) -> str:
        code = match[1]
        if code[0] in "xuU" and len(code) > 1:
            return chr(int(code[1:], 16))
        if len(code) == 3:
            return chr(int(code, 8))
        if code in _SIMPLE:
            return _SIMPLE[code]
        if code in "\\\"'`/?":
            return code
        raise wrong(text, f"unknown escape \\{code}; write \\\\ for a backslash", token.column)

    try:
        return _ESCAPE.sub(one, body)
    except (ValueError, OverflowError) as error:
        if isinstance(error, ExpressionError):
            raise
        raise wrong(text, "invalid escape sequence", token.column) from None
