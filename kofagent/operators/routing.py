"""Operators that decide where entries go: filter, router, drop_output. What they leave out is counted under their id."""

from __future__ import annotations

import random
from typing import Any

from pydantic import Field as Option
from pydantic import PrivateAttr, model_validator

from kofagent.config.base import ComponentConfig
from kofagent.operators.entry import Entry
from kofagent.operators.expression import Expression, ExpressionError, compile_expression
from kofagent.operators.fields import EXPRESSION_START
from kofagent.operators.operator import (
    BasicConfig,
    ExpressionText,
    Operator,
    Outputs,
    Run,
    Transformer,
    TransformerConfig,
)


class FilterConfig(TransformerConfig):
    """Options of filter."""

    expr: ExpressionText = Option(description="Expression; entries it is true for are left out.")
    drop_ratio: float = Option(1.0, ge=0, le=1, description="Share of those that are left out, 0 to 1.")


class Filter(Transformer):
    """Leaves out entries an expression is true for."""

    Config = FilterConfig

    def __init__(self, config: FilterConfig, id: str) -> None:
        super().__init__(config, id)
        self.repeatable = config.drop_ratio in (0.0, 1.0)

    def expressions(self) -> Any:
        yield self.config.expr

    def process(self, entry: Entry, run: Run) -> None:
        try:
            matches = self.config.expr.test(entry)
        except ExpressionError as error:
            # Upstream drops an entry its filter cannot judge; so do we, counted.
            run.failed(self, error, "drop")
            run.dropped(f"operator/{self.id}", 1)
            return
        if matches and (self.config.drop_ratio >= 1.0 or random.randrange(1000) < int(self.config.drop_ratio * 1000)):
            run.filtered(f"operator/{self.id}", 1)
            return
        self.write(entry, run)


class RouteConfig(ComponentConfig):
    """One route of a router."""

    expr: ExpressionText = Option(description="Expression; entries it is true for take this route.")
    output: Outputs = Option(min_length=1, description="Ids of the operators they go to.")
    attributes: dict[str, str] = Option({}, description="Attributes they are given; EXPR(...) inside is evaluated.")
    _templates: dict[str, list[str | Expression]] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _compile(self) -> RouteConfig:
        self._templates = {k: parse_template(v) for k, v in self.attributes.items()}
        return self

    @property
    def templates(self) -> dict[str, list[str | Expression]]:
        """The attributes as texts and expressions."""
        return self._templates


def parse_template(text: str) -> list[str | Expression]:
    """Text with `EXPR(...)` inside, as alternating texts and expressions; ExpressionError."""
    out: list[str | Expression] = []
    at = 0
    while True:
        start = text.find(EXPRESSION_START, at)
        following = text.find(EXPRESSION_START, start + 1) if start >= 0 else -1
        end = text.rfind(")", start, following if following >= 0 else len(text)) if start >= 0 else -1
        if end < 0:
            out.append(text[at:])
            return out
        out.append(text[at:start])
        out.append(compile_expression(text[start + len(EXPRESSION_START) : end]))
        at = end + 1


class RouterConfig(BasicConfig):
    """Options of router."""

    routes: list[RouteConfig] = Option(description="Routes; the first whose expression is true is taken.")
    default: Outputs = Option([], description="Ids of the operators all others go to; empty: they are left out.")


class Router(Operator):
    """Hands entries to the outputs of the first route that fits."""

    Config = RouterConfig

    def __init__(self, config: RouterConfig, id: str) -> None:
        super().__init__(config, id)
        self.routes: list[tuple[RouteConfig, list[Operator | None]]] = []
        self.default: list[Operator | None] = []

    def targets(self) -> list[str]:
        return [name for route in self.config.routes for name in route.output] + list(self.config.default)

    def connect(self, find: Any, following: Operator | None) -> None:
        self.routes = [(route, [find(name) for name in route.output]) for route in self.config.routes]
        self.default = [find(name) for name in self.config.default]
        self.outputs = [o for _, outputs in self.routes for o in outputs] + self.default

    def expressions(self) -> Any:
        for route in self.config.routes:
            yield route.expr
            for parts in route.templates.values():
                yield from (p for p in parts if isinstance(p, Expression))

    def process(self, entry: Entry, run: Run) -> None:
        for route, outputs in self.routes:
            try:
                if not route.expr.test(entry):
                    continue
            except ExpressionError as error:
                run.failed(self, error, "try the next route")
                continue
            try:
                added = {k: self._render(parts, entry) for k, parts in route.templates.items()}
            except ExpressionError as error:
                run.failed(self, error, "drop")
                run.dropped(f"operator/{self.id}", 1)
                return
            entry.attributes.update(added)
            self._send(outputs, entry, run)
            return
        if self.default:
            self._send(self.default, entry, run)
        else:
            run.filtered(f"operator/{self.id}", 1)

    def _send(self, outputs: list[Operator | None], entry: Entry, run: Run) -> None:
        for output in outputs[:-1]:
            self._hand(output, entry.copy(), run)
        self._hand(outputs[-1], entry, run)

    @staticmethod
    def _render(parts: list[str | Expression], entry: Entry) -> str:
        out = []
        for part in parts:
            value = part.evaluate(entry) if isinstance(part, Expression) else part
            if not isinstance(value, str):
                raise ExpressionError("EXPR(...) in an attribute of a route gives no text")
            out.append(value)
        return "".join(out)


class DropOutput(Operator):
    """The end for entries nobody wants."""

    Config = BasicConfig

    def targets(self) -> list[str]:
        return []

    def connect(self, find: Any, following: Operator | None) -> None:
        self.outputs = []

    def process(self, entry: Entry, run: Run) -> None:
        run.filtered(f"operator/{self.id}", 1)
