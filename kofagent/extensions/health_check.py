"""`health_check`: answers probes over HTTP. Upstream: extension/healthcheckextension of the collector's contrib.

200 with `{"status":"Server available","upSince":...,"uptime":...}` while all pipelines run, 503 with `{"status":"Server not
available",...}` while they start and stop. `response_body` replaces the bodies. A backend that is down does not make the agent
unhealthy, for a restart would only lose what it holds: what is wrong with each component is on zpages and in the log.

`check_collector_pipeline` asks for more: every second each exporter whose status is an error counts as one failure; more than
`exporter_failure_threshold` of them within `interval` answer 503. Upstream ignores the block by now.

Where several collectors run in one process, equal ones at one endpoint are one, which is healthy while all of them are;
`collectors` in the JSON has the status of each.

Fails at start when the endpoint cannot be bound.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from pydantic import Field, field_validator

from kofagent.component.protocols import Context, Extension
from kofagent.config.base import ComponentConfig, Duration
from kofagent.config.blocks import HttpServerBlock
from kofagent.net.joined import JoinedServer, joined
from kofagent.net.server import Handler, HttpServer
from kofagent.telemetry.batch import Metadata

_STATUS = {True: "Server available", False: "Server not available"}
LOOK_SECONDS = 1.0
"""How often the exporters are looked at."""


class ResponseBody(ComponentConfig):
    """`response_body`: fixed texts instead of the JSON."""

    healthy: str = Field("", description="Body of a 200.")
    unhealthy: str = Field("", description="Body of a 503.")


class CheckCollectorPipeline(ComponentConfig):
    """`check_collector_pipeline`: be unhealthy when exporters keep failing."""

    enabled: bool = Field(False, description="Count failures of exporters.")
    interval: Duration = Field(300.0, gt=0, description="How far back failures count.")
    exporter_failure_threshold: int = Field(5, ge=0, description="Number of failures up to which the agent is healthy.")


class Config(HttpServerBlock):
    """Options of upstream's health_check extension."""

    joins = frozenset({"check_collector_pipeline"})

    endpoint: str = Field("localhost:13133", description="host:port to listen on.")
    path: str = Field("/", description="Path of the probe.")
    response_body: ResponseBody | None = Field(None, description="Bodies instead of the JSON.")
    check_collector_pipeline: CheckCollectorPipeline = Field(CheckCollectorPipeline(), description="Failures of exporters.")

    @field_validator("path", mode="after")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if not value.startswith("/"):
            raise ValueError("path must start with /")
        return value


class HealthCheck(Extension[Config]):
    """Answers probes; see the module."""

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._joined = self._join()
        self._since: float | None = None
        self._failures: deque[float] = deque()
        self._watch: asyncio.Task[None] | None = None

    def _join(self) -> JoinedServer[HealthCheck]:
        config, context = self.config, self.context

        def make(handler: Handler) -> HttpServer:
            return HttpServer(config, context.id, handler, host=context.host)

        return joined(context.host, ("health_check", config.endpoint), make, lambda member: member._answer)

    @property
    def server(self) -> HttpServer:
        """Where it answers."""
        return self._joined.server

    async def start(self) -> None:
        """Listens; answers 503 until the pipelines are ready."""
        self._joined = self._join()
        await self._joined.join(self.context.host.collector, self)
        if self.config.check_collector_pipeline.enabled:
            self._watch = asyncio.create_task(self._count())

    async def stop(self) -> None:
        """Closes the socket."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
            self._watch = None
        await self._joined.leave(self)

    def pipelines_ready(self) -> None:
        """From now on healthy."""
        self._since = time.time()

    def pipelines_stopping(self) -> None:
        """From now on not healthy."""
        self._since = None

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._look(time.monotonic())

    def _look(self, now: float) -> None:
        """Notes the exporters that fail at `now` (seconds) and forgets what is older than the interval."""
        failing = sum(1 for id, error in self.context.host.status().items() if error and id.startswith("exporter"))
        self._failures.extend([now] * failing)
        while self._failures and self._failures[0] < now - self.config.check_collector_pipeline.interval:
            self._failures.popleft()

    def _healthy(self) -> bool:
        check = self.config.check_collector_pipeline
        return self._since is not None and not (check.enabled and len(self._failures) > check.exporter_failure_threshold)

    async def _answer(self, request: web.BaseRequest, metadata: Metadata | None) -> web.StreamResponse:
        if request.path != self.config.path:
            return web.Response(status=404, text="404 page not found\n")
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, headers={"Allow": "GET, HEAD"}, text="405 Method Not Allowed\n")
        members = self._joined.members()
        healthy = all(member._healthy() for member in members.values())
        status = 200 if healthy else 503
        if self.config.response_body is not None:
            text = self.config.response_body.healthy if healthy else self.config.response_body.unhealthy
            return web.Response(status=status, text=text)
        since = max([member._since or 0.0 for member in members.values()]) if healthy else None
        body: dict[str, Any] = {
            "status": _STATUS[healthy],
            "upSince": "0001-01-01T00:00:00Z" if since is None else datetime.fromtimestamp(since, UTC).isoformat(),
            "uptime": "" if since is None else _go_duration(time.time() - since),
        }
        if self.context.host.collector:
            body["collectors"] = {name: _STATUS[member._healthy()] for name, member in members.items()}
        return web.Response(status=status, text=json.dumps(body, separators=(",", ":")), content_type="application/json")


def _go_duration(seconds: float) -> str:
    """As Go prints durations: `1h2m3.5s`, `12.3s`."""
    minutes, rest = divmod(max(0.0, seconds), 60)
    hours, minutes = divmod(int(minutes), 60)
    tail = f"{rest:.9f}".rstrip("0").rstrip(".") + "s"
    return f"{hours}h{minutes}m{tail}" if hours else f"{minutes}m{tail}" if minutes else tail


COMPONENT = HealthCheck
