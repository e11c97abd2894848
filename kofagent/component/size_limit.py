"""`SizeLimit`: how large the requests to one backend may be, as configured and as the backend turned out to want it."""

from __future__ import annotations

import logging

from kofagent.component.log_limit import LogLimit

SMALLEST = 16 << 10
"""The limit is never lowered below this many bytes: hardly any backend takes less, and small requests cost a round trip each."""


class SizeLimit:
    """`bytes` is the most that a request should have before compression; 0: no limit."""

    def __init__(self, bytes: int = 0, *, advice: str) -> None:
        """`advice` names the option that sets the limit, for the log."""
        self.bytes = bytes
        self._advice = advice
        self._refused = 0
        self._log_limit = LogLimit()

    def refused(self, size: int) -> None:
        """The backend refused a request of this size for its size."""
        self._refused = min(self._refused or size, size)

    def settle(self, taken: bool, log: logging.Logger) -> None:
        """The batch is done with. When smaller requests were taken, size was what the backend minded: from now on requests are at
        most half as large as the smallest it refused. When nothing was taken, the refusals say nothing about size.
        """
        size, self._refused = self._refused, 0
        half = max(size // 2, SMALLEST)
        if taken and half < size and (not self.bytes or half < self.bytes):
            self.bytes = half
            if self._log_limit.due():
                log.warning(
                    "the backend refuses a request of %d bytes as too large; requests are cut and now made of at most %d bytes; %s",
                    size,
                    half,
                    self._advice,
                )
