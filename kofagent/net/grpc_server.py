"""A gRPC server of unary methods over raw bytes: sockets, TLS, keepalive and limits of configgrpc upstream.

It speaks HTTP/2 itself (`net.http2`), because what a client may cost has to be known while its bytes arrive: they are counted
in the budget that all requests share, and a client that goes too far loses its own connection and nobody else's.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from enum import IntEnum
from typing import NoReturn

from kofagent.config.blocks import GrpcServerBlock
from kofagent.net.accept import Acceptor, connection_limit
from kofagent.net.budget import ByteBudget
from kofagent.net.compression import UnknownEncoding
from kofagent.net.http2.connection import Http2Connection
from kofagent.net.http2.frames import header_block
from kofagent.net.http2.limits import FOREVER, Limits
from kofagent.net.http2.stream import Aborted, BadMessage, Stalled, Stream
from kofagent.net.listen import listen, listen_address, listen_unix, remove_stale_socket
from kofagent.net.tls import ServerTls
from kofagent.net.unpacking import unpack

STOP_SECONDS = 3.0
ENCODINGS = ("gzip", "deflate", "snappy", "zstd")
"""Compressions of messages that are understood, in gRPC's names."""

_HEAD = header_block(
    (
        (b":status", b"200"),
        (b"content-type", b"application/grpc"),
        (b"grpc-accept-encoding", ",".join(("identity", *ENCODINGS)).encode()),
    )
)
_OK = ((b"grpc-status", b"0"),)
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


class Status(IntEnum):
    """gRPC's status codes that a server gives."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class Call:
    """A call as its method sees it."""

    def __init__(self, stream: Stream, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self.held = stream.held
        """The room that the message takes; what is taken besides is given back with it when the call ends."""

    def peer(self) -> str:
        """The client's address; empty for a Unix socket."""
        return self._stream.connection.peer

    def metadata(self) -> list[tuple[str, str]]:
        """The metadata of the call, without what belongs to the protocol."""
        return [
            (name, value)
            for name, value in self._stream.headers
            if not name.startswith((":", "grpc-")) and name != "te" and not name.endswith("-bin")
        ]

    async def message(self) -> bytes:
        """The message, decompressed, when it has come.

        TooLarge, CorruptBody, UnknownEncoding, Overloaded; BadMessage where it is none, Stalled when it stopped coming.
        """
        compressed, message = await self._stream.read()
        if not compressed:
            return message
        encoding = next((value for name, value in self._stream.headers if name == "grpc-encoding"), "identity").strip().lower()
        if encoding == "identity":
            raise BadMessage("a compressed message without grpc-encoding")
        if encoding not in ENCODINGS:
            raise UnknownEncoding(encoding[:40])
        # Senders of "snappy" write the framed format.
        name = "x-snappy-framed" if encoding == "snappy" and message[:1] == b"\xff" else encoding
        return await unpack(name, message, self.held, self._limit)

    async def abort(self, status: Status, text: str, trailers: tuple[tuple[str, bytes], ...] = ()) -> NoReturn:
        """Ends the call with a status. Raises Aborted."""
        pairs = [(name.encode(), base64.b64encode(value).rstrip(b"=")) for name, value in trailers]
        await _end(self._stream, status, text, pairs)
        raise Aborted


Method = Callable[[Call], Awaitable[bytes]]


async def _end(stream: Stream, status: Status, text: str, trailers: list[tuple[bytes, bytes]] | None = None) -> None:
    ends = [(b"grpc-status", str(int(status)).encode()), (b"grpc-message", _percent(text)), *(trailers or ())]
    head = ((b":status", b"200"), (b"content-type", b"application/grpc"))
    await stream.answer(b"", b"", (*head, *ends))


def _percent(text: str) -> bytes:
    """A status message as the protocol wants it: printable ASCII, everything else and % as %XX."""
    return b"".join(bytes((byte,)) if 32 <= byte < 127 and byte != 37 else b"%%%02X" % byte for byte in text.encode()[:2048])


def message_limit(settings: GrpcServerBlock) -> int:
    """Bytes of the largest message."""
    return (settings.max_recv_msg_size_mib if settings.max_recv_msg_size_mib > 0 else 4) * 1024 * 1024


def limits_of(settings: GrpcServerBlock) -> Limits:
    """The limits that the options ask for; without `keepalive` those of gRPC's servers in Go."""
    limits = Limits(message_bytes=message_limit(settings))
    if settings.max_concurrent_streams > 0:
        limits.streams = settings.max_concurrent_streams
    keepalive = settings.keepalive
    if keepalive is not None and keepalive.server_parameters is not None:
        parameters = keepalive.server_parameters
        limits.idle_seconds = parameters.max_connection_idle or FOREVER
        limits.age_seconds = parameters.max_connection_age or FOREVER
        limits.grace_seconds = parameters.max_connection_age_grace or FOREVER
        limits.ping_after = parameters.time or 7200.0
        limits.ping_timeout = parameters.timeout or 20.0
    if keepalive is not None and keepalive.enforcement_policy is not None:
        limits.pings_apart = keepalive.enforcement_policy.min_time
        limits.pings_when_idle = keepalive.enforcement_policy.permit_without_stream
    return limits


