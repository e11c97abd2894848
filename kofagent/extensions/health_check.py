"""`health_check`: answers probes over HTTP. Upstream: extension/healthcheckextension of the collector's contrib.

200 with `{"status":"Server available","upSince":...,"uptime":...}` while all pipelines run, 503 with `{"status":"Server not
available",...}` while they start and stop. `response_body` replaces the bodies. A backend that is down does not make the agent
unhealthy, for a restart would only lose what it holds: what is wrong with each component is on zpages and in the log.

`check_collector_pipeline` asks for more: every second each exporter whose status is an error counts as one failure; more than
`exporter_failure_threshold` of them within `interval` answer 503. Upstream ignores the block by now.

Fails at start when the endpoint cannot be bound.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from datetime import UTC, datetime

from aiohttp import web
from pydantic import Field, field_validator

from kofagent.component.protocols import Context, Extension
from kofagent.config.base import ComponentConfig, Duration
from kofagent.config.blocks import HttpServerBlock
from kofagent.net.server import HttpServer
from kofagent.telemetry.batch import Metadata

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
        self.server = HttpServer(config, context.id, self._answer, host=context.host)
        self._since: float | None = None
        self._failures: deque[float] = deque()
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listens; answers 503 until the pipelines are ready."""
        await self.server.start()
        if self.config.check_collector_pipeline.enabled:
            self._watch = asyncio.create_task(self._count())

    async def stop(self) -> None:
        """Closes the socket."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
            self._watch = None
        await self.server.stop()

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
        healthy = self._healthy()
        status = 200 if healthy else 503
        if self.config.response_body is not None:
            body = self.config.response_body.healthy if healthy else self.config.response_body.unhealthy
            return web.Response(status=status, text=body)
        since = self._since if healthy and self._since is not None else None
        body = json.dumps(
            {
                "status": "Server available" if healthy else "Server not available",
                "upSince": "0001-01-01T00:00:00Z" if since is None else datetime.fromtimestamp(since, UTC).isoformat(),
                "uptime": "" if since is None else _go_duration(time.time() - since),
            },
            separators=(",", ":"),
        )
        return web.Response(status=status, text=body, content_type="application/json")


def _go_duration(seconds: float) -> str:
    """As Go prints durations: `1h2m3.5s`, `12.3s`."""
    minutes, rest = divmod(max(0.0, seconds), 60)
    hours, minutes = divmod(int(minutes), 60)
    tail = f"{rest:.9f}".rstrip("0").rstrip(".") + "s"
    return f"{hours}h{minutes}m{tail}" if hours else f"{minutes}m{tail}" if minutes else tail


COMPONENT = HealthCheck
