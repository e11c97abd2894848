"""What is on the disk: which files are at the paths of `include`, and what is found in those that changed. Decides nothing."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import time
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from kofagent.component.protocols import Context
from kofagent.receivers.filelog.attributes import file_attributes
from kofagent.receivers.filelog.confine import Confined
from kofagent.receivers.filelog.decide import Appeared, Changed
from kofagent.receivers.filelog.fingerprint import (
    compatible,
    continues,
    gzip_complete,
    is_copy,
    is_copy_of,
    is_related,
    matches,
    may_be,
)
from kofagent.receivers.filelog.globs import Finder
from kofagent.receivers.filelog.identity import Identity, Key
from kofagent.receivers.filelog.ordering import Ordering
from kofagent.receivers.filelog.reading import Reading
from kofagent.receivers.filelog.source import OPEN_FLAGS
from kofagent.receivers.filelog.states import State
from kofagent.receivers.filelog.tail import Tail
from kofagent.telemetry.reasons import checked

_QUICK_POLLS = 4
"""Consecutive polls that compare sizes only; the next one asks for everything, and also detects a rewrite to the same size."""
_REPORTED = 10_000
"""Paths whose trouble is remembered, so that it is reported once."""


class Seen(NamedTuple):
    """A file at paths of `include`."""

    paths: list[str]
    status: os.stat_result


class Disk:
    """The files that match the options of one receiver."""

    def __init__(self, reading: Reading, context: Context) -> None:
        config = reading.config
        self._reading = reading
        self._config = config
        self._context = context
        self._finder = Finder(config.include, config.exclude)
        self._ordering = Ordering(config.ordering_criteria)
        self._last_paths: list[str] | None = None
        self._quick_left = 0
        self._followed = 0
        self._warned_empty = False
        self._unlisted: dict[str, str] = {}
        self._unreadable: set[str] = set()
        self._irregular: set[str] = set()

    def included(self, path: str) -> bool:
        """Whether polls find this path by themselves."""
        return any(glob.matches(path) for glob in self._finder.include)

    def find(self, tails: Collection[Tail]) -> dict[Key, Seen] | None:
        """The files that are there, by device and inode; None when nothing changed since the last time."""
        paths = self._ordering.choose(self._finder.find())
        if paths is self._last_paths and self._quick(tails):
            return None
        self._report(paths)
        self._last_paths = paths
        seen: dict[Key, Seen] = {}
        config = self._config
        youngest = time.time() - config.exclude_older_than if config.exclude_older_than else 0.0
        followed = True
        for path in paths:
            try:
                status = os.stat(path)
            except FileNotFoundError:
                followed = False
                continue
            except OSError as error:
                self.cannot_read(path, error)
                followed = False
                continue
            if not stat.S_ISREG(status.st_mode):
                self._irregular_file(path)
                followed = False
                continue
            if youngest and status.st_mtime < youngest:
                followed = False
                continue
            key = (status.st_dev, status.st_ino)
            known = seen.get(key)
            if known is None:
                seen[key] = Seen([path], status)
            else:
                known.paths.append(path)
        self._quick_left = _QUICK_POLLS if followed else 0
        return seen

    def look_closer(self) -> None:
        """The next `find` asks for everything: something that is there is not followed yet."""
        self._quick_left = 0

    def _quick(self, tails: Collection[Tail]) -> bool:
        """A poll when the directories are as they were: asks each open file for its size. False: look closer."""
        # hot: log_idle, 2.5 ms a poll of 200 files: one lseek each instead of a stat of the whole path
        if self._quick_left <= 0:
            return False
        self._quick_left -= 1
        seek, end, is_open = os.lseek, os.SEEK_END, State.OPEN
        for tail in tails:
            if tail.state is not is_open or tail.linked or tail.suspect or seek(tail.fd, 0, end) != tail.size:
                return False
        return True

    # What is found in a file

    def changed(self, tail: Tail, status: os.stat_result) -> Changed:
        """What an open file holds that has another size or time."""
        if tail.gzip:
            return Changed(status.st_size, True, True)
        intact = status.st_size >= tail.at and tail.intact()
        starts_as_before = not intact and bool(self._config.on_truncate) and tail.starts_as_before()
        return Changed(status.st_size, intact, starts_as_before)

    def appeared(
        self, tail: Tail, tails: Iterable[Tail], closed: Iterable[Identity], recent: Callable[[Identity], bool]
    ) -> Appeared:
        """Which files that are open or known a file may be. `closed`: the latest first; `recent` says which were just closed."""
        if not tail.head:
            return Appeared()
        others = [other for other in tails if other is not tail and other.readable]
        if tail.anew:
            found = [known for known in closed if known.key != tail.key and is_copy_of(tail, known.path) and matches(tail, known)]
            return Appeared((), found, [other for other in others if is_copy_of(tail, other.path) and is_copy(tail, other)])
        return Appeared(
            [other for other in others if other.path == tail.path and continues(tail, other)],
            [
                known
                for known in closed
                if matches(tail, known) and may_be(tail, known) and (is_related(tail, known) or recent(known))
            ],
            [other for other in others if compatible(other.head, tail.head) and is_copy(tail, other)],
        )

    def originals(self, tail: Tail, tails: Iterable[Tail]) -> list[Tail]:
        """The open files whose copy a file may be, by its name or by what they held at their last look."""
        if not tail.head:
            return []
        return [
            other
            for other in tails
            if other is not tail and other.readable and (compatible(other.head, tail.head) or is_copy_of(tail, other.path))
        ]

    # Opening

    def open(self, path: str, status: os.stat_result, known: Collection[Key]) -> Tail | None:
        """Opens a file that is not `known` yet; None if it cannot be opened, is not ours, or is not complete enough."""
        if self._config.compression and status.st_size == 0:
            return None  # whether it becomes a gzip file shows later
        try:
            fd = os.open(path, OPEN_FLAGS)
        except FileNotFoundError:
            return None
        except OSError as error:
            self.cannot_read(path, error)
            return None
        try:
            self._reading.confinement.check(fd, path)
            status = os.fstat(fd)
            if (status.st_dev, status.st_ino) in known or not stat.S_ISREG(status.st_mode):
                os.close(fd)
                return None
            tail = self.tail(path, fd, status)
        except OSError as error:
            os.close(fd)
            self.cannot_read(path, error)
            return None
        if tail.gzip and len(tail.head) < self._config.fingerprint_size and not gzip_complete(fd):
            tail.close()  # still being written, and not enough of it yet to know it by
            return None
        if path in self._unreadable:
            self._unreadable.discard(path)
            self._context.log.info("%s can be read now", path)
        return tail

    def tail(self, path: str, fd: int, status: os.stat_result, before: Tail | None = None) -> Tail:
        """A file that is open already; `before` is what it was until it was written anew. OSError when it cannot be read."""
        attributes = file_attributes(self._config, path, status, strict=before is None)
        rotated, anew = (before.rotated, True) if before is not None else ("", False)
        return Tail(self._reading, secrets.token_hex(8), path, fd, status, attributes=attributes, rotated=rotated, anew=anew)

    def attributes(self, path: str) -> dict[str, str] | None:
        """What is said of the file at this path in its entries; None when it is gone."""
        try:
            return file_attributes(self._config, path, os.stat(path))
        except OSError:
            return None

    def reopen(self, path: str) -> int | None:
        """The path opened again; None when that is not possible now."""
        fd = -1
        try:
            fd = os.open(path, OPEN_FLAGS)
            self._reading.confinement.check(fd, path)
        except OSError as error:
            if fd >= 0:
                os.close(fd)
            self.cannot_read(path, error)
            return None
        return fd

    # What is reported

    def _report(self, paths: list[str]) -> None:
        if not paths and not self._warned_empty and self._last_paths is None:
            self._warned_empty = True
            self._context.log.warning("no file matches include %s yet", ", ".join(self._config.include))
        errors = self._finder.errors
        if errors != self._unlisted:
            for directory, error in errors.items():
                if directory not in self._unlisted:
                    denied = error in (os.strerror(errno.EACCES), os.strerror(errno.EPERM))
                    hint = "; give read and search permission" if denied else ""
                    self._context.log.error("cannot list the directory %s: %s%s", directory, error, hint)
            self._context.report("cannot list " + ", ".join(f"{d}: {e}" for d, e in sorted(errors.items())[:3]) if errors else None)
            self._unlisted = dict(errors)

    def cannot_read(self, path: str, error: OSError) -> None:
        """Counts and logs a file that cannot be read, once."""
        if path in self._unreadable:
            return
        if len(self._unreadable) < _REPORTED:
            self._unreadable.add(path)
        count_unreadable(self._context, "outside" if isinstance(error, Confined) else "unreadable")
        self._context.log.error("cannot read %s: %s; it is tried again at each poll", path, error.strerror or error)

    def _irregular_file(self, path: str) -> None:
        if path not in self._irregular and len(self._irregular) < _REPORTED:
            self._irregular.add(path)
            count_unreadable(self._context, "not a regular file")
            self._context.log.warning("%s matches include but is not a regular file; it is left out", path)


def count_unreadable(context: Context, reason: str) -> None:
    """Counts a file that is not read though it is included."""
    context.ledger.counter(
        "kofagent_filelog_unreadable_files",
        "Files that could not be opened or read, by reason.",
        receiver=context.id,
        reason=checked(reason),
    )(1)


def key_of(path: str) -> Key | None:
    """Which file is at the path now."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
