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
from kofagent.transform.quoted import split_quoted


class Config(ParserConfig):
    """Options of key_value_parser."""

    delimiter: str = Option("=", min_length=1, description="Separator of key and value.")
    pair_delimiter: str = Option("", description="Separator of pairs; empty: a space.")

    @model_validator(mode="after")
    def _different(self) -> Config:
        if self.delimiter == (self.pair_delimiter or " "):
            raise ValueError("delimiter and pair_delimiter are the same")
        return self


class KeyValueParser(Parser[Config]):
    """Parses pairs."""

    def parse(self, value: Any, entry: Entry) -> Any:
        text = text_of(value)
        if not text:
            raise OperatorError(f"{self.config.parse_from} is empty")
        try:
            parts = split_quoted(text, self.config.pair_delimiter or " ")
        except ValueError as error:
            raise OperatorError(str(error)) from None
        out = {}
        for part in parts:
            key, found, rest = part.partition(self.config.delimiter)
            if not found:
                raise OperatorError("a pair has no delimiter")
            out[key.strip()] = rest.strip()
        return out

    def access(self) -> Access | None:
        return self.by_options()


OPERATOR = KeyValueParser
