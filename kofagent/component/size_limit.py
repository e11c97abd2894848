"""`SizeLimit`: how large the requests to one backend may be, as configured and as the backend turned out to want it."""

from __future__ import annotations

import logging

SMALLEST = 16 << 10
"""Bytes below which the limit does not go: hardly a backend takes less, and small requests cost a round trip each."""


class SizeLimit:
    """`bytes` is the most that a request should have before compression; 0: no limit."""

    def __init__(self, bytes: int = 0, *, advice: str) -> None:
        """`advice` names the option that sets the limit, for the log."""
        self.bytes = bytes
        self._advice = advice
        self._refused = 0

    def refused(self, size: int) -> None:
        """The backend refused a request of this size for its size."""
        self._refused = min(self._refused or size, size)

    def taken(self, log: logging.Logger) -> None:
        """It took a smaller one, so size was what it minded: requests are made at most half as large as the one it refused."""
        size, self._refused = self._refused, 0
        half = max(size // 2, SMALLEST)
        if half < size and (not self.bytes or half < self.bytes):
            self.bytes = half
            log.warning(
                "the backend refuses a request of %d bytes as too large; requests are cut and now made of at most %d bytes; %s",
                size,
                half,
                self._advice,
            )

    def forget(self) -> None:
        """It took nothing at all: the refusals say nothing about size."""
        self._refused = 0
