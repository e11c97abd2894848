"""`json_parser`: parses a JSON object into fields.

Numbers are doubles as upstream's; with `parse_ints` integers stay integers.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field as Option

from kofagent.operators.access import Access
from kofagent.operators.entry import Entry
from kofagent.operators.errors import OperatorError
from kofagent.operators.json_text import decode_json
from kofagent.operators.parser import Parser, ParserConfig, text_of


class Config(ParserConfig):
    """Options of json_parser."""

    parse_ints: bool = Option(False, description="Keep whole numbers as integers instead of doubles.")


class JsonParser(Parser[Config]):
    """Parses an object."""

    def parse(self, value: Any, entry: Entry) -> Any:
        # With parse_ints upstream reads a stream and takes its first value, whatever follows.
        found = decode_json(text_of(value), integers=self.config.parse_ints, trailing=self.config.parse_ints)
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise OperatorError("the value is not a JSON object")
        return found

    def access(self) -> Access | None:
        return self.by_options()


OPERATOR = JsonParser
