"""`Chain`: the operators of one receiver, compiled at construction. Its streams are one file's way through them.

Text goes in by whole lines (`feed_chunk`) or as entries (`feed_entries`), OTLP bytes come out (`take`). A chain keeps order
within a stream; what operators hold back (partial lines, recombine) is per stream and comes out by `flush`.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kofagent.config.errors import ConfigErrors, Problem
from kofagent.memory.memo import Memo
from kofagent.operators.build import build, notices, validate_operators
from kofagent.operators.compile import Plan, Stream
from kofagent.operators.entry import Entry
from kofagent.operators.errors import DECLARED
from kofagent.operators.expression import Expression, ExpressionError
from kofagent.operators.interpret import PlainStream
from kofagent.operators.operator import AnyOperator
from kofagent.operators.series import Held
from kofagent.operators.template import EXPRESSION_START, parse_template

__all__ = ["Chain", "Held", "PlainStream", "Stream", "notices", "validate_operators"]

LOG_EVERY_S = 60.0


class Chain:
    """The operators of one receiver. `attributes` and `resource` are the receiver's own, given to every entry;
    `EXPR(...)` in them is evaluated, once where it reads nothing of the entry.

    `dropped(reason, n)` and `filtered(rule, n)` count what does not come out, both named `operator/<id>`.
    """

    def __init__(
        self,
        operators: Sequence[Mapping[str, Any]],
        *,
        attributes: Mapping[str, str] | None = None,
        resource: Mapping[str, str] | None = None,
        dropped: Callable[[str, int], None],
        filtered: Callable[[str, int], None],
        log: logging.Logger,
        compiled: bool = True,
    ) -> None:
        self.log = log
        ahead: list[Mapping[str, Any]] = []
        self.attributes = _constants("attributes", attributes or {}, ahead)
        self.resource = _constants("resource", resource or {}, ahead)
        self.operators = build([*ahead, *(operators or [])])
        self.dropped = dropped
        self.filtered = filtered
        self.plan = Plan(self.operators)
        self._compiled = compiled
        self._logged: Memo[tuple[AnyOperator | None, str], tuple[float, int]] = Memo("operators.logged", entries=1000, size=1 << 20)

    def open(self, attributes: Mapping[str, Any], holding: Held | None = None, owner: Any = None) -> PlainStream:
        """A stream whose entries all have these attributes (`log.file.path` and the like).

        What is held back to be joined is in `holding`, which other streams may share, with a note of who it is of.
        """
        if self._compiled:
            return Stream(self, attributes, self.plan, holding, owner)
        return PlainStream(self, attributes, holding, owner)

    @property
    def holds(self) -> bool:
        """Whether some operator joins entries."""
        return any(operator.holds for operator in self.operators)

    def explain(self) -> str:
        """The compiled source and the operators behind it, or the operators alone where they run one by one."""
        listing = [f"#   {o.id} ({o.config.type})" for o in self.operators] or ["#   (none)"]
        if not self._compiled:
            return "\n".join(["# The operators run one by one:", *listing])
        lifts = self.plan.lifts
        if lifts is None:
            return "\n".join(["# An entry is made of each line; the operators, one after the other:", *listing, self.plan.source()])
        ahead = [f"#   w{i}: {lift.describe()}" for i, lift in enumerate(lifts)] or ["#   (nothing)"]
        return "\n".join(
            [
                "# Computed for each line:",
                *ahead,
                "# Operators, run once for each distinct set of these and the stream:",
                *listing,
                self.plan.source(),
            ]
        )

    def failed(self, operator: AnyOperator, error: Exception, action: str) -> None:
        """Logs an error of an operator, the same one at most once a minute."""
        if not isinstance(error, DECLARED):
            self._say((operator, type(error).__name__), f"operator {operator.id}: {_defect(error)}; action: {action}", error)
        else:
            self._say((operator, str(error)), f"operator {operator.id}: {error}; action: {action}")

    def broken(self, error: Exception) -> None:
        """Counts an entry that was lost to a defect outside of what `on_error` covers, and logs it."""
        self.dropped("internal error", 1)
        self._say((None, type(error).__name__), f"{_defect(error)}; the entry is dropped", error)

    def _say(self, key: tuple[AnyOperator | None, str], text: str, defect: Exception | None = None) -> None:
        now = time.monotonic()
        last, n = self._logged.find(key) or (float("-inf"), 0)
        if now - last < LOG_EVERY_S:
            self._logged[key] = (last, n + 1)
            return
        self._logged[key] = (now, 0)
        more = f" ({n} more like this since the last message)" if n else ""
        self.log.error("%s%s", text, more, exc_info=defect)


def _defect(error: Exception) -> str:
    return f"internal error: {type(error).__name__}, please report it"


def _constants(root: str, mapping: Mapping[str, Any], ahead: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The mapping with `EXPR(...)` evaluated. What reads the entry becomes an operator in front of the others."""
    out: dict[str, Any] = {}
    for key, value in mapping.items():
        if not isinstance(value, str) or EXPRESSION_START not in value:
            out[key] = value
            continue
        try:
            template = parse_template(value)
            if any(e.root.names() or not e.repeatable for e in template.expressions):
                quote = "'" if '"' in key else '"'
                text = " + ".join([f"({p.text})" if isinstance(p, Expression) else json.dumps(p) for p in template.parts])
                ahead.append(
                    {"type": "add", "id": f"{root}.{key}", "field": f"{root}[{quote}{key}{quote}]", "value": f"EXPR({text})"}
                )
                continue
            out[key] = template.render(Entry(None, {}, {}, 0))
        except ExpressionError as error:
            raise ConfigErrors([Problem((root, key), str(error))]) from None
    return out
