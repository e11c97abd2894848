"""OTLP/gRPC: the three Export methods on raw bytes; errors carry RetryInfo if the client should try again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from kofagent.component.protocols import Context, ServerAuth, Unauthorized
from kofagent.config.blocks import GrpcServerBlock
from kofagent.net.budget import Overloaded
from kofagent.net.compression import CorruptBody, TooLarge, UnknownEncoding
from kofagent.net.grpc_server import Call, GrpcServer, Method, Status, message_limit
from kofagent.net.http2.stream import BadMessage, Stalled
from kofagent.net.peer import sender
from kofagent.net.server import metadata_of
from kofagent.receivers.otlp.intake import Intake, Malformed
from kofagent.telemetry.batch import Metadata
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from kofagent.wire.status import encode_status

SERVICES = {
    Signal.LOGS: "opentelemetry.proto.collector.logs.v1.LogsService",
    Signal.METRICS: "opentelemetry.proto.collector.metrics.v1.MetricsService",
    Signal.TRACES: "opentelemetry.proto.collector.trace.v1.TraceService",
}


class GrpcEndpoint:
    """The gRPC server of the receiver."""

    def __init__(self, settings: GrpcServerBlock, context: Context, intake: Intake) -> None:
        self._settings = settings
        self._context = context
        self._intake = intake
        self._limit = message_limit(settings)
        self._auth: ServerAuth | None = None
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
        if self._settings.auth is not None:
            self._auth = self._context.host.extension(self._settings.auth.authenticator, ServerAuth)
        await self._server.start()

    async def stop(self) -> None:
        """Closes."""
        await self._server.stop()

    def _method(self, signal: Signal) -> Method:
        async def export(call: Call) -> bytes:
            # hot: otlp_grpc_span, raw bytes in, one check in C, passed on as they came
            sender.set(call.peer)
            metadata = await self._who(call) if self._auth is not None or self._settings.include_metadata else None
            try:
                payload = await call.message()
                await self._intake.take(signal, payload, metadata)
            except Refused as refusal:
                if refusal.for_clients:
                    await call.abort(Status.INVALID_ARGUMENT, refusal.reason)
                await _wait(call, refusal.reason, refusal.retry_after or 1.0)
            except Malformed as error:
                await call.abort(Status.INVALID_ARGUMENT, f"cannot decode the request: {error}")
            except TooLarge as error:
                self._intake.reject("too large", f"a message of more than {self._limit} bytes")
                # The words of other gRPC servers: clients tell by them that smaller messages will pass.
                size = f"{error} vs. {self._limit}" if str(error) else f"max {self._limit}"
                await call.abort(Status.RESOURCE_EXHAUSTED, f"received message larger than max ({size})")
            except Overloaded:
                await self._overloaded(call)
            except CorruptBody as error:
                self._intake.reject("malformed", f"a message that cannot be decompressed: {error}")
                await call.abort(Status.INVALID_ARGUMENT, f"cannot decompress the message: {error}")
            except BadMessage as error:
                self._intake.reject("malformed", f"a call without a message: {error}")
                raise
            except UnknownEncoding:
                self._intake.reject("content encoding", "a message with an unknown grpc-encoding")
                raise
            except Stalled:
                self._intake.reject("stalled", "a message that stopped coming")
                raise
            return b""

        return export

    async def _overloaded(self, call: Call) -> None:
        self._intake.reject("overloaded", "a message because too many are in progress")
        await _wait(call, "too much data in flight", 1.0)

    async def _who(self, call: Call) -> Metadata | None:
        """Metadata of the call as the options and the authenticator want it; aborts a call that is not authenticated."""
        pairs = dict(call.metadata())
        metadata: dict[str, tuple[str, ...]] = metadata_of(pairs) if self._settings.include_metadata else {}
        if self._auth is not None:
            try:
                metadata.update(await self._auth.authenticate(pairs))
            except Unauthorized as error:
                await call.abort(Status.UNAUTHENTICATED, str(error) or "unauthorized")
        return metadata or None


async def _wait(call: Call, reason: str, seconds: float) -> NoReturn:
    """Ends the call so that the client tries again after `seconds`."""
    details = encode_status(Status.UNAVAILABLE, reason, seconds)
    await call.abort(Status.UNAVAILABLE, reason, (("grpc-status-details-bin", details),))
