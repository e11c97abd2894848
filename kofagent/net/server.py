"""An HTTP server for components that listen: sockets, TLS, authentication, CORS, bodies with limits (confighttp upstream).

One handler gets every request that was let in. It reads bodies with `read_body`, which decompresses and stops at the limit
before memory is spent. The handler is cancelled when the client goes away.
"""

from __future__ import annotations

import asyncio
import errno
import fnmatch
import os
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from kofagent.component.protocols import Context, ServerAuth, StartError, Unauthorized
from kofagent.config.address import join_endpoint, split_endpoint
from kofagent.config.blocks import CorsBlock, HttpServerBlock
from kofagent.net.compression import ENCODINGS, TooLarge, UnknownEncoding, decompress
from kofagent.net.tls import ServerTls
from kofagent.telemetry.batch import Metadata

Handler = Callable[[web.BaseRequest, Metadata | None], Awaitable[web.StreamResponse]]
ErrorResponse = Callable[[web.BaseRequest, int, str], web.StreamResponse]

STOP_SECONDS = 3.0
"""How long requests under way may take when the server stops."""


class Overloaded(Exception):
    """There is no room for another body now."""


class Room:
    """Bytes of all bodies in flight together; a limit of 0 is none."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    @property
    def free(self) -> int:
        """Bytes left."""
        return self.limit - self.used if self.limit else 1 << 62

    def open(self) -> Share:
        """The share of one request, empty at first."""
        return Share(self)


class Share:
    """What one request holds of a `Room`; `close` gives it back."""

    __slots__ = ("_room", "_size")

    def __init__(self, room: Room) -> None:
        self._room = room
        self._size = 0

    @property
    def free(self) -> int:
        """Bytes left in the room."""
        return self._room.free

    def take(self, size: int) -> None:
        """Reserves; Overloaded when the room is used up."""
        if size > self._room.free:
            raise Overloaded
        self._room.used += size
        self._size += size

    def close(self) -> None:
        """Gives all of it back."""
        self._room.used -= self._size
        self._size = 0


class HttpServer:
    """Listens from `start` to `stop`; `port` and `url` tell where."""

    def __init__(
        self, settings: HttpServerBlock, context: Context, handler: Handler, on_error: ErrorResponse | None = None
    ) -> None:
        self._settings = settings
        self._context = context
        self._handler = handler
        self._on_error = on_error or _plain_error
        self._auth: ServerAuth | None = None
        self._runner: web.ServerRunner | None = None
        self._headers = {name: value.get_secret_value() for name, value in settings.response_headers.items()}
        cors = settings.cors
        self._cors = Cors(cors) if cors is not None and cors.allowed_origins else None
        self.port = 0
        self.url = ""

    async def start(self) -> None:
        """Binds; StartError with a clear sentence when that is not possible."""
        settings = self._settings
        if settings.auth is not None:
            self._auth = self._context.host.extension(settings.auth.authenticator, ServerAuth)
        context = ServerTls(settings.tls, self._context.log.warning).context if settings.tls is not None else None
        server = _Server(
            self._handle,
            header_seconds=settings.read_header_timeout,
            handler_cancellation=True,
            auto_decompress=False,
            access_log=None,
            keepalive_timeout=settings.idle_timeout if settings.keep_alives_enabled else 0.0,
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
                raise StartError(f"{self._context.id}: cannot listen on unix socket {path}: {_why(error)}") from None
            self.url = f"unix://{path}"
            return
        host, port = listen_address(self._context.id, settings.endpoint, settings.transport)
        listener = listen(self._context.id, host, port)
        await web.SockSite(runner, listener, ssl_context=context).start()
        self.port = listener.getsockname()[1]
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
        protocol: Any = request.protocol
        protocol.seen = True
        if self._cors is not None and self._cors.is_preflight(request.headers):
            response: web.StreamResponse = web.Response(status=204, headers=self._cors.preflight(request.headers))
        else:
            response = await self._authenticated(request)
            if self._cors is not None:
                response.headers.update(self._cors.actual(request.headers))
        if self._headers:
            response.headers.update(self._headers)
        return response

    async def _authenticated(self, request: web.BaseRequest) -> web.StreamResponse:
        metadata: Metadata | None = None
        if self._settings.include_metadata:
            metadata = metadata_of(request.headers)
        if self._auth is not None:
            try:
                who = await self._auth.authenticate({name.lower(): value for name, value in request.headers.items()})
            except Unauthorized as error:
                return self._on_error(request, 401, str(error) or "unauthorized")
            if who:
                metadata = {**(metadata or {}), **who}
        return await self._handler(request, metadata)

    async def read_body(self, request: web.BaseRequest, room: Share) -> bytes:
        """The body decompressed, at most `max_request_body_size` bytes.

        What it took is in `room` until the caller closes that. TooLarge past the limit,
        UnknownEncoding, CorruptBody, Overloaded, TimeoutError after `read_timeout`.
        """
        settings = self._settings
        limit = settings.max_request_body_size
        if limit <= 0:
            limit = 20 * 1024 * 1024
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
            async with asyncio.timeout(settings.read_timeout):
                body = await _read(request, length, limit, room)
        else:
            body = await _read(request, length, limit, room)
        if not encoding or encoding == "identity":
            return body
        try:
            plain = decompress(encoding, body, min(limit, room.free))
        except TooLarge:
            if room.free < limit:
                raise Overloaded from None
            raise
        room.take(len(plain))
        return plain

    def _accepts(self, encoding: str) -> bool:
        allowed = self._settings.compression_algorithms
        return encoding in ENCODINGS and (allowed is None or encoding in allowed)


async def _read(request: web.BaseRequest, length: int | None, limit: int, room: Share) -> bytes:
    if length is not None:
        room.take(length)
        return await request.content.read()
    parts, size = [], 0
    while part := await request.content.readany():
        room.take(len(part))
        size += len(part)
        if size > limit:
            raise TooLarge
        parts.append(part)
    return b"".join(parts)


class _Connection(RequestHandler):
    """A connection that has to begin its first request within `header_seconds`."""

    seen = False

    def __init__(self, *args: Any, header_seconds: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._header_seconds = header_seconds

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Starts the clock."""
        super().connection_made(transport)
        if self._header_seconds > 0:
            asyncio.get_running_loop().call_later(self._header_seconds, self._late, transport)

    def _late(self, transport: asyncio.BaseTransport) -> None:
        if not self.seen:
            transport.close()


