"""Options of the `routing` connector."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PrivateAttr, model_validator

from kofagent.config.base import ComponentConfig, PipelineName
from kofagent.ottl import Condition, infer_context, parse_condition, parse_statement
from kofagent.telemetry.signal import Signal

SIGNAL_OF = {"log": Signal.LOGS, "span": Signal.TRACES, "metric": Signal.METRICS, "datapoint": Signal.METRICS}


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

    @model_validator(mode="after")
    def _parse(self) -> Route:
        if bool(self.condition) == bool(self.statement):
            raise ValueError("a route needs either condition or statement")
        text = self.condition or self.statement
        self._context = self.context or infer_context(text, statement=bool(self.statement))
        if self._context not in ("request", "otelcol", "resource", *SIGNAL_OF):
            raise ValueError(f"the context {self._context} cannot be used in a route")
        if self.condition:
            self._parsed = parse_condition(text, self._context)
            return self
        if self._context == "request":
            raise ValueError("the request context takes a condition, not a statement")
        editor, self._parsed = parse_statement(text, self._context)
        if editor.name in ("delete_key", "delete_matching_keys"):
            raise ValueError(f"{editor.name} is not supported in a route; use the resource processor in the pipeline after it")
        if editor.name != "route" or editor.arguments:
            raise ValueError(f"{editor.name}: a route's statement is route() where ...")
        return self

    @property
    def parsed(self) -> tuple[Condition | None, str]:
        """The condition (None: everything) and its context."""
        return self._parsed, self._context


class Config(ComponentConfig):
    """Options of upstream's routing connector."""

    table: list[Route] = Field(description="Routes, evaluated from top to bottom.", min_length=1)
    default_pipelines: list[PipelineName] = Field([], description="Pipelines for what no route takes.")
    error_mode: Literal["ignore", "silent", "propagate"] = Field(
        "ignore", description="What happens when a condition cannot be evaluated."
    )
