"""What becomes of the bytes of one file: split into entries and handed to the operators.

0 ............. fed ............ read up to
                 | `rest`: read, the entry is not complete
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kofagent.receivers.filelog.identity import GUARD, Identity, Place
from kofagent.receivers.filelog.reading import Reading
from kofagent.receivers.filelog.splitting import Lines

if TYPE_CHECKING:
    from kofagent.operators.chain import PlainStream as Stream


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
        self._places: deque[Place] = deque()

    def start_at(self, offset: int, guard: bytes) -> None:
        """The next bytes are those from `offset` on, behind the bytes in `guard`."""
        self.fed, self.guard, self.rest = offset, guard, b""

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
        """True when something was read that the pipeline was not offered yet."""
        return bool(self.rest) or (self._stream is not None and self._stream.held > 0)

    def place(self, observed_ns: int) -> Place:
        """Where feeding is now."""
        return Place(observed_ns, self.fed, self._number, self.guard, self._skipping)

    def safe(self) -> Place | None:
        """The last place before the oldest entry that is held back: a restart from there repeats or loses nothing held."""
        places, stream = self._places, self._stream
        if stream is None or not stream.held:
            places.clear()
            return self.place(0)
        since = stream.held_since
        while len(places) > 1 and places[1].observed_ns <= since:
            places.popleft()
        return places[0] if places and places[0].observed_ns <= since else None

    def forget_rest(self) -> None:
        """Another file has these bytes, too, and reads them."""
        self.rest = b""

    def flush(self, now_ns: int, force: bool) -> None:
        """The operators hand out what they held long enough; `force`: all of it."""
        if self._stream is not None and (force or self._stream.held):
            self._stream.flush(now_ns, force=force)

    def output(self) -> tuple[bytes, int]:
        """What the operators made since the last call: OTLP bytes, and the number of records."""
        return (b"", 0) if self._stream is None else self._stream.take()

    def close(self) -> None:
        """Forgets what the operators hold; the next entry opens them again, with the attributes at that time."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def take(self, data: bytes, observed_ns: int, more: bool) -> None:
        """Feeds what is complete with these bytes. `more`: the file has more bytes already."""
        self._places.append(self.place(observed_ns))
        if self.rest:
            data = self.rest + data
        self._take(data, observed_ns, more)

    def finish(self, observed_ns: int) -> None:
        """Feeds the incomplete entry at the end, for there is no sign of its completion."""
        rest, self.rest = self.rest, b""
        if not rest:
            return
        self._places.append(self.place(observed_ns))
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
                self._consumed(block)
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
        self.rest = data

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
                return
        text = reading.encoding.text(block)
        if not reading.encoding.replace and not _valid(text):
            spans, _ = reading.splitter.split(block, False)
            self._entries(block, spans, observed_ns, raw=True)
            return
        text = reading.clean.chunk(text)
        if text:
            self._open().feed_chunk(text, observed_ns)

    def _entries(self, data: bytes, spans: list[tuple[int, int, int]], observed_ns: int, raw: bool = False) -> None:
        """Feeds entries that are split already; `raw`: some may be no text."""
        reading = self._reading
        config, text, trim = reading.config, reading.encoding.text, reading.trim
        entries: list[bytes | str | memoryview] = []
        extra: list[Mapping[str, Any]] = []
        for offset, start, stop in spans:
            self._number += 1
            entry = trim(text(data[start:stop]))
            if not entry:
                continue
            entries.append(memoryview(entry) if reading.encoding.whole else _body(entry))
            if reading.extras or raw:
                attributes: dict[str, Any] = {}
                if config.include_file_record_number:
                    attributes["log.file.record_number"] = self._number
                if config.include_file_record_offset:
                    attributes["log.file.record_offset"] = self.fed + offset
                extra.append(attributes)
        if entries:
            self._open().feed_entries(entries, observed_ns, extra if reading.extras or raw else None)  # type: ignore[arg-type]

    def _consumed(self, data: bytes) -> None:
        self.fed += len(data)
        if self._guarded:
            self.guard = data[-GUARD:] if len(data) >= GUARD else (self.guard + data)[-GUARD:]

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
            self._stream = self._reading.chain.open(attributes)
        return self._stream


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
