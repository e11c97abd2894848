"""`retain`: keeps some fields and removes the others of the same root.

A root (body, attributes, resource) without any of the fields stays complete.
"""

from __future__ import annotations

from pydantic import Field as Option

from kofagent.operators.access import Access
from kofagent.operators.entry import Entry
from kofagent.operators.field import MISSING
from kofagent.operators.operator import Transformer
from kofagent.operators.options import AnyField, TransformerConfig


class Config(TransformerConfig):
    """Options of retain."""

    fields: list[AnyField] = Option(min_length=1, description="Fields that are kept; the rest of the same root is removed.")


class Retain(Transformer[Config]):
    """Keeps some fields."""

    def transform(self, entry: Entry) -> None:
        kept = Entry(None, {}, {}, 0)
        for field in self.config.fields:
            value = field.get(entry)
            if value is not MISSING:
                field.set(kept, value)
        for root in {field.root for field in self.config.fields}:
            setattr(entry, root, getattr(kept, root))

    def access(self) -> Access | None:
        return self.by_options()


OPERATOR = Retain
