"""OTLP/gRPC: the three Export methods on raw bytes; errors carry RetryInfo if the client should try again."""

from __future__ import annotations

from collections.abc import Mapping

from kofagent.component.protocols import Context
from kofagent.config.blocks import GrpcServerBlock
from kofagent.net.grpc_door import TURNED_AWAY, GrpcDoor
from kofagent.net.grpc_server import Call, GrpcServer, Method
from kofagent.net.peer import sender
from kofagent.receivers.otlp.intake import Intake
from kofagent.telemetry.signal import Signal

SERVICES = {
    Signal.LOGS: "opentelemetry.proto.collector.logs.v1.LogsService",
    Signal.METRICS: "opentelemetry.proto.collector.metrics.v1.MetricsService",
    Signal.TRACES: "opentelemetry.proto.collector.trace.v1.TraceService",
}


class GrpcEndpoint:
    """The gRPC server of the receiver."""

    def __init__(self, settings: GrpcServerBlock, context: Context, intake: Intake) -> None:
        self._intake = intake
        self._door = GrpcDoor(settings, context, intake.rejections)
        services: Mapping[str, Mapping[str, Method]] = {
            SERVICES[signal]: {"Export": self._method(signal)} for signal in intake.outputs
        }
        self._server = GrpcServer(settings, context.id, services, intake.budget)

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

    def _method(self, signal: Signal) -> Method:
        async def export(call: Call) -> bytes:
            # hot: otlp_grpc_span, raw bytes in, one check in C, passed on as they came
            sender.set(call.peer)
            metadata = None if self._door.open else await self._door.who(call)
            try:
                payload = await call.message()
                await self._intake.take(signal, payload, metadata)
            except TURNED_AWAY as error:
                await self._door.turn_away(call, error)
            return b""

        return export
