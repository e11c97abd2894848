"""`PlainStream`: one file's way through a chain, operator by operator. The reference the compiled stream is held against,
and what runs where the compiler does not help."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from kofagent.operators import encode
from kofagent.operators.entry import Entry, deep
from kofagent.operators.operator import AnyOperator
from kofagent.operators.series import Held
from kofagent.operators.text import part


class StreamOwner(Protocol):
    """What a stream needs of its chain."""

    operators: list[AnyOperator]
    attributes: dict[str, str]
    resource: dict[str, str]
    dropped: Callable[[str, int], None]
    filtered: Callable[[str, int], None]

    def failed(self, operator: AnyOperator, error: Exception, action: str) -> None:
        """Logs an operator's error."""
        ...

    def broken(self, error: Exception) -> None:
        """Counts an entry as dropped and logs the defect that it was lost to."""
        ...


class PlainStream:
    """One file's way through a chain, run operator by operator: the plain twin."""

    def __init__(self, chain: StreamOwner, attributes: Mapping[str, Any], holding: Held | None = None, owner: Any = None) -> None:
        """`holding`: what is held back, shared with other streams of the chain; `owner`: whose entries these are, by default the
        stream's."""
        self.chain = chain
        self.attributes = {**chain.attributes, **attributes}
        self.holding = holding or Held()
        self.owner = owner or self
        self.position = self.before = 0
        self._joining = [operator for operator in chain.operators if operator.holds]
        self._groups: dict[bytes, list[bytes]] = {}
        self._count = 0
        self.dropped = chain.dropped
        self.filtered = chain.filtered
        self.failed = chain.failed
        self.broken = chain.broken

    # What operators use (operator.Run).

    def out(self, entry: Entry) -> None:
        """Takes an entry that came through all operators."""
        self._groups.setdefault(encode.group_key(entry), []).append(encode.log_record(entry))
        self._count += 1

    def state(self, operator: AnyOperator) -> dict[Any, Any]:
        """The operator's state for this file."""
        states = self.holding.states
        state = states.get(operator)
        if state is None:
            state = states[operator] = {}
        return state

    # What receivers use.

    def feed_chunk(self, chunk: bytes, observed_ns: int) -> None:
        """Lines of UTF-8, each ended by a newline; bytes that are no UTF-8 become U+FFFD, once what is joined was joined."""
        lines = chunk.split(b"\n")
        if not lines[-1]:
            lines.pop()
        self.feed_entries(lines, observed_ns)

    def feed_entries(
        self, entries: Sequence[bytes | str], observed_ns: int, extra: Sequence[Mapping[str, Any]] | None = None
    ) -> None:
        """Entries already split; `extra` are attributes of each one's own. Bodies of bytes (memoryview) need `extra`."""
        for i, line in enumerate(entries):
            self.position = self.before + i
            self.feed(line, observed_ns, extra[i] if extra is not None else None)

    def feed(self, line: bytes | str | memoryview, observed_ns: int, extra: Mapping[str, Any] | None = None) -> None:
        """One entry; a memoryview is a body of bytes (`encoding: nop`)."""
        body = line if isinstance(line, str) else bytes(line) if isinstance(line, memoryview) else self._text(line)
        attributes = deep(self.attributes)
        if extra:
            attributes.update(extra)
        self.feed_entry(Entry(body, attributes, dict(self.chain.resource), observed_ns))

    def feed_entry(self, entry: Entry) -> None:
        """An entry that the receiver made, with the chain's attributes and resource in it."""
        if not self.chain.operators:
            self.out(entry)
            return
        try:
            self.chain.operators[0].process(entry, self)
        except Exception as error:
            self.broken(error)

    def _text(self, line: bytes) -> str:
        try:
            return line.decode()
        except UnicodeDecodeError:
            return part(line) if self.unfinished(line) else line.decode("utf-8", "replace")

    def unfinished(self, line: bytes) -> bool:
        """Whether a line may end, or begin, in the middle of a character."""
        states = self.holding.states
        return any(operator.joins(line, bool(states.get(operator))) for operator in self._joining)

    def flush(self, observed_ns: int, *, force: bool) -> None:
        """Hands out what was held back too long at this time (Unix nanoseconds), everything when `force`."""
        for operator in self._joining:
            if self.holding.states.get(operator):
                try:
                    operator.flush(self, observed_ns, force)
                except Exception as error:
                    self.broken(error)

    @property
    def held(self) -> int:
        """Entries held back for joining."""
        return self.holding.count

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
        """Forgets everything held, unless another stream shares it; `flush(force=True)` before hands it out."""
        self.holding = Held()
        self._groups.clear()
        self._count = 0
