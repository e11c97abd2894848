"""`EXPR(...)` in strings of a configuration: the value of `add`, attributes of routes and of the receiver."""

from __future__ import annotations

from kofagent.operators.entry import Entry
from kofagent.operators.expression import Expression, ExpressionError, compile_expression

EXPRESSION_START = "EXPR("


class Template:
    """A string with `EXPR(...)` in it: `parts` are the strings and the expressions in turn."""

    __slots__ = ("parts", "text")

    def __init__(self, text: str, parts: tuple[str | Expression, ...]) -> None:
        self.text = text
        self.parts = parts

    def __str__(self) -> str:
        return self.text

    @property
    def expressions(self) -> list[Expression]:
        """The expressions in it."""
        return [part for part in self.parts if isinstance(part, Expression)]

    def render(self, entry: Entry) -> str:
        """The string for an entry; ExpressionError where an expression fails or its value is not a string."""
        out = []
        for part in self.parts:
            value = part.evaluate(entry) if isinstance(part, Expression) else part
            if not isinstance(value, str):
                raise ExpressionError("the value of EXPR(...) is not a string; write string(...) around it")
            out.append(value)
        return "".join(out)


def parse_template(text: str) -> Template:
    """The template of `text`; ExpressionError where what is in `EXPR(...)` is not an expression."""
    parts: list[str | Expression] = []
    at = 0
    while True:
        start = text.find(EXPRESSION_START, at)
        following = text.find(EXPRESSION_START, start + 1) if start >= 0 else -1
        end = text.rfind(")", start, following if following >= 0 else len(text)) if start >= 0 else -1
        if end < 0:
            parts.append(text[at:])
            return Template(text, tuple(parts))
        parts.append(text[at:start])
        parts.append(compile_expression(text[start + len(EXPRESSION_START) : end]))
        at = end + 1


def parse_whole(text: str) -> Expression | None:
    """The expression of a string that is `EXPR(...)` as a whole, None for any other; ExpressionError."""
    if text.startswith(EXPRESSION_START) and text.endswith(")"):
        return compile_expression(text[len(EXPRESSION_START) : -1])
    return None
