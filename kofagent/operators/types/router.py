"""`router`: hands entries to the outputs of the first route whose expression is true.

All others go to `default`; without it they are left out, counted under its id.
"""

from __future__ import annotations

from collections.abc import Callable

from pydantic import Field as Option

from kofagent.config.base import ComponentConfig
from kofagent.operators.access import Access
from kofagent.operators.entry import Entry
from kofagent.operators.expression import ExpressionError
from kofagent.operators.operator import AnyOperator, Operator, Run
from kofagent.operators.options import BasicConfig, ExpressionText, Outputs, TemplateText


class RouteConfig(ComponentConfig):
    """One route of a router."""

    expr: ExpressionText = Option(description="Expression; entries for which it is true take this route.")
    output: Outputs = Option(min_length=1, description="Ids of the operators that they go to.")
    attributes: dict[str, TemplateText] = Option({}, description="Attributes that they are given; EXPR(...) inside is evaluated.")


class Config(BasicConfig):
    """Options of router."""

    routes: list[RouteConfig] = Option(description="Routes; the first one whose expression is true is taken.")
    default: Outputs = Option([], description="Ids of the operators that all others go to; empty: they are left out.")


class Router(Operator[Config]):
    """Hands entries to the outputs of the first route whose expression is true."""

    def __init__(self, config: Config, id: str) -> None:
        super().__init__(config, id)
        self.routes: list[tuple[RouteConfig, list[AnyOperator | None]]] = []
        self.default: list[AnyOperator | None] = []

    def targets(self) -> list[str]:
        return [name for route in self.config.routes for name in route.output] + list(self.config.default)

    def connect(self, find: Callable[[str], AnyOperator], following: AnyOperator | None) -> None:
        self.routes = [(route, [find(name) for name in route.output]) for route in self.config.routes]
        self.default = [find(name) for name in self.config.default]
        self.outputs = [o for _, outputs in self.routes for o in outputs] + self.default

    def process(self, entry: Entry, run: Run) -> None:
        for route, outputs in self.routes:
            try:
                if not route.expr.test(entry):
                    continue
            except ExpressionError as error:
                run.failed(self, error, "try the next route")
                continue
            try:
                added = {key: template.render(entry) for key, template in route.attributes.items()}
            except ExpressionError as error:
                run.failed(self, error, "drop")
                run.dropped(f"operator/{self.id}", 1)
                return
            entry.attributes.update(added)
            self.hand_on(outputs, entry, run)
            return
        if self.default:
            self.hand_on(self.default, entry, run)
        else:
            run.filtered(f"operator/{self.id}", 1)

    def access(self) -> Access | None:
        return Access.of(self.config)


OPERATOR = Router
