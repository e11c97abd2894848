"""What a receiver does with a batch: it offers it to the pipelines, and accounts for what becomes of it.

One `Offer` per signal and transport. Three policies, for three kinds of receivers:

- `answer`: a client waits for the answer (OTLP). A refusal is passed on; the data stays with the client.
- `until_taken`: the data is still where it came from (an API server, a file). It is offered again until it is taken.
- `or_drop`: the data is only here and there will be newer (a collection, a scrape). A refusal is a counted drop.

`attempt` and `give_up` are what the policies are made of, for a receiver that needs another one.

For all of them: items produced = accepted + refused + still held, and each refused item that will never be delivered is counted as
dropped once, by the component that refused it for good, or else here.
"""

from __future__ import annotations

import asyncio

from kofagent.component.backoff import Backoff
from kofagent.component.log_limit import LogLimit
from kofagent.component.protocols import ColumnsConsumer, Context
from kofagent.telemetry.batch import AnyBatch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal

FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0
"""Seconds between two offers of the same batch."""
LOG_EVERY = 60.0
"""Seconds between two lines about the same reason."""


class Offer:
    """The way of one receiver's data of one signal into the pipelines."""

    def __init__(self, context: Context, consumer: ColumnsConsumer, signal: Signal, transport: str = "") -> None:
        """`transport` is the label that upstream's receiver has: empty for files and scrapers, else `http` or `grpc`."""
        self._context = context
        self._signal = signal
        self._consumer = consumer
        self._account = context.ledger.receiver(context.id, signal, transport)
        self._log = LogLimit(LOG_EVERY)

    async def answer(self, batch: AnyBatch) -> None:
        """Returns when the items are owned. Raises Refused for the client; an internal error is a refusal that may pass."""
        try:
            await self._consumer.consume(batch)
        except (Refused, asyncio.CancelledError):
            self._account.refused(batch.count)
            raise
        except Exception:
            self._account.refused(batch.count)
            self._defect(batch)
            raise Refused("internal error", "see the log of the agent") from None
        self._account.accepted(batch.count)

    async def until_taken(self, batch: AnyBatch) -> None:
        """Returns when the items are owned, or lost and counted. Cancelled: the data is still where it came from."""
        backoff = Backoff(FIRST_WAIT, LONGEST_WAIT)
        while (refused := await self.attempt(batch)) is not None:
            self.waits(batch, refused)
            await asyncio.sleep(backoff.next(refused.retry_after))

    async def or_drop(self, batch: AnyBatch) -> None:
        """Returns when the items are owned, or lost and counted. Cancelled: dropped because of the shutdown."""
        try:
            refused = await self.attempt(batch)
        except asyncio.CancelledError:
            self.give_up(batch, "shutdown")
            raise
        if refused is not None:
            self.give_up(batch, refused.reason, refused.detail)

    async def attempt(self, batch: AnyBatch) -> Refused | None:
        """One offer. None: the items are owned, or lost and counted. Else a refusal that may pass, not counted yet."""
        try:
            await self._consumer.consume(batch)
        except Refused as refused:
            if not refused.permanent:
                return refused
            self._account.refused(batch.count)
            self._warn("the pipeline refused %d %s for good: %s", batch, refused.reason, refused.detail)
        except Exception:
            self.lost(batch.count, "internal error")
            self._defect(batch)
        else:
            self._account.accepted(batch.count)
        return None

    def give_up(self, batch: AnyBatch, reason: str, detail: str = "") -> None:
        """Counts the items as refused and dropped: they were not taken and will not be offered again."""
        self.lost(batch.count, reason)
        self._warn("%d %s are dropped: %s", batch, reason, detail)

    def lost(self, items: int, reason: str) -> None:
        """Counts items as refused and dropped, also those that were never made into a batch."""
        self._account.refused(items)
        self._context.ledger.dropped(self._context.id, self._signal, reason, items)

    def waits(self, batch: AnyBatch, refused: Refused) -> None:
        """Says that the batch will be offered again."""
        self._warn("%d %s wait, the pipeline does not take them for now: %s", batch, refused.reason, refused.detail)

    def _warn(self, message: str, batch: AnyBatch, reason: str, detail: str) -> None:
        if self._log.due((message, reason)):
            self._context.log.warning(message, batch.count, _kind(batch), f"{reason}: {detail}" if detail else reason)

    def _defect(self, batch: AnyBatch) -> None:
        """A bug downstream must not end the receiver; the traceback goes to the log."""
        if self._log.due():
            self._context.log.exception("the pipeline failed on %d %s", batch.count, _kind(batch))


def _kind(batch: AnyBatch) -> str:
    """What the items are, in words."""
    return batch.signal.items.replace("_", " ")
