"""`nop`: accepts and discards everything, and counts it as sent.

For trying out pipelines, and for benchmarks. Never fails. Upstream: exporter/nopexporter of the OpenTelemetry Collector.
"""

from __future__ import annotations

from kofagent.component.protocols import ColumnsConsumer, Context, Exporter
from kofagent.config.base import ComponentConfig
from kofagent.telemetry.batch import AnyBatch
from kofagent.telemetry.signal import Signal


class Config(ComponentConfig):
    """No options."""


class NopExporter(Exporter[Config], ColumnsConsumer):
    """Accepts and discards every batch."""

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._sent = {s: context.ledger.exporter(context.id, s).sent for s in Signal}

    async def consume(self, batch: AnyBatch) -> None:
        """Counts the items as sent."""
        self._sent[batch.signal](batch.count)


COMPONENT = NopExporter
