"""`json_array_parser`: parses a JSON array into a list, or with `header` into a map.

Nested objects stay JSON text.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import Field as Option

from kofagent.operators.access import Access
from kofagent.operators.entry import Entry
from kofagent.operators.errors import OperatorError
from kofagent.operators.json_text import decode_json
from kofagent.operators.parser import Parser, ParserConfig, text_of


class Config(ParserConfig):
    """Options of json_array_parser."""

    header: str = Option("", description="Names of the elements, separated by commas; empty: the result is a list.")


class JsonArrayParser(Parser[Config]):
    """Parses an array."""

    def parse(self, value: Any, entry: Entry) -> Any:
        found = decode_json(text_of(value), integers=True)
        if not isinstance(found, list):
            found = []
        out = [self._element(v) for v in found]
        if not self.config.header:
            return out
        names = self.config.header.split(",")
        if len(names) != len(out):
            raise OperatorError(f"{len(out)} elements where the header names {len(names)}")
        return dict(zip(names, out, strict=True))

    @staticmethod
    def _element(value: Any) -> Any:
        if isinstance(value, list):
            raise OperatorError("the array has an array inside")
        if isinstance(value, float):
            return 0
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False) if isinstance(value, dict) else value

    def access(self) -> Access | None:
        return self.by_options()


OPERATOR = JsonArrayParser
