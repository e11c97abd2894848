"""OTLP backends that answer as told, over HTTP and gRPC, and a started exporter that sends to one."""

from __future__ import annotations

import asyncio
from typing import Any, Self

import grpc
from aiohttp import web

from kofagent.component.protocols import Component
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.signal import Signal
from tests.support.components import FakeHost, make
from tests.support.otlp import log_request

FAST = {"initial_interval": "10ms", "max_interval": "20ms", "max_elapsed_time": "20s"}
"""`retry_on_failure` that does not keep a test waiting."""
LOGS = "opentelemetry.proto.collector.logs.v1.LogsService"


class HttpBackend:
    """`answers` are responses, or "reset"; then empty ones. Each answer waits for `hold`, an event, if there is one."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, Any, bytes]] = []
        """Path, headers, body."""
        self.answers: list[web.Response | str] = []
        self.hold: asyncio.Event | None = None

    async def __aenter__(self) -> Self:
        self._runner = web.ServerRunner(web.Server(self._handle, auto_decompress=False))
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append((request.path, request.headers, await request.read()))
        if self.hold is not None:
            await self.hold.wait()
        answer = self.answers.pop(0) if self.answers else web.Response(body=b"", content_type="application/x-protobuf")
        if isinstance(answer, str):
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return answer


class GrpcBackend:
    """Takes logs. `answers` are bytes, or (code, details bytes or None); then empty ones. `hold` as of `HttpBackend`."""

    def __init__(self) -> None:
        self.requests: list[tuple[bytes, dict[str, str]]] = []
        """Message, metadata."""
        self.answers: list[bytes | tuple[grpc.StatusCode, bytes | None]] = []
        self.hold: asyncio.Event | None = None

    async def __aenter__(self) -> Self:
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(LOGS, {"Export": grpc.unary_unary_rpc_method_handler(self._export)}),)
        )
        self.endpoint = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._server.stop(0)

    async def _export(self, message: bytes, call: Any) -> bytes:
        self.requests.append((message, dict(call.invocation_metadata())))
        if self.hold is not None:
            await self.hold.wait()
        answer = self.answers.pop(0) if self.answers else b""
        if not isinstance(answer, bytes):
            code, details = answer
            await call.abort(code, "as told", (("grpc-status-details-bin", details),) if details else ())
            raise AssertionError("abort raises")
        return answer


class Sending:
    """An exporter that runs inside `async with`, and what its host counted."""

    def __init__(self, cls: type[Component], id: str, options: dict[str, Any], host: FakeHost | None = None) -> None:
        self.id = id
        self.host = host or FakeHost()
        self.exporter = make(cls, options, kind="exporters", id=id, host=self.host)

    async def __aenter__(self) -> Self:
        await self.exporter.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.exporter.stop()

    async def logs(self, *bodies: str) -> None:
        await self.exporter.consume(Batch(Signal.LOGS, log_request(*bodies), len(bodies)))

    def total(self, name: str, **labels: str) -> float:
        return self.host.ledger.total(name, **(labels or {"exporter": self.id}))

    def dropped(self, reason: str) -> float:
        return self.total("kofagent_dropped_items_total", component=self.id, signal="logs", reason=reason)
