"""What the OTLP exporters are apart from how they send: a client, a sending queue in front of it, rejections counted."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Protocol

from kofagent.component import parts
from kofagent.component.durable import make_sender
from kofagent.component.protocols import C, Context, Exporter
from kofagent.component.rejected import Rejections
from kofagent.telemetry.batch import AnyBatch


class Client(Protocol):
    """What sends."""

    async def start(self) -> None:
        """Reads certificates, finds the authenticator; StartError."""
        ...

    async def stop(self) -> None:
        """Closes the connections."""
        ...


class SendingExporter(Exporter[C]):
    """`config` has `sending_queue` and `retry_on_failure`; a subclass has `send`, and hands over the client it sends with."""

    config: Any

    def __init__(self, config: Any, context: Context, client: Client) -> None:
        super().__init__(config, context)
        self.rejections = Rejections(context)
        self._started = client
        self._sender = make_sender(
            context,
            self.send,
            queue=config.sending_queue,
            retry=config.retry_on_failure,
            merge_items=parts.merge_items(config.sending_queue),
        )

    async def start(self) -> None:
        """Reads certificates, finds the authenticator; StartError."""
        await self._started.start()
        await self._sender.start()

    async def stop(self) -> None:
        """Sends what waits, closes the connections."""
        await self._sender.stop()
        await self._started.stop()

    async def consume(self, batch: AnyBatch) -> None:
        """As `Consumer.consume`."""
        await parts.consume(self._sender, self.config.sending_queue, batch)

    @abstractmethod
    async def send(self, batch: AnyBatch) -> int | None:
        """One request; the number of items the backend took, None for all. Refused."""
