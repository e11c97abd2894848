"""Backends that do as a script says, whatever protocol an exporter speaks: each request takes the next `Answer`, then all are taken.

The script is a sequence of answers and may be endless. A body of more than `largest` bytes (as sent) is refused for its size.
"""

from __future__ import annotations

import asyncio
import enum
import random
import socket
import struct
from collections.abc import Iterator
from typing import Any, Protocol, Self

import grpc
import grpc.aio
from aiohttp import web


class Answer(enum.Enum):
    """What a request gets."""

    TAKE = "taken"
    REFUSE = "refused for good"
    LATER = "refused for now"
    TOO_LARGE = "refused for its size"
    CUT = "the connection is broken before the answer"
    STALL = "no answer at all"
    LATE = "taken, answered late"


def random_script(seed: int, length: int, weights: dict[Answer, int] | None = None) -> Iterator[Answer]:
    """So many answers in any order."""
    choose = random.Random(seed)
    table = weights or {**dict.fromkeys(Answer, 3), Answer.TAKE: 8, Answer.STALL: 1}
    return iter(choose.choices(list(table), weights=list(table.values()), k=length))


class Backend(Protocol):
    """A server on loopback, inside `async with`."""

    address: str
    """host:port"""
    asked: int

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *error: object) -> None: ...


class HttpBackend:
    """Any path. A refusal is a 400, 503 or 413 without a body, a success an empty 200."""

    def __init__(self, script: Iterator[Answer], largest: int = 1 << 30) -> None:
        self.address = ""
        self.asked = 0
        self._script = script
        self._largest = largest
        self._over = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._runner = web.ServerRunner(web.Server(self._answer))
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.address = f"127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *error: object) -> None:
        self._over.set()
        await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        self.asked += 1
        answer = next(self._script, Answer.TAKE)
        if len(body) > self._largest:
            answer = Answer.TOO_LARGE
        if answer is Answer.CUT:
            assert request.transport is not None
            sock = request.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            request.transport.abort()
        elif answer is Answer.STALL:
            await self._over.wait()
        elif answer is Answer.LATE:
            await asyncio.sleep(0.03)
        return web.Response(status={Answer.REFUSE: 400, Answer.LATER: 503, Answer.TOO_LARGE: 413}.get(answer, 200))


class GrpcBackend:
    """Any method. CUT closes nothing here, it is UNAVAILABLE, which is what a client makes of a broken connection."""

    _CODES = {
        Answer.REFUSE: (grpc.StatusCode.INVALID_ARGUMENT, "no"),
        Answer.LATER: (grpc.StatusCode.UNAVAILABLE, "later"),
        Answer.CUT: (grpc.StatusCode.UNAVAILABLE, "connection reset"),
        Answer.TOO_LARGE: (grpc.StatusCode.RESOURCE_EXHAUSTED, "grpc: received message larger than max (5000000 vs. 4194304)"),
    }

    def __init__(self, script: Iterator[Answer], largest: int = 1 << 30) -> None:
        self.address = ""
        self.asked = 0
        self._script = script
        self._largest = largest

    async def __aenter__(self) -> Self:
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((_AnyMethod(self._answer),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._server.stop(0)

    async def _answer(self, message: bytes, call: Any) -> bytes:
        self.asked += 1
        answer = next(self._script, Answer.TAKE)
        if len(message) > self._largest:
            answer = Answer.TOO_LARGE
        if answer in self._CODES:
            await call.abort(*self._CODES[answer])
        if answer is Answer.STALL:
            await asyncio.sleep(60)
        elif answer is Answer.LATE:
            await asyncio.sleep(0.03)
        return b""


class _AnyMethod(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, answer: Any) -> None:
        self._handler = grpc.unary_unary_rpc_method_handler(answer)

    def service(self, handler_call_details: object) -> Any:
        return self._handler


PROTOCOLS: dict[str, type[HttpBackend] | type[GrpcBackend]] = {"otlp": GrpcBackend}
"""Exporters that do not speak HTTP."""


def backend(type: str, script: Iterator[Answer], largest: int = 1 << 30) -> Backend:
    """A backend for an exporter of this type."""
    return PROTOCOLS.get(type, HttpBackend)(script, largest)
