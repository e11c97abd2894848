"""What one HTTP/2 connection may cost: the limits that options set, and those that hold for everybody."""

from __future__ import annotations

from dataclasses import dataclass

FOREVER = float("inf")
HEADER_BYTES = 64 * 1024
"""Largest header block, as it came and decoded."""
STREAM_WINDOW = 1 << 20
CONNECTION_WINDOW = 4 << 20
PREFACE_SECONDS = 10.0
"""How long a client may take for the preface and for each header block."""
WRITE_SECONDS = 30.0
"""How long a client may leave answers unread."""


@dataclass
class Limits:
    """Seconds are `FOREVER` where nothing ends."""

    message_bytes: int = 4 << 20
    """Largest message as it comes and decompressed."""
    streams: int = 100
    """Calls open at a time."""
    stall_seconds: float = 30.0
    """How long a message may stop coming before its call is ended."""
    idle_seconds: float = FOREVER
    age_seconds: float = FOREVER
    grace_seconds: float = FOREVER
    ping_after: float = 7200.0
    ping_timeout: float = 20.0
    pings_apart: float = 300.0
    pings_when_idle: bool = False

    @property
    def tick(self) -> float:
        """Seconds between two looks at the clock: a quarter of the shortest time that can run out, a second at most."""
        times = (self.stall_seconds, self.idle_seconds, self.age_seconds, self.grace_seconds, self.ping_after, self.ping_timeout)
        return min(1.0, *(seconds / 4 for seconds in times if seconds > 0))


class Allowance:
    """How often a client may do what costs us and brings nothing: `burst` times at once, `rate` times a second for long."""

    __slots__ = ("_burst", "_left", "_rate", "_seen")

    def __init__(self, burst: float, rate: float, now: float) -> None:
        self._burst = burst
        self._rate = rate
        self._left = burst
        self._seen = now

    def spend(self, now: float, cost: float = 1.0) -> bool:
        """False when it is used up."""
        self._left = min(self._burst, self._left + (now - self._seen) * self._rate) - cost
        self._seen = now
        return self._left >= 0
