"""`severity_parser`, `time_parser`, `trace_parser` and `scope_name_parser`: the embedded blocks as operators."""

from __future__ import annotations

from typing import Any, ClassVar

from kofagent.operators.blocks import ScopeNameBlock, SeverityBlock, TimestampBlock, TraceBlock
from kofagent.operators.entry import Entry
from kofagent.operators.operator import Transformer, TransformerConfig


class SeverityConfig(TransformerConfig, SeverityBlock):
    """Options of severity_parser."""


class TimeConfig(TransformerConfig, TimestampBlock):
    """Options of time_parser."""


class TraceConfig(TransformerConfig, TraceBlock):
    """Options of trace_parser."""


class ScopeNameConfig(TransformerConfig, ScopeNameBlock):
    """Options of scope_name_parser."""


class SeverityParser(Transformer):
    """Sets severity and its text."""

    Config: ClassVar[Any] = SeverityConfig

    def transform(self, entry: Entry) -> None:
        self.config.apply(entry)


class TimeParser(SeverityParser):
    """Sets the time."""

    Config = TimeConfig


class TraceParser(SeverityParser):
    """Sets trace id, span id and flags."""

    Config = TraceConfig


class ScopeNameParser(SeverityParser):
    """Sets the scope's name."""

    Config = ScopeNameConfig
