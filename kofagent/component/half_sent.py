"""`HalfSent`: batches that went back to their caller although the backend has a part of them.

The caller has the whole batch and offers the whole again, perhaps after a client sent it again. What the backend has is left out
then. A batch is recognized by its bytes: two batches of the same bytes are one that came twice.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict

from kofagent.component.requests import B
from kofagent.component.splitting import behind
from kofagent.telemetry.batch import AnyBatch, Batch

MOST = 1000
"""Batches that are remembered, each with 24 bytes; of more the oldest are forgotten, and sent as a whole when they come again."""
SECONDS = 900.0
"""How long one is remembered: whoever did not offer it again until then has given up."""


class HalfSent:
    """False while there is none, so that asking costs nothing then."""

    def __init__(self) -> None:
        self._sent: OrderedDict[bytes, tuple[int, float]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._sent)

    def note(self, batch: AnyBatch, sent: int) -> None:
        """The first `sent` items of a batch, which goes back, are with the backend."""
        if isinstance(batch, Batch) and 0 < sent < batch.count:
            self._sent[_digest(batch)] = sent, time.monotonic() + SECONDS
            if len(self._sent) > MOST:
                self._sent.popitem(last=False)

    def rest(self, batch: B) -> tuple[B, int]:
        """What is to be sent of a batch, and how many items in front of that are sent already. It is no longer remembered."""
        if not isinstance(batch, Batch):
            return batch, 0
        now = time.monotonic()
        while self._sent and next(iter(self._sent.values()))[1] < now:
            self._sent.popitem(last=False)
        sent, _ = self._sent.pop(_digest(batch), (0, 0.0)) if self._sent else (0, 0.0)
        return (behind(batch, sent), sent) if sent else (batch, 0)


def _digest(batch: Batch) -> bytes:
    head = repr((batch.signal.value, sorted((batch.metadata or {}).items()))).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(head + b"\0" + batch.payload, digest_size=16).digest()
