"""`service.telemetry`: what the agent tells about itself. Its log, and its metrics scraped from 127.0.0.1:8888 or pushed.

Spec: opentelemetry.io/docs/collector/internal-telemetry. The counters are the ledger's; a push that fails is logged once and
the next one carries the same totals, so nothing is lost by it.
"""

from __future__ import annotations

import asyncio
import fnmatch
import gzip
import logging
import sys
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from kofagent import __version__
from kofagent.component.protocols import StartError
from kofagent.config.address import join_endpoint, split_endpoint
from kofagent.config.blocks import TlsClientBlock
from kofagent.config.model import (
    ConstantLabels,
    OtlpReader,
    PeriodicReader,
    PrometheusReader,
    TelemetryConfig,
    TelemetryMetrics,
)
from kofagent.net import tls
from kofagent.pipeline.own_log import OwnLog
from kofagent.pipeline.own_metrics import CONTENT_TYPE, ProcessCollector, otlp, page
from kofagent.telemetry.ledger import Ledger

log = logging.getLogger("kofagent.service.telemetry")

STOP_SECONDS = 2.0
GZIP_MINIMUM = 1024
_FOREVER = float("inf")


class OwnTelemetry:
    """Log, page and pushes of one agent, between `start` and `stop`. `addresses` are the sockets that serve the page."""

    def __init__(self, options: TelemetryConfig, ledger: Ledger, resource: Mapping[str, str]) -> None:
        self._options = options
        self._ledger = ledger
        self._resource = dict(resource)
        self._log = OwnLog(options.logs)
        self._process = ProcessCollector()
        self._registered = False
        self._runners: list[web.ServerRunner] = []
        self._pushes: list[_Push] = []
        self.addresses: list[tuple[str, int]] = []

    async def start(self) -> None:
        """Sets up the log, binds the page; StartError says what cannot be had."""
        self._log.start()
        metrics = self._options.metrics
        if metrics.level.lower() == "none":
            return
        self._ledger.registry.register(self._process)
        self._registered = True
        try:
            pages, pushes = _readers(metrics)
            for reader in pages:
                await self._serve(reader)
            for periodic in pushes:
                push = _Push(periodic, self._ledger, self._resource)
                push.start()
                self._pushes.append(push)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Pushes a last time, closes everything."""
        for push in self._pushes:
            await push.stop()
        self._pushes = []
        for runner in self._runners:
            await runner.cleanup()
        self._runners = []
        self.addresses = []
        if self._registered:
            self._ledger.registry.unregister(self._process)
            self._registered = False
        self._log.stop()

    async def _serve(self, reader: PrometheusReader) -> None:
        target = {} if reader.without_target_info else {_label(k): v for k, v in self._resource.items()}
        constant = {_label(k): v for k, v in self._resource.items() if _chosen(k, reader.with_resource_constant_labels)}

        async def answer(request: web.BaseRequest) -> web.Response:
            if request.path != "/metrics":
                return web.Response(status=404, text="the metrics are at /metrics\n")
            if request.method not in ("GET", "HEAD"):
                return web.Response(status=405, headers={"Allow": "GET, HEAD"})
            body = page(self._ledger.registry, target, constant, total=not reader.without_type_suffix)
            headers = {"Content-Type": CONTENT_TYPE, "Vary": "Accept-Encoding"}
            if len(body) >= GZIP_MINIMUM and _takes_gzip(request.headers.get("Accept-Encoding", "")):
                body = gzip.compress(body, 5)
                headers["Content-Encoding"] = "gzip"
            return web.Response(body=body, headers=headers)

        runner = web.ServerRunner(web.Server(answer, access_log=None), shutdown_timeout=STOP_SECONDS)
        await runner.setup()
        self._runners.append(runner)
        try:
            await web.TCPSite(runner, reader.host or None, reader.port).start()
        except OSError as error:
            raise StartError(
                f"the own metrics cannot listen on {join_endpoint(reader.host, reader.port)}: "
                f"{error.strerror or error}; set another port under telemetry.metrics.readers, or level: none"
            ) from None
        self.addresses += [(a[0], a[1]) for a in runner.addresses]


def _readers(metrics: TelemetryMetrics) -> tuple[list[PrometheusReader], list[PeriodicReader]]:
    pages: list[PrometheusReader] = []
    if metrics.readers is None and not metrics.address:
        return [PrometheusReader(host="localhost", port=8888)], []
    if metrics.address:
        host, port = split_endpoint(metrics.address)
        pages.append(PrometheusReader(host=host, port=port))
    readers = metrics.readers or []
    pages += [r.pull.exporter.prometheus for r in readers if r.pull and r.pull.exporter.prometheus]
    return pages, [r.periodic for r in readers if r.periodic]


def _label(key: str) -> str:
    return "".join([c if c.isascii() and c.isalnum() else "_" for c in key])


def _chosen(key: str, labels: ConstantLabels | None) -> bool:
    if labels is None:
        return False
    return any(fnmatch.fnmatchcase(key, p) for p in labels.included) and not any(
        fnmatch.fnmatchcase(key, p) for p in labels.excluded
    )


def _takes_gzip(accepted: str) -> bool:
    for part in accepted.lower().split(","):
        name, _, parameters = part.strip().partition(";")
        if name.strip() in ("gzip", "*"):
            return parameters.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


class _Push:
    """A `periodic` reader: OTLP over HTTP or gRPC, or a page on standard output, every interval and once at the end."""

    def __init__(self, reader: PeriodicReader, ledger: Ledger, resource: Mapping[str, str]) -> None:
        self._reader = reader
        self._ledger = ledger
        self._resource = resource
        self._start_time = time.time_ns()
        self._task: asyncio.Task[None] | None = None
        self._healthy = True
        self._session: aiohttp.ClientSession | None = None
        self._channel: Any = None
        options = reader.exporter.otlp
        self._headers = _headers(options) if options else {}
        self._url = ""
        if options is not None:
            self._connect_options(options)

    def _connect_options(self, options: OtlpReader) -> None:
        endpoint = options.endpoint or ("http://localhost:4318" if options.protocol == "http/protobuf" else "http://localhost:4317")
        url = urlsplit(endpoint)
        if options.protocol == "http/protobuf":
            self._url = endpoint if url.path.strip("/") else endpoint.rstrip("/") + "/v1/metrics"
        else:
            self._url = url.netloc if url.scheme in ("http", "https") and url.netloc else endpoint

    def start(self) -> None:
        """Starts the timer."""
        self._task = asyncio.create_task(self._run(), name="own metrics")

    async def stop(self) -> None:
        """Pushes what there is, for a short time at most."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            await self._push(STOP_SECONDS)
        if self._session is not None:
            await self._session.close()
            self._session = None
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    async def _run(self) -> None:
        interval = max(self._reader.interval, 10) / 1000
        while True:
            await asyncio.sleep(interval)
            await self._push(self._reader.timeout / 1000)

    async def _push(self, seconds: float) -> None:
        options = self._reader.exporter.otlp
        registry = self._ledger.registry
        try:
            if options is None:
                sys.stdout.write(page(registry, {}, {}).decode())
                sys.stdout.flush()
                return
            if options.timeout:
                seconds = min(seconds or _FOREVER, options.timeout / 1000)
            body = otlp(registry, self._resource, self._start_time)
            async with asyncio.timeout(seconds if 0 < seconds < _FOREVER else None):
                await (self._post(options, body) if options.protocol == "http/protobuf" else self._call(options, body))
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if self._healthy:
                self._healthy = False
                log.warning("own metrics could not be sent, trying again every interval: %s", _sentence(error))
        else:
            if not self._healthy:
                self._healthy = True
                log.info("own metrics are sent again")

    async def _post(self, options: OtlpReader, body: bytes) -> None:
        if self._session is None:
            context = tls.client_context(_tls(options))
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context), trust_env=False)
        headers = {"User-Agent": f"kofagent/{__version__}", **self._headers, "Content-Type": "application/x-protobuf"}
        if options.compression == "gzip":
            body = gzip.compress(body, 5)
            headers["Content-Encoding"] = "gzip"
        async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as response:
            if response.status // 100 != 2:
                raise OSError(f"the backend answered {response.status}")

    async def _call(self, options: OtlpReader, body: bytes) -> None:
        import grpc

        if self._channel is None:
            insecure = options.insecure if options.insecure is not None else not options.endpoint.startswith("https://")
            compression = grpc.Compression.Gzip if options.compression == "gzip" else grpc.Compression.NoCompression
            if insecure:
                self._channel = grpc.aio.insecure_channel(self._url, compression=compression)
            else:
                files = [_read(p) for p in (options.certificate, options.client_key, options.client_certificate)]
                self._channel = grpc.aio.secure_channel(self._url, grpc.ssl_channel_credentials(*files), compression=compression)
        call = self._channel.unary_unary("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export")
        try:
            await call(body, metadata=[(k.lower(), v) for k, v in self._headers.items()])
        except grpc.aio.AioRpcError as error:
            raise OSError(f"{error.code().name}: {error.details()}") from None


def _read(path: str | None) -> bytes | None:
    if not path:
        return None
    with open(path, "rb") as file:
        return file.read()


def _tls(options: OtlpReader) -> TlsClientBlock:
    if options.tls:
        known = {k: v for k, v in options.tls.items() if k in ("ca_file", "cert_file", "key_file", "insecure")}
        return TlsClientBlock.model_validate(known)
    return TlsClientBlock(
        ca_file=options.certificate or "", cert_file=options.client_certificate or "", key_file=options.client_key or ""
    )


def _headers(options: OtlpReader) -> dict[str, str]:
    """All headers in clear text; `headers_list` is `a=b,c=d`."""
    out: dict[str, str] = {}
    if options.headers_list is not None:
        for pair in options.headers_list.get_secret_value().split(","):
            name, _, value = pair.partition("=")
            if name.strip():
                out[name.strip()] = value.strip()
    if isinstance(options.headers, dict):
        out.update({k: v.get_secret_value() for k, v in options.headers.items()})
    else:
        out.update({h.name: h.value.get_secret_value() if h.value else "" for h in options.headers})
    return out


def _sentence(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        return str(error) or type(error).__name__
    return type(error).__name__
