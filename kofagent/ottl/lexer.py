"""Text to tokens, as upstream's lexer cuts them (contrib, pkg/ottl/grammar.go)."""

from __future__ import annotations

import re
from typing import NamedTuple

from kofagent.ottl.errors import OttlError

_TOKENS = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<bytes>0x[0-9a-fA-F]+)
  | (?P<float>(?:\d+\.\d*|\.\d+)(?:[eE][-+]?\d+)?)
  | (?P<int>\d+)
  | (?P<string>"(?:\\.|[^\\"])*")
  | (?P<compare>==|!=|>=|<=|>|<)
  | (?P<keyword>(?:and|or|not|true|false)\b)
  | (?P<upper>[A-Z][A-Z0-9_]*)
  | (?P<lower>[a-z][a-z0-9_]*)
  | (?P<punct>[-+*/=(){}:,.\[\]])
""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)", re.DOTALL)
_SIMPLE = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "\\": "\\", '"': '"'}
_HINTS = {"'": '; strings are written in "double quotes"', "`": '; strings are written in "double quotes"'}
_HINTS |= {"&": "; write `and`", "|": "; write `or`", "!": "; write `not`"}


class Token(NamedTuple):
    """`kind` is the group's name in the pattern or `end`; `column` counts from 1."""

    kind: str
    text: str
    column: int


def tokens(text: str) -> list[Token]:
    """All tokens, followed by `end`. OttlError for a character that does not start a token.

    The name of a function is a run of `upper` and `lower` tokens, of a path's part one `lower`.
    """
    out = []
    at = 0
    while at < len(text):
        match = _TOKENS.match(text, at)
        if match is None:
            if text[at] == '"':
                raise OttlError('unterminated string: missing closing "', at + 1)
            raise OttlError(f"unexpected {text[at]!r}{_HINTS.get(text[at], '')}", at + 1)
        kind = str(match.lastgroup)
        if kind != "space":
            out.append(Token(kind, match[0], at + 1))
        at = match.end()
    out.append(Token("end", "", at + 1))
    return out


def unquote(token: Token) -> str:
    """The value of a string token; the escapes are Go's, and what they make is UTF-8."""
    text = token.text[1:-1]
    if "\\" not in text:
        return text

    def one(match: re.Match[str]) -> bytes:
        body = match[1]
        column = token.column + match.start() + 1
        if body[0] in "uU" and len(body) > 1:
            code = int(body[1:], 16)
            if code > 0x10FFFF or 0xD800 <= code < 0xE000:
                raise OttlError(f"invalid escape: \\{body}", column)
            return chr(code).encode()
        if body[0] == "x" and len(body) > 1:
            return bytes([int(body[1:], 16)])
        if len(body) == 3:
            if (code := int(body, 8)) > 255:
                raise OttlError(f"invalid escape: \\{body}", column)
            return bytes([code])
        if body not in _SIMPLE:
            raise OttlError(f"unknown escape \\{body}; write \\\\{body} for a backslash before {body}", column)
        return _SIMPLE[body].encode()

    parts: list[bytes] = []
    at = 0
    for match in _ESCAPE.finditer(text):
        parts += [text[at : match.start()].encode("utf-8", "surrogatepass"), one(match)]
        at = match.end()
    parts.append(text[at:].encode("utf-8", "surrogatepass"))
    return b"".join(parts).decode("utf-8", "replace")
