"""The entries of all files of a journal as one sequence that goes on: files are found, followed, merged, and let go.

Entries of one journald come in the order of their numbers although they are in several files that grow while they are looked at: of
all files it is first noted how many entries they have, then which files there are, then again how many. What was there the first
time may be taken at once; of what came since only what is not newer than it, because all that is older is seen by then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

from kofagent.receivers.journald import cursor
from kofagent.receivers.journald.cursor import Cursor
from kofagent.receivers.journald.file import Entry, JournalFile
from kofagent.receivers.journald.header import Damaged
from kofagent.receivers.journald.names import Found, Search
from kofagent.receivers.journald.tail import DOUBT_S, Tail

MOST_JOURNALS = 4096
"""Instances of journald whose last entries are remembered; the oldest is forgotten first."""
FEW = 8
"""As long as there are not more files to read, what is kept of each to be faster stays."""
OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


class Reports(NamedTuple):
    """Whom the journal tells what goes wrong."""

    lost: Callable[[str, int, str], None]
    """The file, how many entries of it are lost, and why."""
    unreadable: Callable[[str, str], None]
    """The file that cannot be read, and why; told once."""
    gap: Callable[[int], None]
    """How many entries at most were removed before they were read."""


class Done(NamedTuple):
    """A file that was read to its end and will not grow."""

    changed: int
    file_id: bytes


class Journal:
    """See above. `last` has the last entry that was taken of each journald; `position` begins with those of an earlier run."""

    def __init__(self, search: Search, reports: Reports, last: dict[bytes, Cursor], from_beginning: bool, boot_id: bytes) -> None:
        self._search = search
        self._reports = reports
        self.last = last
        self._resumed = dict(last)
        self._newest_before = max(last.values(), key=lambda c: c.realtime, default=None)
        self._from_beginning = from_beginning
        self._boot_id = boot_id
        self.tails: dict[tuple[int, int], Tail] = {}
        self._done: dict[tuple[int, int], Done] = {}
        self._bad: dict[tuple[int, int], float] = {}
        self._newest: dict[bytes, int] = {}
        self._heads: set[tuple[bytes, int, int, int]] = set()
        self._leader: Tail | None = None
        self._rival: tuple[Entry, bytes] | None = None
        self._previous: tuple[Entry, bytes] | None = None
        self._started = False
        self._now = 0.0

    # Looking

    def look(self, now: float) -> None:
        """Finds out which files there are and how far they are written."""
        if not self._started:
            self._round(now)  # with the next one all that is there is known
            self._started = True
        self._round(now)

    def _round(self, now: float) -> None:
        self._now = now
        self._newest = {}
        for tail in self.tails.values():
            self._refresh(tail)
            tail.known = tail.most
            self._newest[tail.id] = max(self._newest.get(tail.id, 0), tail.file.header.tail_seqnum)
        before = set(self.tails)
        self._find(now)
        for tail in self.tails.values():
            self._refresh(tail)
        fresh = {tail for key, tail in self.tails.items() if key not in before}
        if fresh:
            self._say_gap(fresh)
        for tail in list(self.tails.values()):
            if tail.over:
                self._let_go(tail)
        self._leader = self._rival = None

    def _refresh(self, tail: Tail) -> None:
        try:
            tail.file.refresh()
        except (Damaged, OSError) as error:
            self._reports.unreadable(tail.file.path, str(error))
            tail.gone = True
            return
        tail.most = max(tail.most, tail.file.entries)

    def _find(self, now: float) -> None:
        found = self._search.find()
        keys = {one.key for one in found}
        for one in found:
            tail = self.tails.get(one.key)
            if tail is not None:
                tail.file.path = one.path
            else:
                self._open(one, now)
        for key, tail in self.tails.items():
            if key not in keys and (not self._search.problems or tail.file.deleted):
                tail.gone = True
        for known in (self._done, self._bad):
            for key in known.keys() - keys:
                del known[key]

    def _open(self, found: Found, now: float) -> None:
        done = self._done.get(found.key)
        if done is not None and done.changed == found.changed:
            return
        try:
            file = JournalFile(os.open(found.path, OPEN_FLAGS), found.path)
        except (Damaged, OSError) as error:
            # one that is just being made has no header yet
            since = self._bad.setdefault(found.key, now)
            if since >= 0 and now - since >= DOUBT_S:
                self._bad[found.key] = -1.0
                self._reports.unreadable(found.path, str(error))
            return
        self._bad.pop(found.key, None)
        if done is not None and done.file_id == file.header.file_id:
            self._done[found.key] = Done(found.changed, done.file_id)
            file.close()
            return
        tail = Tail(file, found.key, self._reports.lost)
        tail.most = file.entries
        self.tails[found.key] = tail
        self._place(tail)

    def _place(self, tail: Tail) -> None:
        """Goes behind what was taken of a file, or what is not wanted of it."""
        first = tail.file.first()
        taken: Callable[[Entry], bool] | None = None
        last = self.last.get(tail.id)
        head = None if first is None else (first.boot_id, first.monotonic, first.realtime, first.xor_hash)
        if last is not None and (self._started or tail.id in self._resumed):
            taken = _by_clock([last]) if first is not None and _renumbered(first, last) else _by_number(last)
        elif self._started:
            if head in self._heads:
                taken = _by_clock(self.last.values())
        elif self._newest_before is not None:
            taken = _older(self._newest_before, self._boot_id)
        elif not self._from_beginning:
            self._to_end(tail)
        if head is not None and len(self._heads) < MOST_JOURNALS:
            self._heads.add(head)
        if taken is not None:
            try:
                tail.file.skip(tail.most, taken)
            except (Damaged, OSError):
                tail.passed = taken
        if len(self.tails) > FEW:
            tail.forget()

    def _to_end(self, tail: Tail) -> None:
        try:
            entry = tail.file.to_end(tail.most)
        except (Damaged, OSError):
            tail.passed = lambda _: True
            return
        if entry is not None:
            self._remember(cursor.of(tail.id, entry))

    def _say_gap(self, fresh: set[Tail]) -> None:
        """Says what journald removed before it was read, as far as numbers tell it that are missing before new files."""
        missing = 0
        for last in [self.last[key] for key in {tail.id for tail in self.tails.values()} & self.last.keys()]:
            covered = last.seqnum
            tails = [tail for tail in self.tails.values() if tail.id == last.seqnum_id and tail.file.entries]
            for tail in sorted(tails, key=lambda tail: tail.file.header.head_seqnum):
                if tail in fresh:
                    missing += max(0, tail.file.header.head_seqnum - covered - 1)
                covered = max(covered, tail.file.header.tail_seqnum)
        if missing:
            self._reports.gap(missing)

    def newest_boot(self) -> bytes:
        """The boot in which the newest entry of all files was written; empty when there is none."""
        headers = [tail.file.header for tail in self.tails.values() if tail.file.entries]
        return max(headers, key=lambda header: header.tail_realtime).boot_id if headers else b""

    def _let_go(self, tail: Tail) -> None:
        if not tail.gone:
            self._done[tail.key] = Done(0, tail.file.header.file_id)
        tail.file.close()
        del self.tails[tail.key]

    # Taking

    def take(self) -> tuple[Tail, Entry, Cursor] | None:
        """The next entry and its place, None when there is none for now; `skipping` says whether there will be after a pause."""
        while True:
            tail = self._leader
            entry = None if tail is None else self._peek(tail)
            if entry is None or (self._rival is not None and cursor.before(*self._rival, entry, tail.id)):  # type: ignore[union-attr]
                tail = self._choose()
                if tail is None:
                    return None
                entry = self._peek(tail)
                assert entry is not None
            assert tail is not None
            tail.taken()
            previous, self._previous = self._previous, (entry, tail.id)
            if previous is not None and cursor.same(*previous, entry, tail.id):
                continue
            place = cursor.of(tail.id, entry)
            self._remember(place)
            return tail, entry, place

    @property
    def skipping(self) -> bool:
        """Whether there is more to pass over before the next entry."""
        return any(tail.skipping for tail in self.tails.values())

    def _peek(self, tail: Tail) -> Entry | None:
        return tail.next(self._newest.get(tail.id, 0), self._now)

    def _choose(self) -> Tail | None:
        """The file with the next entry; what comes after that in another file is the rival, up to which it is read alone."""
        self._leader = self._rival = None
        best: tuple[Entry, Tail] | None = None
        rival: tuple[Entry, bytes] | None = None
        for tail in self.tails.values():
            entry = self._peek(tail)
            if entry is None:
                if tail.skipping:
                    return None  # what comes of it may be before all others
                continue
            if best is None:
                best = (entry, tail)
            elif cursor.before(entry, tail.id, best[0], best[1].id):
                rival = (best[0], best[1].id)
                best = (entry, tail)
            elif rival is None or cursor.before(entry, tail.id, *rival):
                rival = (entry, tail.id)
        self._leader, self._rival = None if best is None else best[1], rival
        if len(self.tails) > FEW:
            for tail in self.tails.values():
                if tail is not self._leader:
                    tail.forget()
        return self._leader

    def _remember(self, place: Cursor) -> None:
        known = self.last.get(place.seqnum_id)
        if known is None and len(self.last) >= MOST_JOURNALS:
            del self.last[min(self.last.values(), key=lambda c: c.realtime).seqnum_id]
        if known is None or self._started or place.seqnum > known.seqnum:
            self.last[place.seqnum_id] = place

    def close(self) -> None:
        """Closes all files."""
        for tail in self.tails.values():
            tail.file.close()
        self.tails.clear()
        self._leader = self._rival = None


def _by_number(last: Cursor) -> Callable[[Entry], bool]:
    """Whether an entry of the journald of `last` is that one or comes before it."""
    return lambda entry: entry.seqnum <= last.seqnum


def _renumbered(first: Entry, last: Cursor) -> bool:
    """Whether a file begins with an entry that was taken under another number: it was copied from /run to /var."""
    return first.seqnum > last.seqnum and first.boot_id == last.boot_id and first.monotonic < last.monotonic


def _by_clock(lasts: Iterable[Cursor]) -> Callable[[Entry], bool]:
    """Whether an entry of a copy was taken from the original, under another number."""
    newest: dict[bytes, int] = {}
    for last in lasts:
        newest[last.boot_id] = max(newest.get(last.boot_id, 0), last.monotonic)
    return lambda entry: entry.boot_id not in newest or entry.monotonic <= newest[entry.boot_id]


def _older(last: Cursor, boot_id: bytes) -> Callable[[Entry], bool]:
    return lambda entry: cursor.older(entry, last, boot_id)
