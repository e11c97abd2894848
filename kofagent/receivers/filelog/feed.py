"""What becomes of the bytes of one file: split into entries and handed to the operators.

0 ............. fed ............ read up to
                 | `rest`: read, the entry is not complete

Files that follow one another at a path (rotated, truncated, written anew) are one `Lineage`: an entry that began at the end of one
and goes on in the next is joined, whether the operators join it or `multiline`. Until then the safe place stays before it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from kofagent.operators.chain import Held
from kofagent.receivers.filelog.identity import GUARD, Identity, Place
from kofagent.receivers.filelog.reading import Reading
from kofagent.receivers.filelog.splitting import Lines

if TYPE_CHECKING:
    from kofagent.operators.chain import PlainStream as Stream


class Lineage:
    """What the files of a path hand over: the entries that operators hold back, and who was read last."""

    __slots__ = ("__weakref__", "_last", "held")

    def __init__(self) -> None:
        self.held = Held()
        self._last: weakref.ref[Feed] | None = None

    @property
    def last(self) -> Feed | None:
        """The file that was read last, while it is remembered."""
        return None if self._last is None else self._last()

    @last.setter
    def last(self, feed: Feed) -> None:
        self._last = weakref.ref(feed)


class Feed:
    """The entries of one file. `fed` is the offset up to which they were handed to the operators."""

    def __init__(self, reading: Reading, guarded: bool, attributes: Mapping[str, Any]) -> None:
        """`guarded`: the bytes before `fed` are remembered. `attributes`: what is said of the file in each entry."""
        self._reading = reading
        self._guarded = guarded
        self.file_attributes = dict(attributes)
        self.fed = 0
        self.rest = b""
        self.guard = b""
        self._number = 0
        self._skipping = False
        self._header: dict[str, Any] | None = None if reading.header else {}
        self._header_seen: dict[str, Any] = {}
        self._stream: Stream | None = None
        self.lineage = Lineage()
        self._begun = False
        self._carried = b""
        """The beginning of the first entry, from the file before."""
        self._lender: Feed | None = None
        self._lent: Place | None = None
        """Where the entry begins whose rest is in the next file, until that has fed it."""

    def descend(self, lineage: Lineage) -> None:
        """It is the next file of its path."""
        self.lineage = lineage

    def start_at(self, offset: int, guard: bytes, head: bytes) -> None:
        """The next bytes are those from `offset` on, behind the bytes in `guard`; the file begins with `head`."""
        self.fed, self.guard, self.rest = offset, guard, b""
        if offset:
            self._reading = self._reading.of_mark(head)

    def resume(self, known: Identity) -> None:
        """Goes on as what is known of the file says, once `start_at` was called."""
        same = self.fed == known.offset
        self._number = known.number if same else 0
        self._skipping = known.skipping and same
        if known.header is not None and self.fed:
            self._header = dict(known.header)

    @property
    def header(self) -> dict[str, Any] | None:
        """Attributes that the header lines gave; None while there may be more of them."""
        return self._header

    @property
    def held(self) -> bool:
        """True when something was read, of this file or of those before it, that the pipeline was not offered yet."""
        return self.incomplete or self._lent is not None or self.lineage.held.count > 0

    @property
    def incomplete(self) -> bool:
        """True when an entry was read whose end is not there yet."""
        return bool(self.rest or self._carried)

    @property
    def cut(self) -> bool:
        """True when what was read ends in the middle of a character."""
        return self._reading.encoding.unfinished(self.rest) > 0

    @property
    def owes(self) -> bool:
        """True while entries that began in this file wait for their rest."""
        return self._lent is not None or bool(self.lineage.held.of(self))

    @property
    def lends(self) -> bool:
        """True when the incomplete entry at its end may go on in the next file of the path."""
        return bool(self.rest) and self._reading.multiline

    def place(self) -> Place:
        """Where feeding is now."""
        return Place(self.fed, self._number, self.guard, self._skipping)

    def safe(self) -> Place | None:
        """The place of the oldest entry of this file that is held back, without one the place of feeding: a restart from there
        loses nothing."""
        if self._lent is not None:
            return self._lent
        holds = self.lineage.held.of(self)
        if not holds:
            return self.place()
        places: list[Place | None] = [hold.place for hold in holds]
        return None if None in places else min(places, key=lambda place: place.offset if place else 0)

    def forget_rest(self) -> None:
        """Another file has these bytes, too, and reads them."""
        self.rest = b""

    def flush(self, now_ns: int, force: bool) -> None:
        """The operators hand out what they held long enough; `force`: all of it."""
        if self.lineage.held.count:
            self._open().flush(now_ns, force=force)

    def output(self) -> tuple[bytes, int]:
        """What the operators made since the last call: OTLP bytes, and the number of records."""
        return (b"", 0) if self._stream is None else self._stream.take()

    def close(self) -> None:
        """Closes the operators; the next entry opens them again, with the attributes at that time. They leave what they hold."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def take(self, data: bytes, observed_ns: int, more: bool) -> None:
        """Feeds what is complete with these bytes. `more`: the file has more bytes already."""
        if not self._begun:
            self._begin()
        if not self.fed and not self._reading.encoding.whole:
            data, self.rest = self._unmarked(self.rest + data), b""
        if self.rest or self._carried:
            data = self._carried + self.rest + data
        self._take(data, observed_ns, more)

    def _begin(self) -> None:
        """The first bytes of the file come: they go on with what the one before it has left."""
        self._begun = True
        before, self.lineage.last = self.lineage.last, self
        if before is not None and before is not self and before.lends and self._header is not None:
            self._carried, self._lender = before.lend(), before

    def _unmarked(self, data: bytes) -> bytes:
        """The first bytes of the file without the byte order mark, which is no text and may say how the others are to be read."""
        self._reading = self._reading.of_mark(data)
        mark = self._reading.encoding.mark
        if not mark or not data.startswith(mark):
            return data
        self.guard = self._guard_after(mark)
        self.fed = len(mark)
        return data[len(mark) :]

    def lend(self) -> bytes:
        """Gives its incomplete entry to the next file. It is safe to read on behind it only once that has fed it."""
        rest, self.rest = self.rest, b""
        self._lent = self.place()
        self._consumed(rest)
        return rest

    def repaid(self) -> None:
        """The next file has fed the entry that began in this one."""
        self._lent = None

    def finish(self, observed_ns: int) -> None:
        """Feeds the incomplete entry at the end, for there is no sign of its completion."""
        rest, self.rest = self._carried + self.rest, b""
        if not rest:
            return
        if self._header is None:
            self._header_lines(rest, observed_ns, force=True)
            rest, self.rest = self.rest, b""
            if not rest:
                return
        if self._skipping:
            self._consumed(rest)
            self._skipping = False
            return
        self._entries(rest, self._reading.limit.apply(rest, [(0, 0, len(rest))]), observed_ns)
        self._consumed(rest)

    def _take(self, data: bytes, observed_ns: int, more: bool) -> None:
        if self._header is None:
            data = self._header_lines(data, observed_ns)
            if self._header is None:
                return
        reading = self._reading
        if self._skipping:
            data = self._skip(data, more)
        if not data:
            self.rest = b""
            return
        if reading.by_line:
            end = reading.encoding.after_last_newline(data)
            if end:
                block = data[:end] if end < len(data) else data
                self._lines(block, observed_ns)
                data = data[end:]
        else:
            spans, end = reading.splitter.split(data, more)
            if spans:
                self._entries(data, reading.limit.apply(data, spans), observed_ns)
            if end:
                self._consumed(data[:end])
                data = data[end:]
        while len(data) >= reading.limit.size + (0 if reading.limit.truncate else 1):
            end = reading.limit.cut(data, 0, len(data))
            if end >= len(data) and not reading.limit.truncate:
                break
            self._entries(data, [(0, 0, end)], observed_ns)
            self._consumed(data[:end])
            data = data[end:]
            if reading.limit.truncate:
                self._skipping = True
                data = self._skip(data, more)
        self.rest = data[len(self._carried) :]

    def _skip(self, data: bytes, more: bool) -> bytes:
        """Leaves out the rest of an entry that was truncated."""
        if isinstance(self._reading.splitter, Lines):
            end = self._reading.encoding.after_newline(data)
        else:
            spans, end = self._reading.splitter.split(data, more)
            if spans:
                end = spans[1][0] if len(spans) > 1 else end
        if end:
            self._skipping = False
        else:
            # nothing ends here; the last bytes may be the beginning of what ends the entry
            end = 0 if len(data) < self._reading.limit.size else len(data) - len(data) % self._reading.encoding.width
        self._consumed(data[:end])
        return data[end:]

    def _lines(self, block: bytes, observed_ns: int) -> None:
        """Feeds whole lines."""
        reading = self._reading
        if len(block) > reading.limit.size:
            spans, _ = reading.splitter.split(block, False)
            limited = reading.limit.apply(block, spans)
            if limited is not spans:
                self._entries(block, limited, observed_ns)
                self._consumed(block)
                return
        text = block if reading.utf8 else reading.encoding.text(block)
        if not reading.encoding.replace and not _valid(text):
            spans, _ = reading.splitter.split(block, False)
            self._entries(block, spans, observed_ns, raw=True)
            self._consumed(block)
            return
        clean = reading.clean.chunk(text)
        if clean:
            self._open().feed_chunk(clean, observed_ns)
            if reading.chain.holds:
                same = clean is block
                self._note(
                    block, lambda position: (_line_start(block, position) if same else self._entry_start(block, position), 0)
                )
        self._consumed(block)

    def _entries(self, data: bytes, spans: list[tuple[int, int, int]], observed_ns: int, raw: bool = False) -> None:
        """Feeds entries that are split already; `raw`: some may be no text. Call `_consumed` once that was done."""
        reading = self._reading
        config, text, trim = reading.config, reading.encoding.text, reading.trim
        entries: list[bytes | str | memoryview] = []
        extra: list[Mapping[str, Any]] = []
        places: list[tuple[int, int]] = []
        for offset, start, stop in spans:
            self._number += 1
            entry = trim(data[start:stop] if reading.utf8 else text(data[start:stop]))
            if not entry:
                continue
            entries.append(memoryview(entry) if reading.encoding.whole else entry if reading.utf8 else _body(entry))
            places.append((offset, self._number - 1))
            if reading.extras or raw:
                attributes: dict[str, Any] = {}
                if config.include_file_record_number:
                    attributes["log.file.record_number"] = self._number
                if config.include_file_record_offset:
                    attributes["log.file.record_offset"] = self.fed + max(0, offset - len(self._carried))
                extra.append(attributes)
        if entries:
            self._open().feed_entries(entries, observed_ns, extra if reading.extras or raw else None)  # type: ignore[arg-type]
            if reading.chain.holds:
                self._note(data, places.__getitem__)

    def _note(self, data: bytes, start: Callable[[int], tuple[int, int]]) -> None:
        """Notes for the entries of `data` that the operators hold back now where they begin, which `start` says of the n-th:
        the offset in `data` and the number of entries before it."""
        for hold in self.lineage.held.of(self):
            if hold.place is None:
                offset, number = start(hold.position)
                offset = max(0, offset - len(self._carried))
                own = data[len(self._carried) :][:offset]
                hold.place = Place(self.fed + offset, number, self._guard_after(own), False)

    def _entry_start(self, block: bytes, position: int) -> int:
        """Where the line begins that is the entry of this number, of the lines that are not empty once they are trimmed."""
        reading = self._reading
        for offset, start, stop in reading.splitter.split(block, False)[0]:
            if reading.trim(reading.encoding.text(block[start:stop])):
                position -= 1
                if position < 0:
                    return offset
        return 0

    def _consumed(self, data: bytes) -> None:
        if self._carried:
            foreign = min(len(self._carried), len(data))
            self._carried, data = self._carried[foreign:], data[foreign:]
            if not self._carried and self._lender is not None:
                self._lender.repaid()
                self._lender = None
        self.fed += len(data)
        self.guard = self._guard_after(data)

    def _guard_after(self, data: bytes) -> bytes:
        """What is remembered of the bytes before the place behind `data`, which comes next."""
        if not self._guarded:
            return b""
        return data[-GUARD:] if len(data) >= GUARD else (self.guard + data)[-GUARD:]

    def _header_lines(self, data: bytes, observed_ns: int, force: bool = False) -> bytes:
        """Takes header lines off `data`; sets `header` once a line is none. Returns what is left, also in `rest`."""
        header = self._reading.header
        assert header is not None
        taken, done, attributes = header.parse(data, observed_ns, force)
        self._header_seen.update(attributes)
        self._consumed(data[:taken])
        if done:
            self._header = self._header_seen
        self.rest = data[taken:]
        return self.rest

    def _open(self) -> Stream:
        if self._stream is None:
            attributes = {**self._header, **self.file_attributes} if self._header else self.file_attributes
            self._stream = self._reading.chain.open(attributes, self.lineage.held, self)
        return self._stream


def _line_start(block: bytes, position: int) -> int:
    """Where line number `position` begins, from 0."""
    return sum(map(len, block.split(b"\n", position)[:position])) + position


def _valid(text: bytes) -> bool:
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _body(entry: bytes) -> str | memoryview:
    """Text as string; what `utf-8-raw` left invalid stays bytes, for OTLP has no invalid strings."""
    try:
        return entry.decode()
    except UnicodeDecodeError:
        return memoryview(entry)
