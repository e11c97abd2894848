"""`add`: sets a field to a value or to that of an expression."""

from __future__ import annotations

from typing import Any

from pydantic import Field as Option
from pydantic import field_validator

from kofagent.operators.access import Access
from kofagent.operators.emit import Names
from kofagent.operators.entry import Entry, deep
from kofagent.operators.errors import OperatorError
from kofagent.operators.expression import Expression, ExpressionError
from kofagent.operators.operator import Transformer
from kofagent.operators.options import AnyField, TransformerConfig
from kofagent.operators.template import parse_whole


class Config(TransformerConfig):
    """Options of add."""

    field: AnyField = Option(description="Field that is set.")
    value: Any = Option(description="Value, or an expression as EXPR(...).")

    @field_validator("value")
    @classmethod
    def _expression(cls, value: Any) -> Any:
        if value is None:
            raise ValueError("is missing; add needs it")
        return (parse_whole(value) or value) if isinstance(value, str) else value


class Add(Transformer[Config]):
    """Sets a field to a value."""

    def transform(self, entry: Entry) -> None:
        value = self.config.value
        if isinstance(value, Expression):
            try:
                value = value.evaluate(entry)
            except ExpressionError as error:
                raise OperatorError(f"value: {error}") from None
        self.config.field.set(entry, deep(value))

    def access(self) -> Access | None:
        return self.by_options()

    def statements(self, names: Names) -> list[str]:
        if isinstance(self.config.value, str | int | float):
            place = names.member("k", self.config.field)
            if place is not None:
                return [f"{place[0]}[{place[1]}] = {names.bind('v', self.config.value)}"]
        return super().statements(names)


OPERATOR = Add
