"""The HTTP server under everything that listens: sockets, TLS, authentication, CORS, time-outs, bodies with limits (confighttp).

One handler gets every request that passed authentication. It reads bodies with `read_body`, which decompresses and
stops at the limit before memory is spent. The handler is cancelled when the client goes away.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

from aiohttp import web

from kofagent.component.protocols import ServerAuth, Unauthorized
from kofagent.config.address import join_endpoint
from kofagent.config.blocks import HttpServerBlock
from kofagent.net.accept import Acceptor, connection_limit
from kofagent.net.budget import ByteBudget, Overloaded, Reservation
from kofagent.net.compression import ENCODINGS, CorruptBody, TooLarge, UnknownEncoding
from kofagent.net.connection import SERVER, ConnectionServer
from kofagent.net.cors import Cors
from kofagent.net.foreign import Loopback, is_loopback
from kofagent.net.listen import listen, listen_address, listen_unix, remove_stale_socket
from kofagent.net.peer import sender
from kofagent.net.tls import ServerTls
from kofagent.net.transport import FOREVER
from kofagent.net.unpacking import unpack
from kofagent.telemetry.batch import Metadata

Handler = Callable[[web.BaseRequest, Metadata | None], Awaitable[web.StreamResponse]]
ErrorResponse = Callable[[web.BaseRequest, int, str], web.StreamResponse]
R = TypeVar("R")

STOP_SECONDS = 3.0
"""How long requests under way may take when the server stops."""
STALL_SECONDS = 30.0
"""How long a body may stop coming, whatever `read_timeout` is."""
DEFAULT_BODY_SIZE = 20 * 1024 * 1024
_FITS = 64 * 1024
"""A smaller response can be written without waiting when nothing of the previous one is left to send."""


class Extensions(Protocol):
    """Finds the authenticator; `Host` implements it."""

    def extension(self, id: str, role: type[R]) -> R:
        """As `Host.extension`."""
        ...


class HttpServer:
    """Listens from `start` to `stop`; `port` and `url` tell where."""

    def __init__(
        self,
        settings: HttpServerBlock,
        name: str,
        handler: Handler,
        *,
        host: Extensions | None = None,
        on_error: ErrorResponse | None = None,
        option: str = "endpoint",
        backlog: int = 128,
    ) -> None:
        """Errors of `start` begin with `name` and tell the user to change `option`. `auth` needs `host`."""
        self._settings = settings
        self._name = name
        self._handler = handler
        self._host = host
        self._on_error = on_error or _plain_error
        self._option = option
        self._backlog = backlog
        self._auth: ServerAuth | None = None
        self._loopback: Loopback | None = None
        self._runner: web.ServerRunner | None = None
        self._acceptor: Acceptor | None = None
        self._headers = {name: value.get_secret_value() for name, value in settings.response_headers.items()}
        cors = settings.cors
        self._cors = Cors(cors) if cors is not None and cors.allowed_origins else None
        self.port = 0
        self.url = ""
        self.address = ("", 0)
        """Host and port it listens on; empty for a Unix socket."""

    async def start(self) -> None:
        """Binds; StartError with a clear sentence when that is not possible."""
        settings = self._settings
        if settings.auth is not None and self._host is not None:
            self._auth = self._host.extension(settings.auth.authenticator, ServerAuth)
        warn = logging.getLogger(f"kofagent.server.{self._name}").warning
        context = ServerTls(settings.tls, warn).context if settings.tls is not None else None
        server = ConnectionServer(
            self._handle,
            header_seconds=settings.read_header_timeout or max(settings.read_timeout, 0.0),
            handler_cancellation=True,
            name=self._name,
            auto_decompress=False,
            access_log=None,
            keepalive_timeout=settings.idle_timeout or max(settings.read_timeout, 0.0) or FOREVER,
            max_line_size=16384,
            max_field_size=65536,
        )
        listener = self._bind(context)
        runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=STOP_SECONDS)
        await runner.setup()
        self._runner = runner
        self._acceptor = Acceptor(self._name, listener, server, limit=connection_limit(settings.max_connections), tls=context)
        self._acceptor.start()

    def _bind(self, context: ssl.SSLContext | None) -> socket.socket:
        settings = self._settings
        if settings.transport == "unix":
            self.url = f"unix://{settings.endpoint}"
            return listen_unix(self._name, settings.endpoint, self._backlog)
        host, port = listen_address(self._name, settings.endpoint, settings.transport, self._option)
        listener = listen(self._name, host, port, transport=settings.transport, option=self._option, backlog=self._backlog)
        self.address = listener.getsockname()[:2]
        if is_loopback(self.address[0]) and context is None and self._auth is None:
            self._loopback = Loopback(self._cors.allows if self._cors is not None else lambda origin: False)
        self.port = self.address[1]
        shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
        self.url = f"{'https' if context else 'http'}://{join_endpoint(shown, self.port)}"
        return listener

    async def stop(self) -> None:
        """Closes the socket, lets requests under way end for some seconds."""
        if self._acceptor is not None:
            self._acceptor.stop()
            self._acceptor = None
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
            if self._settings.transport == "unix" and self._settings.endpoint:
                remove_stale_socket(self._settings.endpoint)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        # hot: otlp_http_span, every request comes through here
        connection: Any = request.protocol
        connection.request_begins()
        try:
            response = await self._answer(request)
            if not self._settings.keep_alives_enabled:
                response.force_close()
            seconds = self._settings.write_timeout
            if seconds > 0 and not _fits(request, response):
                await _write(request, response, seconds)
            return response
        finally:
            connection.request_ends()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if self._loopback is not None and (why := self._loopback.foreign(request.headers)):
            response: web.StreamResponse = self._on_error(request, 403, why)
        elif self._cors is not None and self._cors.is_preflight(request.headers):
            response = web.Response(status=204, headers=self._cors.preflight(request.headers))
        else:
            metadata: Metadata | None = metadata_of(request.headers) if self._settings.include_metadata else None
            try:
                if self._auth is not None:
                    remote = request.remote
                    sender.set(lambda: remote)
                    metadata = {**(metadata or {}), **await self._who(self._auth, request)} or None
                response = await self._handler(request, metadata)
            except Unauthorized as error:
                response = self._on_error(request, 401, str(error) or "unauthorized")
            except web.HTTPException as answer:
                response = answer
            if self._cors is not None:
                response.headers.update(self._cors.actual(request.headers))
        response.headers["Server"] = SERVER
        if self._headers:
            response.headers.update(self._headers)
        return response

    @staticmethod
    async def _who(auth: ServerAuth, request: web.BaseRequest) -> Metadata:
        return await auth.authenticate({name.lower(): value for name, value in request.headers.items()})

    async def read_body(self, request: web.BaseRequest, held: Reservation | None = None) -> bytes:
        """The body decompressed, at most `max_request_body_size` bytes.

        Its bytes stay reserved in `held` until the caller closes it. TooLarge past the limit, UnknownEncoding,
        CorruptBody, Overloaded; TimeoutError when the request is not complete `read_timeout` after its first byte, or nothing
        came for `STALL_SECONDS`. Bytes are taken from `held` when they arrive, not when they are announced.
        """
        settings = self._settings
        limit = settings.max_request_body_size if settings.max_request_body_size > 0 else DEFAULT_BODY_SIZE
        held = held or ByteBudget().open()
        encoding = request.headers.get("Content-Encoding", "").strip().lower()
        if encoding and encoding != "identity" and not self._accepts(encoding):
            raise UnknownEncoding(encoding)
        length = request.content_length
        if length is not None and length > limit:
            raise TooLarge
        if request.headers.get("Expect", "").lower() == "100-continue":
            # the low-level server leaves this to its handler; curl would wait a second for it
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await self._read(request, length, limit, held)
        held.arrived()
        if not encoding or encoding == "identity":
            return body
        return await unpack(encoding, body, held, limit)

    async def _read(self, request: web.BaseRequest, length: int | None, limit: int, held: Reservation) -> bytes:
        content = request.content
        if content.is_eof():
            # hot: otlp_http_span, a small body is here when its headers are
            body = await content.read()
            if len(body) > limit:
                raise TooLarge
            held.take(len(body))
            return body
        connection: Any = request.protocol
        loop = asyncio.get_running_loop()
        late = connection.began + self._settings.read_timeout if self._settings.read_timeout > 0 else FOREVER
        gave_way = False
        parts, size = [], 0
        held.expected = length or 0
        connection.reading = True
        try:
            async with asyncio.timeout(None) as clock:

                def give_way() -> None:
                    nonlocal gave_way
                    gave_way = True
                    clock.reschedule(loop.time())

                held.give_way = give_way
                while True:
                    if not gave_way:
                        clock.reschedule(min(late, loop.time() + STALL_SECONDS))
                    part = await content.readany()
                    if not part:
                        break
                    size += len(part)
                    if size > limit:
                        raise TooLarge
                    if gave_way:
                        raise Overloaded
                    await held.hold(len(part))
                    parts.append(part)
        except TimeoutError:
            if gave_way:
                raise Overloaded from None
            raise
        except RuntimeError:  # aiohttp's word for a connection that is gone before the first wait
            raise TimeoutError from None
        except web.RequestPayloadError:
            raise CorruptBody("the body is not what its headers say") from None
        finally:
            connection.reading = False
        if connection.damaged:
            raise CorruptBody("the body is not what its headers say")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _accepts(self, encoding: str) -> bool:
        allowed = self._settings.compression_algorithms
        return encoding in ENCODINGS and (allowed is None or encoding in allowed)


def _fits(request: web.BaseRequest, response: web.StreamResponse) -> bool:
    """Whether a response can be written without waiting for the client."""
    body = response.body if isinstance(response, web.Response) else response
    transport = request.transport
    small = body is None or (isinstance(body, bytes | bytearray) and len(body) < _FITS)
    return small and (transport is None or transport.get_write_buffer_size() == 0)


async def _write(request: web.BaseRequest, response: web.StreamResponse, seconds: float) -> None:
    """Writes a whole response; closes the connection when the client does not accept it within `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            await response.prepare(request)
            await response.write_eof()
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()


def metadata_of(headers: Any) -> dict[str, tuple[str, ...]]:
    """Headers as metadata: names in lower case, all values of each."""
    out: dict[str, tuple[str, ...]] = {}
    for name, value in headers.items():
        name = name.lower()
        out[name] = (*out.get(name, ()), value)
    return out


def _plain_error(request: web.BaseRequest, status: int, message: str) -> web.StreamResponse:
    return web.Response(status=status, text=f"{status} {HTTPStatus(status).phrase}: {message}\n")
