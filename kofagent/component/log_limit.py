"""Which of many equal lines are written to the log: the first with its key, then one in a while. The others are only counted."""

from __future__ import annotations

import time
from collections.abc import Hashable

MOST_KEYS = 1000


class LogLimit:
    """`due(key)` says whether the line with this key is written now: the first time, then once every `every` seconds."""

    def __init__(self, every: float = float("inf")) -> None:
        self._every = every
        self._written: dict[Hashable, float] = {}

    def due(self, key: Hashable = "") -> bool:
        """True when the caller writes the line. Of more than a thousand different keys the later ones are never written."""
        now = time.monotonic()
        last = self._written.get(key)
        if (last is None and len(self._written) >= MOST_KEYS) or (last is not None and now - last < self._every):
            return False
        self._written[key] = now
        return True
