"""`scope_name_parser`: sets the name of the instrumentation scope from a field."""

from __future__ import annotations

from kofagent.operators.access import Access
from kofagent.operators.blocks import ScopeNameBlock
from kofagent.operators.entry import Entry
from kofagent.operators.operator import Transformer
from kofagent.operators.options import TransformerConfig


class Config(TransformerConfig, ScopeNameBlock):
    """Options of scope_name_parser."""


class ScopeNameParser(Transformer[Config]):
    """Sets the name of the scope."""

    def transform(self, entry: Entry) -> None:
        self.config.apply(entry)

    def access(self) -> Access | None:
        return self.by_options()


OPERATOR = ScopeNameParser
