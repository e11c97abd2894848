"""jaeger.api_v2.CollectorService/PostSpans."""

from __future__ import annotations

from kofagent.component.offering import Offer
from kofagent.component.protocols import Context
from kofagent.config.blocks import GrpcServerBlock
from kofagent.net.budget import ByteBudget
from kofagent.net.decoding import decoded
from kofagent.net.grpc_door import TURNED_AWAY, GrpcDoor
from kofagent.net.grpc_server import Call, GrpcServer
from kofagent.net.peer import sender
from kofagent.net.turning_away import Rejections
from kofagent.receivers.jaeger import proto
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.signal import Signal
from kofagent.wire.expansion import MAX_EXPANSION

SERVICE = "jaeger.api_v2.CollectorService"


class GrpcEndpoint:
    """The gRPC server of the receiver."""

    def __init__(
        self, settings: GrpcServerBlock, context: Context, offer: Offer, rejections: Rejections, budget: ByteBudget
    ) -> None:
        self._offer = offer
        self._rejections = rejections
        self._door = GrpcDoor(settings, context, rejections)
        self._server = GrpcServer(settings, context.id, {SERVICE: {"PostSpans": self._post}}, budget)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.port

    async def start(self) -> None:
        """Binds; StartError."""
        self._door.start()
        await self._server.start()

    async def stop(self) -> None:
        """Closes."""
        await self._server.stop()

    async def _post(self, call: Call) -> bytes:
        sender.set(call.peer)
        metadata = None if self._door.open else await self._door.who(call)
        try:
            data = await call.message()
            try:
                spans = await decoded(proto.request, data, MAX_EXPANSION)
            except ValueError as error:
                raise self._rejections.malformed("a PostSpansRequest", error) from None
            if spans.count:
                await self._offer.answer(Batch(Signal.TRACES, spans.payload(), spans.count, metadata))
        except TURNED_AWAY as error:
            await self._door.turn_away(call, error)
        return b""
