"""Who may call a gRPC server that takes data, and how calls end whose data is not taken."""

from __future__ import annotations

from typing import NoReturn

from kofagent.component.protocols import Context, ServerAuth, Unauthorized
from kofagent.config.blocks import GrpcServerBlock
from kofagent.net.budget import Overloaded
from kofagent.net.compression import CorruptBody, TooLarge, UnknownEncoding
from kofagent.net.grpc_server import Call, Status, message_limit
from kofagent.net.http2.stream import BadMessage, Stalled
from kofagent.net.server import metadata_of
from kofagent.net.turning_away import RETRY_SECONDS, Malformed, Rejections
from kofagent.telemetry.batch import Metadata
from kofagent.telemetry.refused import Refused
from kofagent.wire.status import encode_status

TURNED_AWAY = (Refused, Malformed, TooLarge, Overloaded, CorruptBody, BadMessage, UnknownEncoding, Stalled)
"""What reading a message and offering its items raises."""


class GrpcDoor:
    """Authentication and refusals of the calls of one gRPC server."""

    def __init__(self, settings: GrpcServerBlock, context: Context, rejections: Rejections) -> None:
        self._settings = settings
        self._context = context
        self._rejections = rejections
        self._limit = message_limit(settings)
        self._auth: ServerAuth | None = None

    def start(self) -> None:
        """Finds the authenticator; StartError."""
        if self._settings.auth is not None:
            self._auth = self._context.host.extension(self._settings.auth.authenticator, ServerAuth)

    @property
    def open(self) -> bool:
        """Whether nothing has to be known of a call: no authentication, no metadata."""
        return self._auth is None and not self._settings.include_metadata

    async def who(self, call: Call) -> Metadata | None:
        """Metadata of the call as the options and the authenticator want it; aborts a call that is not authenticated."""
        pairs = dict(call.metadata())
        metadata: dict[str, tuple[str, ...]] = metadata_of(pairs) if self._settings.include_metadata else {}
        if self._auth is not None:
            try:
                metadata.update(await self._auth.authenticate(pairs))
            except Unauthorized as error:
                await call.abort(Status.UNAUTHENTICATED, str(error) or "unauthorized")
        return metadata or None

    async def turn_away(self, call: Call, error: Exception) -> NoReturn:
        """Ends a call that failed with one of `TURNED_AWAY`."""
        reject = self._rejections.reject
        match error:
            case Refused(for_clients=True):
                await call.abort(Status.INVALID_ARGUMENT, error.reason)
            case Refused():
                await _later(call, error.reason, error.retry_after or RETRY_SECONDS)
            case Malformed():
                await call.abort(Status.INVALID_ARGUMENT, f"cannot decode the request: {error}")
            case TooLarge():
                reject("too large", f"a message of more than {self._limit} bytes")
                # The words of other gRPC servers: clients tell by them that smaller messages will pass.
                size = f"{error} vs. {self._limit}" if str(error) else f"max {self._limit}"
                await call.abort(Status.RESOURCE_EXHAUSTED, f"received message larger than max ({size})")
            case Overloaded():
                reject("overloaded", "a message because too many are in progress")
                await _later(call, "too much data in flight", RETRY_SECONDS)
            case CorruptBody():
                reject("malformed", f"a message that cannot be decompressed: {error}")
                await call.abort(Status.INVALID_ARGUMENT, f"cannot decompress the message: {error}")
            case BadMessage():
                reject("malformed", f"a call without a message: {error}")
            case UnknownEncoding():
                reject("content encoding", "a message with an unknown grpc-encoding")
            case Stalled():
                reject("stalled", "a message that stopped coming")
        raise error


async def _later(call: Call, reason: str, seconds: float) -> NoReturn:
    """Ends the call so that the client tries again after `seconds`."""
    details = encode_status(Status.UNAVAILABLE, reason, seconds)
    await call.abort(Status.UNAVAILABLE, reason, (("grpc-status-details-bin", details),))
