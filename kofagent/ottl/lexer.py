"""Text to tokens."""

from __future__ import annotations

import re
from typing import NamedTuple

from kofagent.ottl.errors import OttlError

_TOKENS = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<bytes>0x[0-9a-fA-F]+)
  | (?P<float>\d*\.\d+(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+)
  | (?P<int>\d+)
  | (?P<string>"(?:\\.|[^\\"])*")
  | (?P<compare>==|!=|>=|<=|>|<)
  | (?P<word>[A-Za-z][A-Za-z0-9_]*)
  | (?P<punct>[-+*/=(){}:,.\[\]])
""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)", re.DOTALL)
_SIMPLE = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "\\": "\\", '"': '"', "'": "'"}


class Token(NamedTuple):
    """`kind` is the group's name in the pattern or `end`; `column` counts from 1."""

    kind: str
    text: str
    column: int


def tokens(text: str) -> list[Token]:
    """All tokens, followed by `end`. OttlError for a character that does not start a token."""
    out = []
    at = 0
    while at < len(text):
        match = _TOKENS.match(text, at)
        if match is None:
            if text[at] == '"':
                raise OttlError('unterminated string: missing closing "', at + 1)
            hint = '; strings are written in "double quotes"' if text[at] in "'`" else ""
            hint = hint or ("; write `and`" if text[at] == "&" else "; write `or`" if text[at] == "|" else "")
            hint = hint or ("; write `not`" if text[at] == "!" else "")
            raise OttlError(f"unexpected {text[at]!r}{hint}", at + 1)
        kind = str(match.lastgroup)
        if kind != "space":
            out.append(Token(kind, match[0], at + 1))
        at = match.end()
    out.append(Token("end", "", at + 1))
    return out


def unquote(token: Token) -> str:
    """The value of a string token; the escapes are Go's."""

    def one(match: re.Match[str]) -> str:
        body = match[1]
        if body[0] in "xuU" and len(body) > 1:
            code = int(body[1:], 16)
            if code > 0x10FFFF or 0xD800 <= code < 0xE000:
                raise OttlError(f"invalid escape: \\{body}", token.column + match.start() + 1)
            return chr(code)
        if len(body) == 3:
            return chr(int(body, 8) & 0xFF)
        if body not in _SIMPLE:
            raise OttlError(
                f"unknown escape \\{body}; write \\\\{body} for a backslash before {body}", token.column + match.start() + 1
            )
        return _SIMPLE[body]

    return _ESCAPE.sub(one, token.text[1:-1])
