"""`copy`: copies a field to another."""

from __future__ import annotations

from kofagent.operators.access import Access
from kofagent.operators.emit import Names
from kofagent.operators.entry import Entry, deep
from kofagent.operators.errors import OperatorError
from kofagent.operators.field import MISSING
from kofagent.operators.operator import Transformer
from kofagent.operators.options import FromToConfig


class Copy(Transformer[FromToConfig]):
    """Copies a field."""

    def transform(self, entry: Entry) -> None:
        value = self.config.from_.get(entry)
        if value is MISSING:
            raise OperatorError(f"the entry has no {self.config.from_}")
        self.config.to.set(entry, deep(value))

    def access(self) -> Access | None:
        return self.by_options()

    def statements(self, names: Names) -> list[str]:
        otherwise = super().statements(names)
        return names.assignment(self.config.from_, self.config.to, remove=False, otherwise=otherwise)


OPERATOR = Copy
