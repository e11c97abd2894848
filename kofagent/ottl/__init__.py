"""OTTL, the OpenTelemetry Transformation Language (contrib, pkg/ottl): conditions, values and statements.

    condition = parse_condition('attributes["http.status"] >= 500 and IsMatch(name, "GET .*")', "span")
    condition.matches(resource, scope, span)       # Google's protobuf messages

Text becomes an AST (`ast`, by `parser`), the AST becomes closures over an `Env` (`evaluate`), with the paths of each context
in `paths`, what functions are made of in `functions.core`, and the functions themselves by subject beside it.
"""

from kofagent.ottl.condition import (
    Condition,
    Statement,
    Value,
    infer_context,
    named_contexts,
    parse_condition,
    parse_route,
    parse_statement,
    parse_value,
)
from kofagent.ottl.env import Env
from kofagent.ottl.errors import EvaluationError, OttlError

__all__ = [
    "Condition",
    "Env",
    "EvaluationError",
    "OttlError",
    "Statement",
    "Value",
    "infer_context",
    "named_contexts",
    "parse_condition",
    "parse_route",
    "parse_statement",
    "parse_value",
]
