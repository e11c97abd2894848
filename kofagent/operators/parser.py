"""What parsers share: the field they read, where the result goes, and the blocks that work on the result."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, Self, TypeVar

from pydantic import Field as Option
from pydantic import model_validator

from kofagent.operators.access import Access
from kofagent.operators.blocks import ScopeNameBlock, SeverityBlock, TimestampBlock, TraceBlock
from kofagent.operators.entry import Entry
from kofagent.operators.errors import OperatorError, type_name
from kofagent.operators.field import BODY, MISSING
from kofagent.operators.operator import Transformer
from kofagent.operators.options import AnyField, BasicConfig, RootableField, TransformerConfig
from kofagent.operators.regex import Pattern


class ParserConfig(TransformerConfig):
    """Options of operators that parse one field into others."""

    parse_from: AnyField = Option("body", validate_default=True, description="Field that is parsed.")
    parse_to: RootableField = Option("attributes", validate_default=True, description="Field the result is merged into.")
    body: AnyField | None = Option(None, description="Field of the result that becomes the body.")
    timestamp: TimestampBlock | None = Option(None, description="Parses the time from one of the fields.")
    severity: SeverityBlock | None = Option(None, description="Parses the severity from one of the fields.")
    trace: TraceBlock | None = Option(None, description="Parses trace ids from fields.")
    scope_name: ScopeNameBlock | None = Option(None, description="Parses the scope's name from one of the fields.")

    @model_validator(mode="after")
    def _one_body(self) -> Self:
        if self.body is not None and self.parse_to == BODY:
            raise ValueError("body cannot be set when parse_to is body")
        return self


class Block(Protocol):
    """What a block that is embedded in a parser does with an entry."""

    def apply(self, entry: Entry) -> None:
        """Changes the entry; OperatorError when that is impossible."""
        ...


P = TypeVar("P", bound=ParserConfig)


class Parser(Transformer[P]):
    """An operator that parses a value into a map (or, json_array_parser, a list)."""

    Config: ClassVar[type[BasicConfig]] = ParserConfig

    def __init__(self, config: P, id: str) -> None:
        super().__init__(config, id)
        named: tuple[tuple[str, Block | None], ...] = (
            ("timestamp", config.timestamp),
            ("severity", config.severity),
            ("trace", config.trace),
            ("scope_name", config.scope_name),
        )
        self.blocks = [(name, block) for name, block in named if block is not None]

    def parse(self, value: Any, entry: Entry) -> Any:
        """The parsed value; OperatorError when it cannot be."""
        raise NotImplementedError

    def parsed(self, entry: Entry) -> Any:
        """The parsed value of the field; OperatorError if the entry does not have the field."""
        value = self.config.parse_from.get(entry)
        if value is MISSING:
            raise OperatorError(f"the entry has no {self.config.parse_from}")
        return self.parse(value, entry)

    def transform(self, entry: Entry) -> None:
        self.config.parse_to.set(entry, self.parsed(entry))
        if self.config.body is not None:
            body = self.config.body.get(entry)
            if body is not MISSING:
                entry.body = body
        # All blocks are tried; the first error of them counts, as upstream does.
        first: OperatorError | None = None
        for name, block in self.blocks:
            try:
                block.apply(entry)
            except OperatorError as error:
                first = first or OperatorError(f"{name}: {error}")
        if first is not None:
            raise first

    def by_options(self, *, search: Pattern | None = None) -> Access | None:
        """For `access` of parsers that read nothing but `parse_from`, or instead of it the groups of `search` in the body."""
        if self.config.timestamp is not None or self.config.body is not None:
            return None  # sets the time or the body
        return Access.of(self.config, leaving_out="parse_from" if search else "", search=search)


def text_of(value: Any) -> str:
    """The value if it is a string; OperatorError otherwise."""
    if not isinstance(value, str):
        raise OperatorError(f"{type_name(value)} cannot be parsed")
    return value
