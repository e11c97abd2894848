"""How many wrong passwords an address may try for a name: guessing must not be cheap, neither for who guesses nor for us."""

from __future__ import annotations

import time

from kofagent.memory.memo import Memo

BURST = 20
"""Wrong passwords at once."""
EVERY = 6.0
"""Seconds until another one may be tried."""
_LONGEST = 128
"""Characters of a name that tell it from others."""


class Tries:
    """What is left for one address and one name."""

    __slots__ = ("_left", "_seen")

    def __init__(self) -> None:
        self._left = float(BURST)
        self._seen = time.monotonic()

    def used_up(self) -> bool:
        """Whether the next attempt is refused without a look at the password."""
        now = time.monotonic()
        self._left = min(BURST, self._left + (now - self._seen) / EVERY)
        self._seen = now
        return self._left < 1

    def count(self) -> None:
        """A wrong password."""
        self._left -= 1


class Attempts:
    """The tries of all addresses; those that were not seen for long are forgotten when there are many."""

    def __init__(self) -> None:
        self._tries: Memo[tuple[str, str], Tries] = Memo(
            "basicauth.attempts", lambda key: Tries(), entries=4096, size=1 << 20, longest=1024
        )

    def of(self, address: str, name: str) -> Tries:
        """The tries of an address for a name; of all addresses together where the sender has none."""
        return self._tries[address, name[:_LONGEST]]
