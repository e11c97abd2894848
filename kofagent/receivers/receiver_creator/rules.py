"""`rule`: which endpoints a receiver is for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kofagent.component.observing import TYPES
from kofagent.operators.expression import ExpressionError
from kofagent.receivers.receiver_creator.expressions import compiled, evaluate

_TYPE = re.compile(r"""\s*type\s*==\s*["']([^"']*)["']""")


class Rule:
    """A compiled rule. ValueError says what is wrong with it."""

    def __init__(self, text: str) -> None:
        self.text = text
        match = _TYPE.match(text)
        if match is None:
            raise ValueError('the rule must begin with the type of the endpoints: type == "pod.container" && ...')
        self.type = match[1]
        """The type of the endpoints that it can be true of."""
        if self.type not in TYPES:
            raise ValueError(f"there are no endpoints of type {self.type!r}; use one of {', '.join(TYPES)}")
        self.expression = compiled(text)

    def test(self, env: Mapping[str, Any]) -> bool:
        """Whether the endpoint is meant; ExpressionError when that cannot be said."""
        found = evaluate(self.expression, env)
        if found is True or found is False:
            return found
        raise ExpressionError("the rule is neither true nor false")
