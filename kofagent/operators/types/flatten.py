"""`flatten`: puts the members of a map one level up, next to where the map was."""

from __future__ import annotations

from kofagent.operators.access import Access
from kofagent.operators.entry import Entry
from kofagent.operators.errors import OperatorError
from kofagent.operators.field import MISSING, Field
from kofagent.operators.operator import Transformer
from kofagent.operators.options import FieldConfig


class Flatten(Transformer[FieldConfig]):
    """Puts the members of a map one level up."""

    def transform(self, entry: Entry) -> None:
        field = self.config.field
        value = field.get(entry)
        if value is MISSING:
            raise OperatorError(f"the entry has no {field}")
        if not isinstance(value, dict):
            raise OperatorError(f"{field} is not a map")
        field.delete(entry)
        for key, inner in value.items():
            Field(field.root, (*field.keys[:-1], key)).set(entry, inner)

    def access(self) -> Access | None:
        return self.by_options()


OPERATOR = Flatten
