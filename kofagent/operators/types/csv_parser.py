"""`csv_parser`: parses one row of CSV into fields named by a header.

As many fields as names, or it is an error.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field as Option
from pydantic import model_validator

from kofagent.operators.access import Access
from kofagent.operators.entry import Entry
from kofagent.operators.errors import OperatorError
from kofagent.operators.field import MISSING
from kofagent.operators.parser import Parser, ParserConfig, text_of
from kofagent.transform.quoted import read_row


class Config(ParserConfig):
    """Options of csv_parser."""

    header: str = Option("", description="Names of the fields, separated by header_delimiter.")
    header_delimiter: str = Option("", description="Separator of the names in the header; empty: delimiter.")
    header_attribute: str = Option("", description="Attribute that has the header of each entry.")
    delimiter: str = Option("", description="Separator of fields, one character; empty: a comma.")
    lazy_quotes: bool = Option(False, description="Allow quotes inside a field, and unescaped quotes in a quoted one.")
    ignore_quotes: bool = Option(False, description="Quotes have no meaning.")

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        self.delimiter = self.delimiter or ","
        self.header_delimiter = self.header_delimiter or self.delimiter
        if self.ignore_quotes and self.lazy_quotes:
            raise ValueError("only one of ignore_quotes and lazy_quotes can be true")
        if len(self.delimiter) != 1 or len(self.header_delimiter) != 1:
            raise ValueError("delimiter and header_delimiter are one character each")
        if bool(self.header) == bool(self.header_attribute):
            raise ValueError("set exactly one of header and header_attribute")
        if self.header and self.header_delimiter not in self.header:
            raise ValueError("the header has no delimiter in it")
        return self


class CsvParser(Parser[Config]):
    """Parses one row."""

    def parse(self, value: Any, entry: Entry) -> Any:
        config = self.config
        header = config.header
        if not header:
            found = entry.attributes.get(config.header_attribute, MISSING)
            if not isinstance(found, str):
                raise OperatorError(f"the entry has no string in the attribute {config.header_attribute}")
            header = found
        names = header.removeprefix("\ufeff").split(config.header_delimiter)
        text = text_of(value)
        try:
            row = text.split(config.delimiter) if config.ignore_quotes else read_row(text, config.delimiter, config.lazy_quotes)
        except ValueError as error:
            raise OperatorError(str(error)) from None
        if len(row) != len(names):
            raise OperatorError(f"{len(row)} fields where the header names {len(names)}")
        return dict(zip(names, row, strict=True))

    def access(self) -> Access | None:
        return self.by_options()


OPERATOR = CsvParser
