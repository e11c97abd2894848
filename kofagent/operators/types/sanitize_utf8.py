"""`sanitize_utf8`: replaces what is not valid UTF-8.

Strings in an entry are valid already, so only lone surrogates are found.
"""

from __future__ import annotations

import re

from pydantic import Field as Option

from kofagent.operators.access import Access
from kofagent.operators.entry import Entry
from kofagent.operators.errors import OperatorError
from kofagent.operators.field import MISSING
from kofagent.operators.operator import Transformer
from kofagent.operators.options import AnyField, TransformerConfig


class Config(TransformerConfig):
    """Options of sanitize_utf8."""

    field: AnyField = Option("body", validate_default=True, description="Field to process.")


class SanitizeUtf8(Transformer[Config]):
    """Replaces what is not valid UTF-8."""

    def transform(self, entry: Entry) -> None:
        value = self.config.field.get(entry)
        if value is MISSING:
            return
        if not isinstance(value, str):
            raise OperatorError(f"{self.config.field} is not a string")
        self.config.field.set(entry, re.sub("[\ud800-\udfff]+", "\ufffd", value))

    def access(self) -> Access | None:
        return self.by_options()


OPERATOR = SanitizeUtf8
