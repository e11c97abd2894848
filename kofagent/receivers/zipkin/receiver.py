"""The receiver `zipkin`; see the package's docstring for what it promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from aiohttp import web

from kofagent.component.offering import Offer
from kofagent.component.protocols import Context, Receiver
from kofagent.net.budget import ByteBudget
from kofagent.net.decoding import decoded
from kofagent.net.peer import sender
from kofagent.net.server import HttpServer
from kofagent.net.turning_away import TURNED_AWAY, Rejections, http_answer
from kofagent.receivers.zipkin import v1, v2
from kofagent.receivers.zipkin.config import Config
from kofagent.telemetry.batch import Batch, Metadata
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from kofagent.transform.spans import Spans
from kofagent.wire.expansion import MAX_EXPANSION

V1_PATH = "api/v1/spans"
TRANSPORTS = ("http_v1_thrift", "http_v1_json", "http_v2_json", "http_v2_proto")


class ZipkinReceiver(Receiver[Config]):
    """One HTTP server."""

    signals: ClassVar = frozenset({Signal.TRACES})

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self.outputs = {}
        self.budget = ByteBudget(config.max_in_flight_size)
        """Bytes of requests under way."""
        self._server = HttpServer(config, context.id, self._handle, host=context.host)
        self._rejections = {name: Rejections(context, name) for name in TRANSPORTS}
        self._offers: dict[str, Offer] = {}

    @property
    def ports(self) -> dict[str, int]:
        """Port by protocol, after `start`."""
        return {"http": self._server.port}

    async def start(self) -> None:
        """Binds; StartError."""
        output = self.outputs[Signal.TRACES]
        self._offers = {name: Offer(self.context, output, Signal.TRACES, name) for name in TRANSPORTS}
        await self._server.start()

    async def stop(self) -> None:
        """Accepts nothing new and lets requests in progress finish."""
        await self._server.stop()

    async def _handle(self, request: web.BaseRequest, metadata: Metadata | None) -> web.StreamResponse:
        if request.method != "POST":
            return web.Response(status=405, headers={"Allow": "POST"})
        transport, decode = self._format(request)
        rejections = self._rejections[transport]
        taken = self.budget.open()
        remote = request.remote
        sender.set(lambda: remote)
        try:
            data = await self._server.read_body(request, taken)
            try:
                spans, payload = await decoded(lambda body: _counted(decode(body)), data, MAX_EXPANSION)
            except ValueError as error:
                raise rejections.malformed("spans", error) from None
            if spans:
                await self._offers[transport].answer(Batch(Signal.TRACES, payload, spans, metadata))
        except TURNED_AWAY as error:
            answer = http_answer(error, rejections, self.config.max_request_body_size)
            if isinstance(error, Refused):  # upstream's words; reporters log them
                status, said = (400, '"Bad Request"') if error.for_clients else (500, '"Internal Server Error"')
                return web.Response(status=status, text=said, headers=answer.headers)
            return web.Response(status=answer.status, text=answer.message + "\n", headers=answer.headers)
        finally:
            taken.close()
        return web.Response(status=202)

    def _format(self, request: web.BaseRequest) -> tuple[str, Callable[[bytes], Spans]]:
        """The transport's label, and what decodes its bodies."""
        kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        tags = self.config.parse_string_tags
        if V1_PATH in request.path:
            if kind == "application/x-thrift":
                return "http_v1_thrift", v1.from_thrift
            return "http_v1_json", lambda data: v1.from_json(data, tags)
        if kind == "application/x-protobuf":
            return "http_v2_proto", lambda data: v2.from_protobuf(data, tags)
        return "http_v2_json", lambda data: v2.from_json(data, tags)


def _counted(spans: Spans) -> tuple[int, bytes]:
    """How many there are, and their payload."""
    return spans.count, spans.payload()
