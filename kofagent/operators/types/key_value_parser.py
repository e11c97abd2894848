"""`key_value_parser`: parses pairs such as `a=b c="d e"` into fields.

Quotes keep delimiters together; a part without a delimiter is an error.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field as Option
from pydantic import model_validator

from kofagent.operators.access import Access
from kofagent.operators.entry import Entry
from kofagent.operators.errors import OperatorError
from kofagent.operators.parser import Parser, ParserConfig, text_of


class Config(ParserConfig):
    """Options of key_value_parser."""

    delimiter: str = Option("=", min_length=1, description="Separator of key and value.")
    pair_delimiter: str = Option("", description="Separator of pairs; empty: a space.")

    @model_validator(mode="after")
    def _different(self) -> Config:
        if self.delimiter == (self.pair_delimiter or " "):
            raise ValueError("delimiter and pair_delimiter are the same")
        return self


def split_quoted(text: str, delimiter: str) -> list[str]:
    """The parts between delimiters that are not in quotes, without quotes and empty parts; OperatorError for an unclosed quote."""
    out: list[str] = []
    current: list[str] = []
    quote = ""
    escaped = False
    at = 0
    while at < len(text):
        if not quote and text.startswith(delimiter, at):
            if current:
                out.append("".join(current))
                current = []
            at += len(delimiter)
            continue
        char = text[at]
        at += 1
        if escaped:
            escaped = False
        else:
            if not quote and char in "\"'":
                quote = char
                continue
            if char == quote:
                quote = ""
                continue
            escaped = char == "\\"
        current.append(char)
    if quote:
        raise OperatorError("a quote is not closed")
    if current:
        out.append("".join(current))
    return out


class KeyValueParser(Parser[Config]):
    """Parses pairs."""

    def parse(self, value: Any, entry: Entry) -> Any:
        text = text_of(value)
        if not text:
            raise OperatorError(f"{self.config.parse_from} is empty")
        out = {}
        for part in split_quoted(text, self.config.pair_delimiter or " "):
            key, found, rest = part.partition(self.config.delimiter)
            if not found:
                raise OperatorError("a pair has no delimiter")
            out[key.strip()] = rest.strip()
        return out

    def access(self) -> Access | None:
        return self.by_options()


OPERATOR = KeyValueParser
