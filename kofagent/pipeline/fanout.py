"""Between components: passes a batch to several consumers, converts columns to OTLP for those that need it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from kofagent.component.fan_out import all_of
from kofagent.component.protocols import ColumnsConsumer, Consumer
from kofagent.telemetry.batch import AnyBatch, MetricBatch
from kofagent.telemetry.signal import Signal


class AsOtlp(ColumnsConsumer):
    """In front of a consumer that takes serialized OTLP only."""

    def __init__(self, next: Consumer, drop: Callable[[str, int], None] | None = None) -> None:
        """`drop` is told the reason and the number of points that cannot be converted."""
        self._next = next
        self._drop = drop

    async def consume(self, batch: AnyBatch) -> None:
        """Converts scraped samples, passes everything else."""
        if isinstance(batch, MetricBatch):
            from kofagent.prometheus.otlp import to_otlp  # its protobuf modules cost memory that is not needed without scraping

            batch = to_otlp(batch, self._drop)
            if not batch.count:
                return
        await self._next.consume(batch)


class FanOut(ColumnsConsumer):
    """Offers a batch to all consumers at once; `component.fan_out.all_of` says whose answer counts."""

    def __init__(self, consumers: Sequence[ColumnsConsumer]) -> None:
        self._consumers = tuple(consumers)

    async def consume(self, batch: AnyBatch) -> None:
        """As `Consumer.consume`, for all consumers."""
        await all_of([c.consume(batch) for c in self._consumers])


def fan_out(consumers: Sequence[ColumnsConsumer]) -> ColumnsConsumer:
    """The one consumer itself, or a FanOut."""
    return consumers[0] if len(consumers) == 1 else FanOut(consumers)


def entry(consumers: Sequence[Consumer], signal: Signal, drop: Callable[[str, int], None] | None = None) -> ColumnsConsumer:
    """All consumers as one that takes everything a pipeline of this signal can carry. They share a conversion, with its `drop`."""
    columns = [c for c in consumers if isinstance(c, ColumnsConsumer)]
    # Batches in the rest are OTLP only: there are no columns but of metrics, and those are converted in front of it.
    rest = cast("list[ColumnsConsumer]", [c for c in consumers if not isinstance(c, ColumnsConsumer)])
    if rest and signal is Signal.METRICS:
        columns.append(AsOtlp(fan_out(rest), drop))
    else:
        columns += rest
    return fan_out(columns)
