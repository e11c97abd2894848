"""`Refused`: the only answer besides ownership."""

from __future__ import annotations

from kofagent.telemetry.reasons import checked


class Refused(Exception):
    """No component downstream took the data.

    `permanent` says that the same data would be refused again (an HTTP 400): its holder drops it, counted.
    Otherwise it may be offered again, not before `retry_after` seconds if that is given. `reason` is one of
    `telemetry.reasons`, fit for a metric label; `detail` is a sentence for the log, without secrets.
    """

    def __init__(self, reason: str, detail: str = "", *, permanent: bool = False, retry_after: float | None = None) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = checked(reason)
        self.detail = detail
        self.permanent = permanent
        self.retry_after = retry_after
        self.sent = 0
        """Items at the front of the offered batch that the backend has nevertheless; for the exporter's own use."""

    @property
    def for_clients(self) -> bool:
        """Whether a client is told that its request can never be taken. An error of `error_mode: propagate` is none of its own."""
        return self.permanent and self.reason != "condition error"

    def copy(self) -> Refused:
        """The same refusal for another caller; an exception that is raised collects the frames that it passes."""
        return Refused(self.reason, self.detail, permanent=self.permanent, retry_after=self.retry_after)
