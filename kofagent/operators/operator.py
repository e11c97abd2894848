"""What all operators share: options, conditions, `on_error`, the way to the next operator. The plain, obvious twin.

An operator changes an `Entry` in place (`transform`) or decides where it goes (`process`). Errors are `OperatorError`;
`on_error` says whether the entry goes on as it is then (`send`) or is dropped, counted under the operator's id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, ClassVar, Literal, Protocol

from pydantic import AliasChoices, BeforeValidator, PlainSerializer, WithJsonSchema
from pydantic import Field as Option

from kofagent.config.base import ComponentConfig
from kofagent.operators.entry import Entry
from kofagent.operators.expression import Expression, ExpressionError, compile_expression
from kofagent.operators.field import Field, FieldError, parse_field


class OperatorError(Exception):
    """An operator cannot do its work on this entry; the message has no data of the entry in it."""


class Run(Protocol):
    """What an operator is given beside the entry: where finished entries go, counters, its own state for one file."""

    def out(self, entry: Entry) -> None:
        """Takes an entry that is finished."""
        ...

    def dropped(self, reason: str, n: int) -> None:
        """Counts entries lost to an error."""
        ...

    def filtered(self, rule: str, n: int) -> None:
        """Counts entries left out on request."""
        ...

    def failed(self, operator: Operator, error: Exception, action: str) -> None:
        """Logs an error of a mode that is not quiet (rarely, not for every entry)."""
        ...

    def state(self, operator: Operator) -> dict[Any, Any]:
        """The operator's state for this file."""
        ...


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


def _outputs(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


_TEXT = WithJsonSchema({"type": "string"})
_WRITTEN = PlainSerializer(str, return_type=str)
AnyField = Annotated[Field, BeforeValidator(_field), _TEXT, _WRITTEN]
"""A field as a configuration writes it, such as `attributes["a.b"]`."""
RootableField = Annotated[Field, BeforeValidator(_rootable), _TEXT, _WRITTEN]
"""The same; `attributes` and `resource` as a whole are allowed."""
ExpressionText = Annotated[Expression, BeforeValidator(_expression), _TEXT, _WRITTEN]
"""An expression as a configuration writes it."""
Outputs = Annotated[list[str], BeforeValidator(_outputs)]
"""One id or a list of ids."""

BODY = Field("body", ())
ATTRIBUTES = Field("attributes", ())


class BasicConfig(ComponentConfig):
    """Options of every operator."""

    type: str = Option(description="Type of the operator.")
    id: str = Option("", description="Name for output and for the counters; empty: the type.")


class WriterConfig(BasicConfig):
    """Options of operators that hand entries on."""

    output: Outputs = Option([], description="Ids of the operators that get the entries; empty: the next one.")


class TransformerConfig(WriterConfig):
    """Options of operators that change entries."""

    on_error: Literal["send", "send_quiet", "drop", "drop_quiet"] = Option(
        "send", description="What becomes of an entry this operator fails on."
    )
    if_: ExpressionText | None = Option(
        None,
        alias="if",
        validation_alias=AliasChoices("if", "if_"),
        description="Expression; an entry it is false for passes unchanged.",
    )


class Operator:
    """One operator of a chain. `outputs` are set by the chain: None among them is the end of the chain."""

    Config: ClassVar[Any] = WriterConfig
    outputs: list[Operator | None]
    reads_body = True
    """False for operators that neither read nor write the body (their expressions are looked at separately)."""
    repeatable = True
    """False where the outcome depends on more than the entry: random, time, entries before it."""

    def __init__(self, config: Any, id: str) -> None:
        self.config = config
        self.id = id
        self.outputs = [None]

    def targets(self) -> list[str]:
        """Ids of operators named as outputs; empty: the next operator."""
        return list(self.config.output)

    def connect(self, find: Callable[[str], Operator], following: Operator | None) -> None:
        """Sets the outputs."""
        self.outputs = [find(name) for name in self.targets()] or [following]

    def expressions(self) -> Iterator[Expression]:
        """All expressions that are evaluated on entries."""
        return iter(())

    def process(self, entry: Entry, run: Run) -> None:
        """Works on the entry and hands on what comes of it."""
        self.write(entry, run)

    def flush(self, run: Run, now: int, force: bool) -> None:
        """Hands out entries held for too long at `now` (Unix nanoseconds), all of them when `force`."""

    def write(self, entry: Entry, run: Run) -> None:
        """Hands the entry on; every output but the last gets a copy."""
        for output in self.outputs[:-1]:
            self._hand(output, entry.copy(), run)
        self._hand(self.outputs[-1], entry, run)

    @staticmethod
    def _hand(output: Operator | None, entry: Entry, run: Run) -> None:
        if output is None:
            run.out(entry)
        else:
            output.process(entry, run)


class Transformer(Operator):
    """An operator with `if` and `on_error` that changes one entry at a time."""

    Config: ClassVar[Any] = TransformerConfig

    def expressions(self) -> Iterator[Expression]:
        if self.config.if_ is not None:
            yield self.config.if_

    def skipped(self, entry: Entry) -> bool:
        """Whether `if` says no; OperatorError when it cannot be evaluated."""
        condition = self.config.if_
        if condition is None:
            return False
        try:
            return not condition.test(entry)
        except ExpressionError as error:
            raise OperatorError(f"if: {error}") from None

    def process(self, entry: Entry, run: Run) -> None:
        try:
            if not self.skipped(entry):
                self.transform(entry)
        except (OperatorError, FieldError) as error:
            self.handle(entry, error, run)
            return
        self.write(entry, run)

    def transform(self, entry: Entry) -> None:
        """Changes the entry; OperatorError when that is impossible."""

    def handle(self, entry: Entry, error: Exception, run: Run) -> None:
        """What `on_error` says."""
        mode = self.config.on_error
        if not mode.endswith("_quiet"):
            run.failed(self, error, mode)
        if mode.startswith("send"):
            self.write(entry, run)
        else:
            run.dropped(f"operator/{self.id}", 1)


def type_name(value: Any) -> str:
    """The kind of a value, for messages."""
    return {
        type(None): "nothing",
        dict: "a map",
        list: "a list",
        bool: "a boolean",
        int: "an integer",
        float: "a number",
        str: "text",
        bytes: "bytes",
    }.get(type(value), type(value).__name__)