class _Server(web.Server):
    def __init__(self, handler: Any, *, header_seconds: float, **kwargs: Any) -> None:
        super().__init__(handler, **kwargs)
        self._header_seconds = header_seconds

    def __call__(self) -> RequestHandler:
        loop = asyncio.get_running_loop()
        return _Connection(self, loop=loop, header_seconds=self._header_seconds, **self._kwargs)


class Cors:
    """The answers of the Fetch standard's CORS protocol, with the safe headers and methods that upstream allows."""

    def __init__(self, block: CorsBlock) -> None:
        self._all = "*" in block.allowed_origins
        self._origins = [re.compile(fnmatch.translate(origin.lower().replace("[", "[[]"))) for origin in block.allowed_origins]
        self._headers = {"accept", "content-type", "x-requested-with"} | {name.lower() for name in block.allowed_headers}
        self._any_header = "*" in block.allowed_headers
        self._exposed = ", ".join(block.exposed_headers)
        self._max_age = block.max_age

    @staticmethod
    def is_preflight(headers: Mapping[str, str]) -> bool:
        """A browser asks before it sends."""
        return "Access-Control-Request-Method" in headers and "Origin" in headers

    def _origin(self, headers: Mapping[str, str]) -> dict[str, str]:
        origin = headers.get("Origin", "")
        if not origin or not (self._all or any(pattern.match(origin.lower()) for pattern in self._origins)):
            return {}
        return {"Access-Control-Allow-Origin": "*" if self._all else origin, "Access-Control-Allow-Credentials": "true"}

    def preflight(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Headers of the answer to a preflight; without permission there is none among them."""
        vary = {"Vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"}
        method = headers["Access-Control-Request-Method"].upper()
        allowed = self._origin(headers)
        asked = [name.strip() for name in headers.get("Access-Control-Request-Headers", "").split(",") if name.strip()]
        if not allowed or method not in ("GET", "POST", "HEAD"):
            return vary
        if not self._any_header and not all(name.lower() in self._headers for name in asked):
            return vary
        allowed["Access-Control-Allow-Methods"] = method
        if asked:
            allowed["Access-Control-Allow-Headers"] = ", ".join(asked)
        if self._max_age:
            allowed["Access-Control-Max-Age"] = str(max(0, self._max_age))
        return {**vary, **allowed}

    def actual(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Headers of the answer to a request."""
        out = {"Vary": "Origin"}
        out.update(self._origin(headers))
        if self._exposed and len(out) > 1:
            out["Access-Control-Expose-Headers"] = self._exposed
        return out


def metadata_of(headers: Any) -> dict[str, tuple[str, ...]]:
    """Headers as metadata: names in lower case, all values of each."""
    out: dict[str, tuple[str, ...]] = {}
    for name, value in headers.items():
        name = name.lower()
        out[name] = (*out.get(name, ()), value)
    return out


def listen_address(id: str, endpoint: str, transport: str = "tcp") -> tuple[str, int]:
    """Host (an address, or a name that is not localhost) and port to bind; StartError for an endpoint that is none."""
    try:
        host, port = split_endpoint(endpoint)
    except ValueError as error:
        raise StartError(f"{id}: endpoint {error}") from None
    if host == "localhost":
        return ("::1" if transport == "tcp6" else "127.0.0.1"), port
    if not host:
        # all interfaces were asked for: an endpoint without a host
        return ("::" if transport == "tcp6" else "0.0.0.0"), port  # noqa: S104
    return host, port


def listen(id: str, host: str, port: int) -> socket.socket:
    """A listening TCP socket; StartError that says why not, for a port in use what to do."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise StartError(f"{id}: cannot listen on {join_endpoint(host, port)}: {_why(error)}; check the host of endpoint") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" else 1)
        listener.bind(address)
        listener.listen(128)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise StartError(f"{id}: cannot listen on {join_endpoint(host, port)}: {bind_problem(error)}") from None
    return listener


def bind_problem(error: OSError) -> str:
    """Why a port could not be bound, and what to do."""
    if error.errno == errno.EADDRINUSE:
        return "the port is in use by another process; stop that one or choose another port in endpoint"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "not permitted; choose a port above 1023"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine does not have that address; check the host of endpoint"
    return _why(error)


def remove_stale_socket(path: str) -> None:
    """Removes what an earlier process left; another kind of file stays and makes binding fail."""
    import stat

    try:
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.unlink(path)
    except OSError:
        pass


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__


def _plain_error(request: web.BaseRequest, status: int, message: str) -> web.StreamResponse:
    return web.Response(status=status, text=f"{status} {HTTPStatus(status).phrase}: {message}\n")
