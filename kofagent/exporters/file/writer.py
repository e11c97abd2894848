"""One output file: writing whole messages, rotation. Blocking; the exporter calls it in a thread."""

from __future__ import annotations

import os
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

_BACKUP = re.compile(r"-(\d{4}-\d{2}-\d{2}T\d{2}-\d{2}-\d{2}\.\d{3})\Z")
_FORMAT = "%Y-%m-%dT%H-%M-%S"


class Rotation:
    """Limits of `rotation`: `max_bytes` a file, backups kept by number and age; 0: no limit."""

    def __init__(self, max_bytes: int, max_days: int, max_backups: int, local_time: bool) -> None:
        self.max_bytes = max_bytes
        self.max_days = max_days
        self.max_backups = max_backups
        self.local_time = local_time


class Writer:
    """Appends whole messages to `path`. A message that was not written whole leaves no trace of itself in the file."""

    def __init__(self, path: str, *, append: bool, rotation: Rotation | None) -> None:
        self.path = path
        self._rotation = rotation
        self._file: BinaryIO | None = None
        self._size = 0
        self.dirty = False
        self._append = append or rotation is not None

    def open(self) -> None:
        """Opens or makes the file; OSError."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | (0 if self._append else os.O_TRUNC)
        # unbuffered: what `write` returned for is in the kernel's hands
        self._file = os.fdopen(os.open(self.path, flags, 0o600), "ab", buffering=0)
        self._size = os.fstat(self._file.fileno()).st_size
        self._append = True

    def write(self, data: bytes) -> int:
        """Writes one message and returns where it begins; OSError (a full disk) leaves the file as it was before."""
        if self._file is None:
            self.open()
        rotation = self._rotation
        if rotation is not None and rotation.max_bytes and self._size and self._size + len(data) > rotation.max_bytes:
            self.rotate()
        file = self._file
        assert file is not None
        done = 0
        try:
            view = memoryview(data)
            while done < len(data):
                done += file.write(view[done:]) or 0
        except OSError:
            if done:
                try:
                    os.ftruncate(file.fileno(), self._size)
                except OSError:
                    pass
            raise
        start = self._size
        self._size += len(data)
        self.dirty = True
        return start

    def take_back(self, start: int) -> None:
        """Removes what was written from there on; a file that cannot be made shorter keeps it."""
        try:
            os.truncate(self.path, start)
        except OSError:
            return
        self._size = start

    def rotate(self) -> None:
        """Renames the file to a backup with the time in its name and begins a new one."""
        assert self._rotation is not None
        self.close()
        now = datetime.now(UTC)
        shown = now.astimezone() if self._rotation.local_time else now
        root, extension = os.path.splitext(self.path)
        millis = shown.microsecond // 1000
        backup = f"{root}-{shown.strftime(_FORMAT)}.{millis:03d}{extension}"
        while os.path.exists(backup):
            time.sleep(0.001)
            now = datetime.now(UTC)
            shown = now.astimezone() if self._rotation.local_time else now
            backup = f"{root}-{shown.strftime(_FORMAT)}.{shown.microsecond // 1000:03d}{extension}"
        if os.path.exists(self.path):
            os.rename(self.path, backup)
        self.open()
        self._clean()

    def _clean(self) -> None:
        assert self._rotation is not None
        path = Path(self.path)
        backups = []
        for file in path.parent.iterdir():
            match = _BACKUP.search(file.stem)
            if match and file.suffix == path.suffix and file.stem[: match.start()] == path.stem:
                backups.append((match[1], file))
        backups.sort(reverse=True)
        keep = self._rotation.max_backups or len(backups)
        for i, (stamp, file) in enumerate(backups):
            if i >= keep or self._too_old(stamp):
                try:
                    file.unlink()
                except OSError:
                    pass

    def _too_old(self, stamp: str) -> bool:
        rotation = self._rotation
        assert rotation is not None
        if not rotation.max_days:
            return False
        when = datetime.strptime(stamp, _FORMAT + ".%f")
        when = when.astimezone() if rotation.local_time else when.replace(tzinfo=UTC)
        return (datetime.now(UTC) - when).total_seconds() > rotation.max_days * 86400

    def flush(self) -> None:
        """Asks the kernel to put what was written on the disk; OSError."""
        if self._file is not None and self.dirty:
            os.fdatasync(self._file.fileno())
        self.dirty = False

    def close(self) -> None:
        """Closes the file; the next write opens it again."""
        file, self._file = self._file, None
        if file is not None:
            file.close()
