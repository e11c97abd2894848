"""What a backend says about a request: the part of a success it rejected (OTLP's partial success), and its words in our log."""

from __future__ import annotations

from kofagent.component.protocols import Context
from kofagent.component.requests import Rejected
from kofagent.telemetry.batch import Batch

_SHOWN = 300
"""Characters of a backend's message that are logged."""


class Rejections:
    """What the successes of one exporter's backend rejected; logs the first."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._warned = False

    def of(self, batch: Batch, rejected: int, message: str) -> Rejected | None:
        """The rejected items of a request, None when it was taken whole."""
        rejected = min(max(rejected, 0), batch.count)
        if (rejected or message) and not self._warned:
            self._warned = True
            self._context.log.warning(
                "the backend rejected %d of %d %s: %s (further ones are only counted)",
                rejected,
                batch.count,
                batch.signal.items,
                shown(message),
            )
        return {"partial success": rejected} if rejected else None


def shown(text: str) -> str:
    """The beginning of a backend's message, without control characters."""
    return "".join([c if c.isprintable() else " " for c in text[:_SHOWN]]).strip()
