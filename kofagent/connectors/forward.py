"""`forward`: passes everything from pipelines that end in it to the pipelines of the same signal that start with it.

Upstream: connector/forwardconnector of the OpenTelemetry Collector. Fails as its consumers do.
"""

from __future__ import annotations

from kofagent.component.fan_out import all_of
from kofagent.component.protocols import ColumnsConsumer, Connector, Context
from kofagent.config.base import ComponentConfig
from kofagent.telemetry.batch import AnyBatch


class Config(ComponentConfig):
    """No options."""


class ForwardConnector(Connector[Config], ColumnsConsumer):
    """Joins and splits pipelines."""

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self.outputs = {}

    async def consume(self, batch: AnyBatch) -> None:
        """As `Consumer.consume`, for all pipelines of the batch's signal."""
        signal = batch.signal.value
        await all_of([consumer.consume(batch) for name, consumer in self.outputs.items() if name.split("/", 1)[0] == signal])


COMPONENT = ForwardConnector
