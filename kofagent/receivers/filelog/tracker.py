"""Which file is which: finds files, knows them again after a rotation, a truncation, a copy or a restart.

A file that is open is known by device and inode, which cannot be given to another file meanwhile. One that is not is known by
its fingerprint (its first bytes, which may be fewer now than later) and by the bytes before the offset where reading stopped.
A file whose bytes are a copy of one that is being read (`copytruncate` before it truncates, a compressed one before the
original is removed) waits as its twin; it takes over the offset when the original ends, and is a file of its own as soon
as it differs.
"""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections import OrderedDict
from collections.abc import Iterable

from kofagent.pipeline.component import Context
from kofagent.receivers.filelog.attributes import file_attributes
from kofagent.receivers.filelog.checkpoint import Checkpoints
from kofagent.receivers.filelog.globs import Finder
from kofagent.receivers.filelog.ordering import Ordering
from kofagent.receivers.filelog.source import GzipSource
from kofagent.receivers.filelog.tail import Identity, Key, Reading, Tail

_QUICK_POLLS = 4
"""So many polls in a row may go by sizes only; the next one sees also a file that was rewritten to the size it had."""
LOST_KEEP_S = 10.0
"""A file that was renamed away or deleted is held open until it was quiet for this long: its writer may not know yet."""
REMEMBERED = 1024
"""Closed files whose identity is kept."""
_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0)


