"""`routing`: sends data to pipelines by conditions (OTTL) on request, resource, record or data point.

Upstream: connector/routingconnector of the collector's contrib. The table is read from top to bottom; what a route takes with
`action: move` is gone for the routes below it, with `copy` it stays. What no route took goes to `default_pipelines`, or is
left out, counted in `kofagent_filtered_items_total` with rule `unmatched`.

A condition that does not fit the data counts as not matching (`error_mode: ignore`, with a log line now and then, or
`silent`); with `propagate` the batch is dropped, counted as `condition error`. Pipelines must be of the batch's signal; routes
that speak of another signal's records are skipped. The editors `delete_key` and `delete_matching_keys` of upstream's
statements are not supported: use the resource or attributes processor behind the route.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field, PrivateAttr, model_validator

from kofagent.component.fan_out import all_of
from kofagent.component.protocols import Connector, Context, StartError
from kofagent.config.base import ComponentConfig
from kofagent.connectors.routing.table import Splitter
from kofagent.ottl import Condition, EvaluationError, infer_context, parse_condition, parse_statement
from kofagent.telemetry.batch import AnyBatch, Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from kofagent.wire import otlp

_SIGNAL_OF = {"log": Signal.LOGS, "span": Signal.TRACES, "metric": Signal.METRICS, "datapoint": Signal.METRICS}
_LOG_EVERY = 30.0


class Route(ComponentConfig):
    """One entry of the table."""

    context: Literal["request", "otelcol", "resource", "log", "span", "metric", "datapoint", ""] = Field(
        "", description="What the condition looks at; empty: as its paths say, resource without any."
    )
    condition: str = Field("", description='Condition, as attributes["x"] == "y".')
    statement: str = Field("", description='The same as a statement: route() where attributes["x"] == "y".')
    pipelines: list[str] = Field(description="Pipelines that get what matches.", min_length=1)
    action: Literal["move", "copy"] = Field("move", description="move: routes below do not see it; copy: they do.")
    _parsed: Condition | None = PrivateAttr(None)
    _context: str = PrivateAttr("resource")

    @model_validator(mode="after")
    def _parse(self) -> Route:
        if bool(self.condition) == bool(self.statement):
            raise ValueError("a route needs either condition or statement")
        text = self.condition or self.statement
        self._context = self.context or infer_context(text, statement=bool(self.statement))
        if self._context not in ("request", "otelcol", "resource", *_SIGNAL_OF):
            raise ValueError(f"a route cannot look at a {self._context}")
        if self.condition:
            self._parsed = parse_condition(text, self._context)
            return self
        if self._context == "request":
            raise ValueError("the request context takes a condition, not a statement")
        editor, self._parsed = parse_statement(text, self._context)
        if editor.name in ("delete_key", "delete_matching_keys"):
            raise ValueError(f"{editor.name} is not supported in a route; use the resource processor in the pipeline behind it")
        if editor.name != "route" or editor.arguments:
            raise ValueError(f"{editor.name}: a route's statement is route() where ...")
        return self

    @property
    def parsed(self) -> tuple[Condition | None, str]:
        """The condition (None: everything) and its context."""
        return self._parsed, self._context


class Config(ComponentConfig):
    """Options of upstream's routing connector."""

    table: list[Route] = Field(description="Routes, from top to bottom.", min_length=1)
    default_pipelines: list[str] = Field([], description="Pipelines for what no route took.")
    error_mode: Literal["ignore", "silent", "propagate"] = Field(
        "ignore", description="What happens when a condition does not fit the data."
    )


class RoutingConnector(Connector):
    """Splits batches by the table; see the module."""

    Config = Config

    def __init__(self, config: Any, context: Context) -> None:
        super().__init__(config, context)
        self.outputs = {}
        self._splitters = [(route, Splitter(route.parsed, self._test)) for route in config.table]
        self._logged = 0.0

    async def start(self) -> None:
        """Every pipeline that the table names must begin with this connector."""
        named = dict.fromkeys([*(p for r in self.config.table for p in r.pipelines), *self.config.default_pipelines])
        for name in named:
            if name not in self.outputs:
                close = difflib.get_close_matches(name, list(self.outputs), 1)
                hint = f"did you mean {close[0]!r}?" if close else f"name {self.context.id!r} among its receivers"
                raise StartError(f"pipeline {name!r} does not receive from {self.context.id}; {hint}")

    async def consume(self, batch: AnyBatch) -> None:
        """As `Consumer.consume`: returns when all pipelines that get a part of the batch own it."""
        assert isinstance(batch, Batch)
        try:
            parts = self._route(batch)
        except EvaluationError as error:
            self._drop(batch, "condition error", str(error))
        except ValueError:
            self._drop(batch, "malformed", "the batch cannot be decoded")
        else:
            if parts:
                await all_of([self.outputs[name].consume(part) for name, part in parts])

    def _drop(self, batch: Batch, reason: str, detail: str) -> None:
        self.context.ledger.dropped(self.context.id, batch.signal, reason, batch.count)
        raise Refused(reason, detail, permanent=True) from None

    def _route(self, batch: Batch) -> list[tuple[str, Batch]]:
        signal = batch.signal
        taken: dict[str, list[Batch]] = {}
        rest = nowhere = batch
        for route, splitter in self._splitters:
            if not rest.payload:
                break
            if _SIGNAL_OF.get(route.parsed[1], signal) is not signal:
                continue
            yes, no = self._split(splitter, rest)
            if yes.payload:
                for name in self._of(route.pipelines, signal):
                    taken.setdefault(name, []).append(yes)
            # With copies, what is left over is more than what nobody took.
            nowhere = no if nowhere is rest else self._split(splitter, nowhere)[1]
            rest = no if route.action == "move" else rest
        if rest.payload:
            for name in self._of(self.config.default_pipelines, signal):
                taken.setdefault(name, []).append(rest)
                nowhere = Batch(signal, b"", 0)
        if nowhere.count:
            self.context.ledger.filtered(self.context.id, signal, "unmatched", nowhere.count)
        return [(name, Batch.join(parts)) for name, parts in taken.items()]

    @staticmethod
    def _split(splitter: Splitter, batch: Batch) -> tuple[Batch, Batch]:
        """(matching, rest) as batches; where all goes one way it is the same object."""
        signal, payload = batch.signal, batch.payload
        yes, no = splitter.split(signal.value, payload, batch.metadata)
        if yes is payload:
            return batch, Batch(signal, b"", 0, batch.metadata)
        if no is payload:
            return Batch(signal, b"", 0, batch.metadata), batch
        matched = otlp.count(signal.value, yes)
        return Batch(signal, yes, matched, batch.metadata), Batch(signal, no, batch.count - matched, batch.metadata)

    def _of(self, names: list[str], signal: Signal) -> list[str]:
        return [name for name in names if name.split("/", 1)[0] == signal.value]

    def _test(self, look: Callable[[], bool]) -> bool:
        try:
            return look()
        except EvaluationError as error:
            if self.config.error_mode == "propagate":
                raise
            now = time.monotonic()
            if self.config.error_mode == "ignore" and (now - self._logged > _LOG_EVERY or not self._logged):
                self._logged = now
                self.context.log.warning("a condition does not fit the data and counts as not matching: %s", error)
            return False


COMPONENT = RoutingConnector
