"""A small file that is read again when it changes: mounted Secrets, tokens, htpasswd files."""

from __future__ import annotations

import os
import time

LIMIT = 1 << 20
"""Largest file that is read, in bytes; credentials are far smaller."""
INTERVAL = 1.0
"""Seconds between two looks at a file."""


class WatchedFile:
    """The content of `path`, asked of the file system at most once per `interval` seconds (default `INTERVAL`).

    Kubernetes replaces a mounted Secret by renaming a symlink, so identity is (inode, mtime, size) of what the path leads
    to. A file that cannot be read keeps its last content; `error` then says why, without content.
    """

    def __init__(self, path: str, interval: float | None = None) -> None:
        self.path = path
        self.error: str | None = None
        self._interval = INTERVAL if interval is None else interval
        self._next = 0.0
        self._seen: tuple[int, int, int] | None = None
        self._data = b""
        self.version = 0
        """Grows each time the content was read again."""

    def forget(self) -> None:
        """The next `read` asks the file system whatever the interval."""
        self._next = 0.0

    def read(self) -> bytes:
        """The content; OSError or ValueError only when it could never be read."""
        now = time.monotonic()
        if now < self._next:
            return self._data
        try:
            stat = os.stat(self.path)
            seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if seen != self._seen:
                with open(self.path, "rb") as file:
                    data = file.read(LIMIT + 1)
                if len(data) > LIMIT:
                    raise ValueError(f"{self.path} has more than {LIMIT} bytes")
                self._data = data
                self._seen = seen
                self.version += 1
            self.error = None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self.error = f"{self.path}: {reason}"
            if self._seen is None:
                raise
        self._next = now + self._interval
        return self._data
