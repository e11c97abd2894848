"""Groups on resources and scopes whose outcome depends on the bytes of the resource and the scope alone."""

from __future__ import annotations

from collections.abc import Sequence

from kofagent.ottl import ast
from kofagent.ottl.condition import Condition, Statement
from kofagent.ottl.expressions import VARYING
from kofagent.ottl.functions import CONVERTERS
from kofagent.ottl.infer import nodes

_AROUND = frozenset(("otelcol", "request"))


def outer_only(context: str, conditions: Sequence[Condition], statements: Sequence[Statement]) -> bool:
    """Whether the same resource and scope always give the same; schema URLs, the client and the clock are not in them."""
    for tree in (*(c.tree for c in conditions), *(s.tree for s in statements)):
        for node in nodes(tree):
            if isinstance(node, ast.Path):
                if node.fields[0].name in _AROUND or any(field.name == "schema_url" for field in node.fields):
                    return False
            elif isinstance(node, ast.Call) and node.name in CONVERTERS and (node.name in VARYING or CONVERTERS[node.name].env):
                return False
    return context in ("resource", "scope")
