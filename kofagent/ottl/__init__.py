"""OTTL, the OpenTelemetry Transformation Language (contrib, pkg/ottl): conditions and value expressions.

    condition = parse_condition('attributes["http.status"] >= 500 and IsMatch(name, "GET .*")', "span")
    condition.matches(resource, scope, span)       # Google's protobuf messages

Text becomes an AST (`ast`, by `parser`), the AST becomes closures over an `Env` (`evaluate`), with the paths of each context
in `paths` and the converters in `functions`. Editors and whole transform statements are built on the same AST.
"""

from kofagent.ottl.condition import Condition, Value, infer_context, parse_condition, parse_statement, parse_value
from kofagent.ottl.errors import EvaluationError, OttlError

__all__ = [
    "Condition",
    "EvaluationError",
    "OttlError",
    "Value",
    "infer_context",
    "parse_condition",
    "parse_statement",
    "parse_value",
]
