"""Options that operators share, and the types of what is written in options: fields, expressions, templates, ids."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, PlainSerializer, WithJsonSchema
from pydantic import Field as Option

from kofagent.config.base import ComponentConfig
from kofagent.operators.expression import Expression, ExpressionError, compile_expression
from kofagent.operators.field import Field, FieldError, parse_field
from kofagent.operators.template import Template, parse_template


def _field(value: Any) -> Field:
    try:
        return parse_field(value)
    except FieldError as error:
        raise ValueError(str(error)) from None


def _rootable(value: Any) -> Field:
    try:
        return parse_field(value, rootable=True)
    except FieldError as error:
        raise ValueError(str(error)) from None


def _expression(value: Any) -> Expression:
    if isinstance(value, Expression):
        return value
    if isinstance(value, bool):
        value = "true" if value else "false"
    try:
        return compile_expression(str(value))
    except ExpressionError as error:
        raise ValueError(str(error)) from None


def _template(value: Any) -> Any:
    return parse_template(value) if isinstance(value, str) else value


def _outputs(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


_STRING = WithJsonSchema({"type": "string"})
_WRITTEN = PlainSerializer(str, return_type=str)
AnyField = Annotated[Field, BeforeValidator(_field), _STRING, _WRITTEN]
"""A field as a configuration writes it, such as `attributes["a.b"]`."""
RootableField = Annotated[Field, BeforeValidator(_rootable), _STRING, _WRITTEN]
"""The same; `attributes` and `resource` as a whole are allowed."""
ExpressionText = Annotated[Expression, BeforeValidator(_expression), _STRING, _WRITTEN]
"""An expression as a configuration writes it."""
TemplateText = Annotated[Template, BeforeValidator(_template), _STRING, _WRITTEN]
"""A string with `EXPR(...)` in it."""
Outputs = Annotated[list[str], BeforeValidator(_outputs)]
"""One id or a list of ids."""


class BasicConfig(ComponentConfig):
    """Options of every operator."""

    type: str = Option(description="Type of the operator.")
    id: str = Option("", description="Name for `output` and for the counters; empty: the type.")


class WriterConfig(BasicConfig):
    """Options of operators that hand entries on."""

    output: Outputs = Option([], description="Ids of the operators that get the entries; empty: the next one.")


class TransformerConfig(WriterConfig):
    """Options of operators that change entries."""

    on_error: Literal["send", "send_quiet", "drop", "drop_quiet"] = Option(
        "send", description="What is done with an entry that the operator fails on; the quiet ones do not log it."
    )
    if_: ExpressionText | None = Option(
        None,
        alias="if",
        validation_alias=AliasChoices("if", "if_"),
        description="Expression; entries for which it is false pass unchanged.",
    )


class FieldConfig(TransformerConfig):
    """Options of operators that work on one field."""

    field: AnyField = Option(description="Field to process.")


class FromToConfig(TransformerConfig):
    """Options of copy and move."""

    from_: AnyField = Option(alias="from", description="Field that is read.")
    to: AnyField = Option(description="Field that is written.")
