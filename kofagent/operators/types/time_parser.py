"""`time_parser`: sets the time from a field."""

from __future__ import annotations

from kofagent.operators.blocks import TimestampBlock
from kofagent.operators.entry import Entry
from kofagent.operators.operator import Transformer
from kofagent.operators.options import TransformerConfig


class Config(TransformerConfig, TimestampBlock):
    """Options of time_parser."""


class TimeParser(Transformer[Config]):
    """Sets the time."""

    def transform(self, entry: Entry) -> None:
        self.config.apply(entry)


OPERATOR = TimeParser
