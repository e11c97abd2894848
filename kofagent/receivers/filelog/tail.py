"""One file: how far it was read, how far its entries were passed to the operators, how far they are owned downstream.

0 ........ acked ........ fed ............ at
           |              | read, the entry is not complete
           | entries under way to the pipeline
           checkpoint

What is done with it is its state (`states.py`). Only methods of `Tail` change its fields; the moves between states raise
`IllegalMove` where the table does not have them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from kofagent.receivers.filelog import states
from kofagent.receivers.filelog.feed import Feed, Lineage
from kofagent.receivers.filelog.identity import GUARD, Identity, Key, Place
from kofagent.receivers.filelog.reading import Reading
from kofagent.receivers.filelog.source import CHUNK, GzipSource, PlainSource, Source, generation, is_gzip, read_head
from kofagent.receivers.filelog.states import Move, State

_OPEN, _LEAVING, _ENDED, _CLOSED = State.OPEN, State.LEAVING, State.ENDED, State.CLOSED


class Mark(NamedTuple):
    """A position in a file up to which a batch has its bytes: once the batch is owned, the checkpoint may move there."""

    tail: Tail
    place: Place


class Tail:
    """One file that is being read. `fd` is -1 while it is not open."""

    def __init__(
        self,
        reading: Reading,
        uid: str,
        path: str,
        fd: int,
        status: os.stat_result,
        *,
        attributes: Mapping[str, Any],
        gzip: bool | None = None,
        rotated: str = "",
        anew: bool = False,
    ) -> None:
        """`gzip`: whether it is compressed; None: as the options say. `rotated`: where it is now, renamed away unseen.

        `anew`: another file was followed in this inode, which was truncated.
        """
        self.reading = reading
        self.uid = uid
        self.path = path
        self.rotated = rotated
        self.state = State.OPEN
        self.fd = fd
        self.key: Key = (status.st_dev, status.st_ino)
        self.generation = generation(fd)
        self.deleted_ns = 0
        """When it was deleted (ctime); 0: it was not."""
        self.size = status.st_size
        self.mtime = status.st_mtime_ns
        self.gzip = bool(reading.config.compression) and is_gzip(fd) if gzip is None else gzip
        self.head = self.read_head()
        self.anew = anew or not self.head
        """It was watched before it had its bytes: of the closed files only one that its name says it is a copy of can be it."""
        self.feed = Feed(reading, not self.gzip, attributes)
        self.source: Source = GzipSource(fd, 0, 0) if self.gzip else PlainSource(fd, 0)
        self.base = 0
        self.acked = 0
        self.grown_at = 0.0
        self.lost_at: float | None = None
        """Since when no path leads to it; None: one does."""
        self.twin: Tail | None = None
        """The file whose bytes it holds, too; of an ended one: it was a copy to its end."""
        self.unread = 0
        """Its size when there was no room to open it again."""
        self.resumed = False
        self.complete = False
        """It was read to its end and let go."""
        self.broken = ""
        """Why it cannot be read on, until it changes."""
        self.suspect = False
        """Reading found bytes that do not belong to what was read before: the next look finds out."""
        self.renamed = False
        """It has another name than the operators were told."""
        self.linked = os.path.islink(path)
        self._marked = 0
        self._after: Tail | None = None

    # Moves

    def _move(self, move: Move) -> None:
        self.state = states.after(self.path, self.state, move)

    def park(self) -> None:
        """Closes the file for a while: too many are open."""
        self._move(Move.PARK)
        self._close_file()

    def reopen(self, fd: int) -> None:
        """Reading continues after what was read."""
        self._move(Move.REOPEN)
        self.fd = fd
        self.source = GzipSource(fd, self.base, self.fed) if self.gzip else PlainSource(fd, self.fed + len(self.rest))

    def leave(self, now: float) -> None:
        """No path leads to it any more: renamed, deleted, or left out."""
        self._move(Move.LEAVE)
        self.lost_at = now

    def come_back(self) -> None:
        """A path leads to it again."""
        self._move(Move.COME_BACK)
        self.lost_at = None

    def wait_for(self, twin: Tail) -> None:
        """It holds the same bytes as its twin and is not read before that ends or they differ."""
        self._move(Move.WAIT_FOR)
        self.twin = twin

    def stand_alone(self) -> None:
        """It is no copy any more: a file like others, to be started."""
        self._move(Move.STAND_ALONE)
        self.twin = None
        self.head = self.read_head()

    def take_over(self, known: Identity, offset: int) -> None:
        """Its twin ended; this file continues under the twin's identity, at `offset`."""
        self._move(Move.TAKE_OVER)
        self.twin = None
        self.head = self.read_head()
        self.resume(known, offset)

    def surrender(self) -> int:
        """Another file's bytes are in it now: it ends, and its open file goes to the next `Tail`."""
        self._move(Move.SURRENDER)
        fd, self.fd = self.fd, -1
        return fd

    def end(self) -> None:
        """No more is read of it; what was read is to be flushed."""
        self._move(Move.END)

    def close(self, complete: bool = False) -> None:
        """Closes the file and forgets what the operators hold. `complete`: it was read to its end and flushed."""
        self._move(Move.CLOSE)
        self.complete = complete
        self._close_file()
        self.feed.close()

    def _close_file(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    # Where to start

    def start_at(self, offset: int) -> None:
        """Reading starts at `offset` of the (decompressed) bytes."""
        self.acked = self._marked = offset
        self.feed.start_at(offset, self.bytes_before(offset), self.head)
        self.source = GzipSource(self.fd, self.base, offset) if self.gzip else PlainSource(self.fd, offset)

    def start_at_end(self) -> None:
        """Only what is added from now on is read."""
        if self.gzip:
            self.base = self.size
            self.start_at(0)
        else:
            self.start_at(self.size)

    def resume(self, known: Identity, offset: int) -> None:
        """Goes on as the file that is known, at `offset` of it."""
        self.uid = known.uid
        self.resumed = True
        self.base = known.base if known.gzip == self.gzip else 0
        self.start_at(offset)
        self.feed.resume(known)

    def descend(self, lineage: Lineage) -> None:
        """It is the next file of its path."""
        self.feed.descend(lineage)

    def follow(self, before: Tail) -> None:
        """It is not read before `before`, which was at its path earlier, is read to its end."""
        self._after = before

    # What is there

    def look(self, status: os.stat_result) -> int:
        """Takes in its size and time of now; returns the size of the last look."""
        before = max(self.size, self.unread)
        self.size, self.mtime = status.st_size, status.st_mtime_ns
        self.broken, self.unread, self.suspect = "", 0, False
        return before

    def learn(self) -> None:
        """Takes in its first bytes and its size of now: a copy may be longer than at the last look of this poll."""
        self.head = self.read_head()
        self.look(os.fstat(self.fd))

    def unchanged(self, status: os.stat_result) -> bool:
        """True when it is as it was at the last look."""
        return status.st_size == self.size and status.st_mtime_ns == self.mtime and not self.suspect

    def notice_deletion(self, status: os.stat_result) -> None:
        """Remembers when it was deleted, if it was; `status` is that of the open file."""
        self.deleted_ns = status.st_ctime_ns if status.st_nlink == 0 else 0

    def skip_to_end(self) -> None:
        """It was cut: only what is added from now on is read."""
        self.start_at(self.size)

    def miss(self, size: int) -> None:
        """It has `size` bytes now and cannot be opened to read them."""
        self.unread = size

    def fail(self, reason: str) -> None:
        """It cannot be read until it changes."""
        self.broken = reason

    def rename(self, path: str, attributes: Mapping[str, Any] | None) -> None:
        """It has another name; entries from here on carry these attributes (None: not known, as before)."""
        self.path = path
        self.linked = os.path.islink(path)
        if attributes is not None and attributes != self.feed.file_attributes:
            self.feed.file_attributes = dict(attributes)
            self.renamed = True

    def tell_name(self) -> None:
        """The operators are opened again with its present name; call once what they held was passed on."""
        self.renamed = False
        self.feed.close()

    def read_head(self) -> bytes:
        """The fingerprint of the file as it is now."""
        return read_head(self.fd, self.reading.config.fingerprint_size, self.gzip)

    def starts_as_before(self) -> bool:
        """True when its first bytes are those of its fingerprint."""
        return os.pread(self.fd, len(self.head), 0) == self.head

    def bytes_before(self, offset: int) -> bytes:
        """The last bytes before `offset`, at most `GUARD`; empty for gzip."""
        if self.gzip or offset <= 0:
            return b""
        start = max(0, offset - GUARD)
        return os.pread(self.fd, offset - start, start)

    def intact(self, at: int | None = None) -> bool:
        """False when the open file no longer holds what was fed and kept of it, which ends at `at` (None: where it is read next).

        What was added to its head is learnt.
        """
        if self.gzip:
            return True
        config = self.reading.config
        head = os.pread(self.fd, config.fingerprint_size, 0)
        if not head.startswith(self.head):
            return False
        self.head = head
        # with `ignore`, reading continues at the old offset, whatever is before it
        return config.on_truncate == "ignore" or self.bytes_before(self.at if at is None else at) == self.read_last

    @property
    def read_last(self) -> bytes:
        """The bytes before the offset of the next one, at most `GUARD`, as they were read."""
        return (self.feed.guard + self.feed.rest[-GUARD:])[-GUARD:]

    @property
    def at(self) -> int:
        """The offset of the next byte that is read."""
        return self.source.at

    @property
    def raw(self) -> int:
        """The offset in the file itself up to which it was read."""
        return self.source.raw

    @property
    def fed(self) -> int:
        """The offset up to which its entries were handed to the operators."""
        return self.feed.fed

    @property
    def rest(self) -> bytes:
        """What was read of an entry that is not complete."""
        return self.feed.rest

    def stale(self) -> bool:
        """True when the open file was cut or written anew since the last look, which did not see it."""
        return not self.gzip and (os.fstat(self.fd).st_size < max(self.size, self.at) or not self.intact())

    @property
    def held(self) -> bool:
        """True when something was read that the pipeline was not offered yet."""
        return self.feed.held

    @property
    def over(self) -> bool:
        """True when it is never read again."""
        return self.state is _ENDED or self.state is _CLOSED

    @property
    def readable(self) -> bool:
        """True when it is read in its state."""
        return self.state is _OPEN or self.state is _LEAVING

    def is_gone(self) -> bool:
        """True when what was read of it cannot be read again: it was deleted, or ended."""
        return self.over or (self.fd >= 0 and os.fstat(self.fd).st_nlink == 0)

    def behind(self) -> bool:
        """True when the file has bytes that were not read, as far as its size of the last look says."""
        source = self.source
        return (source.raw < self.size or source.pending) and (self.state is _OPEN or self.state is _LEAVING) and not self.broken

    def waits(self) -> bool:
        """True while the file that was at this path before has more to read."""
        while self._after is not None:
            if self._after.behind():
                return True
            self._after = self._after._after
        return False

    def identity(self, place: Place | None = None) -> Identity:
        """What to remember of it at this place; without one at the place where feeding is."""
        offset, number, guard, skipping = place or self.feed.place()
        return Identity(
            self.uid,
            self.key,
            self.path,
            self.head,
            guard,
            offset,
            self.base,
            number,
            skipping,
            self.feed.header if offset else None,
            self.gzip,
            max(self.size, self.unread),
            self.mtime,
            self.complete and offset == self.fed,
            self.generation,
            self.deleted_ns > 0,
        )

    # Reading

    def step(self, observed_ns: int, now: float) -> bool:
        """Reads one chunk and feeds what is complete in it; False at the end of what there is.

        OSError when the file cannot be read, ValueError when its gzip stream is damaged.
        """
        source = self.source
        if source.skip():
            return True
        at = source.at
        data = source.read(CHUNK)
        # After it, for the file may be truncated and grow at any moment: what is before `at` now was there when it was read.
        if not self.gzip and not (os.fstat(self.fd).st_size >= at and self.intact(at)):
            self.source = PlainSource(self.fd, at)
            self.suspect = True
            return False
        if not data:
            return False
        self.grown_at = now
        more = source.raw < self.size or (self.gzip and not source.finished)
        if self.reading.config.file_cache_advise and not self.gzip and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self.fd, source.at - len(data), len(data), os.POSIX_FADV_DONTNEED)
        self.feed.take(data, observed_ns, more)
        return True

    # Owning

    def mark(self) -> Place | None:
        """The place up to which what was taken from the operators reaches; None when it did not move since the last call."""
        place = self.feed.safe()
        if place is None or place.offset == self._marked:
            return None
        self._marked = place.offset
        return place

    def acknowledge(self, place: Place) -> None:
        """Its entries up to there are owned downstream."""
        self.acked = place.offset
