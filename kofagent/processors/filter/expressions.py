"""`match_type: expr` of metrics: expressions on a metric's name and the labels of its data points.

Upstream: internal/filter/filterexpr. `MetricName`, `HasLabel("name")` and `Label("name")` are known. A metric matches when one of
its data points does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kofagent.operators.entry import Entry
from kofagent.operators.expression import ExpressionError, compile_expression
from kofagent.operators.expression.ast import Node
from kofagent.ottl.paths import points
from kofagent.transform.anyvalue import as_string, to_python

_LABELS = Node("name", "Labels")
_MACROS: dict[str, Callable[[Node], Node]] = {
    "HasLabel": lambda name: Node("binary", "in", (name, _LABELS)),
    "Label": lambda name: Node("binary", "??", (Node("member", False, (_LABELS, name)), Node("const", ""))),
}


def compile_metric_expressions(texts: list[str]) -> Callable[[Any], bool]:
    """Whether one of the expressions is true of a Metric (Google's message). ValueError where one is malformed.

    The test raises ExpressionError where an expression gives no boolean.
    """
    try:
        expressions = [compile_expression(text, _MACROS) for text in texts]
    except ExpressionError as error:
        raise ValueError(str(error)) from None

    def matches(metric: Any) -> bool:
        entry = Entry(None, {}, {}, 0)
        for point in points(metric):
            labels = {item.key: as_string(to_python(item.value)) for item in point.attributes}
            for expression in expressions:
                value = expression.evaluate(entry, {"MetricName": metric.name, "Labels": labels})
                if not isinstance(value, bool):
                    raise ExpressionError(f"{expression.text} gives no boolean")
                if value:
                    return True
        return False

    return matches
