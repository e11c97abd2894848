"""`severity_parser`: sets the severity and its text from a field."""

from __future__ import annotations

from kofagent.operators.access import Access
from kofagent.operators.blocks import SeverityBlock
from kofagent.operators.entry import Entry
from kofagent.operators.operator import Transformer
from kofagent.operators.options import TransformerConfig


class Config(TransformerConfig, SeverityBlock):
    """Options of severity_parser."""


class SeverityParser(Transformer[Config]):
    """Sets severity and its text."""

    def transform(self, entry: Entry) -> None:
        self.config.apply(entry)

    def access(self) -> Access | None:
        return self.by_options()


OPERATOR = SeverityParser
