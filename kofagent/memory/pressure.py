"""How short memory is, who gives way and in which order, and whether work that takes memory may begin. One: `PRESSURE`.

There is a limit (the cgroup's), and what the kernel holds against it is measured. What nobody accounts for, such as the
interpreter's own objects, is thus in the figure. Levels are shares of the limit; at each, one more kind of owner gives way, and
those of the levels below it still do:

| level | share | what gives way |
|---|---|---|
| `MEMOS` | 70 % | what is only remembered is forgotten, garbage is collected |
| `QUEUES` | 75 % | queues keep on disk only what they have there |
| `TAILS` | 80 % | files are not read on: their lines wait in them |
| `REQUESTS` | 85 % | clients are told to keep their data and to come back (503, UNAVAILABLE) |
| `SCRAPES` | 90 % | targets are scraped one at a time, and a page that does not fit is refused (`up 0`) |

Owners ask for the level per batch, request or scrape: `if PRESSURE.level >= Level.TAILS`. Work that is about to take memory opens a
`Claim` first and lets it grow before the memory is spent; what would reach beyond CEILING is refused. A measurement that is
ACCURATE seconds old is taken again then, so that what has been let go is free at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import IntEnum
from types import TracebackType

from kofagent.memory import usage
from kofagent.memory.account import ACCOUNT

CEILING = 0.92
"""No claim may grow beyond this share of the limit."""
RELAXED = 0.03
"""A level ends this share of the limit below the one where it began."""
ACCURATE = 0.02
"""Seconds a measurement serves claims."""
TRIM_SECONDS = 1.0
"""Least time between two returns of what the C library keeps: it goes through the whole heap, some milliseconds."""


class Level(IntEnum):
    """How short memory is; see the module's docstring."""

    CALM = 0
    MEMOS = 1
    QUEUES = 2
    TAILS = 3
    REQUESTS = 4
    SCRAPES = 5


SHARES = {Level.MEMOS: 0.70, Level.QUEUES: 0.75, Level.TAILS: 0.80, Level.REQUESTS: 0.85, Level.SCRAPES: 0.90}
"""Where the levels begin."""


class Claim:
    """What one piece of work takes: `size` bytes it holds, and `ahead` that it will need for a moment before it ends."""

    __slots__ = ("_held", "_pressure", "ahead", "size")

    def __init__(self, pressure: Pressure, held: Held) -> None:
        self._pressure = pressure
        self._held = held
        self.size = self.ahead = 0

    def grow(self, size: int, ahead: int = 0) -> bool:
        """Before `size` bytes more are held, and `ahead` are needed later: False when there is no room for both."""
        if not self.fits(size, ahead):
            self.refused()
            return False
        self.take(size, ahead)
        return True

    def fits(self, size: int, ahead: int = 0) -> bool:
        """Whether there is room for both now; who waits for it asks again, and `refused` counts what is given up."""
        return self._pressure.fits(size + ahead)

    def take(self, size: int, ahead: int = 0) -> None:
        """What `fits`."""
        self._pressure.taken(size, ahead)
        self._held.used += size + ahead
        self.size += size
        self.ahead += ahead

    def refused(self) -> None:
        """Counts what did not fit."""
        self._held.refused += 1

    def close(self) -> None:
        """Lets go of everything."""
        self._pressure.taken(0, -self.ahead)
        self._held.used -= self.size + self.ahead
        self.size = self.ahead = 0

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Held:
    """Bytes of one owner, as the account shows them; without a limit of its own. `refused` claims did not fit."""

    limit = 0

    def __init__(self, name: str) -> None:
        self.name = name
        self.used = self.refused = 0
        ACCOUNT.join_budget(self)


class Pressure:
    """See the module's docstring. Without a limit it is always calm and everything fits."""

    def __init__(
        self,
        measure: Callable[[], int] | None = None,
        quick: Callable[[], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`measure` gives the bytes in use of the limit; `quick` those of the process, for less: what changes, changes there."""
        self._measure = measure or usage.in_use
        self._quick = quick or usage.process_anonymous
        self._clock = clock
        self._owners: dict[str, Held] = {}
        self.limit = 0
        """Bytes; 0: none."""
        self.level = Level.CALM
        self.freed = False
        """Much memory was let go that was not returned to the system since then; who lets it go sets this, `give_back` ends it."""
        self._used = self._since = self._ahead = 0
        self._base = self._quick_base = 0
        self._at = self._trimmed = float("-inf")

    def set(self, limit: int) -> None:
        """The limit from now on; 0: none."""
        self.limit = limit
        self.look()

    @property
    def used(self) -> int:
        """Bytes in use when it was last measured, and taken since then."""
        return self._used + self._since

    @property
    def room(self) -> int:
        """Bytes that claims may take together, as far as it was measured; as good as any number without a limit."""
        return max(0, int(self.limit * CEILING) - self._ahead - self.used) if self.limit else 1 << 62

    def look(self) -> Level:
        """Measures, and sets the level."""
        if not self.limit:
            self.level = Level.CALM
            return self.level
        self._base, self._quick_base = self._measure(), self._quick()
        self._used, self._since, self._at = self._base, 0, self._clock()
        share = self._used / self.limit
        rising = max((level for level, begins in SHARES.items() if share >= begins), default=Level.CALM)
        staying = max((level for level, begins in SHARES.items() if share >= begins - RELAXED), default=Level.CALM)
        self.level = max(rising, min(self.level, staying))
        return self.level

    def fits(self, size: int) -> bool:
        """Whether `size` bytes more can be taken; what memory is short of is looked for first."""
        if not self.limit:
            return True
        most = int(self.limit * CEILING) - self._ahead - size
        if self._used + self._since <= most and self._clock() < self._at + 1:
            return True
        if self._clock() >= self._at + ACCURATE:
            self._look_quickly()
        if self._used + self._since <= most:
            return True
        if ACCOUNT.relieve() or self.give_back():
            self._look_quickly()
            return self._used <= most
        return False

    def give_back(self, seconds: float = TRIM_SECONDS) -> bool:
        """Returns memory that the C library keeps between blocks in use; False where that was done less than `seconds` ago."""
        if self._clock() < self._trimmed + seconds:
            return False
        self._trimmed = self._clock()
        self.freed = False
        usage.give_back()
        return True

    def _look_quickly(self) -> None:
        self._used = max(0, self._base + self._quick() - self._quick_base)
        self._since, self._at = 0, self._clock()

    def taken(self, size: int, ahead: int) -> None:
        """What a claim took, until it is measured."""
        self._since += size
        self._ahead += ahead

    def refusals(self) -> dict[str, int]:
        """How many claims did not fit, by owner."""
        return {name: held.refused for name, held in self._owners.items()}

    def claim(self, owner: str) -> Claim:
        """A claim, empty at first, shown in the account under `owner`."""
        held = self._owners.get(owner)
        if held is None:
            held = self._owners[owner] = Held(owner)
        return Claim(self, held)


PRESSURE = Pressure()
