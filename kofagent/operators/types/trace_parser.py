"""`trace_parser`: sets trace id, span id and flags from fields."""

from __future__ import annotations

from kofagent.operators.access import Access
from kofagent.operators.blocks import TraceBlock
from kofagent.operators.entry import Entry
from kofagent.operators.operator import Transformer
from kofagent.operators.options import TransformerConfig


class Config(TransformerConfig, TraceBlock):
    """Options of trace_parser."""


class TraceParser(Transformer[Config]):
    """Sets trace id, span id and flags."""

    def transform(self, entry: Entry) -> None:
        self.config.apply(entry)

    def access(self) -> Access | None:
        return self.by_options()


OPERATOR = TraceParser
