"""`Chain`: the operators of one receiver, compiled at construction. Its streams are one file's way through them.

Text goes in by whole lines (`feed_chunk`) or as entries (`feed_entries`), OTLP bytes come out (`take`). A chain keeps order
within a stream; what operators hold back (partial lines, recombine) is per stream and comes out by `flush`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kofagent.operators.build import OperatorsError, build, validate_operators
from kofagent.operators.compile import Plan, Stream
from kofagent.operators.interpret import PlainStream
from kofagent.operators.lift import describe
from kofagent.operators.operator import Operator

__all__ = ["Chain", "OperatorsError", "PlainStream", "Stream", "validate_operators"]

LOG_EVERY_S = 60.0


class Chain:
    """The operators of one receiver. `attributes` and `resource` are the receiver's own, given to every entry.

    `dropped(reason, n)` and `filtered(rule, n)` count what does not come out, both named `operator/<id>`.
    """

    def __init__(self, operators: Sequence[Mapping[str, Any]], *, attributes: Mapping[str, str] | None = None,
                 resource: Mapping[str, str] | None = None, dropped: Callable[[str, int], None],
                 filtered: Callable[[str, int], None], log: logging.Logger, compiled: bool = True) -> None:
        self.log = log
        self.operators = build(operators, log.warning)
        self.attributes = dict(attributes or {})
        self.resource = dict(resource or {})
        self.dropped = dropped
        self.filtered = filtered
        self.plan = Plan(self.operators)
        self._compiled = compiled
        self._logged: dict[tuple[Operator, str], tuple[float, int]] = {}

    def open(self, attributes: Mapping[str, Any]) -> PlainStream:
        """A stream whose entries all have these attributes (`log.file.path` and the like)."""
        return Stream(self, attributes, self.plan) if self._compiled else PlainStream(self, attributes)

    def explain(self) -> str:
        """The compiled source and the operators behind it, or the operators alone where they run one by one."""
        listing = [f"#   {o.id} ({o.config.type})" for o in self.operators] or ["#   (none)"]
        if not self._compiled:
            return "\n".join(["# The operators run one by one:", *listing])
        lifts = self.plan.lifts
        if lifts is None:
            return "\n".join(["# An entry is made of each line; the operators, in line:", *listing, self.plan.source()])
        ahead = [f"#   w{i}: {describe(lift)}" for i, lift in enumerate(lifts)] or ["#   (nothing)"]
        return "\n".join(["# Computed for each line:", *ahead,
                          "# Operators, run once for each distinct set of these and the stream:", *listing, self.plan.source()])

    def failed(self, operator: Operator, error: Exception, action: str) -> None:
        """Logs an operator's error, the same one at most once a minute."""
        key = (operator, str(error))
        now = time.monotonic()
        last, n = self._logged.get(key, (float("-inf"), 0))
        if now - last < LOG_EVERY_S:
            self._logged[key] = (last, n + 1)
            return
        if len(self._logged) > 1000:
            self._logged.clear()
        self._logged[key] = (now, 0)
        more = f" ({n} more like this since the last message)" if n else ""
        self.log.error("operator %s: %s; action: %s%s", operator.id, error, action, more)