class Tracker:
    """The files of one receiver. `poll` looks at the disk; nothing here waits."""

    def __init__(self, reading: Reading, context: Context, checkpoints: Checkpoints, open_limit: int) -> None:
        config = reading.config
        self.reading = reading
        self.tails: dict[Key, Tail] = {}
        self.finished: list[Tail] = []
        """Tails that end: what they hold is to be flushed, then `retire` is to be called."""
        self.from_beginning = config.start_at == "beginning"
        self._config = config
        self._context = context
        self._checkpoints = checkpoints
        self._finder = Finder(config.include, config.exclude)
        self._ordering = Ordering(config.ordering_criteria)
        self._open_limit = open_limit
        self._fresh_limit = config.max_batches * max(1, config.max_concurrent_files // 2)
        self._closed: OrderedDict[str, Identity] = OrderedDict()
        self._remembered = REMEMBERED + (config.polls_to_archive if checkpoints.durable else 0)
        self._unreadable: set[str] = set()
        self._count_unreadable = context.ledger.counter(
            "kofagent_filelog_unreadable_files", "Files that could not be opened or read.", receiver=context.id)
        self._polled = False
        self._last_paths: list[str] | None = None
        self._quick_left = 0
        self._warned_empty = False
        self._roots: dict[str, str] = {}
        self._odd: set[str] = set()

    def load(self, known: Iterable[Identity]) -> None:
        """Identities of an earlier run; with them `start_at` no longer applies."""
        for identity in known:
            self._closed[identity.uid] = identity
        self.from_beginning = self.from_beginning or bool(self._closed)

    @property
    def open_files(self) -> int:
        """Files that are open now."""
        return sum(1 for tail in self.tails.values() if tail.fd >= 0)

    def poll(self, now: float) -> None:
        """One look at the disk. `now` is the event loop's clock, in seconds."""
        paths = self._ordering.choose(self._finder.find())
        if paths is self._last_paths and self._quick():
            return
        self._last_paths = paths
        self._report(paths)
        seen: dict[Key, list[str]] = {}
        fresh: list[tuple[str, os.stat_result]] = []
        tails = self.tails
        youngest = time.time() - self._config.exclude_older_than if self._config.exclude_older_than else 0.0
        for path in paths:
            try:
                status = os.stat(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                self._cannot_read(path, error)
                continue
            if youngest and status.st_mtime < youngest:
                continue
            key = (status.st_dev, status.st_ino)
            if key in seen:
                seen[key].append(path)
                continue
            tail = tails.get(key)
            if tail is not None and not self._look(tail, path, status):
                tail = None
            if tail is None and not self._is_regular(path, status):
                continue
            seen[key] = [path]
            if tail is None:
                if key not in tails:
                    fresh.append((path, status))
            elif tail.path != path or tail.lost_at is not None:
                tail.lost_at = None
        for tail in list(tails.values()):
            at = seen.get(tail.key)
            if at is None:
                self._lost(tail, now)
            elif tail.path not in at:
                self._renamed(tail, at[0])
        if self._fresh_limit:
            fresh = fresh[:self._fresh_limit]
        for path, status in fresh:
            self._open(path, status)
        for tail in list(tails.values()):
            if tail.twin is not None:
                self._twin(tail)
        if not self._polled:
            self._polled = True
            self.from_beginning = True
            self._find_rotated_while_down()
        followed = sum(map(len, seen.values())) == len(paths) and all(key in tails for key in seen)
        self._quick_left = _QUICK_POLLS if followed else 0

    def _quick(self) -> bool:
        """A poll when the directories are as they were: asks each open file for its size. False: look closer."""
        # hot: idle node, 100 files 5 times a second: one lseek each instead of a stat of the whole path
        if self._quick_left <= 0:
            return False
        self._quick_left -= 1
        seek, end = os.lseek, os.SEEK_END
        for tail in self.tails.values():
            if tail.fd < 0 or tail.linked or tail.lost_at is not None or tail.twin is not None or tail.mtime < 0 \
                    or seek(tail.fd, 0, end) != tail.size:
                return False
        return True

    # What is reported

    def _report(self, paths: list[str]) -> None:
        if not paths and not self._warned_empty and not self._polled:
            self._warned_empty = True
            self._context.log.warning("no file matches include %s yet", ", ".join(self._config.include))
        errors = self._finder.errors
        if errors != self._roots:
            for directory, error in errors.items():
                if directory not in self._roots:
                    self._context.log.error("cannot list the directory %s: %s; give read and search permission", directory, error)
            self._context.report(
                "cannot list " + ", ".join(f"{d}: {e}" for d, e in sorted(errors.items())[:3]) if errors else None)
            self._roots = dict(errors)

    def _cannot_read(self, path: str, error: OSError) -> None:
        if path in self._unreadable:
            return
        if len(self._unreadable) < 10000:
            self._unreadable.add(path)
        self._count_unreadable(1)
        self._context.log.error("cannot read %s: %s; it is tried again at each poll", path, error.strerror or error)

    def _is_regular(self, path: str, status: os.stat_result) -> bool:
        if stat.S_ISREG(status.st_mode):
            return True
        if path not in self._odd and len(self._odd) < 10000:
            self._odd.add(path)
            self._context.log.warning("%s matches include and is no regular file; it is left out", path)
        return False

    # Files that are known

    def _look(self, tail: Tail, path: str, status: os.stat_result) -> bool:
        """Takes in what changed; False when the path holds another file than this tail's."""
        if status.st_size == tail.size and status.st_mtime_ns == tail.mtime:
            return True
        if tail.fd < 0:
            if not self._reopen(tail, path):
                return False
            if tail.fd < 0:
                return True  # no room now, or no permission: the next poll tries again
        tail.size, tail.mtime = status.st_size, status.st_mtime_ns
        tail.broken = ""
        if tail.gzip:
            if status.st_size >= tail.source.raw:
                return True
        elif status.st_size >= tail.source.at and tail.intact():
            return True
        if tail.twin is not None:
            tail.head = b""  # whatever it is now, it is no copy any more
            self._start(tail, path, status)
            return True
        return self._truncated(tail, path, status)

    def _truncated(self, tail: Tail, path: str, status: os.stat_result) -> bool:
        """The same inode with other bytes. It goes on as a new file; False when it is no longer open."""
        choice = self._config.on_truncate
        if choice in ("ignore", "read_new") and not tail.gzip:
            head = os.pread(tail.fd, len(tail.head), 0)
            if head == tail.head:  # it starts as before: upstream's meaning of truncated; else it is a new file
                if choice == "read_new" and status.st_size < tail.source.at:
                    tail.start_at(status.st_size)
                    tail.size = status.st_size
                return True
        fd, tail.fd = tail.fd, -1
        self.end(tail)
        self._context.log.info("%s was truncated; it is read from the beginning", path)
        try:
            new = self._make(path, fd, os.fstat(fd))
        except OSError as error:
            os.close(fd)
            self._cannot_read(path, error)
            return False
        self.tails[new.key] = new
        return True

    def end(self, tail: Tail) -> None:
        """No more can be read of it; what it holds is to be flushed."""
        tail.ended = True
        if self.tails.get(tail.key) is tail:
            del self.tails[tail.key]
        if tail.twin is None:
            self._closed[tail.uid] = tail.identity()
        self.finished.append(tail)

    def retire(self, tail: Tail) -> None:
        """The tail was flushed: it is closed, and its identity remembered."""
        tail.ended = True
        if self.tails.get(tail.key) is tail:
            del self.tails[tail.key]
        if tail.uid in self._closed or (not any(t.uid == tail.uid for t in self.tails.values()) and tail.twin is None):
            self._closed[tail.uid] = tail.identity()
            self._closed.move_to_end(tail.uid)
        tail.close()
        gone = []
        while len(self._closed) > self._remembered:
            gone.append(self._closed.popitem(last=False)[0])
        self._checkpoints.forget(gone)

    def _lost(self, tail: Tail, now: float) -> None:
        """No path matches it any more: rotated away, deleted, or out of the order. It is read to its end, then let go."""
        if tail.lost_at is None:
            tail.lost_at = now
        if tail.fd >= 0:
            status = os.fstat(tail.fd)
            if status.st_size != tail.size or status.st_mtime_ns != tail.mtime:
                tail.size, tail.mtime = status.st_size, status.st_mtime_ns
                if not tail.gzip and tail.twin is None and (status.st_size < tail.source.at or not tail.intact()) \
                        and self._truncated(tail, tail.path, status):
                    new = self.tails.get(tail.key)
                    if new is not None:
                        new.lost_at = tail.lost_at
                    return
            if tail.behind() or now - max(tail.lost_at, tail.grown_at) < LOST_KEEP_S:
                return
        self.end(tail)

    def _renamed(self, tail: Tail, path: str) -> None:
        """The file has another name now, which its entries carry from here on."""
        tail.path = path
        tail.linked = os.path.islink(path)
        try:
            attributes = file_attributes(self._config, path, os.stat(path))
        except OSError:
            return
        if attributes != tail.file_attributes:
            tail.file_attributes = attributes
            tail.renamed = True

    def _reopen(self, tail: Tail, path: str) -> bool:
        """Opens a parked tail again; False when the path holds another file."""
        if not self._make_room():
            return True
        try:
            fd = os.open(path, _OPEN_FLAGS)
        except OSError as error:
            self._cannot_read(path, error)
            return True
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) != tail.key:
            os.close(fd)
            self.end(tail)
            return False
        tail.fd = fd
        if tail.gzip:
            tail.source = GzipSource(fd, tail.base, tail.fed)
        else:
            tail.start_source()
        return True

    # Files that are not

    def _open(self, path: str, status: os.stat_result) -> None:
        if not self._make_room():
            return
        if self._config.compression and status.st_size == 0:
            return  # what it is going to be shows later
        try:
            fd = os.open(path, _OPEN_FLAGS)
        except FileNotFoundError:
            return
        except OSError as error:
            self._cannot_read(path, error)
            return
        try:
            status = os.fstat(fd)
            key = (status.st_dev, status.st_ino)
            if key in self.tails or not stat.S_ISREG(status.st_mode):
                os.close(fd)
                return
            tail = self._make(path, fd, status)
        except OSError as error:
            os.close(fd)
            self._cannot_read(path, error)
            return
        if tail.gzip and len(tail.head) < self._config.fingerprint_size and not _complete(fd):
            tail.close()  # still being written, and not enough of it yet to know it by
            return
        if path in self._unreadable:
            self._unreadable.discard(path)
            self._context.log.info("%s can be read now", path)
        self.tails[key] = tail
        self._start(tail, path, status)

    def _make(self, path: str, fd: int, status: os.stat_result) -> Tail:
        return Tail(self.reading, secrets.token_hex(8), path, fd, status,
                    attributes=file_attributes(self._config, path, status))

    def _start(self, tail: Tail, path: str, status: os.stat_result) -> None:
        """Decides where reading starts in a file that was not open before."""
        tail.twin = None
        if not tail.head:
            tail.head = tail.read_head()
        known = self._known(tail)
        if known is not None:
            self._resume(tail, known)
            return
        if not self.from_beginning:
            tail.start_at_end()
            self._keep(tail)
            return
        if tail.head:
            for other in self.tails.values():
                if other is tail or other.twin is not None or other.fd < 0 or not _compatible(other.head, tail.head):
                    continue
                if other.path == path and other.lost_at is not None:
                    continue  # it took the other's place: a new file, even if it starts the same
                if _is_copy(tail, other):
                    tail.twin = other
                    return
        tail.start_at(0)

    def _known(self, tail: Tail) -> Identity | None:
        """The identity this file had when it was read before; it is forgotten, for the file has it again."""
        if not tail.head:
            return None
        best: Identity | None = None
        for other in list(self.tails.values()):
            # an editor writes a new file and renames it over the old one
            if other.path == tail.path and other.lost_at is not None and other.twin is None and other.fed \
                    and not tail.gzip and not other.gzip and tail.head.startswith(other.head) and tail.size >= other.fed \
                    and not other.behind() and tail.bytes_before(other.fed) == other.guard:
                identity = other.identity()
                other.rest = b""
                self.end(other)
                self._closed.pop(identity.uid, None)
                return identity
        for identity in reversed(self._closed.values()):
            if identity.head and tail.head.startswith(identity.head[:self._config.fingerprint_size]) \
                    and self._fits(tail, identity) and (best is None or _rank(identity, tail) > _rank(best, tail)):
                best = identity
        if best is not None:
            del self._closed[best.uid]
        return best

    def _fits(self, tail: Tail, known: Identity) -> bool:
        """Whether the rest of what is known of a file with this fingerprint is true of this one, too."""
        if tail.gzip:
            if known.gzip or len(known.head) >= self._config.fingerprint_size:
                return True
            return len(tail.head) >= known.offset or tail.head == known.head
        if known.gzip:
            return False
        if tail.size >= known.offset:
            return not known.guard or tail.bytes_before(known.offset) == known.guard
        # It is shorter. The same inode was truncated; another file with a whole fingerprint in common is a piece of it.
        return known.key == tail.key or (known.path != tail.path and len(known.head) >= self._config.fingerprint_size)

    def _resume(self, tail: Tail, known: Identity) -> None:
        offset = known.offset
        if not tail.gzip and offset > tail.size:
            choice = self._config.on_truncate or ("read_whole_file" if known.key == tail.key else "read_new")
            if choice == "read_whole_file":
                offset = 0
            elif choice == "read_new":
                offset = tail.size
        for ended in self.finished:
            if ended.uid == known.uid:
                ended.rest = b""  # this file has those bytes, too, and reads them
        tail.uid = known.uid
        tail.resume(known, offset)
        self._keep(tail)

    def _twin(self, tail: Tail) -> None:
        """Looks whether a file that waits as a copy still is one, and whether it is its turn."""
        twin = tail.twin
        assert twin is not None
        if not twin.ended:
            if not _is_copy(tail, twin):
                tail.twin = None
                tail.head = tail.read_head()
                tail.start_at(0)
            return
        tail.twin = None
        tail.head = tail.read_head()
        known = self._closed.pop(twin.uid, None) or twin.identity()
        # A copy holds what the original held: what the original was read up to need not be read again.
        offset = known.offset if tail.gzip else min(known.offset, tail.size)
        twin.rest = b""
        tail.uid = known.uid
        tail.resume(known, offset)

    def _keep(self, tail: Tail) -> None:
        """Lets a restart know where this file was begun."""
        if self._checkpoints.durable and tail.head:
            self._checkpoints.keep(tail.identity())

    def _find_rotated_while_down(self) -> None:
        """Files an earlier run did not finish, under a name that include does not match: looked for by inode, read to their end."""
        wanted: dict[str, list[Identity]] = {}
        for identity in self._closed.values():
            if not identity.gzip and identity.key not in self.tails:
                wanted.setdefault(os.path.dirname(identity.path) or ".", []).append(identity)
        for directory, identities in wanted.items():
            try:
                with os.scandir(directory) as entries:
                    inodes = {entry.inode(): entry.path for entry in entries if entry.is_file(follow_symlinks=False)}
            except OSError:
                continue
            for identity in identities:
                path = inodes.get(identity.key[1])
                if path is not None and self._make_room():
                    self._adopt_rotated(identity, path)

    def _adopt_rotated(self, identity: Identity, path: str) -> None:
        try:
            fd = os.open(path, _OPEN_FLAGS)
        except OSError:
            return
        try:
            status = os.fstat(fd)
            tail = Tail(self.reading, identity.uid, identity.path, fd, status,
                        attributes=file_attributes(self._config, identity.path, status))
        except OSError:
            os.close(fd)
            return
        if tail.key != identity.key or tail.key in self.tails or not identity.head or tail.size <= identity.offset \
                or not tail.head.startswith(identity.head[:self._config.fingerprint_size]) or not self._fits(tail, identity):
            tail.close()
            return
        self._closed.pop(identity.uid, None)
        tail.resume(identity, identity.offset)
        self.tails[tail.key] = tail
        self._context.log.info("%s was rotated to %s while nobody read it; it is read to its end", identity.path, path)

    # Open files

    def _make_room(self) -> bool:
        """True when one more file may be open; parks a quiet one for it."""
        if len(self.tails) < self._open_limit:
            return True
        is_open = [t for t in self.tails.values() if t.fd >= 0]
        if len(is_open) < self._open_limit:
            return True
        quiet = [t for t in is_open if t.lost_at is None and t.twin is None and not t.behind() and not t.held]
        if not quiet:
            return False
        tail = min(quiet, key=lambda t: t.grown_at)
        os.close(tail.fd)
        tail.fd = -1
        return True

    def close(self) -> None:
        """Closes everything."""
        for tail in [*self.tails.values(), *self.finished]:
            tail.close()
        self.tails.clear()
        self.finished.clear()


def _rank(known: Identity, tail: Tail) -> tuple[bool, bool, int, int]:
    return known.key == tail.key, known.path == tail.path, len(known.head), known.offset


def _compatible(one: bytes, other: bytes) -> bool:
    """One starts with the other, and neither is empty."""
    size = min(len(one), len(other))
    return size > 0 and one[:size] == other[:size]


def _is_copy(tail: Tail, other: Tail) -> bool:
    """Whether the bytes of the two are the same as far as both go."""
    if other.fd < 0 or tail.fd < 0:
        return False
    one, two = tail.read_head(), other.head if other.gzip else other.read_head()
    if not _compatible(one, two):
        return False
    if tail.gzip or other.gzip:
        return True
    size = min(os.fstat(tail.fd).st_size, os.fstat(other.fd).st_size)
    start = max(0, size - 256)
    return os.pread(tail.fd, size - start, start) == os.pread(other.fd, size - start, start)


def _complete(fd: int) -> bool:
    """Whether a small gzip file is whole."""
    source = GzipSource(fd, 0, 0)
    try:
        while source.read(65536):
            pass
    except ValueError:
        return True  # damaged: reading it says so
    return source.finished
