"""One file: how far it was read, how far its entries were handed to the operators, how far somebody owns them.

0 ........ acked ........ fed ............ source.at
           |              | `rest`: read, the entry is not complete
           | entries under way to the pipeline
           checkpoint
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from kofagent.operators.chain import Chain
from kofagent.receivers.filelog.config import Config
from kofagent.receivers.filelog.encodings import Encoding, lookup
from kofagent.receivers.filelog.header import Header
from kofagent.receivers.filelog.source import CHUNK, GzipSource, PlainSource, Source, is_gzip, read_head
from kofagent.receivers.filelog.splitting import Clean, Limit, Lines, make_splitter, trimmer

if TYPE_CHECKING:
    from kofagent.operators.chain import PlainStream as Stream

GUARD = 64
"""Bytes before the offset that are compared before reading on: a file that was truncated and grew again shows there."""

Key = tuple[int, int]
"""Device and inode."""


class Identity(NamedTuple):
    """What is remembered of a file that is not open: enough to know it again and to go on reading."""

    uid: str
    key: Key
    path: str
    head: bytes
    guard: bytes
    offset: int
    base: int
    number: int
    skipping: bool
    header: Mapping[str, Any] | None
    gzip: bool
    size: int = 0
    """Bytes it had when it was last looked at."""
    mtime: int = 0
    done: bool = False
    """Read to its end, and let go: nothing more was expected of it."""


class Place(NamedTuple):
    """A place in a file up to which its entries were fed, and what is needed to go on from there."""

    observed_ns: int
    offset: int
    number: int
    guard: bytes
    skipping: bool


class Reading:
    """What all files of a receiver share: the options, worked out once."""

    def __init__(self, config: Config, chain: Callable[[list[dict[str, Any]]], Chain]) -> None:
        self.config = config
        self.chain = chain(config.operators)
        self.encoding: Encoding = lookup(config.encoding)
        self.splitter = make_splitter(config, self.encoding)
        self.limit = Limit(config.max_log_size, config.max_log_size_behavior == "truncate", self.encoding)
        leading, trailing = config.preserve_leading_whitespaces, config.preserve_trailing_whitespaces
        if self.encoding.whole:
            leading = trailing = True
        containers = bool(config.operators) and config.operators[0].get("type") == "container"
        self.trim = trimmer(leading, trailing, containers)
        self.clean = Clean(leading, trailing, containers)
        self.header = Header(config.header, self.encoding, chain) if config.header else None
        self.extras = config.include_file_record_number or config.include_file_record_offset or self.encoding.whole
        self.by_line = isinstance(self.splitter, Lines) and not self.extras
        """True when a chunk of lines can go to the operators as it is."""


class Tail:
    """One file that is being read. `fd` is -1 while it is parked (too many files are open)."""

    def __init__(
        self,
        reading: Reading,
        uid: str,
        path: str,
        fd: int,
        status: os.stat_result,
        *,
        attributes: Mapping[str, Any],
        gzip: bool | None = None,
    ) -> None:
        """`gzip`: whether it is compressed; None: as the options say."""
        self.reading = reading
        self.uid = uid
        self.path = path
        self.fd = fd
        self.key: Key = (status.st_dev, status.st_ino)
        self.size = status.st_size
        self.mtime = status.st_mtime_ns
        self.gzip = bool(reading.config.compression) and is_gzip(fd) if gzip is None else gzip
        self.head = read_head(fd, reading.config.fingerprint_size, self.gzip)
        self.file_attributes = dict(attributes)
        self.header: dict[str, Any] | None = None if reading.header else {}
        self.header_seen: dict[str, Any] = {}
        self.source: Source = GzipSource(fd, 0, 0) if self.gzip else PlainSource(fd, 0)
        self.base = 0
        self.fed = 0
        self.rest = b""
        self.guard = b""
        self.number = 0
        self.skipping = False
        self.stream: Stream | None = None
        self.acked = 0
        self.marked = 0
        self.places: deque[Place] = deque()
        self.grown_at = 0.0
        self.lost_at: float | None = None
        self.twin: Tail | None = None
        self.after: Tail | None = None
        """The file that was at this path before: what it holds comes first."""
        self.rotated = ""
        """Where a file was found that was renamed away from its path unseen."""
        self.unread = 0
        """Its size when there was no room to open it again."""
        self.resumed = False
        self.complete = False
        self.broken = ""
        self.ended = False
        self.renamed = False
        self.linked = os.path.islink(path)

    # Where to start

    def start_at(self, offset: int) -> None:
        """Reading starts at `offset` of the (decompressed) bytes."""
        self.fed = self.acked = self.marked = offset
        self.rest = b""
        self.source = GzipSource(self.fd, self.base, offset) if self.gzip else PlainSource(self.fd, offset)
        self.guard = self.bytes_before(offset)

    def start_at_end(self) -> None:
        """Only what is added from now on is read."""
        if self.gzip:
            self.base = self.size
            self.start_at(0)
        else:
            self.start_at(self.size)

    def resume(self, known: Identity, offset: int) -> None:
        """Goes on where this file was left, at `offset` of it."""
        self.resumed = True
        self.base = known.base if known.gzip == self.gzip else 0
        self.start_at(offset)
        self.number = known.number if offset == known.offset else 0
        self.skipping = known.skipping and offset == known.offset
        if known.header is not None and offset:
            self.header = dict(known.header)

    def bytes_before(self, offset: int) -> bytes:
        """The last bytes before `offset`, at most `GUARD`; empty for gzip."""
        if self.gzip or offset <= 0:
            return b""
        start = max(0, offset - GUARD)
        return os.pread(self.fd, offset - start, start)

    def start_source(self) -> None:
        """Reading goes on behind what was read; the file was opened again."""
        self.source = PlainSource(self.fd, self.fed + len(self.rest))

    def read_head(self) -> bytes:
        """The fingerprint of the file as it is now."""
        return read_head(self.fd, self.reading.config.fingerprint_size, self.gzip)

    # What is there

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of every entry of this file."""
        return {**self.header, **self.file_attributes} if self.header else self.file_attributes

    @property
    def held(self) -> bool:
        """True when something was read that the pipeline was not offered yet."""
        return bool(self.rest) or (self.stream is not None and self.stream.held > 0)

    def intact(self) -> bool:
        """False when the open file no longer holds what was read from it."""
        if self.gzip:
            return True
        head = os.pread(self.fd, self.reading.config.fingerprint_size, 0)
        if not head.startswith(self.head):
            return False
        self.head = head
        # who asked to ignore a truncation reads on at the old offset, whatever is before it
        return (
            self.reading.config.on_truncate == "ignore"
            or self.bytes_before(self.source.at) == (self.guard + self.rest[-GUARD:])[-GUARD:]
        )

    def behind(self) -> bool:
        """True when the file has bytes that were not read, as far as its size of the last look says."""
        return not self.broken and self.fd >= 0 and self.twin is None and (self.source.raw < self.size or self.source.pending)

    def waits(self) -> bool:
        """True while the file that was at this path before has more to read."""
        while self.after is not None:
            if self.after.behind():
                return True
            self.after = self.after.after
        return False

    def identity(self, place: Place | None = None) -> Identity:
        """What to remember of it at this place, without one at the place where feeding is."""
        _, offset, number, guard, skipping = place or self.place(0)
        return Identity(
            self.uid,
            self.key,
            self.path,
            self.head,
            guard,
            offset,
            self.base,
            number,
            skipping,
            self.header if offset else None,
            self.gzip,
            max(self.size, self.unread),
            max(self.mtime, 0),
            self.complete and offset == self.fed,
        )

    def place(self, observed_ns: int) -> Place:
        """Where feeding is now."""
        return Place(observed_ns, self.fed, self.number, self.guard, self.skipping)

    def safe(self) -> Place | None:
        """The last place before the oldest entry that is held back: a restart from there repeats or loses nothing held."""
        places, stream = self.places, self.stream
        if stream is None or not stream.held:
            places.clear()
            return self.place(0)
        since = stream.held_since
        while len(places) > 1 and places[1].observed_ns <= since:
            places.popleft()
        return places[0] if places and places[0].observed_ns <= since else None

    def close(self) -> None:
        """Closes the file and forgets what was not fed."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        if self.stream is not None:
            self.stream.close()
            self.stream = None

    # Reading

    def step(self, observed_ns: int, now: float) -> bool:
        """Reads one chunk and feeds what is complete in it; False at the end of what there is.

        OSError when the file cannot be read, ValueError when its gzip stream is damaged.
        """
        if not self.gzip and self.fed and not (os.fstat(self.fd).st_size >= self.source.at and self.intact()):
            self.mtime = -1  # truncated since the last look: the next one sorts it out
            return False
        if self.source.skip():
            return True
        data = self.source.read(CHUNK)
        if not data:
            return False
        self.grown_at = now
        self.places.append(self.place(observed_ns))
        more = self.source.raw < self.size or (self.gzip and not self.source.finished)
        if self.reading.config.file_cache_advise and not self.gzip and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self.fd, self.source.at - len(data), len(data), os.POSIX_FADV_DONTNEED)
        if self.rest:
            data = self.rest + data
        self._take(data, observed_ns, more)
        return True

    def finish(self, observed_ns: int) -> None:
        """Feeds the incomplete entry at the end, for there is no sign of its completion."""
        rest, self.rest = self.rest, b""
        if not rest:
            return
        self.places.append(self.place(observed_ns))
        if self.header is None:
            self._header_lines(rest, observed_ns, force=True)
            rest, self.rest = self.rest, b""
            if not rest:
                return
        if self.skipping:
            self._consumed(rest)
            self.skipping = False
            return
        self._feed(rest, self.reading.limit.apply(rest, [(0, 0, len(rest))]), observed_ns)
        self._consumed(rest)

    def _take(self, data: bytes, observed_ns: int, more: bool) -> None:
        if self.header is None:
            data = self._header_lines(data, observed_ns)
            if self.header is None:
                return
        reading = self.reading
        if self.skipping:
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
                self._feed(data, reading.limit.apply(data, spans), observed_ns)
            if end:
                self._consumed(data[:end])
                data = data[end:]
        while len(data) >= reading.limit.size + (0 if reading.limit.truncate else 1):
            end = reading.limit.cut(data, 0, len(data))
            if end >= len(data) and not reading.limit.truncate:
                break
            self._feed(data, [(0, 0, end)], observed_ns)
            self._consumed(data[:end])
            data = data[end:]
            if reading.limit.truncate:
                self.skipping = True
                data = self._skip(data, more)
        self.rest = data

    def _skip(self, data: bytes, more: bool) -> bytes:
        """Leaves out the rest of an entry that was truncated."""
        if isinstance(self.reading.splitter, Lines):
            end = self.reading.encoding.after_newline(data)
        else:
            spans, end = self.reading.splitter.split(data, more)
            if spans:
                end = spans[1][0] if len(spans) > 1 else end
        if end:
            self.skipping = False
        else:
            # nothing ends here; the last bytes may be the beginning of what ends the entry
            end = 0 if len(data) < self.reading.limit.size else len(data) - len(data) % self.reading.encoding.width
        self._consumed(data[:end])
        return data[end:]

    def _lines(self, block: bytes, observed_ns: int) -> None:
        """Feeds whole lines."""
        reading = self.reading
        if len(block) > reading.limit.size:
            spans, _ = reading.splitter.split(block, False)
            limited = reading.limit.apply(block, spans)
            if limited is not spans:
                self._feed(block, limited, observed_ns)
                return
        text = reading.encoding.text(block)
        if not reading.encoding.replace and not _valid(text):
            spans, _ = reading.splitter.split(block, False)
            self._feed(block, spans, observed_ns, raw=True)
            return
        text = reading.clean.chunk(text)
        if text:
            self._stream().feed_chunk(text, observed_ns)

    def _feed(self, data: bytes, spans: list[tuple[int, int, int]], observed_ns: int, raw: bool = False) -> None:
        """Feeds entries that are split already; `raw`: some may be no text."""
        reading = self.reading
        config, text, trim = reading.config, reading.encoding.text, reading.trim
        entries: list[bytes | str | memoryview] = []
        extra: list[Mapping[str, Any]] = []
        for offset, start, stop in spans:
            self.number += 1
            entry = trim(text(data[start:stop]))
            if not entry:
                continue
            entries.append(memoryview(entry) if reading.encoding.whole else _body(entry))
            if reading.extras or raw:
                attributes: dict[str, Any] = {}
                if config.include_file_record_number:
                    attributes["log.file.record_number"] = self.number
                if config.include_file_record_offset:
                    attributes["log.file.record_offset"] = self.fed + offset
                extra.append(attributes)
        if entries:
            self._stream().feed_entries(entries, observed_ns, extra if reading.extras or raw else None)  # type: ignore[arg-type]

    def _consumed(self, data: bytes) -> None:
        self.fed += len(data)
        if not self.gzip:
            self.guard = data[-GUARD:] if len(data) >= GUARD else (self.guard + data)[-GUARD:]

    def _header_lines(self, data: bytes, observed_ns: int, force: bool = False) -> bytes:
        """Takes header lines off `data`; sets `header` once a line is none. Returns what is left, also in `rest`."""
        header = self.reading.header
        assert header is not None
        taken, done, attributes = header.parse(data, observed_ns, force)
        self.header_seen.update(attributes)
        self._consumed(data[:taken])
        if done:
            self.header = self.header_seen
        self.rest = data[taken:]
        return self.rest

    def _stream(self) -> Stream:
        if self.stream is None:
            self.stream = self.reading.chain.open(self.attributes)
        return self.stream


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
