"""Between components: hand one batch to several consumers, turn columns into OTLP for those that do not take them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kofagent.telemetry.batch import AnyBatch, MetricBatch
from kofagent.pipeline.component import Consumer
from kofagent.telemetry.refused import Refused


class AsOtlp:
    """In front of consumers that know serialized OTLP only."""

    def __init__(self, next: Consumer) -> None:
        self._next = next

    async def consume(self, batch: AnyBatch) -> None:
        """Converts scraped samples, passes everything else."""
        if isinstance(batch, MetricBatch):
            from kofagent.prometheus.otlp import to_otlp  # its protobuf modules cost memory nobody needs without scraping

            batch = to_otlp(batch)
        await self._next.consume(batch)


class FanOut:
    """Offers a batch to all consumers at once and waits for all answers.

    One retryable refusal makes the whole answer retryable: a second offer may reach the others twice, which is better than
    once too few. If only permanent refusals are left, whoever raised them counted the loss, and the others have the data:
    the answer is permanent only when nobody took it.
    """

    def __init__(self, consumers: Sequence[Consumer]) -> None:
        self._consumers = tuple(consumers)

    async def consume(self, batch: AnyBatch) -> None:
        """As `Consumer.consume`, for all consumers."""
        answers = await asyncio.gather(*[c.consume(batch) for c in self._consumers], return_exceptions=True)
        errors = [a for a in answers if isinstance(a, BaseException)]
        if not errors:
            return
        for error in errors:
            if not (isinstance(error, Refused) and error.permanent):
                raise error
        if len(errors) == len(answers):
            raise errors[0]


def fan_out(consumers: Sequence[Consumer]) -> Consumer:
    """The one consumer itself, or a FanOut."""
    return consumers[0] if len(consumers) == 1 else FanOut(consumers)
