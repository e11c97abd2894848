"""What a backend says about a request: the part of a success it rejected (OTLP's partial success), and its words in our log."""

from __future__ import annotations

from kofagent.component.protocols import Context
from kofagent.telemetry.batch import Batch

_SHOWN = 300
"""Characters of a backend's message that are logged."""


class Rejections:
    """Counts what the successes of one exporter's backend rejected, and logs the first."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._warned = False

    def taken(self, batch: Batch, rejected: int, message: str) -> int:
        """How many items of the batch were taken; the others are counted as dropped with the reason `partial success`."""
        rejected = min(max(rejected, 0), batch.count)
        if rejected:
            self._context.ledger.dropped(self._context.id, batch.signal, "partial success", rejected)
        if (rejected or message) and not self._warned:
            self._warned = True
            self._context.log.warning(
                "the backend rejected %d of %d %s: %s (further ones are only counted)",
                rejected,
                batch.count,
                batch.signal.items,
                shown(message),
            )
        return batch.count - rejected


def shown(text: str) -> str:
    """The beginning of a backend's message, without control characters."""
    return "".join([c if c.isprintable() else " " for c in text[:_SHOWN]]).strip()
