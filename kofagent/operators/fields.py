"""Operators that move fields about: add, copy, move, remove, retain, flatten, assign_keys, unquote, sanitize_utf8,
regex_replace, noop."""

from __future__ import annotations

import ast
import re
from typing import Any, Literal

from pydantic import Field as Option
from pydantic import PrivateAttr, field_validator, model_validator

from kofagent.config.re2 import Regexp
from kofagent.operators.entry import Entry, deep
from kofagent.operators.expression import Expression, ExpressionError, compile_expression
from kofagent.operators.field import MISSING
from kofagent.operators.operator import (
    AnyField,
    OperatorError,
    RootableField,
    Transformer,
    TransformerConfig,
    type_name,
)
from kofagent.operators.regex import pattern

EXPRESSION_START = "EXPR("


class AddConfig(TransformerConfig):
    """Options of add."""

    field: AnyField = Option(description="Field that is set.")
    value: Any = Option(None, description="Value, or an expression as EXPR(...).")
    _expression: Expression | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _compile(self) -> AddConfig:
        if self.value is None:
            raise ValueError("value is missing")
        if isinstance(self.value, str) and self.value.startswith(EXPRESSION_START) and self.value.endswith(")"):
            self._expression = compile_expression(self.value[len(EXPRESSION_START) : -1])
        return self

    @property
    def expression(self) -> Expression | None:
        """The value's expression, None for a plain value."""
        return self._expression


class Add(Transformer):
    """Sets a field to a value."""

    Config = AddConfig

    def expressions(self) -> Any:
        yield from super().expressions()
        if self.config.expression is not None:
            yield self.config.expression

    def transform(self, entry: Entry) -> None:
        expression = self.config.expression
        if expression is None:
            value = self.config.value
        else:
            try:
                value = expression.evaluate(entry)
            except ExpressionError as error:
                raise OperatorError(f"value: {error}") from None
        self.config.field.set(entry, deep(value))


class FromToConfig(TransformerConfig):
    """Options of copy and move."""

    from_: AnyField = Option(alias="from", description="Field that is read.")
    to: AnyField = Option(description="Field that is written.")


class Copy(Transformer):
    """Copies a field."""

    Config = FromToConfig

    def transform(self, entry: Entry) -> None:
        value = self.config.from_.get(entry)
        if value is MISSING:
            raise OperatorError(f"the entry has no {self.config.from_}")
        self.config.to.set(entry, deep(value))


class Move(Transformer):
    """Moves a field."""

    Config = FromToConfig

    def transform(self, entry: Entry) -> None:
        value = self.config.from_.delete(entry)
        if value is MISSING:
            raise OperatorError(f"the entry has no {self.config.from_}")
        self.config.to.set(entry, value)


class RemoveConfig(TransformerConfig):
    """Options of remove."""

    field: RootableField = Option(description="Field that is removed; attributes and resource as a whole are allowed.")


class Remove(Transformer):
    """Removes a field."""

    Config = RemoveConfig

    def transform(self, entry: Entry) -> None:
        if self.config.field.delete(entry) is MISSING:
            raise OperatorError(f"the entry has no {self.config.field}")


class RetainConfig(TransformerConfig):
    """Options of retain."""

    fields: list[AnyField] = Option(description="Fields that stay; the rest of the same root goes.")

    @field_validator("fields")
    @classmethod
    def _some(cls, value: list[Any]) -> list[Any]:
        if not value:
            raise ValueError("fields is empty")
        return value


class Retain(Transformer):
    """Keeps some fields. A root (body, attributes, resource) none of them is in stays whole."""

    Config = RetainConfig

    def transform(self, entry: Entry) -> None:
        roots = {field.root for field in self.config.fields}
        kept = Entry(
            None if "body" in roots else entry.body,
            {} if "attributes" in roots else entry.attributes,
            {} if "resource" in roots else entry.resource,
            0,
        )
        for field in self.config.fields:
            value = field.get(entry)
            if value is not MISSING:
                field.set(kept, value)
        entry.body, entry.attributes, entry.resource = kept.body, kept.attributes, kept.resource


class FieldConfig(TransformerConfig):
    """Options of flatten and unquote."""

    field: AnyField = Option(description="Field that is worked on.")


class Flatten(Transformer):
    """Puts the members of a map one level up, beside where the map was."""

    Config = FieldConfig

    def transform(self, entry: Entry) -> None:
        field = self.config.field
        value = field.get(entry)
        if value is MISSING:
            raise OperatorError(f"the entry has no {field}")
        if not isinstance(value, dict):
            raise OperatorError(f"{field} is not a map")
        field.delete(entry)
        parent = type(field)(field.root, field.keys[:-1])
        for key, inner in value.items():
            type(field)(parent.root, (*parent.keys, key)).set(entry, inner)


