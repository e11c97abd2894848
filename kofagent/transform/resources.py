"""Resources rewritten once per distinct resource: the answer is remembered by the resource's bytes, bounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from kofagent.memory.memo import Memo
from kofagent.telemetry.batch import Batch
from kofagent.wire.otlp import parse_request

K = TypeVar("K")
"""What the answer depends on besides the resource; hashable."""


class ResourceMap(Generic[K]):
    """Maps Resource messages with `change`; a batch in which nothing changes comes back as the same object.

    `change` is called once per distinct (resource bytes, key); `clear` forgets what it answered.
    """

    def __init__(self, change: Callable[[bytes, K], bytes]) -> None:
        self._change = change
        self._known: Memo[tuple[bytes, K], bytes] = Memo("transform.resources", entries=8192, size=8 << 20)
        self._counts, self._get = self._known.counts, self._known.get

    def clear(self) -> None:
        """Forgets all answers: `change` has become another function."""
        self._known.clear()

    def apply(self, batch: Batch, key: K) -> Batch:
        """The batch with every resource changed. ValueError where the payload's outline or a resource is malformed."""
        # hot: otlp_resource, 1.9 us a span end to end, as without it: a resource is one dict look-up, records are copied in C
        request = parse_request(batch.payload)
        entries, get = request.resources, self._get
        self._counts.lookups += len(entries)
        touched = False
        for entry in entries:
            old = entry.resource
            new = get((old, key))
            if new is None:
                new = self._known.find((old, key))
            if new is None:
                new = self._known[old, key] = self._change(old, key)
            if new != old:
                entry.resource = new
                touched = True
        return Batch(batch.signal, request.SerializeToString(), batch.count, batch.metadata) if touched else batch
