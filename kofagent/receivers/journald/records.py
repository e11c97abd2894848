"""What becomes of entries: those that are wanted go through the operators and come out as log records.

Where there are no operators, a record is put together from the encoded values of its entry, which are worked out once for all
entries that share them; the map is not made.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

from kofagent.config.re2 import compile_test
from kofagent.operators.chain import Chain, Held
from kofagent.operators.encode import encoded, group_key, key_values, resource_logs
from kofagent.operators.entry import Entry as LogEntry
from kofagent.operators.entry import deep
from kofagent.receivers.journald.config import Config
from kofagent.receivers.journald.convert import Assembler, body, conventional
from kofagent.receivers.journald.cursor import Cursor
from kofagent.receivers.journald.fields import Field, Style
from kofagent.receivers.journald.file import Entry
from kofagent.receivers.journald.matches import compile_matches
from kofagent.receivers.journald.tail import Tail
from kofagent.receivers.journald.values import Values

Marks = dict[bytes, Cursor]
"""Of each journald the last entry up to which all is in a batch."""


class Records:
    """The way of entries to batches. `note(path, what)` is told of values that are left out."""

    def __init__(self, config: Config, chain: Chain, note: Callable[[str, str], None]) -> None:
        self.matches = compile_matches(config.units, config.identifiers, config.priority, config.dmesg, config.matches)
        self.boot_id = b""
        """Entries of other boots are left out that were written before `since` (microseconds)."""
        self.since = 0
        self.size = 0
        """Bytes of the records that wait."""
        self._style = Style(config.all, config.convert_message_bytes)
        self._grep = _grep(config.grep)
        self._conventions = config.convert_to_semantic_conventions
        self._chain = chain
        self._note = note
        self._stream = chain.open({}, Held(), self)
        self._plain = not chain.operators and not self._conventions
        self._group = group_key(LogEntry(None, {}, chain.resource, 0))
        self._assembler = Assembler(key_values(chain.attributes, b"\x32"))
        self._records: list[bytes] = []
        self._marks: Marks = {}
        self._waiting: deque[tuple[int, Cursor]] = deque()
        self._index = 0

    def add(self, tail: Tail, entry: Entry, place: Cursor) -> None:
        """Takes an entry. Damaged when none of its values can be read: it counts as taken."""
        holds = self._chain.holds
        if holds:
            self._index += 1
            self._waiting.append((self._index, place))
        else:
            self._marks[place.seqnum_id] = place
        if self.boot_id and entry.boot_id != self.boot_id and entry.realtime < self.since:
            return
        values = tail.values
        if values is None:
            values = tail.values = Values(tail.file, self.matches, self._style)
        fields, bad = values.fields(entry)
        if bad:
            self._note(tail.file.path, "values of entries cannot be read and are left out")
        mask = 0
        for field in fields:
            mask |= field[4]
        if not self.matches.accepts(mask) or (self._grep is not None and not _found(fields, self._grep)):
            return
        if self._style.everything and any(field.cut for field in fields):
            self._note(tail.file.path, "values are too long and are null")
        self._convert(entry, place, fields, time.time_ns())
        if holds:
            for hold in self._stream.holding.of(self):
                if hold.place is None:
                    hold.place = self._index

    def _convert(self, entry: Entry, place: Cursor, fields: Sequence[Field], observed_ns: int) -> None:
        if self._plain:
            data = self._assembler.record(place, fields, observed_ns)
            if data is None:
                data = encoded(self._log_entry(entry, place, fields, observed_ns))[1]
            self._records.append(data)
            self.size += len(data)
            return
        self._stream.feed_entry(self._log_entry(entry, place, fields, observed_ns))
        self.size += 100 + sum([len(field.encoded) for field in fields])

    def _log_entry(self, entry: Entry, place: Cursor, fields: Sequence[Field], observed_ns: int) -> LogEntry:
        out = LogEntry(body(entry, place, fields), deep(self._chain.attributes), dict(self._chain.resource), observed_ns)
        out.timestamp = entry.realtime * 1000
        if self._conventions:
            conventional(out)
        return out

    def flush(self, observed_ns: int, *, force: bool) -> None:
        """Hands out what operators held back too long, everything when `force`."""
        self._stream.flush(observed_ns, force=force)

    def take(self) -> tuple[bytes, int, Marks]:
        """The records since the last time, as a payload and their number, and how far entries are in batches now."""
        payload, count = self._stream.take()
        if self._records:
            payload = resource_logs(self._group, b"".join(self._records))
            count = len(self._records)
            self._records = []
        self.size = 0
        marks, self._marks = self._marks, {}
        first = min((hold.place for hold in self._stream.holding.of(self)), default=self._index + 1)
        while self._waiting and self._waiting[0][0] < first:
            place = self._waiting.popleft()[1]
            marks[place.seqnum_id] = place
        return payload, count, marks


def _grep(pattern: str) -> Callable[[str], bool] | None:
    """As journalctl: in any case of letters unless the pattern has capitals."""
    if not pattern:
        return None
    return compile_test(pattern if any(c.isupper() for c in pattern) else f"(?i){pattern}")


def _found(fields: Sequence[Field], grep: Callable[[str], bool]) -> bool:
    for field in fields:
        if field.name == "MESSAGE":
            return grep(field.raw.decode("utf-8", "replace"))
    return False
