"""The interface of the room: parses text to conditions and values that can be evaluated."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from kofagent.ottl import ast
from kofagent.ottl.evaluate import Builder
from kofagent.ottl.parser import Parser
from kofagent.ottl.paths import Env
from kofagent.telemetry.batch import Metadata


class Condition:
    """A boolean expression of one context; `text` as it was written."""

    __slots__ = ("_truth", "context", "text")

    def __init__(self, text: str, context: str, truth: Callable[[Env], bool]) -> None:
        self.text = text
        self.context = context
        self._truth = truth

    def matches(
        self,
        resource: Any,
        scope: Any = None,
        record: Any = None,
        metric: Any = None,
        metadata: Metadata | None = None,
        *,
        span: Any = None,
    ) -> bool:
        """Whether it is true of these messages (Google's protobuf).

        `record` is the item of the context: LogRecord, Span, Span.Event, Metric or a data point (then with its `metric`;
        an event with its `span`). EvaluationError where the expression does not fit the data.
        """
        return self._truth(Env(resource, scope, record, metric, span=span, metadata=metadata))

    def __repr__(self) -> str:
        return f"<Condition {self.context}: {self.text}>"


class Value:
    """A value expression of one context."""

    __slots__ = ("_read", "context", "text")

    def __init__(self, text: str, context: str, read: Callable[[Env], Any]) -> None:
        self.text = text
        self.context = context
        self._read = read

    def get(
        self,
        resource: Any,
        scope: Any = None,
        record: Any = None,
        metric: Any = None,
        metadata: Metadata | None = None,
        *,
        span: Any = None,
    ) -> Any:
        """Its value for these messages, as `Condition.matches`."""
        return self._read(Env(resource, scope, record, metric, span=span, metadata=metadata))


def parse_condition(text: str, context: str) -> Condition:
    """A condition such as `attributes["a"] == "b" and severity_number >= SEVERITY_NUMBER_WARN`.

    `context` is one of resource, scope, log, span, spanevent, metric, datapoint, request, otelcol. OttlError with column and
    suggestion.
    """
    return Condition(text, context, Builder(context).condition(Parser(text).condition()))


def parse_value(text: str, context: str) -> Value:
    """A value such as `Concat([resource.attributes["a"], name], "/")`. OttlError with column and suggestion."""
    return Value(text, context, Builder(context).value(Parser(text).value()))


def parse_statement(text: str, context: str) -> tuple[ast.Call, Condition | None]:
    """The editor of `editor(...) where condition` as syntax and its condition, None without one. OttlError as above."""
    statement = Parser(text).statement()
    if statement.where is None:
        return statement.editor, None
    return statement.editor, Condition(text, context, Builder(context).condition(statement.where))


_SPECIFIC = ("request", "datapoint", "metric", "spanevent", "span", "log", "scope", "resource", "otelcol")


def infer_context(text: str, default: str = "resource", *, statement: bool = False) -> str:
    """The context that the paths of a condition (or statement) are written for, by their first names; `default` without any.

    OttlError as the parsers.
    """
    parser = Parser(text)
    node = parser.statement() if statement else parser.condition()
    names = {"scope" if n == "instrumentation_scope" else n for n in _first_names(node)}
    return next((context for context in _SPECIFIC if context in names), default)


def _first_names(node: Any) -> Iterator[str]:
    if isinstance(node, ast.Path):
        yield node.fields[0].name
    if dataclasses.is_dataclass(node):
        for field in dataclasses.fields(node):
            yield from _first_names(getattr(node, field.name))
    elif isinstance(node, tuple):
        for element in node:
            yield from _first_names(element)
