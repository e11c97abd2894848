"""The files of one receiver: those that are tailed, those that end, and the identities of those that are closed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from weakref import WeakValueDictionary

from kofagent.receivers.filelog import decide
from kofagent.receivers.filelog.checkpoint import Checkpoints
from kofagent.receivers.filelog.feed import Lineage
from kofagent.receivers.filelog.fingerprint import same_generation
from kofagent.receivers.filelog.identity import Identity, Key
from kofagent.receivers.filelog.recovery import Losses
from kofagent.receivers.filelog.tail import Tail

REMEMBERED = 1024
"""Closed files whose identity is kept."""

KNOWN_BY_BYTES_POLLS = 3
"""Polls for which a closed file is known by its bytes alone, as upstream's; `polls_to_archive` adds to it."""


class Files:
    """Keeps at most `open_limit` files open, and `REMEMBERED` and `archived` identities."""

    def __init__(self, checkpoints: Checkpoints, losses: Losses, on_truncate: str, open_limit: int, archived: int) -> None:
        self.tails: dict[Key, Tail] = {}
        self._checkpoints = checkpoints
        self._losses = losses
        self._on_truncate = on_truncate
        self._open_limit = open_limit
        self._remembered = REMEMBERED + (archived if checkpoints.durable else 0)
        self._closed: OrderedDict[str, Identity] = OrderedDict()
        self._closed_in: dict[str, int] = {}
        self._recent = KNOWN_BY_BYTES_POLLS + (archived if checkpoints.durable else 0)
        self.polls = 0
        """How often the disk was looked at."""
        self._ended: list[Tail] = []
        self._waiting: list[Tail] = []
        self._lineages: WeakValueDictionary[str, Lineage] = WeakValueDictionary()

    @property
    def ended(self) -> Sequence[Tail]:
        """Tails that end: what they hold is to be flushed."""
        return self._ended

    def take_ended(self) -> list[Tail]:
        """The ended tails, once each; `retire` is to be called for each that was flushed."""
        ended, self._ended = self._ended, []
        return ended

    def take_ready(self) -> list[Tail]:
        """Tails that waited for the files that were at their paths earlier, and need not wait any longer."""
        ready = dict.fromkeys(tail for tail in self._waiting if tail.over or not tail.waits())
        if ready:
            self._waiting = [tail for tail in self._waiting if tail not in ready]
        return [tail for tail in ready if not tail.over]

    # Tails

    def add(self, tail: Tail) -> None:
        """Follows a file that was opened: what those before it at its path have begun goes on in it."""
        self.tails[tail.key] = tail
        tail.descend(self._lineages.setdefault(tail.path, tail.feed.lineage))

    def heir(self, tail: Tail) -> Tail | None:
        """A file in which the entries may go on that began in this one, which ended."""
        lineage = tail.feed.lineage
        return next((other for other in self.tails.values() if other.feed.lineage is lineage), None)

    def end(self, tail: Tail) -> None:
        """No more is read of a file; what was read is to be flushed."""
        tail.end()
        self._out(tail)

    def surrender(self, tail: Tail) -> int:
        """The same for a file that holds another file's bytes now; returns its descriptor for that one."""
        fd = tail.surrender()
        self._out(tail)
        return fd

    def _out(self, tail: Tail) -> None:
        if self.tails.get(tail.key) is tail:
            del self.tails[tail.key]
        if tail.twin is None:
            self._closed[tail.uid] = tail.identity()
            self._closed_in[tail.uid] = self.polls  # now: a copy of it may be looked at before it is retired
        self._ended.append(tail)

    def retire(self, tail: Tail) -> None:
        """An ended tail was flushed: it is closed, and its identity remembered."""
        mine = tail.uid in self._closed or (tail.twin is None and not any(t.uid == tail.uid for t in self.tails.values()))
        tail.close(complete=mine)
        if mine:
            if tail.gzip and tail.rotated and not tail.source.finished:
                self._losses.file(tail.rotated, tail.fed, tail.fed, "damaged gzip")
            self._closed[tail.uid] = tail.identity()
            self._closed.move_to_end(tail.uid)
            self._closed_in[tail.uid] = self.polls
            if tail.acked == tail.fed:
                self.keep(tail)
        gone = []
        while len(self._closed) > self._remembered:
            gone.append(self._closed.popitem(last=False)[0])
            self._closed_in.pop(gone[-1], None)
        self._checkpoints.forget(gone)

    def make_room(self) -> bool:
        """True when one more file may be open; parks a quiet one for it."""
        room = decide.make_room(self.tails.values(), self._open_limit)
        if room.park is not None:
            self.tails[room.park].park()
        return room.free

    def in_order(self, chain: Iterable[Tail]) -> None:
        """Each of these files is read when the ones before it are read to their ends."""
        for before, after in pairwise(chain):
            if before.behind() or before.waits():
                after.follow(before)
                self._waiting.append(after)

    def close(self) -> None:
        """Closes everything."""
        for tail in [*self.tails.values(), *self._ended]:
            tail.close()
        self.tails.clear()
        self._ended.clear()

    # Identities

    def remember(self, identity: Identity) -> None:
        """A file that an earlier run knew."""
        self._closed[identity.uid] = identity

    def closed(self) -> list[Identity]:
        """The identities of closed files, the latest first."""
        return list(reversed(self._closed.values()))

    def closed_at(self, path: str) -> list[Identity]:
        """The identities of closed files that were at this path, the oldest first."""
        return [identity for identity in self._closed.values() if identity.path == path]

    def known(self, uid: str) -> Identity | None:
        """The identity of a closed file."""
        return self._closed.get(uid)

    def recall(self, uid: str) -> Identity | None:
        """The identity of a closed file; it is forgotten, because another file has it or no file can have it."""
        self._closed_in.pop(uid, None)
        return self._closed.pop(uid, None)

    def recently_closed(self, identity: Identity) -> bool:
        """Whether a file was closed, or read from the checkpoints, so few polls ago that its bytes alone tell it."""
        return self.polls - self._closed_in.get(identity.uid, 0) <= self._recent

    def resume(self, tail: Tail, known: Identity) -> None:
        """A file that is open continues as the one that is known."""
        self.recall(known.uid)
        for ended in self._ended:
            if ended.uid == known.uid:
                ended.feed.forget_rest()  # this file has those bytes, too, and reads them
        tail.resume(known, decide.resume_offset(known, tail, self._on_truncate))
        self.keep(tail)

    def keep(self, tail: Tail) -> None:
        """Lets a restart know where this file was begun."""
        if self._checkpoints.durable and tail.head:
            self._checkpoints.keep(tail.identity())

    def lose(self, identity: Identity) -> None:
        """The rest of a file is nowhere: it is counted."""
        self.recall(identity.uid)
        self._checkpoints.forget([identity.uid])
        other = self.tails.get(identity.key)
        there = other is not None and other.path == identity.path and same_generation(other, identity)
        reason = "truncated" if there else "gone"
        self._losses.file(identity.path, identity.offset, identity.size, reason)
