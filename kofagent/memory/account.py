"""The one account of memory: what every memo holds, what is in flight, and what the process uses. Bytes.

`memory_limiter` and the page of own metrics read the same object. Memos and budgets register themselves and are held weakly:
what is no longer used leaves the account by itself. The counters of a name stay, so that they never go backwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple, Protocol
from weakref import WeakValueDictionary

from kofagent.memory import usage

RELIEF_SECONDS = 10.0
"""Least time between two `relieve` that do something: several memory limiters look at the same memory."""


class Counts:
    """Counters of all memos of one name.

    `lookups` is counted by the users of a memo, in bulk where one look-up must cost no more than that of a dict; `misses` are
    the look-ups that had to make a value; `evictions` are the entries that were dropped to make room.
    """

    __slots__ = ("evictions", "lookups", "misses")

    def __init__(self) -> None:
        self.lookups = self.misses = self.evictions = 0

    @property
    def hits(self) -> int:
        """Look-ups that found their value."""
        return max(0, self.lookups - self.misses)


class Remembers(Protocol):
    """What the account asks of a memo, or of another structure with generations."""

    name: str
    max_entries: int
    max_size: int

    @property
    def entries(self) -> int:
        """Entries of all generations."""
        ...

    @property
    def size(self) -> int:
        """Their estimated bytes."""
        ...

    def shrink(self) -> int:
        """Drops the old generation, the young one where there is no old one; returns the estimated bytes."""
        ...


class Reserves(Protocol):
    """What the account asks of a budget, and of what holds memory without being one (`limit` 0)."""

    @property
    def name(self) -> str:
        """The owner."""
        ...

    @property
    def limit(self) -> int:
        """The most it may hold; 0: it has no limit of its own."""
        ...

    @property
    def used(self) -> int:
        """Bytes it holds."""
        ...


class Figures(NamedTuple):
    """The memos of one name together."""

    entries: int
    size: int
    counts: Counts


class Account:
    """Memory by owner. One for the process: `ACCOUNT`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._memos: WeakValueDictionary[int, Remembers] = WeakValueDictionary()
        self._budgets: WeakValueDictionary[int, Reserves] = WeakValueDictionary()
        self._counts: dict[str, Counts] = {}
        self._clock = clock
        self._relieved = float("-inf")

    def join(self, memo: Remembers) -> Counts:
        """Takes a memo into the account; returns the counters of its name."""
        self._memos[id(memo)] = memo
        return self.counts(memo.name)

    def counts(self, name: str) -> Counts:
        """The counters of a name."""
        return self._counts.setdefault(name, Counts())

    def join_budget(self, budget: Reserves) -> None:
        """Takes a budget, or another holder of memory, into the account."""
        self._budgets[id(budget)] = budget

    def memos(self, name: str = "") -> list[Remembers]:
        """The living memos, of one name or all."""
        return [memo for memo in self._memos.values() if not name or memo.name == name]

    def figures(self) -> dict[str, Figures]:
        """Entries, bytes and counters by the name of a memo, sorted."""
        entries = dict.fromkeys(sorted(self._counts), 0)
        size = dict(entries)
        for memo in self.memos():
            entries[memo.name] += memo.entries
            size[memo.name] += memo.size
        return {name: Figures(entries[name], size[name], self._counts[name]) for name in entries}

    def owners(self) -> dict[str, int]:
        """Bytes by owner: `memos`, each budget, and `process`, the resident set, which contains the others.

        `cgroup` where there is one: what the kernel holds against its limit.
        """
        out = {"memos": sum([memo.size for memo in self.memos()])}
        for budget in self._budgets.values():
            out[budget.name] = out.get(budget.name, 0) + budget.used
        out["process"] = usage.process_rss()
        used = usage.cgroup_usage()
        if used is not None:
            out["cgroup"] = used
        return out

    def limits(self) -> dict[str, int]:
        """The most that an owner may take: of each budget, of the process (the machine's memory), of the cgroup with a limit."""
        out: dict[str, int] = {}
        for budget in self._budgets.values():
            if budget.limit:
                out[budget.name] = out.get(budget.name, 0) + budget.limit
        out["process"] = usage.machine_total()
        limit = usage.cgroup_limit()
        if limit is not None:
            out["cgroup"] = limit
        return out

    def relieve(self) -> int:
        """Memory is short: all memos drop their old generation, or what is left where they have none.

        Returns the estimated bytes given back. Does nothing within RELIEF_SECONDS of the last time.
        """
        now = self._clock()
        if now < self._relieved + RELIEF_SECONDS:
            return 0
        self._relieved = now
        size = sum([memo.shrink() for memo in self.memos()])
        if size:
            usage.give_back()
        return size


ACCOUNT = Account()
