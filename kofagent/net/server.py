"""The HTTP server under everything that listens: sockets, TLS, authentication, CORS, time-outs, bodies with limits (confighttp).

One handler gets every request that passed authentication. It reads bodies with `read_body`, which decompresses and
stops at the limit before memory is spent. The handler is cancelled when the client goes away.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

from aiohttp import web

from kofagent.component.protocols import ServerAuth, StartError, Unauthorized
from kofagent.config.address import join_endpoint
from kofagent.config.blocks import HttpServerBlock
from kofagent.net.budget import ByteBudget, Overloaded, Reservation
from kofagent.net.compression import ENCODINGS, TooLarge, UnknownEncoding, decompress
from kofagent.net.connection import ConnectionServer
from kofagent.net.cors import Cors
from kofagent.net.listen import listen, listen_address, remove_stale_socket
from kofagent.net.os_errors import os_reason
from kofagent.net.tls import ServerTls
from kofagent.net.transport import FOREVER
from kofagent.telemetry.batch import Metadata

Handler = Callable[[web.BaseRequest, Metadata | None], Awaitable[web.StreamResponse]]
ErrorResponse = Callable[[web.BaseRequest, int, str], web.StreamResponse]
R = TypeVar("R")

STOP_SECONDS = 3.0
"""How long requests under way may take when the server stops."""
DEFAULT_BODY_SIZE = 20 * 1024 * 1024
_FITS = 64 * 1024
"""A smaller response can be written without waiting when nothing of the previous one is left to send."""


class Extensions(Protocol):
    """Finds the authenticator; `Host` implements it."""

    def extension(self, id: str, role: type[R]) -> R: ...


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
        self._runner: web.ServerRunner | None = None
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
            auto_decompress=False,
            access_log=None,
            keepalive_timeout=settings.idle_timeout or max(settings.read_timeout, 0.0) or FOREVER,
            max_line_size=16384,
            max_field_size=65536,
        )
        runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=STOP_SECONDS)
        await runner.setup()
        self._runner = runner
        try:
            await self._bind(runner, context)
        except BaseException:
            await self.stop()
            raise

    async def _bind(self, runner: web.ServerRunner, context: ssl.SSLContext | None) -> None:
        settings = self._settings
        if settings.transport == "unix":
            path = settings.endpoint
            remove_stale_socket(path)
            try:
                await web.UnixSite(runner, path, ssl_context=context).start()
            except OSError as error:
                raise StartError(f"{self._name}: cannot listen on unix socket {path}: {os_reason(error)}") from None
            self.url = f"unix://{path}"
            return
        host, port = listen_address(self._name, settings.endpoint, settings.transport, self._option)
        listener = listen(self._name, host, port, transport=settings.transport, option=self._option, backlog=self._backlog)
        await web.SockSite(runner, listener, ssl_context=context).start()
        self.address = listener.getsockname()[:2]
        self.port = self.address[1]
        shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
        self.url = f"{'https' if context else 'http'}://{join_endpoint(shown, self.port)}"

    async def stop(self) -> None:
        """Closes the socket, lets requests under way end for some seconds."""
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
        if self._cors is not None and self._cors.is_preflight(request.headers):
            response: web.StreamResponse = web.Response(status=204, headers=self._cors.preflight(request.headers))
        else:
            metadata: Metadata | None = metadata_of(request.headers) if self._settings.include_metadata else None
            try:
                if self._auth is not None:
                    metadata = {**(metadata or {}), **await self._who(self._auth, request)} or None
                response = await self._handler(request, metadata)
            except Unauthorized as error:
                response = self._on_error(request, 401, str(error) or "unauthorized")
            except web.HTTPException as answer:
                response = answer
            if self._cors is not None:
                response.headers.update(self._cors.actual(request.headers))
        if self._headers:
            response.headers.update(self._headers)
        return response

    @staticmethod
    async def _who(auth: ServerAuth, request: web.BaseRequest) -> Metadata:
        return await auth.authenticate({name.lower(): value for name, value in request.headers.items()})

    async def read_body(self, request: web.BaseRequest, held: Reservation | None = None) -> bytes:
        """The body decompressed, at most `max_request_body_size` bytes.

        Its bytes stay reserved in `held` until the caller closes it. TooLarge past the limit, UnknownEncoding,
        CorruptBody, Overloaded; TimeoutError when the request is not complete `read_timeout` after its first byte.
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
        if settings.read_timeout > 0:
            connection: Any = request.protocol
            async with asyncio.timeout_at(connection.began + settings.read_timeout):
                body = await _read(request, length, limit, held)
        else:
            body = await _read(request, length, limit, held)
        if not encoding or encoding == "identity":
            return body
        try:
            plain = decompress(encoding, body, min(limit, held.free))
        except TooLarge:
            if held.free < limit:
                raise Overloaded from None
            raise
        held.take(len(plain))
        return plain

    def _accepts(self, encoding: str) -> bool:
        allowed = self._settings.compression_algorithms
        return encoding in ENCODINGS and (allowed is None or encoding in allowed)


async def _read(request: web.BaseRequest, length: int | None, limit: int, held: Reservation) -> bytes:
    if length is not None:
        held.take(length)
        return await request.content.read()
    parts, size = [], 0
    while part := await request.content.readany():
        held.take(len(part))
        size += len(part)
        if size > limit:
            raise TooLarge
        parts.append(part)
    return b"".join(parts)


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
