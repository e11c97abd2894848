"""Between components: hand one batch to several consumers, turn columns into OTLP for those that do not take them."""

from __future__ import annotations

from collections.abc import Sequence

from kofagent.component.fan_out import all_of
from kofagent.component.protocols import Consumer
from kofagent.telemetry.batch import AnyBatch, MetricBatch


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
    """Offers a batch to all consumers at once; `telemetry.answers.all_of` says whose answer counts."""

    def __init__(self, consumers: Sequence[Consumer]) -> None:
        self._consumers = tuple(consumers)

    async def consume(self, batch: AnyBatch) -> None:
        """As `Consumer.consume`, for all consumers."""
        await all_of([c.consume(batch) for c in self._consumers])


def fan_out(consumers: Sequence[Consumer]) -> Consumer:
    """The one consumer itself, or a FanOut."""
    return consumers[0] if len(consumers) == 1 else FanOut(consumers)
