"""Which file is which: knows files again after a rotation, a truncation, a copy or a restart.

A file that is open is known by device and inode, which no other file can get then. One that is not is known by
its fingerprint (its first bytes, which may be fewer now than later) and by the bytes before the offset where reading stopped.
A file whose bytes are a copy of one that is being read (`copytruncate` before it truncates, a compressed one before the
original is removed) waits as its twin; it takes over the offset when the original ends, and becomes a separate file as soon
as it differs.

A poll goes from the disk to events (`find.py`), from events and states to decisions (`decide.py`), and carries them out here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import NamedTuple

from kofagent.component.protocols import Context
from kofagent.receivers.filelog import decide
from kofagent.receivers.filelog.checkpoint import Checkpoints
from kofagent.receivers.filelog.decide import Begin, Change, Copy, Inherit, Resume, Search, Wait
from kofagent.receivers.filelog.files import Files
from kofagent.receivers.filelog.find import Disk, Seen
from kofagent.receivers.filelog.fingerprint import is_copy, may_continue
from kofagent.receivers.filelog.identity import Identity, Key
from kofagent.receivers.filelog.reading import Reading
from kofagent.receivers.filelog.recovery import Losses, Recovery
from kofagent.receivers.filelog.rotated import Folders
from kofagent.receivers.filelog.states import State
from kofagent.receivers.filelog.tail import Tail
from kofagent.receivers.filelog.unseen import Unseen

_COARSE_NS = 20_000_000
"""Times of files are behind the clock by as much."""
_TRIES = 3
"""How often a file is compared with those it may be a copy of, when these are truncated meanwhile."""


class _Rewritten(NamedTuple):
    """A file that has other bytes than before, `old` and `new`; `size` is what it had at the last look."""

    old: Tail
    new: Tail
    path: str
    size: int


class Tracker:
    """The files of one receiver. `poll` looks at the disk; nothing here waits."""

    def __init__(self, reading: Reading, context: Context, checkpoints: Checkpoints, open_limit: int) -> None:
        config = reading.config
        self._config = config
        self._context = context
        self._losses = Losses(context)
        self._disk = Disk(reading, context)
        self.files = Files(checkpoints, self._losses, config.on_truncate, open_limit, config.polls_to_archive)
        self._unseen = Unseen(self.files, Recovery(reading, self._disk.included, self._disk.cannot_read), context)
        self._from_beginning = config.start_at == "beginning"
        self._fresh_limit = config.max_batches * max(1, config.max_concurrent_files // 2)
        self._polled = False
        self._newest = 0  # when an earlier run last saw a file change (ns)
        self._looked = 0
        self._now = 0.0
        self._to_start: list[Tail] = []
        self._rewritten: list[_Rewritten] = []

    def load(self, known: Iterable[Identity]) -> None:
        """Identities of an earlier run; with them `start_at` no longer applies."""
        for identity in known:
            self.files.remember(identity)
            self._newest = max(self._newest, identity.mtime)
            self._from_beginning = True

    def begun_before(self, started_ns: int) -> None:
        """There was an earlier run, the first one at this time (1: not known): `start_at` no longer applies."""
        self._from_beginning = True
        if started_ns > 1:
            self._newest = max(self._newest, started_ns)

    @property
    def tails(self) -> dict[Key, Tail]:
        """The files that are followed, by device and inode."""
        return self.files.tails

    @property
    def open_files(self) -> int:
        """Files that are open now."""
        return sum(1 for tail in self.tails.values() if tail.fd >= 0)

    def poll(self, now: float) -> None:
        """One look at the disk. `now` is the event loop's clock, in seconds."""
        self._now = now
        self.files.polls += 1
        looked = time.time_ns() - _COARSE_NS
        tails = self.tails
        seen = self._disk.find(tails.values())
        if seen is None:
            return
        fresh = []
        for key, file in seen.items():
            tail = tails.get(key)
            if tail is not None and tail.lost_at is None and tail.unchanged(file.status):
                continue
            if (tail is None or not self._look(tail, file)) and key not in tails:
                fresh.append(key)
        gone = self._depart(seen)
        self._start_changed()
        if self._fresh_limit:
            fresh = fresh[: self._fresh_limit]
        if fresh:
            for key, _ in decide.opening_order([(key, seen[key].paths[0]) for key in fresh], self.files.closed()):
                self._open(seen[key])
        for tail in list(tails.values()):
            if tail.twin is not None:
                self._copy(tail, tail.twin)
        self._start_changed()
        if not self._polled:
            self._polled = self._from_beginning = True
            self._unseen.at_start(self._newest, self._config.start_at == "beginning", now)
        elif gone or fresh or self._unseen.unsettled:
            self._unseen.between_polls(gone, [seen[key].paths[0] for key in fresh], self._looked, now)
        self._looked = looked
        self._losses.report()
        if not all(key in tails for key in seen):
            self._disk.look_closer()

    # Files that are known

    def _look(self, tail: Tail, file: Seen) -> bool:
        """Takes in what changed of a file that is at a path; False when it is not followed any more."""
        if tail.lost_at is not None:
            tail.come_back()
        status = file.status
        if tail.unchanged(status):
            return True
        if tail.state is State.PARKED:
            if not self._reopen(tail, file):
                return False
            if tail.state is State.PARKED:
                tail.miss(status.st_size)
                return True  # no room now, or no permission: the next poll tries again
        return self._changed(tail, file.paths[0], status)

    def _changed(self, tail: Tail, path: str, status: os.stat_result) -> bool:
        """Does what is to be done with an open file that changed; False when it could not be followed on."""
        found = self._disk.changed(tail, status)
        before = tail.look(status)
        match decide.change(tail, found, self._config.on_truncate):
            case Change.GO_ON:
                if not before and tail.readable and not tail.at:
                    self._to_start.append(tail)  # it was empty: what it is shows only now
            case Change.SKIP:
                tail.skip_to_end()
            case Change.RECONSIDER:
                tail.stand_alone()
                self._to_start.append(tail)
            case Change.REPLACE:
                return self._replace(tail, path, before)
        return True

    def _replace(self, tail: Tail, path: str, before: int) -> bool:
        """The same inode with other bytes: it continues as a new file. False when that cannot be read.

        What it held, `before` bytes at the last look, may be in a copy (copytruncate), which is then read on.
        """
        lost_at = tail.lost_at
        fd = self.files.surrender(tail)
        self._context.log.info("%s was truncated; it is read from the beginning", path)
        try:
            new = self._disk.tail(path, fd, os.fstat(fd), before=tail)
        except OSError as error:
            os.close(fd)
            self._disk.cannot_read(path, error)
            return False
        if lost_at is not None:
            new.leave(lost_at)
        self.files.add(new)
        self._to_start.append(new)
        self._rewritten.append(_Rewritten(tail, new, path, before))
        return True

    def _start_changed(self) -> None:
        """Starts the files that have other bytes than before, once all that changed is known: they may be copies of one another."""
        while self._to_start:  # starting one may show that another one changed just now
            changed, self._to_start = self._to_start, []
            for tail in changed:
                if not tail.over:
                    self._start(tail)
        rewritten, self._rewritten = self._rewritten, []
        for old, new, path, before in rewritten:
            if old.gzip:
                continue
            copies = [tail for tail in self.tails.values() if tail.uid == old.uid]
            if not copies:
                copies, missing = self._unseen.take_up(Search(path, [old.identity()], [], None), Folders(), self._now)
                if missing and before > old.at and not any(tail.twin is old for tail in self.tails.values()):
                    self._losses.file(path, old.at, before, "truncated")
            self.files.in_order([*copies, new])

    def _reopen(self, tail: Tail, file: Seen) -> bool:
        """Opens a parked file again if that is possible; False when the path holds another file."""
        if not self.files.make_room():
            return True
        fd = self._disk.reopen(file.paths[0])
        if fd is None:
            return True
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) != tail.key:
            os.close(fd)
            self.files.end(tail)
            return False
        tail.reopen(fd)
        return True

    def _depart(self, seen: dict[Key, Seen]) -> list[Tail]:
        """Looks after the files that are not where they were; returns those that no path leads to since this poll."""
        gone = []
        for tail in list(self.tails.values()):
            file = seen.get(tail.key)
            if file is None:
                if tail.lost_at is None:
                    gone.append(tail)
                self._away(tail)
            elif tail.path not in file.paths:
                tail.rename(file.paths[0], self._disk.attributes(file.paths[0]))
        return gone

    def _away(self, tail: Tail) -> None:
        """No path leads to it: rotated away, deleted, or left out. It is read to its end, then let go."""
        if tail.state is not State.PARKED:
            if tail.lost_at is None:
                tail.leave(self._now)
            status = os.fstat(tail.fd)
            tail.notice_deletion(status)
            if not tail.unchanged(status):
                self._changed(tail, tail.path, status)
                if tail.over:
                    return
        if decide.ends(tail, self._now):
            self.files.end(tail)

    # Files that are not

    def _open(self, file: Seen) -> None:
        if not self.files.make_room():
            return
        tail = self._disk.open(file.paths[0], file.status, self.tails)
        if tail is not None:
            self.files.add(tail)
            self._start(tail)

    def _start(self, tail: Tail) -> None:
        """Starts reading a file that was not read before, or waits with it."""
        for _ in range(_TRIES):
            tail.learn()
            found = self._disk.appeared(tail, self.tails.values(), self.files.closed(), self.files.recently_closed)
            if not self._look_again(self._disk.originals(tail, self.tails.values())):
                break
        match decide.start(tail, found, self._from_beginning):
            case Inherit(Tail() as other):
                identity = other.identity()
                other.feed.forget_rest()
                self.files.end(other)
                self.files.resume(tail, identity)
            case Resume(known):
                self.files.resume(tail, known)
            case Wait(Tail() as twin):
                tail.wait_for(twin)
            case Begin(at_end):
                if at_end:
                    tail.start_at_end()
                else:
                    tail.start_at(0)
                self.files.keep(tail)

    def _look_again(self, originals: Iterable[Tail]) -> bool:
        """Takes in that files were truncated since this poll looked at them; True when one was.

        A copy is compared with what a file holds now. Once that was emptied, what it held is known from its identity alone: it has
        to end first, or its copy would pass for a new file.
        """
        stale = [tail for tail in originals if tail.readable and tail.fd >= 0 and tail.stale()]
        for tail in stale:
            self._changed(tail, tail.path, os.fstat(tail.fd))
        return bool(stale)

    def _copy(self, tail: Tail, twin: Tail) -> None:
        """Looks whether a file that waits as a copy still is one, and whether it is its turn."""
        same = not twin.over and is_copy(tail, twin)
        if not same and not twin.over:
            self._look_again([twin])
        over = twin.over
        known = self.files.known(twin.uid) or twin.identity()
        if over:
            tail.learn()  # it may be complete, or written over, only since it was seen in this poll
        match decide.copy(over, may_continue(tail, known) if over else same):
            case Copy.STAND_ALONE:
                tail.stand_alone()
                self._to_start.append(tail)
            case Copy.TAKE_OVER:
                self.files.recall(twin.uid)
                twin.feed.forget_rest()
                tail.take_over(known, decide.take_over_offset(known, tail))

    def close(self) -> None:
        """Closes everything."""
        self.files.close()
