"""Own metrics that are sent: a `periodic` reader of `service.telemetry.metrics`, over the clients that exporters use."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry

from kofagent.component.protocols import Context
from kofagent.config.blocks import GrpcClientBlock, HttpClientBlock, TlsClientBlock
from kofagent.config.model import OtlpReader, PeriodicReader
from kofagent.net.client import HttpClient
from kofagent.pipeline.own_metrics import Part, collector_of, otlp, page
from kofagent.telemetry.clock import now_ns
from kofagent.telemetry.refused import Refused

if TYPE_CHECKING:
    from kofagent.net.grpc_client import GrpcClient

STOP_SECONDS = 2.0
_FOREVER = float("inf")
_METHOD = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
_TLS_OPTIONS = ("ca_file", "cert_file", "key_file")


class Push:
    """OTLP over HTTP or gRPC, or a page on standard output, every interval and once at the end.

    A push that fails is logged once; the next one has the same totals, so nothing is lost.
    """

    def __init__(
        self, reader: PeriodicReader, context: Context, parts: Sequence[tuple[CollectorRegistry, Mapping[str, str]]] = ()
    ) -> None:
        """`parts` are the registries to send with their resources; none: that of the context's collector."""
        self._reader = reader
        self._context = context
        self._parts = parts or [(context.ledger.registry, dict(context.host.resource))]
        self._start_time = now_ns()
        self._task: asyncio.Task[None] | None = None
        self._healthy = True
        self._http: HttpClient | None = None
        self._grpc: GrpcClient | None = None
        self._url = ""

    async def start(self) -> None:
        """Reads certificates, starts the timer; StartError."""
        options = self._reader.exporter.otlp
        if options is not None and options.protocol == "http/protobuf":
            block = http_block(options)
            self._url = block.endpoint
            self._http = HttpClient(block, self._context)
            await self._http.start()
        elif options is not None:
            from kofagent.net.grpc_client import GrpcClient

            self._grpc = GrpcClient(grpc_block(options), self._context)
            await self._grpc.start()
        self._task = asyncio.create_task(self._run(), name="own metrics")

    async def stop(self) -> None:
        """Pushes once more, within a short time."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            await self._push(STOP_SECONDS)
        if self._http is not None:
            await self._http.stop()
        if self._grpc is not None:
            await self._grpc.stop()

    async def _run(self) -> None:
        interval = max(self._reader.interval, 10) / 1000
        while True:
            await asyncio.sleep(interval)
            await self._push(self._reader.timeout / 1000)

    async def _push(self, seconds: float) -> None:
        options = self._reader.exporter.otlp
        try:
            if options is None:
                several = bool(self._context.host.collector)
                parts = [Part(r, constant=collector_of(of) if several else {}) for r, of in self._parts]
                sys.stdout.write(page(parts).decode())
                sys.stdout.flush()
                return
            if options.timeout:
                seconds = min(seconds or _FOREVER, options.timeout / 1000)
            body = otlp(self._parts, self._start_time)
            async with asyncio.timeout(seconds if 0 < seconds < _FOREVER else None):
                await self._send(body)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if self._healthy:
                self._healthy = False
                self._context.log.warning("own metrics could not be sent, trying again every interval: %s", _sentence(error))
        else:
            if not self._healthy:
                self._healthy = True
                self._context.log.info("own metrics are sent again")

    async def _send(self, body: bytes) -> None:
        if self._http is not None:
            headers = {"Content-Type": "application/x-protobuf"}
            answer = await self._http.request("POST", self._url, body, headers, compress=True)
            if answer.status // 100 != 2:
                raise OSError(f"the backend answered {answer.status}")
        elif self._grpc is not None:
            await self._grpc.call(_METHOD, body, None, None)


def http_block(options: OtlpReader) -> HttpClientBlock:
    """The options of an HTTP exporter that mean the same. An endpoint without a path gets that of OTLP metrics."""
    endpoint = options.endpoint or "http://localhost:4318"
    if not urlsplit(endpoint).path.strip("/"):
        endpoint = endpoint.rstrip("/") + "/v1/metrics"
    return HttpClientBlock(
        endpoint=endpoint, timeout=0.0, compression=options.compression or "none", headers=options.all_headers(), tls=_tls(options)
    )


def grpc_block(options: OtlpReader) -> GrpcClientBlock:
    """The options of a gRPC exporter that mean the same. An endpoint without a scheme is plain text unless TLS files are named."""
    return GrpcClientBlock(
        endpoint=options.endpoint or "http://localhost:4317",
        compression=options.compression or "none",
        headers=options.all_headers(),
        tls=_tls(options),
    )


def _tls(options: OtlpReader) -> TlsClientBlock:
    named: dict[str, Any] = dict(options.tls or {})
    older = (options.certificate, options.client_certificate, options.client_key)
    files = {name: str(named.get(name) or old or "") for name, old in zip(_TLS_OPTIONS, older, strict=True)}
    insecure = options.insecure if options.insecure is not None else named.get("insecure")
    return TlsClientBlock(**files, insecure=bool(insecure) if insecure is not None else not any(files.values()))


def _sentence(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, Refused):
        return str(error)
    if isinstance(error, OSError):
        return str(error) or type(error).__name__
    code = getattr(error, "code", None)  # grpc.aio.AioRpcError, without importing grpc for it
    return f"{code().name}: {getattr(error, 'details', str)()}" if callable(code) else type(error).__name__
