"""Jaeger's spans over HTTP: POST /api/traces with a Batch in Thrift's binary protocol."""

from __future__ import annotations

from aiohttp import web

from kofagent.component.offering import Offer
from kofagent.component.protocols import Context
from kofagent.net.budget import ByteBudget
from kofagent.net.decoding import decoded
from kofagent.net.peer import sender
from kofagent.net.server import HttpServer
from kofagent.net.turning_away import TURNED_AWAY, Rejections, http_answer
from kofagent.receivers.jaeger import thrift
from kofagent.receivers.jaeger.config import ThriftHttpProtocol
from kofagent.telemetry.batch import Batch, Metadata
from kofagent.telemetry.signal import Signal
from kofagent.wire.expansion import MAX_EXPANSION

THRIFT = frozenset({"application/x-thrift", "application/vnd.apache.thrift.binary"})


class HttpEndpoint:
    """The HTTP server of the receiver."""

    def __init__(
        self, settings: ThriftHttpProtocol, context: Context, offer: Offer, rejections: Rejections, budget: ByteBudget
    ) -> None:
        self._offer = offer
        self._rejections = rejections
        self._budget = budget
        self._limit = settings.max_request_body_size
        self._server = HttpServer(settings, context.id, self._handle, host=context.host)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.port

    async def start(self) -> None:
        """Binds; StartError."""
        await self._server.start()

    async def stop(self) -> None:
        """Closes."""
        await self._server.stop()

    async def _handle(self, request: web.BaseRequest, metadata: Metadata | None) -> web.StreamResponse:
        if request.path != "/api/traces":
            return web.Response(status=404, text="404 page not found\n")
        if request.method != "POST":
            return web.Response(status=405, headers={"Allow": "POST"})
        kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind not in THRIFT:
            self._rejections.reject("content type", "a request that is not Thrift")
            return web.Response(status=400, text=f"Unsupported content type, supported: {', '.join(sorted(THRIFT))}\n")
        taken = self._budget.open()
        remote = request.remote
        sender.set(lambda: remote)
        try:
            data = await self._server.read_body(request, taken)
            try:
                spans = await decoded(thrift.body, data, MAX_EXPANSION)
            except ValueError as error:
                raise self._rejections.malformed("a Thrift batch", error) from None
            if spans.count:
                await self._offer.answer(Batch(Signal.TRACES, spans.payload(), spans.count, metadata))
        except TURNED_AWAY as error:
            answer = http_answer(error, self._rejections, self._limit)
            text = f"Cannot submit Jaeger batch: {answer.message}\n"
            return web.Response(status=answer.status, text=text, headers=answer.headers)
        finally:
            taken.close()
        return web.Response(status=202)
