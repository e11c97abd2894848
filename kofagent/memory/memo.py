"""`Memo`: answers that are worked out once and remembered, bounded in entries and in bytes.

A memo has two generations. New answers go into the young one; when that has half of what the memo may hold, it becomes the old
one, and the old one before it is dropped. An answer that is found in the old generation moves to the young one. So what is asked
for again stays, and what is not asked for any more goes, without a list of uses and without forgetting everything at once.
A working set of up to half the bound is always remembered.

The memo itself is the dict of the young generation: a hit there is one look-up in C. Three ways to use it:

    known = Memo("room.what", work_out, entries=4096, size=1 << 20)
    value = known[key]                               # work_out(key) where it is not known
    values = list(map(known.__getitem__, keys))      # the fastest for several

    value = known.get(key)                           # where the answer depends on more than the key
    if value is None:
        value = known.find(key)                      # looks into the old generation; counts a miss
        if value is None:
            value = known[key] = work_out(key, more)

As a dict it is the young generation only: `len`, `in`, `items` and `get` do not see the old one. Of the methods that change a dict,
`memo[key] = value`, `forget` and `clear` are to be used; the others would change it behind the bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from sys import getsizeof
from typing import Any, TypeVar

from kofagent.memory.account import ACCOUNT, Counts

K = TypeVar("K")
V = TypeVar("V")

SLOT = 64
"""Bytes of an entry's place in a dict: hash, key and value at the usual load, and the index (measured: 30 to 104)."""
_NONE: dict[Any, Any] = {}
"""The old generation of a memo that has none; shared, never changed."""


_FLAT = frozenset((bytes, str, int, float, bool))
"""Types whose objects hold no others."""


def measured(key: object, value: object) -> int:
    """The cost of an entry: its place, its key and its value, with what containers hold. What is shared counts each time."""
    size = getsizeof(key) if key.__class__ in _FLAT else sizeof(key)
    return SLOT + size + (getsizeof(value) if value.__class__ in _FLAT else sizeof(value))


def sizeof(value: object) -> int:
    """Bytes of an object; of tuples, lists, sets and dicts with their members, of other objects the object alone."""
    size = getsizeof(value)
    if isinstance(value, tuple | list | frozenset | set):
        size += sum([getsizeof(member) if member.__class__ in _FLAT else sizeof(member) for member in value])
    elif isinstance(value, dict):
        size += sum([sizeof(member) for member in chain.from_iterable(value.items())])
    return size


class Memo(dict[K, V]):
    """Answers by what was asked, see above.

    `name` is what the account and `/metrics` call it; several memos may share one (`room.what`). `entries` and `size` (bytes)
    bound both generations together. `cost` estimates the bytes of an entry, key and value and their place in the dict; it must
    not change while the entry is remembered. An answer that costs more than `longest` (default: a sixteenth of `size`) is given but
    not remembered, nor is one that is None. `make` computes a value; KeyError without one. `dropped` gets what was dropped to
    make room (not what was forgotten on purpose).
    """

    __slots__ = (
        "__weakref__",
        "_cost",
        "_dropped",
        "_half_entries",
        "_half_size",
        "_longest",
        "_make",
        "_old",
        "_old_size",
        "_young_size",
        "counts",
        "max_entries",
        "max_size",
        "name",
    )

    def __init__(
        self,
        name: str,
        make: Callable[[K], V] | None = None,
        *,
        entries: int,
        size: int,
        cost: Callable[[K, V], int] = measured,
        longest: int = 0,
        dropped: Callable[[Mapping[K, V]], object] | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self._make = make
        self._cost = cost
        self._dropped = dropped
        self.max_entries, self.max_size = entries, size
        self._half_entries = max(1, entries // 2)
        self._half_size = size // 2
        self._longest = min(longest or size // 16, self._half_size)
        self._old: dict[K, V] = _NONE
        self._old_size = self._young_size = 0
        self.counts: Counts = ACCOUNT.join(self)

    @property
    def entries(self) -> int:
        """Entries of both generations."""
        return len(self) + len(self._old)

    @property
    def size(self) -> int:
        """Estimated bytes of both generations."""
        return self._young_size + self._old_size

    def __missing__(self, key: K) -> V:
        value = self._old.get(key)
        if value is not None:
            self._promote(key, value)
            return value
        self.counts.misses += 1
        if self._make is None:
            raise KeyError(key)
        value = self._make(key)
        cost = self._cost(key, value)
        # The function may have asked for the same, and may have remembered it.
        if cost <= self._longest and key not in self and value is not None:
            self._keep(key, value, cost)
        return value

    def find(self, key: K) -> V | None:
        """The answer of either generation; None, and a miss, without one. An answer that is None is never found."""
        value = self.get(key)
        if value is None:
            value = self._old.get(key)
            if value is None:
                self.counts.misses += 1
            else:
                self._promote(key, value)
        return value

    def __setitem__(self, key: K, value: V) -> None:
        """Remembers an answer, in the place of an older one to the same question."""
        if key in self or key in self._old:
            self.forget(key)
        cost = self._cost(key, value)
        if cost <= self._longest:
            self._keep(key, value, cost)

    def _promote(self, key: K, value: V) -> None:
        cost = self._cost(key, value)
        del self._old[key]
        self._old_size -= cost
        self._keep(key, value, cost)

    def _keep(self, key: K, value: V, cost: int) -> None:
        size = self._young_size + cost
        if size > self._half_size or len(self) >= self._half_entries:
            self.rotate()
            size = cost
        dict.__setitem__(self, key, value)
        self._young_size = size

    def forget(self, key: K) -> V | None:
        """Forgets the answer to one question and returns it: it is not right any more."""
        value = super().pop(key, None)
        if value is not None:
            self._young_size -= self._cost(key, value)
        elif self._old:
            value = self._old.pop(key, None)
            if value is not None:
                self._old_size -= self._cost(key, value)
        return value

    def rotate(self) -> None:
        """Begins a new generation."""
        self._evict(self._old)
        # A copy, for the memo itself is the young generation; it costs some 10 ns an entry, once for each entry.
        self._old = dict(self)
        self._old_size = self._young_size
        super().clear()
        self._young_size = 0

    def _evict(self, gone: Mapping[K, V]) -> None:
        self.counts.evictions += len(gone)
        if self._dropped is not None and gone:
            self._dropped(gone)

    def clear(self) -> None:
        """Forgets everything: the answers are not right any more."""
        super().clear()
        self._old = _NONE
        self._young_size = self._old_size = 0

    def shrink(self) -> int:
        """Drops the old generation, the young one where there is no old one; returns the estimated bytes."""
        if self._old:
            size = self._old_size
            self._evict(self._old)
            self._old, self._old_size = _NONE, 0
            return size
        size = self._young_size
        self._evict(self)
        self.clear()
        return size

    def everything(self) -> Iterator[tuple[K, V]]:
        """The entries of both generations."""
        return chain(self.items(), self._old.items())
