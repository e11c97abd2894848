"""`assign_keys`: turns a list into a map with these keys."""

from __future__ import annotations

from pydantic import Field as Option

from kofagent.operators.access import Access
from kofagent.operators.entry import Entry
from kofagent.operators.errors import OperatorError
from kofagent.operators.field import MISSING
from kofagent.operators.operator import Transformer
from kofagent.operators.options import FieldConfig


class Config(FieldConfig):
    """Options of assign_keys."""

    keys: list[str] = Option(min_length=1, description="Names of the elements, in order.")


class AssignKeys(Transformer[Config]):
    """Turns a list into a map."""

    def transform(self, entry: Entry) -> None:
        field = self.config.field
        value = field.get(entry)
        if value is MISSING:
            raise OperatorError(f"the entry has no {field}")
        if not isinstance(value, list):
            raise OperatorError(f"{field} is not a list")
        if len(value) != len(self.config.keys):
            raise OperatorError(f"{field} has {len(value)} elements for {len(self.config.keys)} keys")
        field.set(entry, dict(zip(self.config.keys, value, strict=True)))

    def access(self) -> Access | None:
        return self.by_options()


OPERATOR = AssignKeys
