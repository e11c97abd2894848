"""`service.telemetry`: telemetry of the agent itself. Its log, and its metrics, scraped from 127.0.0.1:8888 or pushed.

Spec: opentelemetry.io/docs/collector/internal-telemetry. The counters are the ledger's; a push that fails is logged once and
the next one has the same totals, so nothing is lost.
"""

from __future__ import annotations

import fnmatch
import gzip
from collections.abc import Mapping, Sequence
from typing import TypeVar

from aiohttp import web
from prometheus_client import CollectorRegistry

from kofagent.component.protocols import Context
from kofagent.config.address import join_endpoint, split_endpoint
from kofagent.config.blocks import HttpServerBlock
from kofagent.config.model import ConstantLabels, PeriodicReader, PrometheusReader, TelemetryConfig, TelemetryMetrics
from kofagent.net.routes import Routes
from kofagent.net.server import HttpServer
from kofagent.pipeline.own_log import OwnLog
from kofagent.pipeline.own_metrics import CONTENT_TYPE, Part, ProcessCollector, collector_of, page, without_collector
from kofagent.pipeline.push import Push

GZIP_MINIMUM = 1024
A = TypeVar("A", PrometheusReader, PeriodicReader)


class OwnTelemetry:
    """Log, page and pushes of one agent, between `start` and `stop`. `addresses` are the sockets that serve a page.

    Where several collectors run, equal readers are one with the metrics of all; the series of each then have its name as the
    label `collector`, those of the process have no such label. The log is written as the first one's options say, at the level of
    each.
    """

    def __init__(self, options: TelemetryConfig, context: Context, others: Sequence[tuple[TelemetryConfig, Context]] = ()) -> None:
        """`others` are the other collectors of the process."""
        self._members = [(options, context), *others]
        levels = {c.host.collector: o.logs.level for o, c in self._members} if others else {}
        self._log = OwnLog(options.logs, levels)
        self._process = ProcessCollector()
        # where there is one collector, the metrics of the process are in its part of the ledger
        self._registry = CollectorRegistry(auto_describe=False) if others else context.ledger.registry
        self._registered = False
        self._servers: list[HttpServer] = []
        self._pushes: list[Push] = []
        self.starting = context
        """The collector whose options were tried last: those that are wrong, when `start` has failed."""
        self.addresses: list[tuple[str, int]] = []
        self.ready = True
        """While it is false the page answers 503: probes wait until the pipelines run."""

    async def start(self) -> None:
        """Sets up the log, binds the pages; StartError if one of them is not possible."""
        self._log.start()
        metrics = [(_readers(options.metrics), context) for options, context in self._members if _measured(options.metrics)]
        if not metrics:
            return
        self._registry.register(self._process)
        self._registered = True
        try:
            for reader, members in _alike([(reader, c) for (pages, _), c in metrics for reader in pages]):
                self.starting = members[0]
                await self._serve(reader, members)
            for periodic, members in _alike([(reader, c) for (_, pushes), c in metrics for reader in pushes]):
                self.starting = members[0]
                push = Push(periodic, members[0], self._parts(members))
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
            self._registry.unregister(self._process)
            self._registered = False
        self._log.stop()

    def _parts(self, members: Sequence[Context]) -> list[tuple[CollectorRegistry, Mapping[str, str]]]:
        """Registries and resources of collectors, and of the process where it is apart from them."""
        parts: list[tuple[CollectorRegistry, Mapping[str, str]]] = [(c.ledger.registry, dict(c.host.resource)) for c in members]
        if len(self._members) > 1:
            parts.append((self._registry, without_collector(members[0].host.resource)))
        return parts

    async def _serve(self, reader: PrometheusReader, members: Sequence[Context]) -> None:
        parts = [self._part(reader, registry, resource) for registry, resource in self._parts(members)]

        async def answer(request: web.BaseRequest) -> web.Response:
            if not self.ready:
                return web.Response(status=503, text="the pipelines are starting\n", headers={"Retry-After": "1"})
            body = page(parts, total=not reader.without_type_suffix)
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

    def _part(self, reader: PrometheusReader, registry: CollectorRegistry, resource: Mapping[str, str]) -> Part:
        several = len(self._members) > 1
        labels = {_label(k): v for k, v in resource.items()}
        constant = {_label(k): v for k, v in resource.items() if _chosen(k, reader.with_resource_constant_labels)}
        if several:
            constant |= collector_of(resource)
        of_process = several and registry is self._registry
        return Part(registry, {} if reader.without_target_info or of_process else labels, constant)


def _measured(metrics: TelemetryMetrics) -> bool:
    return metrics.level.lower() != "none"


def _alike(readers: Sequence[tuple[A, Context]]) -> list[tuple[A, list[Context]]]:
    """Equal readers of several collectors as one; a collector that has two equal ones has two."""
    out: list[tuple[A, list[Context]]] = []
    for reader, context in readers:
        known = next((members for other, members in out if other == reader and context not in members), None)
        if known is None:
            out.append((reader, [context]))
        else:
            known.append(context)
    return out


def _readers(metrics: TelemetryMetrics) -> tuple[list[PrometheusReader], list[PeriodicReader]]:
    pages: list[PrometheusReader] = []
    if metrics.readers is None and not metrics.address:
        return [PrometheusReader(host="localhost", port=8888)], []
    readers = metrics.readers or []
    pages += [r.pull.exporter.prometheus for r in readers if r.pull and r.pull.exporter.prometheus]
    if metrics.address:
        host, port = split_endpoint(metrics.address)
        # KOF 1.2 to 1.6 say both, and mean one page
        if not any((page.host, page.port) == (host, port) for page in pages):
            pages.insert(0, PrometheusReader(host=host, port=port))
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
