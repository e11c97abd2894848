"""Options of the `routing` connector."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

from pydantic import Field, PrivateAttr, model_validator

from kofagent.config.base import ComponentConfig, PipelineName
from kofagent.config.errors import ConfigErrors
from kofagent.ottl import Condition, Env, OttlError, infer_context, named_contexts, parse_condition, parse_route
from kofagent.ottl.options import CONTEXTS, ErrorMode
from kofagent.telemetry.signal import Signal

SIGNAL_OF = {"log": Signal.LOGS, "span": Signal.TRACES, "metric": Signal.METRICS, "datapoint": Signal.METRICS}

_TEXT = r'"(?:\\.|[^\\"])*"'
_REQUEST = re.compile(rf"\s*request\s*\[\s*{_TEXT}\s*\]\s*(?:==|!=)\s*(?:{_TEXT}|nil)\s*", re.DOTALL)
_CONTEXTS = tuple(dict.fromkeys(context for contexts in CONTEXTS.values() for context in contexts))


def _inferred(text: str, statement: bool) -> str:
    """The context of a route that names none: the one of its paths, or resource."""
    conditions, statements = ([], [text]) if statement else ([text], [])
    names = named_contexts(conditions, statements)
    if "request" in names or names == {"otelcol"}:
        return "request" if "request" in names else "otelcol"
    try:
        return infer_context(conditions, _CONTEXTS, statements=statements)
    except OttlError:
        return "resource"


class Route(ComponentConfig):
    """One entry of the table."""

    context: Literal["request", "otelcol", "resource", "log", "span", "metric", "datapoint", ""] = Field(
        "", description="OTTL context of the condition; default: the one of its paths, or resource if it has none."
    )
    condition: str = Field("", description='Condition, such as attributes["x"] == "y".')
    statement: str = Field("", description='The condition as a statement: route() where attributes["x"] == "y".')
    pipelines: list[PipelineName] = Field(description="Pipelines that get what matches.", min_length=1)
    action: Literal["move", "copy"] = Field("move", description="move: the routes below do not see what matches; copy: they do.")
    _parsed: Condition | None = PrivateAttr(None)
    _context: str = PrivateAttr("resource")
    _edit: Callable[[Env], None] | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _parse(self) -> Route:
        if bool(self.condition) == bool(self.statement):
            raise ValueError("a route needs either condition or statement")
        text = self.condition or self.statement
        try:
            self._context = self.context or _inferred(text, bool(self.statement))
        except OttlError as error:
            raise ConfigErrors([error.problem(("condition" if self.condition else "statement",), text)]) from None
        if self._context not in ("request", "otelcol", "resource", *SIGNAL_OF):
            raise ValueError(f"the context {self._context} cannot be used in a route")
        if self._context == "request" and not _REQUEST.fullmatch(text):
            raise ValueError('the request context takes one comparison: request["header"] == "value", or !=')
        if self.statement and self._context == "request":
            raise ValueError("the request context takes a condition, not a statement")
        try:
            if self.condition:
                self._parsed = parse_condition(text, self._context)
            else:
                self._edit, self._parsed = parse_route(text, self._context)
        except OttlError as error:
            raise ConfigErrors([error.problem(("condition" if self.condition else "statement",), text)]) from None
        return self

    @property
    def edit(self) -> Callable[[Env], None] | None:
        """What the statement changes in the items that match; None for route()."""
        return self._edit

    @property
    def parsed(self) -> tuple[Condition | None, str]:
        """The condition (None: everything) and its context."""
        return self._parsed, self._context


class Config(ComponentConfig):
    """Options of upstream's routing connector."""

    table: list[Route] = Field(description="Routes, evaluated from top to bottom.", min_length=1)
    default_pipelines: list[PipelineName] = Field([], description="Pipelines for what no route takes.")
    error_mode: ErrorMode = Field(
        "propagate",
        description="When a condition cannot be evaluated: propagate drops the batch; ignore logs it and silent does not, and "
        "the item counts as not matching.",
    )
