"""`SegmentLog`: batches in append-only files, for queues on disk. Its methods block, so a queue calls them from a separate thread.

What it promises:

- A record that `append` returned for has survived a crash of the process; with `fsync` one of the machine, too.
- Taking a record out needs no space: one byte of it is overwritten, and a file without records that wait is deleted (or written
  again from its beginning). So a full volume never keeps a queue from being emptied.
- A record is delivered as it was written or not at all: header and body have checksums. What is damaged costs the records it
  hits; the next one is found by its header. `state` says how many items should wait, so losses are counted, whichever file was
  damaged, emptied or removed.
- New records are refused (ENOSPC) when less than RESERVE_BYTES, or a twentieth of the volume if that is less, would stay free:
  the places of receivers on the same volume, and the node, need room as well.

One process at a time uses a folder: `state` is locked.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple
from zlib import crc32

from kofagent.component.records import DONE, HEADER_BYTES, SIGNALS, STATUS_AT, Header, parse, walk
from kofagent.telemetry.signal import Signal

SEGMENT_BYTES = 4 << 20
"""Size from which a file is no longer written to. A larger record gets a file to itself."""
RESERVE_BYTES = 64 << 20
_STATE = struct.Struct("<8sQQ3QI")
_STATE_MAGIC = b"KQSTATE1"
_SLOTS = (0, 4096)
"""Places of the two copies of the state, in two pages of the disk: one of them is whole whatever is torn."""
_OPEN_FILES = 4


class InUse(Exception):
    """Another process (or another queue of this one) uses the folder."""


class Record(NamedTuple):
    """A record that waits, and its place."""

    header: Header
    segment: int
    at: int


class Found:
    """What an earlier run left."""

    def __init__(self) -> None:
        self.first: list[Record] = []
        """The first records that wait, in order."""
        self.lost: Counter[Signal] = Counter()
        """Items that should wait and are gone."""


class _Segment:
    __slots__ = ("end", "number", "waiting")

    def __init__(self, number: int, end: int = 0) -> None:
        self.number = number
        self.end = end
        self.waiting = 0


class SegmentLog:
    """Records in the files of `folder`; see the module."""

    def __init__(self, folder: str, *, fsync: bool = False, timeout: float = 1.0, segment_bytes: int = SEGMENT_BYTES) -> None:
        """`timeout`: seconds to wait for another process that uses the folder."""
        self.folder = folder
        self.segment_bytes = segment_bytes
        self._fsync = fsync
        self._timeout = timeout
        self._log = logging.getLogger("kofagent.queue")
        self._segments: dict[int, _Segment] = {}
        """In order; the last one is written to, if `_active`."""
        self._active: _Segment | None = None
        self._files: dict[int, int] = {}
        """Descriptors by segment, those used last."""
        self._state = -1
        self._sequence = 0
        self._next = self._acknowledged = 0
        self._waiting: Counter[Signal] = Counter()
        self.unmarked: list[Record] = []
        """Records that are out, but whose status could not be written yet: they would come again after a crash."""
        self._empty: list[int] = []
        """Segments that could not be deleted yet."""

    @property
    def size(self) -> int:
        """Bytes in files. May be read from any thread."""
        return sum([segment.end for segment in list(self._segments.values())])

    @property
    def behind(self) -> bool:
        """Whether the disk did not take yet that records are out."""
        return bool(self.unmarked)

    # -- opening

    def open(self, most: int, each: Callable[[Header], None]) -> Found:
        """Opens the existing files and returns the first `most` records; `each` is called for every record. InUse, OSError.

        What is damaged is passed over, counted in `Found.lost`.
        """
        found = Found()
        try:
            self._open_state()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or (os.path.isdir(self.folder) and os.listdir(self.folder)):
                raise
            self._log.warning("%s cannot be made: %s; data is refused until it can", self.folder, error.strerror)
            return found
        expected = self._read_state()
        names = sorted(name for name in os.listdir(self.folder) if name.endswith(".seg"))
        waiting: Counter[Signal] = Counter()
        last = -1
        for name in names:
            try:
                number = int(name.removesuffix(".seg"), 16)
            except ValueError:
                continue
            segment = self._segments[number] = _Segment(number)
            self._next = max(self._next, number)
            try:
                segment.end = os.fstat(self._file(number)).st_size
                for record in self._walk(segment, 0, last):
                    last = record.header.number
                    if record.header.done or (last >= self._acknowledged and not self._whole(record)):
                        continue  # the latter was being written when the process ended: nobody was told that it is here
                    segment.waiting += 1
                    waiting[record.header.signal] += record.header.items
                    each(record.header)
                    if len(found.first) < most:
                        found.first.append(record)
            except OSError as error:
                # what was found before is kept, the rest counts as damaged; whoever mends the disk can have the file
                self._log.error("%s cannot be read in full: %s", self._path(number), error.strerror)
                if not segment.waiting:
                    self._set_aside(segment)
        self._next = max(self._next, last + 1, self._acknowledged)
        if expected is not None:
            found.lost = expected - waiting
        elif names:
            self._log.error("%s: the state of the queue is damaged; what is lost of the queue is not counted", self.folder)
        self._waiting = waiting
        for segment in list(self._segments.values()):
            if not segment.waiting:
                self._delete(segment)
        try:
            self._write_state()
        except OSError as error:
            self._log.warning("%s: the state of the queue cannot be written: %s", self.folder, error.strerror)
        return found

    def _set_aside(self, segment: _Segment) -> None:
        del self._segments[segment.number]
        try:
            os.rename(self._path(segment.number), self._path(segment.number) + ".unreadable")
        except OSError:
            pass

    def _open_state(self) -> None:
        # the content is written over in place: no space is needed when the volume is full
        os.makedirs(self.folder, 0o700, exist_ok=True)
        self._state = os.open(os.path.join(self.folder, "state"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        until = time.monotonic() + self._timeout
        while True:
            try:
                fcntl.flock(self._state, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > until:
                    self.close()
                    raise InUse(self.folder) from None
                time.sleep(0.05)

    def _read_state(self) -> Counter[Signal] | None:
        """The items that should wait; None when nobody knows."""
        best: tuple[int, ...] | None = None
        for slot in _SLOTS:
            raw = os.pread(self._state, _STATE.size, slot)
            if len(raw) == _STATE.size and raw[:8] == _STATE_MAGIC and crc32(raw[:-4]) == int.from_bytes(raw[-4:], "little"):
                fields = _STATE.unpack(raw)[1:-1]
                best = max(best or fields, fields)
        if best is None:
            self._acknowledged = 0
            return None
        self._sequence, self._acknowledged = best[:2]
        return Counter({signal: count for signal, count in zip(SIGNALS, best[2:], strict=True) if count})

    def _write_state(self) -> None:
        counts = [max(0, self._waiting[signal]) for signal in SIGNALS]
        raw = _STATE.pack(_STATE_MAGIC, self._sequence + 1, self._next, *counts, 0)[:-4]
        raw += crc32(raw).to_bytes(4, "little")
        for slot in _SLOTS:
            os.pwrite(self._state, raw, slot)
        self._sequence += 1

    # -- reading

    def scan(self, after: Record | None, most: int) -> list[Record]:
        """The next records that wait, behind `after`, at most this many; OSError."""
        out: list[Record] = []
        for segment in list(self._segments.values()):
            if after is not None and segment.number < after.segment:
                continue
            start, last = 0, -1
            if after is not None and segment.number == after.segment:
                start, last = after.at + HEADER_BYTES + after.header.length, after.header.number
            for record in self._walk(segment, start, last):
                if not record.header.done:
                    out.append(record)
                    if len(out) == most:
                        return out
        return out

    def _walk(self, segment: _Segment, start: int, last: int) -> Iterator[Record]:
        for at, header in walk(self._file(segment.number), start, segment.end, last):
            yield Record(header, segment.number, at)

    def read(self, record: Record) -> bytes:
        """The body; ValueError when it is damaged or gone, OSError when the disk does not give it back."""
        try:
            raw = os.pread(self._file(record.segment), HEADER_BYTES + record.header.length, record.at)
        except FileNotFoundError:
            raise ValueError(f"{self._path(record.segment)} is gone") from None
        header = parse(raw[:HEADER_BYTES])
        body = raw[HEADER_BYTES:]
        if header is None or header._replace(done=False) != record.header or crc32(body) != header.crc:
            raise ValueError(f"{self._path(record.segment)} is damaged at byte {record.at}")
        return body

    def _whole(self, record: Record) -> bool:
        try:
            self.read(record)
        except ValueError:
            return False
        return True

    # -- writing

    def append(self, headers: Sequence[Header], bodies: Sequence[bytes]) -> list[Record]:
        """Appends records and assigns their `number` and `crc`; on OSError none of them is kept."""
        if self._state < 0:  # there was no space for it at the start
            self._open_state()
        total = sum(map(len, bodies)) + HEADER_BYTES * len(bodies)
        segment = self._writable(total)
        fd = self._file(segment.number)
        self._check_free(fd, total)
        pieces: list[bytes] = []
        records: list[Record] = []
        at, number = segment.end, self._next
        for header, body in zip(headers, bodies, strict=True):
            header = header._replace(number=number, crc=crc32(body))
            pieces += (header.encode(), body)
            records.append(Record(header, segment.number, at))
            at += HEADER_BYTES + len(body)
            number += 1
        try:
            self._write(fd, pieces, segment.end)
            if self._fsync:
                os.fdatasync(fd)
        except OSError:
            try:
                os.ftruncate(fd, segment.end)  # what is left behind its end would be found at the next start
            except OSError:
                pass
            raise
        segment.end = at
        segment.waiting += len(records)
        self._next = self._acknowledged = number
        for header in headers:
            self._waiting[header.signal] += header.items
        try:
            self._write_state()
        except OSError:  # the records are there all the same, and are counted right at the next write
            pass
        return records

    def _write(self, fd: int, pieces: list[bytes], at: int) -> None:
        for first in range(0, len(pieces), 512):
            run = pieces[first : first + 512]
            total = sum(map(len, run))
            written = os.pwritev(fd, run, at)
            if written < total:
                rest = memoryview(b"".join(run))[written:]
                while rest:
                    more = os.pwrite(fd, rest, at + total - len(rest))
                    rest = rest[more:]
            at += total

    def _check_free(self, fd: int, total: int) -> None:
        volume = os.fstatvfs(fd)
        free, whole = volume.f_bavail * volume.f_frsize, volume.f_blocks * volume.f_frsize
        if free - total < min(RESERVE_BYTES, whole // 20):
            raise OSError(errno.ENOSPC, f"only {free >> 20} of {whole >> 20} MiB are free on the volume", self.folder)

    def _writable(self, total: int) -> _Segment:
        segment = self._active
        if segment is not None and not segment.waiting and not self.unmarked:
            segment.end = 0  # all of it was taken out; numbers tell what is left of it from what is written now
        if segment is None or (segment.end and segment.end + total > self.segment_bytes):
            number = self._next
            while number in self._segments:
                number += 1
            fd = os.open(self._path(number), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            if self._fsync:
                self._sync_folder()
            self._keep(number, fd)
            self._next = max(self._next, number)
            segment = self._active = self._segments[number] = _Segment(number)
        return segment

    def _sync_folder(self) -> None:
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def done(self, records: Sequence[Record]) -> None:
        """Takes records out. OSError: they are out, but would come again after a crash; `settle` tries again."""
        for record in records:
            self._waiting[record.header.signal] -= record.header.items
        self.unmarked.extend(records)
        self.settle()

    def settle(self) -> None:
        """Writes what could not be written; OSError."""
        if self.unmarked:
            # first the sum: a crash between the two sends something twice, and counts nothing as lost that is not
            self._write_state()
        while self.unmarked:
            record = self.unmarked[-1]
            segment = self._segments.get(record.segment)
            if segment is not None:
                try:
                    os.pwrite(self._file(record.segment), bytes((DONE,)), record.at + STATUS_AT)
                except FileNotFoundError:
                    pass
                segment.waiting -= 1
                if not segment.waiting and segment is not self._active:
                    self._delete(segment)
            self.unmarked.pop()
        for number in self._empty.copy():
            self._unlink(number)

    def _delete(self, segment: _Segment) -> None:
        del self._segments[segment.number]
        if segment is self._active:
            self._active = None
        self._empty.append(segment.number)
        try:
            self._unlink(segment.number)
        except OSError:
            pass  # `settle` tries again; its records are marked, so nothing of it comes again

    def _unlink(self, number: int) -> None:
        fd = self._files.pop(number, None)
        if fd is not None:
            os.close(fd)
        try:
            os.unlink(self._path(number))
        except FileNotFoundError:
            pass
        self._empty.remove(number)

    def close(self) -> None:
        """Gives everything back; a file without records that wait is deleted."""
        active = self._active
        if active is not None and not active.waiting:
            self._delete(active)
        for fd in self._files.values():
            os.close(fd)
        self._files.clear()
        if self._state >= 0:
            os.close(self._state)
            self._state = -1

    # -- files

    def _path(self, number: int) -> str:
        return os.path.join(self.folder, f"{number:016x}.seg")

    def _file(self, number: int) -> int:
        fd = self._files.pop(number, None)
        if fd is None:
            fd = os.open(self._path(number), os.O_RDWR | os.O_CLOEXEC)
        self._keep(number, fd)
        return fd

    def _keep(self, number: int, fd: int) -> None:
        self._files[number] = fd
        if len(self._files) > _OPEN_FILES:
            oldest = next(n for n in self._files if self._active is None or n != self._active.number)
            os.close(self._files.pop(oldest))
