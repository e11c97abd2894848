"""One journal file: its header, its entries in order, and the values that they refer to.

Everything is read with `pread` and checked: a place has to be in the file, aligned, of the right type and of a size that can be,
and arrays and entries have to follow each other upwards, as journald writes them, so that no damage makes a circle. A mapping would
be faster and would kill the process when somebody truncates the file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from struct import Struct, unpack_from
from typing import NamedTuple

from kofagent.memory.memo import Memo
from kofagent.receivers.journald import packed
from kofagent.receivers.journald.header import ARCHIVED, HEADER_BYTES, ONLINE, Damaged, Header, parse

DATA, ENTRY, ENTRY_ARRAY = 1, 3, 6
"""Types of objects."""
BLOCK = 64 << 10
"""Bytes that are read at a time; objects are small and lie next to each other."""
_AHEAD = 4 << 10
"""Bytes that a block has of the next one, so that an object of this size is never in two."""
_BLOCKS = 8
"""Blocks of one file that are kept at most; half of them always are."""
MOST_ITEMS = 4096
"""Values of one entry; journald takes 1024 from a client and adds some dozens."""
LAST_TIME = 1 << 54
"""Microseconds since 1970 of a time that cannot be; in nanoseconds it still fits into 64 bits."""
_SLICE = 512
"""Places of entries that are read from an array at a time."""
MOST_ARRAYS = 1000
"""Arrays that are walked to find a place: each is twice as long as the one before."""
_ARCHIVED = re.compile(r"@[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{16}\.journal\Z|~\Z")
"""Names that journald gives to files that it is done with; with `~` to those it found damaged."""
_DATA = Struct("<BB6xQ 40xQ")
_ENTRY = Struct("<BB6xQ QQQ16sQ")
_ARRAY = Struct("<BB6xQ Q")
_ENTRY_BYTES, _ARRAY_BYTES = _ENTRY.size, _ARRAY.size
_DATA_BYTES, _COMPACT_DATA_BYTES = 64, 72
_PACKED_BLOCK = 160 << 10
"""Bytes that may have to be read to unpack the first ones: a block of zstd is packed whole."""


class Entry(NamedTuple):
    """An entry without its values. Times are in microseconds."""

    seqnum: int
    realtime: int
    monotonic: int
    boot_id: bytes
    xor_hash: int
    items: tuple[int, ...]
    """Where its values are, for `JournalFile.value`."""


class Value(NamedTuple):
    """What an entry refers to."""

    data: bytes
    """The first bytes of `NAME=value`, as many as were asked for."""
    whole: bool
    """Whether that is all."""
    shared: bool
    """Whether other entries refer to it, too."""


class JournalFile:
    """An open journal file and a place in it: the entries before it were read.

    Errors: OSError, and Damaged for what cannot be what journald wrote.
    """

    def __init__(self, fd: int, path: str) -> None:
        """Takes over the descriptor, also when it fails."""
        self.fd = fd
        self.path = path
        self._blocks: Memo[int, bytes] = Memo(
            "journald.blocks", entries=_BLOCKS, size=_BLOCKS * (BLOCK + 2 * _AHEAD), longest=BLOCK + 2 * _AHEAD
        )
        try:
            self.header = self._header()
            self.size = os.fstat(fd).st_size
        except BaseException:
            self.close()
            raise
        self._item = 4 if self.header.compact else 8
        self._first = self.header.size
        self._data_bytes = _COMPACT_DATA_BYTES if self.header.compact else _DATA_BYTES
        self.read = 0
        """Entries before the place."""
        self._last = 0
        self._array = self._index = self._capacity = 0
        self._slice: tuple[int, ...] = ()
        self._slice_at = 0

    def _header(self) -> Header:
        return parse(os.pread(self.fd, HEADER_BYTES, 0))

    @property
    def entries(self) -> int:
        """How many entries it says it has; no more than can be in it."""
        return min(self.header.entries, self.size // _ENTRY_BYTES)

    @property
    def online(self) -> bool:
        """Whether journald is writing to it."""
        return self.header.state == ONLINE

    @property
    def deleted(self) -> bool:
        """Whether it has no name any more."""
        return os.fstat(self.fd).st_nlink == 0

    @property
    def complete(self) -> bool:
        """Whether no entry will be added."""
        return self.header.state == ARCHIVED or _ARCHIVED.search(self.path) is not None

    def refresh(self) -> bool:
        """Looks how far it is written now; whether there is more than before."""
        if self.fd < 0:
            return False
        header = self._header()
        before, self.header = self.header, header
        if header.file_id != before.file_id or header.size != before.size or header.incompatible != before.incompatible:
            raise Damaged("it was overwritten")
        if header.entries == before.entries:
            return False
        self.size = os.fstat(self.fd).st_size
        # what was read of blocks that were not full is out of date
        self._blocks.clear()
        return True

    # Entries

    def next(self, most: int) -> Entry | None:
        """The next entry of the first `most`; None at the end of these. Damaged: the place is where it was."""
        if self.read >= most:
            return None
        while self._index >= self._capacity:
            self._next_array()
        at = self._index - self._slice_at
        if not 0 <= at < len(self._slice):
            count = min(_SLICE, self._capacity - self._index, most - self.read)
            self._slice, self._slice_at, at = self._places(self._array, self._index, count), self._index, 0
        place = self._slice[at]
        if place <= self._last:  # entries are written one after the other
            self._slice = ()
            raise Damaged(
                f"entry {self.read + 1} has no place" if place == 0 else f"an entry at byte {place} is behind its successor"
            )
        entry = self.entry(place)
        self._index += 1
        self.read += 1
        self._last = place
        return entry

    def step_over(self, most: int) -> int:
        """Goes on behind what `next` could not read; returns how many of the first `most` entries are lost."""
        before = self.read
        if self._index < self._capacity:
            self._index += 1
            self.read += 1
        else:
            self.read = max(most, self.read)
        return self.read - before

    def _next_array(self) -> None:
        # where the next one is, is written into an array long after it was first read
        place = self._array_at(self._array)[1] if self._array else self.header.entry_array
        if place <= self._array:
            raise Damaged("the list of its entries ends before its last entry")
        self._capacity = self._array_at(place)[0]
        self._array, self._index, self._slice, self._slice_at = place, 0, (), 0

    def _array_at(self, place: int) -> tuple[int, int]:
        """The number of places in an array, and where the next array is."""
        raw = self._bytes(place, _ARRAY_BYTES)
        kind, _, size, following = _ARRAY.unpack(raw)
        if kind != ENTRY_ARRAY or size < _ARRAY_BYTES + self._item or place + size > self.size:
            raise Damaged(f"there is no array of entries at byte {place}")
        return (size - _ARRAY_BYTES) // self._item, following

    def _places(self, array: int, index: int, count: int) -> tuple[int, ...]:
        place = array + _ARRAY_BYTES + index * self._item
        if place + count * self._item > self.size:
            raise Damaged(f"there is no array of entries at byte {array}")
        raw = os.pread(self.fd, count * self._item, place)
        if len(raw) < count * self._item:
            raise Damaged("it was cut off")
        return Struct(f"<{count}{'I' if self._item == 4 else 'Q'}").unpack(raw)

    def entry(self, place: int) -> Entry:
        """The entry at this place."""
        # hot: journal_entry, it is taken out of its block without a copy
        raw, at = self._window(place, _ENTRY_BYTES)
        kind, _, size, seqnum, realtime, monotonic, boot_id, xor_hash = _ENTRY.unpack_from(raw, at)
        if kind != ENTRY or size < _ENTRY_BYTES or place + size > self.size:
            raise Damaged(f"there is no entry at byte {place}")
        compact = self._item == 4
        count = (size - _ENTRY_BYTES) // (4 if compact else 16)
        if not 0 < count <= MOST_ITEMS or not seqnum or not 0 < realtime < LAST_TIME or monotonic >= LAST_TIME:
            raise Damaged(f"there is no entry at byte {place}")
        if compact:
            raw, at = self._window(place + _ENTRY_BYTES, count * 4)
            items = unpack_from(f"<{count}I", raw, at)
        else:
            raw, at = self._window(place + _ENTRY_BYTES, count * 16)
            items = unpack_from(f"<{2 * count}Q", raw, at)[::2]
        return Entry(seqnum, realtime, monotonic, boot_id, xor_hash, items)

    def skip(self, most: int, taken: Callable[[Entry], bool]) -> None:
        """Goes behind those of the first `most` entries that `taken` says yes to: they come before those it says no to.

        Damaged: the place is where it was.
        """
        found = None
        for start, place, capacity in self._arrays(most):
            if not self._taken(place, 0, taken):
                break
            found = (start, place, capacity)
        if found is None:
            return
        start, place, capacity = found
        low, high = 0, min(capacity, most - start)  # the entry at `low` is taken, the one at `high` is not
        while high - low > 1:
            middle = (low + high) // 2
            if self._taken(place, middle, taken):
                low = middle
            else:
                high = middle
        self._go(start, place, capacity, high)

    def to_end(self, most: int) -> Entry | None:
        """Goes behind the first `most` entries; returns the last of them, None if it cannot be read or there is none.

        Damaged: the place is where it was.
        """
        arrays = list(self._arrays(most))
        if not arrays:
            return None
        start, place, capacity = arrays[-1]
        self._go(start, place, capacity, min(capacity, most - start))
        try:
            return self.entry(self._last)
        except Damaged:
            return None

    def _arrays(self, most: int) -> Iterator[tuple[int, int, int]]:
        """The arrays of the first `most` entries: number of entries before it, its place, number of its places."""
        if self.read:
            raise ValueError("entries were read already")
        start, place, last = 0, self.header.entry_array, 0
        for _ in range(MOST_ARRAYS):
            if start >= most:
                return
            if place <= last:
                raise Damaged("the list of its entries goes backwards")
            capacity, following = self._array_at(place)
            yield start, place, capacity
            start, last, place = start + capacity, place, following
        raise Damaged("the list of its entries is in too many pieces")

    def _go(self, start: int, array: int, capacity: int, index: int) -> None:
        self._last = self._places(array, index - 1, 1)[0]
        self._array, self._capacity, self._index = array, capacity, index
        self._slice, self._slice_at, self.read = (), 0, start + index

    def _taken(self, array: int, index: int, taken: Callable[[Entry], bool]) -> bool:
        return taken(self.entry(self._places(array, index, 1)[0]))

    def first(self) -> Entry | None:
        """The first entry; None while there is none, or when it is damaged."""
        if not self.entries or not self.header.entry_array:
            return None
        try:
            return self.entry(self._places(self.header.entry_array, 0, 1)[0])
        except (Damaged, OSError):
            return None

    # Values

    def value(self, place: int, limit: int) -> Value:
        """What is at this place, `NAME=value`."""
        # hot: journal_entry, one copy
        if place & 7:
            raise Damaged(f"no value can be at byte {place}")
        raw, at = self._window(place, self._data_bytes)
        kind, flags, size, entries = _DATA.unpack_from(raw, at)
        length = size - self._data_bytes
        if kind != DATA or length <= 0 or place + size > self.size:
            raise Damaged(f"there is no value at byte {place}")
        if not flags & packed.ANY:
            return Value(self._bytes(place + self._data_bytes, min(length, limit)), length <= limit, entries != 1)
        most = min(length, limit + _PACKED_BLOCK)
        plain, whole = packed.unpack(flags, self._bytes(place + self._data_bytes, most), limit)
        return Value(plain, whole and most == length, entries != 1)

    def _bytes(self, place: int, length: int) -> bytes:
        """Exactly these bytes."""
        data, at = self._window(place, length)
        return data[at : at + length]

    def _window(self, place: int, length: int) -> tuple[bytes, int]:
        """Bytes among which are these, and where. Objects are at multiples of 8 behind the header."""
        start = place & -BLOCK
        offset = place - start
        if place & 3 or not self._first <= place <= self.size - length:
            raise Damaged(f"nothing can be at byte {place}")
        if offset + length > BLOCK + _AHEAD:
            data, offset = os.pread(self.fd, length, place), 0
        else:
            block = self._blocks.get(start)
            if block is None:
                block = self._blocks.find(start)
                if block is None:
                    block = self._blocks[start] = os.pread(self.fd, BLOCK + _AHEAD, start)
            data = block
        if len(data) - offset < length:
            raise Damaged("it was cut off")
        return data, offset

    def forget(self) -> None:
        """Lets go of what is kept of the file to be faster."""
        self._blocks.clear()

    def close(self) -> None:
        """Closes the file."""
        self._blocks.clear()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
