"""`Mapper`: takes a batch, changes it, hands it on, and accounts for it. A processor writes one function, `change`.

A payload that cannot be decoded (`change` raises ValueError) is dropped, counted as `malformed`. Refusals of the next consumer are
passed up as they are. What `change` left out is counted as filtered or dropped when the rest has an owner or is lost for good: a
batch that is refused for now comes again and would be counted twice.

For every batch that does not go back to the caller: incoming = outgoing + filtered + dropped, here or by the one who refused it.

A batch of very many items is changed in pieces where the processor says that it can be, and others have their turn between them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from kofagent.component.protocols import Processor
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from kofagent.wire import otlp_split

PIECE = 5000
"""Items that are changed without a break: some 30 ms where each costs most."""


class Left(NamedTuple):
    """A batch from which something was left out."""

    batch: Batch | None
    """None when nothing is left."""
    filtered: Mapping[str, int]
    """Items that were left out, by the rule that says so."""
    dropped: Mapping[str, int] = {}
    """Items that are lost, by reason."""
    returned: Callable[[], None] | None = None
    """Called when the whole goes back to the caller, who will offer it again: for those who remember what they made of it."""


class Unusable(Exception):
    """The batch cannot be worked on and is dropped. `reason` is one of `telemetry.reasons`; the message is for the log."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


Changed = Batch | Left
Change = Callable[[Batch], Changed | Awaitable[Changed]]
"""What a processor writes. ValueError: malformed. Unusable. The same object as it was given means: nothing changed."""


class Mapper:
    """The `consume` of one processor. Made in its `start`, when the graph has set `signal` and `next`.

    A processor returns the mapper's coroutine from its own `consume` instead of awaiting it, which would cost a second one a batch.
    """

    def __init__(
        self,
        processor: Processor[Any],
        change: Change,
        filtered: Callable[[float], None] | None = None,
        *,
        by_record: bool = False,
    ) -> None:
        """`filtered` also counts what was left out, in a counter of upstream's name.

        `by_record`: what becomes of a log record or a span does not depend on the others, so that a batch may be changed in pieces.
        """
        self._by_record = by_record and processor.signal is not Signal.METRICS
        self._id = processor.context.id
        self._ledger = processor.context.ledger
        account = self._ledger.processor(self._id, processor.signal)
        self._incoming, self._outgoing = account.incoming, account.outgoing
        self._next = processor.next
        self._change = change
        self._count_filtered = filtered

    async def consume(self, batch: Batch) -> None:
        """As `Consumer.consume`."""
        self._incoming(batch.count)
        try:
            changed = self._in_pieces(batch) if self._by_record and batch.count > PIECE else self._change(batch)
            if not isinstance(changed, Batch) and not isinstance(changed, Left):
                changed = await changed
        except ValueError as error:
            raise self._dropped(batch, "malformed", f"the payload is not valid OTLP: {error}") from None
        except Unusable as error:
            raise self._dropped(batch, error.reason, str(error)) from None
        if isinstance(changed, Batch):
            await self._next.consume(changed)
            self._outgoing(changed.count)
        else:
            await self._hand_on(batch, changed)

    async def _in_pieces(self, batch: Batch) -> Changed:
        done: list[Changed] = []
        same = True
        try:
            for payload, items in otlp_split.split(batch.signal.value, batch.payload, PIECE):
                piece = Batch(batch.signal, payload, items, batch.metadata)
                changed = self._change(piece)
                if not isinstance(changed, Batch) and not isinstance(changed, Left):
                    changed = await changed
                done.append(changed)
                same = same and changed is piece
                await asyncio.sleep(0)
        except BaseException:
            _return(done)
            raise
        return batch if same else _joined(done)

    async def _hand_on(self, batch: Batch, left: Left) -> None:
        if left.batch is not None:
            try:
                await self._next.consume(left.batch)
            except BaseException as error:
                if isinstance(error, Refused) and error.permanent:
                    self._filtered(batch, left)
                elif left.returned is not None:
                    left.returned()
                raise
            self._outgoing(left.batch.count)
        self._filtered(batch, left)

    def _filtered(self, batch: Batch, left: Left) -> None:
        for rule, items in left.filtered.items():
            self._ledger.filtered(self._id, batch.signal, rule, items)
        for reason, items in left.dropped.items():
            self._ledger.dropped(self._id, batch.signal, reason, items)
        if self._count_filtered is not None:
            self._count_filtered(sum(left.filtered.values()))

    def _dropped(self, batch: Batch, reason: str, detail: str) -> Refused:
        self._ledger.dropped(self._id, batch.signal, reason, batch.count)
        return Refused(reason, detail, permanent=True)


def _joined(pieces: Sequence[Changed]) -> Changed:
    """What became of a batch, of what became of its pieces."""
    left = [piece.batch if isinstance(piece, Left) else piece for piece in pieces]
    batches = [batch for batch in left if batch is not None]
    batch = Batch.join(batches) if batches else None
    filtered: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    for piece in pieces:
        if isinstance(piece, Left):
            filtered.update(piece.filtered)
            dropped.update(piece.dropped)
    if batch is not None and not any(isinstance(piece, Left) for piece in pieces):
        return batch
    return Left(batch, filtered, dropped, lambda: _return(pieces))


def _return(pieces: Sequence[Changed]) -> None:
    for piece in pieces:
        if isinstance(piece, Left) and piece.returned is not None:
            piece.returned()
