"""The clock of metrics: the machine's, but it never goes back, because backends refuse samples that are older than the last."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

log = logging.getLogger("kofagent.telemetry")

_SLOWLY = 1000
"""While the machine's clock is behind what was told already, this one goes so many times slower than time does."""
_STEP_NS = 1_000_000
"""What remote write can tell apart."""
_WORTH_A_LINE_NS = 1_000_000_000


class ForwardClock:
    """`now_ns` is later at each scrape of an interval of a second or more, whatever is done to the machine's clock.

    A clock that was set back by an hour is caught up after an hour: until then, times go on slowly from the last one.
    """

    def __init__(self, wall: Callable[[], int] = time.time_ns, ticks: Callable[[], int] = time.monotonic_ns) -> None:
        self._wall, self._ticks = wall, ticks
        self._last = self._behind_since = 0
        self._held = 0
        """From where times go on since the clock was set back; 0: it was not, or has caught up."""

    def now_ns(self) -> int:
        """Nanoseconds since 1970, never less than before."""
        wall = self._wall()
        if wall >= self._last:
            self._last, self._held = wall, 0
            return wall
        if not self._held:
            self._held, self._behind_since = self._last + _STEP_NS, self._ticks()
            if self._last - wall > _WORTH_A_LINE_NS:
                log.warning(
                    "the clock was set back by %.0f s: until it has caught up, samples carry times just after the last one",
                    (self._last - wall) / 1e9,
                )
        self._last = max(self._last, self._held + (self._ticks() - self._behind_since) // _SLOWLY)
        return self._last


now_ns = ForwardClock().now_ns
"""Of this process, for the times of metric points."""


def now() -> float:
    """The same in seconds."""
    return now_ns() / 1e9
