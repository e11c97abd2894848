"""Running operators once for all lines that have the same words: on an entry whose body and times stand for those of any line.

What operators declare (`access`) decides whether that is tried. It is also checked: an operator that looks at a stand-in,
replaces it, or keeps state, makes the outcome unusable, whatever it declared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kofagent.operators import encode
from kofagent.operators.entry import Entry, deep
from kofagent.operators.errors import DECLARED
from kofagent.operators.interpret import PlainStream, StreamOwner
from kofagent.operators.operator import AnyOperator

BODY = "\ue000 stand-in for the body \ue000"
TIME = 946684800_000000000
"""What `LineFormat.line` writes."""

Effect = tuple[Callable[..., None], tuple[Any, ...]]


class Outcome:
    """What the operators make of one set of words where that is not exactly one record: records as (group, other fields),
    and effects to repeat."""

    def __init__(self, records: list[tuple[bytes, bytes]], effects: list[Effect]) -> None:
        self.records = records
        self.effects = effects


class StandIn(Entry):
    """An entry with stand-ins, which tells its recorder when one is read. A body is one only while it is exactly `BODY`: what a
    container's operator is given is a line, which it may read."""

    __slots__ = ("given", "recorder")

    def __init__(self, recorder: Recorder, body: Any, attributes: dict[str, Any], resource: dict[str, Any]) -> None:
        self.recorder = recorder
        self.given: dict[str, Any] = {}
        super().__init__(body, attributes, resource, 0)

    @property
    def body(self) -> Any:
        if self.given["body"] == BODY:
            self.recorder.usable = False
        return self.given["body"]

    @body.setter
    def body(self, value: Any) -> None:
        self.given["body"] = value

    @property
    def timestamp(self) -> int | None:
        self.recorder.usable = False
        return self.given["timestamp"]  # type: ignore[no-any-return]

    @timestamp.setter
    def timestamp(self, value: int | None) -> None:
        self.given["timestamp"] = value

    @property
    def observed(self) -> int:
        self.recorder.usable = False
        return 0

    @observed.setter
    def observed(self, value: int) -> None:
        self.given["observed"] = value

    def copy(self) -> Entry:
        other = StandIn(self.recorder, deep(self.given["body"]), deep(self.attributes), deep(self.resource))
        other.given.update(timestamp=self.given["timestamp"], observed=self.given["observed"])
        other.copy_rest(self)
        return other


class Recorder(PlainStream):
    """Runs the operators on a stand-in and keeps what they did. `time` is what the first operator, `parser`, reads from the line,
    None without one that parses lines."""

    def __init__(self, chain: StreamOwner, attributes: dict[str, Any], parser: AnyOperator | None) -> None:
        super().__init__(chain, attributes)
        self.parser = parser
        self.time = None if parser is None else TIME
        self.records: list[tuple[bytes, bytes]] = []
        self.effects: list[Effect] = []
        self.usable = True
        self.dropped = lambda *a: self.effects.append((chain.dropped, a))
        self.filtered = lambda *a: self.effects.append((chain.filtered, a))
        self.failed = self._failed

    def run(self, line: str, lifted: dict[Any, Any]) -> None:
        """One line through the operators, which find under `lifted` what was computed ahead."""
        entry = StandIn(self, line, deep(self.attributes), dict(self.chain.resource))
        entry.lifted = lifted
        if not self.chain.operators:
            self.out(entry)
            return
        try:
            self.chain.operators[0].process(entry, self)
        except Exception:
            self.usable = False

    def _failed(self, operator: AnyOperator, error: Exception, action: str) -> None:
        if not isinstance(error, DECLARED):
            self.usable = False  # who knows what its defect depends on
        # its frames have this entry, and the effect is remembered
        # What led to it holds the frames in which it happened, and with them the bytes that were read.
        error.__context__ = error.__cause__ = None
        self.effects.append((self.chain.failed, (operator, error.with_traceback(None), action)))

    def state(self, operator: AnyOperator) -> dict[Any, Any]:
        if operator is not self.parser:
            self.usable = False
        return super().state(operator)

    def out(self, entry: Entry) -> None:
        given = entry.given if isinstance(entry, StandIn) else {}
        if given != {"body": BODY, "timestamp": self.time, "observed": 0}:
            self.usable = False
            return
        self.records.append((encode.group_key(entry), encode.record_rest(entry)))
