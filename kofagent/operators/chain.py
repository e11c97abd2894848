"""`Chain`: the operators of one receiver, compiled at construction. `Stream`: one file's way through them.

Text goes in by whole lines (`feed_chunk`) or as entries (`feed_entries`), OTLP bytes come out (`take`). A chain keeps order
within a stream; what operators hold back (partial lines, recombine) is per stream and comes out by `flush`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kofagent.operators import encode
from kofagent.operators.build import OperatorsError, build, validate_operators
from kofagent.operators.entry import Entry, deep
from kofagent.operators.operator import Operator
from kofagent.operators.recombine import held

__all__ = ["Chain", "OperatorsError", "Stream", "validate_operators"]

LOG_EVERY_S = 60.0


class Chain:
    """The operators of one receiver. `attributes` and `resource` are the receiver's own, given to every entry.

    `dropped(reason, n)` and `filtered(rule, n)` count what does not come out, both named `operator/<id>`.
    """

    def __init__(self, operators: Sequence[Mapping[str, Any]], *, attributes: Mapping[str, str] | None = None,
                 resource: Mapping[str, str] | None = None, dropped: Callable[[str, int], None],
                 filtered: Callable[[str, int], None], log: logging.Logger) -> None:
        self.log = log
        self.operators = build(operators, log.warning)
        self.first = self.operators[0] if self.operators else None
        self.attributes = dict(attributes or {})
        self.resource = dict(resource or {})
        self.dropped = dropped
        self.filtered = filtered
        self._logged: dict[tuple[Operator, str], tuple[float, int]] = {}

    def open(self, attributes: Mapping[str, Any]) -> Stream:
        """A stream whose entries all have these attributes (`log.file.path` and the like)."""
        return Stream(self, attributes)

    def explain(self) -> str:
        """The compiled source, or a list of the operators where they run one by one."""
        return "\n".join([f"{i}: {o.id} ({o.config.type})" for i, o in enumerate(self.operators)]) or "(no operators)"

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


class Stream:
    """One file's way through a chain, run operator by operator: the plain twin."""

    def __init__(self, chain: Chain, attributes: Mapping[str, Any]) -> None:
        self.chain = chain
        self.attributes = {**chain.attributes, **attributes}
        self._states: dict[Operator, dict[Any, Any]] = {}
        self._groups: dict[bytes, list[bytes]] = {}
        self._count = 0
        self.dropped = chain.dropped
        self.filtered = chain.filtered
        self.failed = chain.failed

    # What operators use (operator.Run).

    def out(self, entry: Entry) -> None:
        """Takes an entry that came through all operators."""
        self._groups.setdefault(encode.group_key(entry), []).append(encode.log_record(entry))
        self._count += 1

    def state(self, operator: Operator) -> dict[Any, Any]:
        """The operator's state for this file."""
        state = self._states.get(operator)
        if state is None:
            state = self._states[operator] = {}
        return state

    # What receivers use.

    def feed_chunk(self, chunk: bytes, observed_ns: int) -> None:
        """Lines of UTF-8, each ended by a newline; bytes that are no UTF-8 become U+FFFD."""
        lines = chunk.split(b"\n")
        if not lines[-1]:
            lines.pop()
        self.feed_entries(lines, observed_ns)

    def feed_entries(self, entries: Sequence[bytes | str], observed_ns: int,
                     extra: Sequence[Mapping[str, Any]] | None = None) -> None:
        """Entries already split; `extra` are attributes of each one's own."""
        for i, line in enumerate(entries):
            self.feed(line, observed_ns, extra[i] if extra is not None else None)

    def feed(self, line: bytes | str, observed_ns: int, extra: Mapping[str, Any] | None = None) -> None:
        """One entry."""
        body = line if isinstance(line, str) else line.decode("utf-8", "replace")
        attributes = deep(self.attributes)
        if extra:
            attributes.update(extra)
        entry = Entry(body, attributes, dict(self.chain.resource), observed_ns)
        if self.chain.first is None:
            self.out(entry)
        else:
            self.chain.first.process(entry, self)

    def flush(self, observed_ns: int, *, force: bool) -> None:
        """Hands out what was held back too long at this time (Unix nanoseconds), everything when `force`."""
        for operator in self.chain.operators:
            if self._states.get(operator):
                operator.flush(self, observed_ns, force)

    @property
    def held(self) -> int:
        """Entries held back for joining."""
        return sum(held(state) for state in self._states.values())

    def take(self) -> tuple[bytes, int]:
        """OTLP bytes (field 1 of an export request) and the number of records since the last take."""
        count = self._count
        if not count:
            return b"", 0
        payload = b"".join([encode.resource_logs(key, b"".join(records)) for key, records in self._groups.items()])
        self._groups.clear()
        self._count = 0
        return payload, count

    def close(self) -> None:
        """Forgets everything held; `flush(force=True)` before hands it out."""
        self._states.clear()
        self._groups.clear()
        self._count = 0
