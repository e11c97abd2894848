"""`remove`: removes a field."""

from __future__ import annotations

from pydantic import Field as Option

from kofagent.operators.access import Access
from kofagent.operators.emit import Names, indent
from kofagent.operators.entry import Entry
from kofagent.operators.errors import OperatorError
from kofagent.operators.field import MISSING
from kofagent.operators.operator import Transformer
from kofagent.operators.options import RootableField, TransformerConfig


class Config(TransformerConfig):
    """Options of remove."""

    field: RootableField = Option(description="Field that is removed; attributes and resource as a whole are allowed.")


class Remove(Transformer[Config]):
    """Removes a field."""

    def transform(self, entry: Entry) -> None:
        if self.config.field.delete(entry) is MISSING:
            raise OperatorError(f"the entry has no {self.config.field}")

    def access(self) -> Access | None:
        return self.by_options()

    def statements(self, names: Names) -> list[str]:
        call = super().statements(names)
        place = names.member("k", self.config.field)
        if place is None:
            return call
        # Missing: the operator itself says so.
        return [f"if {place[0]}.pop({place[1]}, MISSING) is MISSING:", *indent(call, 1)]


OPERATOR = Remove
