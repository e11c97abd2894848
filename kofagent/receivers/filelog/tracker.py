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
import sys
import time
from collections import OrderedDict
from collections.abc import Iterable
from itertools import pairwise

from kofagent.component.protocols import Context
from kofagent.receivers.filelog.attributes import file_attributes
from kofagent.receivers.filelog.checkpoint import Checkpoints
from kofagent.receivers.filelog.fingerprint import compatible, complete, is_copy, rank, same
from kofagent.receivers.filelog.globs import Finder
from kofagent.receivers.filelog.ordering import Ordering
from kofagent.receivers.filelog.recovery import Losses, Recovery
from kofagent.receivers.filelog.rotated import Folders
from kofagent.receivers.filelog.source import OPEN_FLAGS, GzipSource
from kofagent.receivers.filelog.tail import Identity, Key, Reading, Tail

_QUICK_POLLS = 4
"""So many polls in a row may go by sizes only; the next one sees also a file that was rewritten to the size it had."""
LOST_KEEP_S = 10.0
"""A file that was renamed away or deleted is held open until it was quiet for this long: its writer may not know yet."""
_COARSE_NS = 20_000_000
"""Times of files are behind the clock by as much."""
REMEMBERED = 1024
"""Closed files whose identity is kept."""


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
        self._recovery = Recovery(reading, lambda path: any(glob.matches(path) for glob in self._finder.include), self._cannot_read)
        self._losses = Losses(context)
        self._unsettled: list[Identity] = []
        self._newest = 0  # when an earlier run last saw a file change (ns)
        self._now = 0.0
        self._looked = 0
        self.waiting: list[Tail] = []
        """Tails that are not read before the files that were at their paths earlier are read to their ends."""
        self._ordering = Ordering(config.ordering_criteria)
        self._open_limit = open_limit
        self._fresh_limit = config.max_batches * max(1, config.max_concurrent_files // 2)
        self._closed: OrderedDict[str, Identity] = OrderedDict()
        self._remembered = REMEMBERED + (config.polls_to_archive if checkpoints.durable else 0)
        self._unreadable: set[str] = set()
        self._count_unreadable = context.ledger.counter(
            "kofagent_filelog_unreadable_files", "Files that could not be opened or read.", receiver=context.id
        )
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
            self._newest = max(self._newest, identity.mtime)
        self.from_beginning = self.from_beginning or bool(self._closed)

    def begun_before(self, started_ns: int) -> None:
        """There was an earlier run, the first one at this time (1: not known): `start_at` no longer applies."""
        self.from_beginning = True
        if started_ns > 1:
            self._newest = max(self._newest, started_ns)

    @property
    def open_files(self) -> int:
        """Files that are open now."""
        return sum(1 for tail in self.tails.values() if tail.fd >= 0)

    def poll(self, now: float) -> None:
        """One look at the disk. `now` is the event loop's clock, in seconds."""
        self._now = now
        looked = time.time_ns() - _COARSE_NS
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
        gone: list[Tail] = []
        for tail in list(tails.values()):
            at = seen.get(tail.key)
            if at is None:
                if tail.lost_at is None:
                    gone.append(tail)
                self._lost(tail, now)
            elif tail.path not in at:
                self._renamed(tail, at[0])
        if self._fresh_limit:
            fresh = fresh[: self._fresh_limit]
        for path, status in fresh:
            self._open(path, status)
        for tail in list(tails.values()):
            if tail.twin is not None:
                self._twin(tail)
        if not self._polled:
            self._polled = True
            self.from_beginning = True
            self._recover_at_start()
        elif gone or fresh or self._unsettled:
            self._recover_gone(gone, [path for path, _ in fresh])
        self._looked = looked
        self._losses.report()
        followed = sum(map(len, seen.values())) == len(paths) and all(key in tails for key in seen)
        self._quick_left = _QUICK_POLLS if followed else 0

    def _quick(self) -> bool:
        """A poll when the directories are as they were: asks each open file for its size. False: look closer."""
        # hot: log_idle, 2.5 ms a poll of 200 files: one lseek each instead of a stat of the whole path
        if self._quick_left <= 0:
            return False
        self._quick_left -= 1
        seek, end = os.lseek, os.SEEK_END
        for tail in self.tails.values():
            if (
                tail.fd < 0
                or tail.linked
                or tail.lost_at is not None
                or tail.twin is not None
                or tail.mtime < 0
                or seek(tail.fd, 0, end) != tail.size
            ):
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
            self._context.report("cannot list " + ", ".join(f"{d}: {e}" for d, e in sorted(errors.items())[:3]) if errors else None)
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
                tail.unread = status.st_size
                return True  # no room now, or no permission: the next poll tries again
        before = max(tail.size, tail.unread)
        tail.size, tail.mtime = status.st_size, status.st_mtime_ns
        tail.broken, tail.unread = "", 0
        if tail.gzip:
            if status.st_size >= tail.source.raw:
                return True
        elif status.st_size >= tail.source.at and tail.intact():
            if not before:
                self._keep(tail)
            return True
        if tail.twin is not None:
            tail.head = b""  # whatever it is now, it is no copy any more
            self._start(tail, path, status)
            return True
        return self._truncated(tail, path, status, before)

    def _truncated(self, tail: Tail, path: str, status: os.stat_result, before: int) -> bool:
        """The same inode with other bytes. It goes on as a new file; False when it is no longer open.

        What it held, `before` bytes at the last look, may be in a copy (copytruncate), which is then read on.
        """
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
        if not tail.gzip:
            copies, missing = self._recover(path, [tail.identity()], [], None, Folders())
            self._in_order([*copies, new])
            if missing and before > tail.source.at and not any(t.twin is tail for t in self.tails.values()):
                self._losses.file(path, tail.source.at, before, "truncated")
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
            tail.complete = True
            if tail.gzip and tail.rotated and not tail.source.finished:
                self._losses.file(tail.rotated, tail.fed, tail.fed, "damaged gzip")
            self._closed[tail.uid] = tail.identity()
            self._closed.move_to_end(tail.uid)
            if tail.acked == tail.fed:
                self._keep(tail)
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
                before, tail.size, tail.mtime = tail.size, status.st_size, status.st_mtime_ns
                if (
                    not tail.gzip
                    and tail.twin is None
                    and (status.st_size < tail.source.at or not tail.intact())
                    and self._truncated(tail, tail.path, status, before)
                ):
                    new = self.tails.get(tail.key)
                    if new is not None:
                        new.lost_at = tail.lost_at
                    return
                if not before:
                    self._keep(tail)
            if tail.behind() or tail.waits() or now - max(tail.lost_at, tail.grown_at) < LOST_KEEP_S:
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
            fd = os.open(path, OPEN_FLAGS)
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
            fd = os.open(path, OPEN_FLAGS)
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
        if tail.gzip and len(tail.head) < self._config.fingerprint_size and not complete(fd):
            tail.close()  # still being written, and not enough of it yet to know it by
            return
        if path in self._unreadable:
            self._unreadable.discard(path)
            self._context.log.info("%s can be read now", path)
        self.tails[key] = tail
        self._start(tail, path, status)

    def _make(self, path: str, fd: int, status: os.stat_result) -> Tail:
        return Tail(self.reading, secrets.token_hex(8), path, fd, status, attributes=file_attributes(self._config, path, status))

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
                if other is tail or other.twin is not None or other.fd < 0 or not compatible(other.head, tail.head):
                    continue
                if other.path == path and other.lost_at is not None:
                    continue  # it took the other's place: a new file, even if it starts the same
                if is_copy(tail, other):
                    tail.twin = other
                    return
        tail.start_at(0)
        self._keep(tail)

    def _known(self, tail: Tail) -> Identity | None:
        """The identity this file had when it was read before; it is forgotten, for the file has it again."""
        if not tail.head:
            return None
        best: Identity | None = None
        for other in list(self.tails.values()):
            # an editor writes a new file and renames it over the old one
            if (
                other.path == tail.path
                and other.lost_at is not None
                and other.twin is None
                and other.fed
                and not tail.gzip
                and not other.gzip
                and tail.head.startswith(other.head)
                and tail.size >= other.fed
                and not other.behind()
                and tail.bytes_before(other.fed) == other.guard
            ):
                identity = other.identity()
                other.rest = b""
                self.end(other)
                self._closed.pop(identity.uid, None)
                return identity
        for identity in reversed(self._closed.values()):
            if same(tail, identity) and (best is None or rank(identity, tail) > rank(best, tail)):
                best = identity
        if best is not None:
            del self._closed[best.uid]
        return best

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
            if not is_copy(tail, twin):
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

    # Files that were rotated away unseen

    def _recover_at_start(self) -> None:
        """Files an earlier run did not finish, and files that came and went at their paths since."""
        by_path: dict[str, list[Identity]] = {}
        for identity in self._closed.values():
            by_path.setdefault(identity.path, []).append(identity)
        present = {tail.path: tail for tail in self.tails.values()}
        if self._newest and self._config.start_at == "beginning":
            for path, tail in present.items():
                if not tail.resumed:  # at a new path, too, files may have come and gone
                    by_path.setdefault(path, [])
        folders = Folders()
        for path, identities in by_path.items():
            here = present.get(path)
            newer_than = None
            if here is None or not here.resumed:
                newer_than = max((i.mtime for i in identities), default=self._newest) or sys.maxsize
            chain, missing = self._recover(path, identities, identities, newer_than, folders)
            self._in_order([*chain, here] if here is not None else chain)
            for identity in missing:
                self._lose(identity)

    def _recover_gone(self, gone: list[Tail], fresh: list[str]) -> None:
        """Files that are not at their paths any more, and files at new paths: others may have come and gone there meanwhile."""
        folders = Folders()
        for identity in [self._unsettled.pop() for _ in range(len(self._unsettled))]:
            _, missing = self._recover(identity.path, [identity], [], None, folders)
            for lost in missing:
                self._lose(lost)
        for tail in gone:
            if tail.twin is not None or _key_of(tail.path) == tail.key:
                continue  # a copy; or left out by its age or the order, and still there
            parked = [tail.identity()] if tail.fd < 0 and tail.unread else []
            known = [i for i in self._closed.values() if i.path == tail.path]
            chain, missing = self._recover(tail.path, parked, known, tail.mtime, folders)
            here = [t for t in self.tails.values() if t.path == tail.path and t.lost_at is None]
            self._in_order([tail, *chain, *here])
            for identity in missing:
                self._lose(identity)
        present = {t.path: t for t in self.tails.values()} if fresh else {}
        for path in set(fresh).difference(tail.path for tail in gone):
            new = present.get(path)
            if new is not None and not new.resumed:
                known = [i for i in self._closed.values() if i.path == path]
                chain, _ = self._recover(path, [], known, self._looked, folders)
                self._in_order([*chain, new])

    def _recover(
        self, path: str, wanted: list[Identity], known: list[Identity], newer_than: int | None, folders: Folders
    ) -> tuple[list[Tail], list[Identity]]:
        """Takes up what there is still to read of a path, oldest first. Also returns what is nowhere to be found."""
        if newer_than is not None:
            known = known + [t.identity() for t in self.tails.values() if t.path == path and t.twin is None]
        found = self._recovery.search(path, wanted, known, self.tails, newer_than, folders)
        out = []
        for tail, identity in found.tails:
            if identity is None:
                tail.start_at(0)
                self._keep(tail)
                identity = tail.identity()
            else:
                self._closed.pop(identity.uid, None)
                self._resume(tail, identity)
            if not self._make_room():
                tail.close()
                self._unsettled.append(identity)
                continue
            tail.lost_at = self._now
            self.tails[tail.key] = tail
            out.append(tail)
            self._context.log.info("%s was rotated to %s unseen; it is read to its end", path, tail.rotated)
        return out, found.missing

    def _lose(self, identity: Identity) -> None:
        """The rest of a file is nowhere."""
        self._closed.pop(identity.uid, None)
        self._checkpoints.forget([identity.uid])
        other = self.tails.get(identity.key)
        reason = "truncated" if other is not None and other.path == identity.path else "gone"
        self._losses.file(identity.path, identity.offset, identity.size, reason)

    def _in_order(self, chain: list[Tail]) -> None:
        """Each of these files is read when the ones before it are read to their ends."""
        for before, after in pairwise(chain):
            if before.behind() or before.waits():
                after.after = before
                self.waiting.append(after)

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


def _key_of(path: str) -> Key | None:
    """Which file is at the path now."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
