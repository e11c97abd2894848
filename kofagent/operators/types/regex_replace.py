"""`regex_replace`: replaces all matches of a pattern in a field."""

from __future__ import annotations

from typing import Literal

from pydantic import Field as Option
from pydantic import model_validator

from kofagent.config.re2 import Regexp
from kofagent.operators.access import Access
from kofagent.operators.entry import Entry
from kofagent.operators.errors import OperatorError, type_name
from kofagent.operators.field import MISSING
from kofagent.operators.operator import Transformer
from kofagent.operators.options import AnyField, TransformerConfig
from kofagent.operators.regex import pattern


class Config(TransformerConfig):
    """Options of regex_replace."""

    field: AnyField = Option("body", validate_default=True, description="Field to process.")
    regex: Regexp = Option("", description="RE2 pattern of what is replaced.")
    regex_name: Literal["ansi_control_sequences", ""] = Option("", description="A pattern by name, instead of regex.")
    replace_with: str = Option("", description="Replacement; $1 and ${name} are groups, $$ is a dollar.")

    @model_validator(mode="after")
    def _one(self) -> Config:
        if bool(self.regex) == bool(self.regex_name):
            raise ValueError("set exactly one of regex and regex_name")
        return self

    @property
    def source(self) -> str:
        """The pattern."""
        return self.regex or r"\x1B\[[\x30-\x3F]*[\x20-\x2F]*[\x40-\x7E]"


class RegexReplace(Transformer[Config]):
    """Replaces all matches of a pattern."""

    def __init__(self, config: Config, id: str) -> None:
        super().__init__(config, id)
        self.pattern = pattern(config.source)

    def transform(self, entry: Entry) -> None:
        value = self.config.field.get(entry)
        if value is MISSING:
            return
        if not isinstance(value, str):
            raise OperatorError(f"{type_name(value)} cannot be searched")
        self.config.field.set(entry, self.pattern.replace(value, self.config.replace_with))

    def access(self) -> Access | None:
        return self.by_options()


OPERATOR = RegexReplace
