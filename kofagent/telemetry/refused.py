"""`Refused`: the only answer besides ownership."""

from __future__ import annotations


class Refused(Exception):
    """Nobody downstream took the data.

    `permanent` says that the same data would be refused again (an HTTP 400): whoever holds it drops it, counted.
    Otherwise it may be offered again, not before `retry_after` seconds if that is given. `reason` is a short phrase
    without secrets and without data, fit for a metric label; `detail` is a sentence for the log.
    """

    def __init__(self, reason: str, detail: str = "", *, permanent: bool = False, retry_after: float | None = None) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.permanent = permanent
        self.retry_after = retry_after