class GrpcServer:
    """Listens from `start` to `stop`; `port` tells where. `services[name][method]` are the unary methods, bytes to bytes."""

    def __init__(
        self, settings: GrpcServerBlock, id: str, services: Mapping[str, Mapping[str, Method]], budget: ByteBudget | None = None
    ) -> None:
        """Messages are counted in `budget` as they arrive."""
        self._settings = settings
        self._id = id
        self._methods = {f"/{service}/{name}": method for service, methods in services.items() for name, method in methods.items()}
        self._budget = budget or ByteBudget()
        self._limits = limits_of(settings)
        self._live: set[Http2Connection] = set()
        self._acceptor: Acceptor | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._log = logging.getLogger(f"kofagent.server.{id}")
        self.port = 0

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._live)

    async def start(self) -> None:
        """Binds; StartError with a clear sentence when that is not possible."""
        settings = self._settings
        tls: ssl.SSLContext | None = None
        if settings.tls is not None:
            tls = ServerTls(settings.tls, self._log.warning, alpn=("h2",)).context
        listener = self._listener()
        self._acceptor = Acceptor(self._id, listener, self._connection, limit=connection_limit(settings.max_connections), tls=tls)
        self._acceptor.start()
        self._look()

    def _listener(self) -> socket.socket:
        settings = self._settings
        if settings.transport == "unix":
            return listen_unix(self._id, settings.endpoint)
        host, port = listen_address(self._id, settings.endpoint, settings.transport)
        listener = listen(self._id, host, port, transport=settings.transport)
        self.port = listener.getsockname()[1]
        return listener

    def _connection(self) -> Http2Connection:
        return Http2Connection(self._serve, self._budget, self._limits, self._live)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in list(self._live):
            connection.look(now)
        self._sweep = loop.call_later(self._limits.tick, self._look)

    async def stop(self) -> None:
        """Refuses new calls, lets those under way end for some seconds."""
        acceptor, self._acceptor = self._acceptor, None
        if acceptor is None:
            return
        acceptor.stop()
        for connection in list(self._live):
            connection.drain()
        if self._live:
            await asyncio.wait([connection.lost for connection in self._live], timeout=STOP_SECONDS)
        for connection in list(self._live):
            connection.close()
        if self._sweep is not None:
            self._sweep.cancel()
        if self._settings.transport == "unix":
            remove_stale_socket(self._settings.endpoint)

    async def _serve(self, stream: Stream) -> None:
        # hot: otlp_grpc_span, once per call
        try:
            headers = dict(stream.headers)
            method = self._methods.get(headers.get(":path", ""))
            if headers.get(":method") != "POST" or not headers.get("content-type", "").startswith("application/grpc"):
                await stream.answer(b"", b"", ((b":status", b"415"), (b"grpc-status", b"2")))
                return
            if method is None:
                await _end(stream, Status.UNIMPLEMENTED, "unknown service or method")
                return
            if (timeout := _TIMEOUT.fullmatch(headers.get("grpc-timeout", ""))) is not None:
                seconds = int(timeout[1]) * _SECONDS[timeout[2]]
                task = asyncio.current_task()
                assert task is not None
                # The client does not wait for the answer any longer: what was not taken until then is taken back.
                stream.deadline = stream.connection.loop.call_later(seconds, task.cancel)
            answer = await method(Call(stream, self._limits.message_bytes))
            await stream.answer(_HEAD, b"\0" + len(answer).to_bytes(4, "big") + answer, _OK)
        except Aborted:
            pass
        except (BadMessage, UnknownEncoding, Stalled) as error:
            await self._refuse(stream, error)
        except TimeoutError:  # the client leaves no room for its answer
            stream.connection.close()
        except asyncio.CancelledError:
            raise
        except Exception:
            self._log.exception("a call failed")
            await _end(stream, Status.INTERNAL, "internal error")

    @staticmethod
    async def _refuse(stream: Stream, error: Exception) -> None:
        if isinstance(error, UnknownEncoding):
            accepted = [(b"grpc-accept-encoding", ",".join(("identity", *ENCODINGS)).encode())]
            await _end(stream, Status.UNIMPLEMENTED, f"unsupported compression {str(error)[:40]!r}", accepted)
        elif isinstance(error, Stalled):
            await _end(stream, Status.DEADLINE_EXCEEDED, "the message took too long")
        else:
            await _end(stream, Status.INVALID_ARGUMENT, str(error))