class AssignKeysConfig(FieldConfig):
    """Options of assign_keys."""

    keys: list[str] = Option(min_length=1, description="Names of the elements, in order.")


class AssignKeys(Transformer):
    """Turns a list into a map with these keys."""

    Config = AssignKeysConfig

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


class Unquote(Transformer):
    """Takes the quotes of a Go string literal off: "..." and '.' with escapes, `...` without."""

    Config = FieldConfig

    def transform(self, entry: Entry) -> None:
        value = self.config.field.get(entry)
        if value is MISSING:
            return
        if not isinstance(value, str):
            raise OperatorError(f"{type_name(value)} cannot be unquoted")
        self.config.field.set(entry, unquote(value))


_ESCAPE = r"\\(?:[abfnrtv\\]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-3][0-7]{2})"
_DOUBLE = re.compile(rf'"(?:[^"\\\n]|\\"|{_ESCAPE})*"')
_SINGLE = re.compile(rf"'(?:[^'\\\n]|\\'|{_ESCAPE})'")


def unquote(text: str) -> str:
    """The text of a quoted Go literal; OperatorError when it is none."""
    if len(text) >= 2 and text[0] == text[-1] == "`" and "`" not in text[1:-1]:
        return text[1:-1].replace("\r", "")
    if not _DOUBLE.fullmatch(text) and not _SINGLE.fullmatch(text):
        raise OperatorError("the value is not quoted")
    # \x and octal escapes are bytes in Go; made of bytes here too, they form UTF-8 again.
    out = bytearray()
    for piece in re.finditer(rf"\\['\"]|{_ESCAPE}|[^\\]", text[1:-1], re.DOTALL):
        part = piece[0]
        if part[0] != "\\":
            out += part.encode("utf-8", "replace")
        elif part[1] == "x":
            out.append(int(part[2:], 16))
        elif part[1].isdigit():
            out.append(int(part[1:], 8))
        elif part[1] in "uU":
            code = int(part[2:], 16)
            if code > 0x10FFFF or 0xD800 <= code < 0xE000:
                raise OperatorError("an escape names no character")
            out += chr(code).encode()
        else:
            out += str(ast.literal_eval(f'"{part}"')).encode()
    return out.decode("utf-8", "replace")


class SanitizeConfig(TransformerConfig):
    """Options of sanitize_utf8."""

    field: AnyField = Option("body", validate_default=True, description="Field that is worked on.")


class SanitizeUtf8(Transformer):
    """Replaces what is not valid UTF-8. Text in an entry is valid already, so only lone surrogates can be found."""

    Config = SanitizeConfig

    def transform(self, entry: Entry) -> None:
        value = self.config.field.get(entry)
        if value is MISSING:
            return
        if not isinstance(value, str):
            raise OperatorError(f"{self.config.field} is not text")
        self.config.field.set(entry, re.sub("[\ud800-\udfff]+", "\ufffd", value))


class RegexReplaceConfig(TransformerConfig):
    """Options of regex_replace."""

    field: AnyField = Option("body", validate_default=True, description="Field that is worked on.")
    regex: Regexp = Option("", description="RE2 pattern of what is replaced.")
    regex_name: Literal["ansi_control_sequences", ""] = Option("", description="A pattern by name, instead of regex.")
    replace_with: str = Option("", description="Replacement; $1 and ${name} are groups, $$ is a dollar.")

    @model_validator(mode="after")
    def _one(self) -> RegexReplaceConfig:
        if bool(self.regex) == bool(self.regex_name):
            raise ValueError("set exactly one of regex and regex_name")
        return self

    @property
    def source(self) -> str:
        """The pattern."""
        return self.regex or r"\x1B\[[\x30-\x3F]*[\x20-\x2F]*[\x40-\x7E]"


class RegexReplace(Transformer):
    """Replaces all matches of a pattern."""

    Config = RegexReplaceConfig

    def __init__(self, config: RegexReplaceConfig, id: str) -> None:
        super().__init__(config, id)
        self.pattern = pattern(config.source)

    def transform(self, entry: Entry) -> None:
        value = self.config.field.get(entry)
        if value is MISSING:
            return
        if not isinstance(value, str):
            raise OperatorError(f"{type_name(value)} cannot be searched")
        self.config.field.set(entry, self.pattern.replace(value, self.config.replace_with))


class Noop(Transformer):
    """Does nothing; a place to route to."""
