"""`Disk`: the real files of a queue on disk, in a temporary folder, that fail and wait when a test says so."""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from collections.abc import Iterable, Sequence

from kofagent.component.queue_storage import OldQueue
from kofagent.component.records import Header, walk
from kofagent.component.segment_log import Record, SegmentLog


class Disk:
    """As `QueueStorage`; outlives the queues that use it. `full` makes writing fail, `unreadable` reading, `readonly` all changes."""

    def __init__(self, folder: str | os.PathLike[str] = "") -> None:
        self._own = None if folder else tempfile.TemporaryDirectory(prefix="queue-")
        self.folder = str(folder) or self._own.name if self._own else str(folder)
        self.full = self.unreadable = self.readonly = False
        self.gate: threading.Event | None = None
        self.opened = ""
        self.writes = 0
        self.old: OldQueue | None = None
        self.fails: list[Exception] = []
        """What the next reads raise."""

    def queue_log(self, kind: str, id: str, segment_bytes: int) -> SegmentLog:
        self.opened = f"{kind} {id}"
        return _Log(self, segment_bytes)

    async def old_queue(self, kind: str, id: str) -> OldQueue | None:
        return self.old

    @property
    def files(self) -> list[str]:
        return sorted(os.path.join(self.folder, name) for name in os.listdir(self.folder) if name.endswith(".seg"))

    @property
    def waiting(self) -> list[tuple[str, int, Header]]:
        """What is in the files and not taken out: file, place, header. For a queue that is not written to meanwhile."""
        out: list[tuple[str, int, Header]] = []
        last = -1
        for path in self.files:
            try:
                fd = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                continue
            for at, header in walk(fd, 0, os.fstat(fd).st_size, last):
                last = header.number
                if not header.done:
                    out.append((path, at, header))
            os.close(fd)
        return out

    def flip(self, number: int, at: Iterable[int]) -> None:
        """Changes these bytes of the record that is waiting in this place of the order."""
        path, begin, _ = self.waiting[number]
        with open(path, "r+b") as file:
            content = bytearray(file.read())
            for place in at:
                content[begin + place] ^= 0x10
            file.seek(0)
            file.write(content)


class _Log(SegmentLog):
    def __init__(self, disk: Disk, segment_bytes: int) -> None:
        super().__init__(disk.folder, segment_bytes=segment_bytes)
        self._disk = disk

    def append(self, headers: Sequence[Header], bodies: Sequence[bytes]) -> list[Record]:
        self._disk.writes += 1
        if self._disk.gate is not None:
            self._disk.gate.wait(20)
        if self._disk.full or self._disk.readonly:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().append(headers, bodies)

    def settle(self) -> None:
        if self._disk.readonly and self.unmarked:
            raise OSError(errno.EROFS, "Read-only file system")
        super().settle()

    def read(self, record: Record) -> bytes:
        if self._disk.fails:
            raise self._disk.fails.pop()
        if self._disk.unreadable:
            raise OSError(errno.EIO, "Input/output error")
        return super().read(record)
