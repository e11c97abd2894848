"""`regex_parser`: named groups of an RE2 pattern become fields. An entry it does not match is an error (`on_error`)."""

from __future__ import annotations

from typing import Any

from pydantic import Field as Option
from pydantic import field_validator

from kofagent.config.base import ComponentConfig
from kofagent.operators.entry import Entry
from kofagent.operators.operator import OperatorError
from kofagent.operators.parser import Parser, ParserConfig, text_of
from kofagent.operators.regex import Pattern, pattern


class CacheBlock(ComponentConfig):
    """`cache`: accepted for compatibility; what repeats is remembered anyway."""

    size: int = Option(0, ge=0, le=65535, description="Accepted for compatibility.")


class Config(ParserConfig):
    """Options of regex_parser."""

    regex: str = Option(description="RE2 pattern with named groups, as (?P<name>...).")
    cache: CacheBlock = Option(CacheBlock(), description="Accepted for compatibility; what repeats is remembered anyway.")

    @field_validator("regex")
    @classmethod
    def _compiles(cls, value: str) -> str:
        if not pattern(value).names:
            raise ValueError("the pattern has no named group; write (?P<name>...) around what is to become a field")
        return value


class RegexParser(Parser):
    """Parses text with a pattern."""

    Config = Config

    def __init__(self, config: Any, id: str) -> None:
        super().__init__(config, id)
        self.pattern: Pattern = pattern(config.regex)

    def parse(self, value: Any, entry: Entry) -> Any:
        if entry.lifted is not None and self in entry.lifted:
            found = entry.lifted[self]
        else:
            found = self.pattern.groups(text_of(value))
        if found is None:
            raise OperatorError("the pattern does not match")
        return dict(found)


OPERATOR = RegexParser
