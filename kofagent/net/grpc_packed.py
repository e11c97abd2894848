"""gRPC calls whose messages are compressed with zstd or snappy, which the C core does not know: over an HTTP/2 of our own."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Iterable
from typing import NoReturn
from urllib.parse import unquote

import grpc
import grpc.aio

from kofagent import __version__
from kofagent.config.address import split_endpoint
from kofagent.config.blocks import GrpcClientBlock
from kofagent.net import tls
from kofagent.net.compression import compress
from kofagent.net.http2.client import Answer, ClientConnection, Lost
from kofagent.net.os_errors import os_reason

ENCODINGS = ("zstd", "snappy")
CONNECT_SECONDS = 20.0
_FORMS = {"zstd": "zstd", "snappy": "x-snappy-framed"}
"""How grpc-go's codecs of these names write messages."""
_HTTP = {
    400: grpc.StatusCode.INTERNAL,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.UNIMPLEMENTED,
    429: grpc.StatusCode.UNAVAILABLE,
    502: grpc.StatusCode.UNAVAILABLE,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.UNAVAILABLE,
}
"""gRPC's statuses for answers of proxies (grpc/doc/http-grpc-status-mapping.md)."""
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class PackedChannel:
    """One connection, opened when a call needs it. `where` is the C core's name of the endpoint."""

    def __init__(self, settings: GrpcClientBlock, where: str, plain: bool) -> None:
        self._settings = settings
        self._plain = plain
        self._path = where.removeprefix("unix:") if where.startswith("unix:") else ""
        self._host, port = ("localhost", 0) if self._path else split_endpoint(where.removeprefix("dns:///"))
        self._port = port or 443
        self._connection: ClientConnection | None = None
        self._opening = asyncio.Lock()

    async def call(self, method: str, message: bytes, metadata: Iterable[tuple[str, str]], timeout: float | None) -> bytes:
        """One unary call. grpc.aio.AioRpcError for every failure."""
        try:
            async with asyncio.timeout(timeout or None):
                packed = compress(_FORMS[self._settings.compression], message)
                body = b"\x01" + len(packed).to_bytes(4, "big") + packed
                answer = await (await self._open()).call(self._headers(method, metadata, timeout), body)
        except TimeoutError:
            _fail(grpc.StatusCode.DEADLINE_EXCEEDED, f"no answer within {timeout or CONNECT_SECONDS:g} s")
        except Lost as error:
            _fail(grpc.StatusCode.UNAVAILABLE, str(error))
        except OSError as error:
            _fail(grpc.StatusCode.UNAVAILABLE, f"cannot connect: {os_reason(error)}")
        return _message(answer)

    async def close(self, grace: float | None = None) -> None:
        """Ends the connection; with `grace`, when the calls under way have ended."""
        connection, self._connection = self._connection, None
        if connection is not None:
            if grace:
                connection.close_when_idle()
            else:
                connection.close()

    async def _open(self) -> ClientConnection:
        async with self._opening:
            connection = self._connection
            if connection is None or not connection.usable:
                async with asyncio.timeout(CONNECT_SECONDS):
                    connection = await self._connect()
                self._connection = connection
            return connection

    async def _connect(self) -> ClientConnection:
        loop = asyncio.get_running_loop()
        context = None
        name = self._settings.tls.server_name_override or self._host
        if not self._plain:
            # files that were replaced are read with the next connection
            context = tls.client_context(self._settings.tls)
            context.set_alpn_protocols(["h2"])
        named = name if context is not None else None
        if self._path:
            _, protocol = await loop.create_unix_connection(ClientConnection, self._path, ssl=context, server_hostname=named)
        else:
            _, protocol = await loop.create_connection(ClientConnection, self._host, self._port, ssl=context, server_hostname=named)
        return protocol

    def _headers(self, method: str, metadata: Iterable[tuple[str, str]], timeout: float | None) -> list[tuple[bytes, bytes]]:
        authority = self._settings.authority or self._host + ("" if self._port == 443 or self._path else f":{self._port}")
        out = [
            (":method", "POST"),
            (":scheme", "http" if self._plain else "https"),
            (":path", method),
            (":authority", authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", self._settings.user_agent or f"kofagent/{__version__}"),
            ("grpc-encoding", self._settings.compression),
            ("grpc-accept-encoding", "identity"),
        ]
        if timeout:
            out.append(("grpc-timeout", f"{max(1, int(timeout * 1000))}m"))
        return [(key.encode(), value.encode()) for key, value in [*out, *metadata]]


def _message(answer: Answer) -> bytes:
    trailers = answer.trailers
    status = trailers.get("grpc-status", "")
    if not status.isdecimal():
        http = answer.headers.get(":status", "")
        code = _HTTP.get(int(http) if http.isdecimal() else 0, grpc.StatusCode.UNKNOWN)
        _fail(code, f"the answer is not of a gRPC server, status: {http}")
    if status != "0":
        details = trailers.get("grpc-status-details-bin", "")
        try:
            found = base64.b64decode(details + "=" * (-len(details) % 4)) if details else b""
        except (binascii.Error, ValueError):
            found = b""
        _fail(_CODES.get(int(status[:9]), grpc.StatusCode.UNKNOWN), unquote(trailers.get("grpc-message", "")), found)
    body = bytes(answer.body)
    if not body:
        return b""
    if len(body) < 5 or body[0] or int.from_bytes(body[1:5], "big") != len(body) - 5:
        _fail(grpc.StatusCode.INTERNAL, "the answer is not one message that is not compressed")
    return body[5:]


def _fail(code: grpc.StatusCode, said: str, details: bytes = b"") -> NoReturn:
    trailing = grpc.aio.Metadata(("grpc-status-details-bin", details)) if details else grpc.aio.Metadata()
    raise grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details=said) from None
