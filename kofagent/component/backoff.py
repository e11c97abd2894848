"""`Backoff`: the growing waits between tries; the only one in the project, so everything that tries again uses it."""

from __future__ import annotations

import random
import time

MOST_ASKED = 120.0
"""Seconds that a server may ask for, where a caller bounds that (`asked_most`)."""


class Backoff:
    """Waits in seconds: `first`, each `multiplier` times the one before, at most `longest`, times a random factor of `jitter`."""

    def __init__(
        self,
        first: float,
        longest: float,
        *,
        multiplier: float = 2.0,
        jitter: tuple[float, float] = (0.5, 1.0),
        elapsed: float = 0.0,
        asked_most: float = float("inf"),
    ) -> None:
        """`elapsed`: seconds from now (or the last `reset`) until it is time to give up, 0 for never."""
        self._first = first
        self._longest = longest
        self._multiplier = multiplier
        self._jitter = jitter
        self._elapsed = elapsed
        self._asked_most = asked_most
        self.reset()

    def reset(self) -> None:
        """The next wait is the first again, and the time until giving up starts again."""
        self._next = min(self._first, self._longest)
        self._until = time.monotonic() + self._elapsed if self._elapsed else None

    def next(self, at_least: float | None = None) -> float:
        """Seconds to wait now, not fewer than the server asked for (`at_least`)."""
        seconds = self._next * random.uniform(*self._jitter)  # jitter, no secret
        self._next = min(self._next * self._multiplier, self._longest)
        return max(seconds, min(at_least or 0.0, self._asked_most))

    def allows(self, seconds: float) -> bool:
        """Whether a wait of this many seconds ends before it is time to give up."""
        return self._until is None or time.monotonic() + seconds <= self._until
