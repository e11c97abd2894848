"""`noop`: does nothing; an operator to route to."""

from __future__ import annotations

from kofagent.operators.access import Access
from kofagent.operators.emit import Names
from kofagent.operators.operator import Transformer
from kofagent.operators.options import TransformerConfig


class Noop(Transformer[TransformerConfig]):
    """Does nothing."""

    def access(self) -> Access | None:
        return self.by_options()

    def statements(self, names: Names) -> list[str]:
        return ["pass"]


OPERATOR = Noop
