"""`zpages`: pages about the running agent. Upstream: extension/zpagesextension of the OpenTelemetry Collector.

`/debug/servicez` names the agent, `/debug/pipelinez` shows pipelines with the status of every component and what was accepted,
sent, filtered, dropped and why, `/debug/extensionz` the extensions, `/debug/featurez` that there are no feature gates, and
`/debug/tracez` that the agent records no spans about itself. Only names, statuses and counters: options are not shown, so
no secrets are. `expvar` (Go's runtime variables) has no counterpart: it is accepted, with a warning.

Fails at start when the endpoint cannot be bound.
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from aiohttp import web
from pydantic import Field

from kofagent.component.protocols import Context, Extension
from kofagent.config.base import ComponentConfig
from kofagent.config.blocks import HttpServerBlock
from kofagent.net.server import HttpServer
from kofagent.telemetry.batch import Metadata

_STYLE = (
    "body{font-family:sans-serif;margin:2em}table{border-collapse:collapse;margin-bottom:2em}"
    "td,th{border:1px solid #bbb;padding:.3em .6em;text-align:left}.bad{color:#b00}"
)
_PAGES = {
    "/debug/servicez": "Service",
    "/debug/pipelinez": "Pipelines",
    "/debug/extensionz": "Extensions",
    "/debug/featurez": "Features",
    "/debug/tracez": "Traces",
}


class Expvar(ComponentConfig):
    """`expvar` of upstream."""

    enabled: bool = Field(False, description="Accepted for compatibility; there are no variables of a Go runtime.")


class Config(HttpServerBlock):
    """Options of upstream's zpages extension."""

    endpoint: str = Field("localhost:55679", description="host:port to listen on.")
    expvar: Expvar = Field(Expvar(), description="Accepted for compatibility; there are no variables of a Go runtime.")


class ZPages(Extension[Config]):
    """Serves the pages; see the module."""

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self.server = HttpServer(config, context.id, self._answer, host=context.host)
        self._started = time.time()

    async def start(self) -> None:
        """Listens."""
        self._started = time.time()
        await self.server.start()

    async def stop(self) -> None:
        """Closes the socket."""
        await self.server.stop()

    async def _answer(self, request: web.BaseRequest, metadata: Metadata | None) -> web.StreamResponse:
        path = request.path.rstrip("/")
        if path in ("", "/debug"):
            return self._page("kofagent", "")
        if path not in _PAGES:
            return web.Response(status=404, text="404 page not found\n")
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, headers={"Allow": "GET, HEAD"}, text="405 Method Not Allowed\n")
        body = {
            "/debug/servicez": self._service,
            "/debug/pipelinez": self._pipelines,
            "/debug/extensionz": self._extensions,
            "/debug/featurez": self._features,
            "/debug/tracez": self._traces,
        }[path]()
        return self._page(_PAGES[path], body)

    def _page(self, title: str, body: str) -> web.Response:
        links = " ".join(f'<a href="{path}">{name}</a>' for path, name in _PAGES.items())
        html = (
            f"<!doctype html><html><head><meta charset=utf-8><title>{escape(title)}</title><style>{_STYLE}</style></head>"
            f"<body><h1>{escape(title)}</h1><p>{links}</p>{body}</body></html>\n"
        )
        return web.Response(
            text=html,
            content_type="text/html",
            headers={
                "Cache-Control": "no-store",
                "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
                "X-Content-Type-Options": "nosniff",
            },
        )

    def _service(self) -> str:
        rows = [
            *sorted(self.context.host.resource.items()),
            ("started", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self._started))),
            ("uptime", f"{time.time() - self._started:.0f} s"),
            ("python", sys.version.split()[0]),
            ("os", platform.platform()),
        ]
        return _table(("", ""), rows)

    def _pipelines(self) -> str:
        status = self.context.host.status()
        rows = []
        for name, pipeline in sorted(dict(self.context.host.describe().get("pipelines", {})).items()):
            cells = [", ".join(_ids(pipeline, kind)) for kind in ("receivers", "processors", "exporters")]
            rows.append((name, *cells))
        out = _table(("pipeline", "receivers", "processors", "exporters"), rows)
        out += "<h2>Components</h2>" + _table(("component", "status"), _statuses(status))
        out += "<h2>Ledger</h2>" + _table(("counter", "labels", "items"), self._ledger())
        return out

    def _ledger(self) -> list[tuple[str, str, str]]:
        wanted = ("otelcol_receiver_", "otelcol_exporter_", "otelcol_processor_", "kofagent_dropped_", "kofagent_filtered_")
        rows = []
        for family in self.context.ledger.registry.collect():
            for sample in family.samples:
                if sample.name.startswith(wanted) and not sample.name.endswith(("_created", "_bucket")):
                    labels = ", ".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
                    rows.append((sample.name, labels, str(int(sample.value)) if sample.value.is_integer() else f"{sample.value:g}"))
        return sorted(rows)

    def _extensions(self) -> str:
        status = self.context.host.status()
        names = [str(n) for n in self.context.host.describe().get("extensions", ())]
        return _table(
            ("extension", "status"), [(n, status.get(f"extension/{n}") or status.get(f"extensions/{n}") or "well") for n in names]
        )

    def _features(self) -> str:
        return "<p>This agent has no feature gates.</p>"

    def _traces(self) -> str:
        return "<p>The agent records no spans about itself; counters are under Pipelines.</p>"


def _ids(pipeline: Any, kind: str) -> list[str]:
    return [str(i) for i in (pipeline.get(kind, ()) if isinstance(pipeline, Mapping) else ())]


def _statuses(status: Mapping[str, str | None]) -> list[tuple[str, str]]:
    return [(id, error or "well") for id, error in sorted(status.items())]


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    out = "<table><tr>" + "".join(f"<th>{escape(h)}</th>" for h in head) + "</tr>"
    for row in rows:
        out += "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>"
    return out + "</table>"


COMPONENT = ZPages
