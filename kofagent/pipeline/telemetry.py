"""`service.telemetry`: telemetry of the agent itself. Its log, and its metrics, scraped from 127.0.0.1:8888 or pushed.

Spec: opentelemetry.io/docs/collector/internal-telemetry. The counters are the ledger's; a push that fails is logged once and
the next one has the same totals, so nothing is lost.
"""

from __future__ import annotations

import fnmatch
import gzip

from aiohttp import web

from kofagent.component.protocols import Context
from kofagent.config.address import join_endpoint, split_endpoint
from kofagent.config.blocks import HttpServerBlock
from kofagent.config.model import ConstantLabels, PeriodicReader, PrometheusReader, TelemetryConfig, TelemetryMetrics
from kofagent.net.routes import Routes
from kofagent.net.server import HttpServer
from kofagent.pipeline.own_log import OwnLog
from kofagent.pipeline.own_metrics import CONTENT_TYPE, ProcessCollector, page
from kofagent.pipeline.push import Push

GZIP_MINIMUM = 1024


class OwnTelemetry:
    """Log, page and pushes of one agent, between `start` and `stop`. `addresses` are the sockets that serve the page."""

    def __init__(self, options: TelemetryConfig, context: Context) -> None:
        self._options = options
        self._context = context
        self._resource = dict(context.host.resource)
        self._log = OwnLog(options.logs)
        self._process = ProcessCollector()
        self._registered = False
        self._servers: list[HttpServer] = []
        self._pushes: list[Push] = []
        self.addresses: list[tuple[str, int]] = []
        self.ready = True
        """While it is false the page answers 503: probes wait until the pipelines run."""

    async def start(self) -> None:
        """Sets up the log, binds the page; StartError if one of them is not possible."""
        self._log.start()
        metrics = self._options.metrics
        if metrics.level.lower() == "none":
            return
        self._context.ledger.registry.register(self._process)
        self._registered = True
        try:
            pages, pushes = _readers(metrics)
            for reader in pages:
                await self._serve(reader)
            for periodic in pushes:
                push = Push(periodic, self._context)
                self._pushes.append(push)
                await push.start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Pushes a last time, closes everything."""
        for push in self._pushes:
            await push.stop()
        self._pushes = []
        for server in self._servers:
            await server.stop()
        self._servers = []
        self.addresses = []
        if self._registered:
            self._context.ledger.registry.unregister(self._process)
            self._registered = False
        self._log.stop()

    async def _serve(self, reader: PrometheusReader) -> None:
        target = {} if reader.without_target_info else {_label(k): v for k, v in self._resource.items()}
        constant = {_label(k): v for k, v in self._resource.items() if _chosen(k, reader.with_resource_constant_labels)}

        async def answer(request: web.BaseRequest) -> web.Response:
            if not self.ready:
                return web.Response(status=503, text="the pipelines are starting\n", headers={"Retry-After": "1"})
            body = page(self._context.ledger.registry, target, constant, total=not reader.without_type_suffix)
            headers = {"Content-Type": CONTENT_TYPE, "Vary": "Accept-Encoding"}
            if len(body) >= GZIP_MINIMUM and _takes_gzip(request.headers.get("Accept-Encoding", "")):
                body = gzip.compress(body, 5)
                headers["Content-Encoding"] = "gzip"
            return web.Response(body=body, headers=headers)

        routes = Routes("the metrics are at /metrics")
        routes.add("/metrics", answer)
        block = HttpServerBlock(endpoint=join_endpoint(reader.host, reader.port))
        server = HttpServer(block, "own metrics", routes, option="telemetry.metrics.readers (level: none turns them off)")
        self._servers.append(server)
        await server.start()
        self.addresses.append(server.address)


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
