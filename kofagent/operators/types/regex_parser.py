"""`regex_parser`: parses a field with an RE2 pattern whose named groups become fields.

An entry that it does not match is an error (`on_error`).
"""

from __future__ import annotations

from typing import Any

from pydantic import Field as Option
from pydantic import field_validator

from kofagent.config.base import ComponentConfig
from kofagent.operators.access import Access
from kofagent.operators.entry import Entry
from kofagent.operators.errors import OperatorError
from kofagent.operators.field import BODY
from kofagent.operators.parser import Parser, ParserConfig, text_of
from kofagent.operators.regex import pattern


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


class RegexParser(Parser[Config]):
    """Parses a string with a pattern."""

    def __init__(self, config: Config, id: str) -> None:
        super().__init__(config, id)
        self.pattern = pattern(config.regex)

    def parsed(self, entry: Entry) -> Any:
        if entry.lifted is not None and self in entry.lifted:
            return self._found(entry.lifted[self])
        return super().parsed(entry)

    def parse(self, value: Any, entry: Entry) -> Any:
        return self._found(self.pattern.groups(text_of(value)))

    @staticmethod
    def _found(groups: dict[str, str] | None) -> dict[str, str]:
        if groups is None:
            raise OperatorError("the pattern does not match")
        return dict(groups)

    def access(self) -> Access | None:
        return self.by_options(search=self.pattern if self.config.parse_from == BODY else None)


OPERATOR = RegexParser
