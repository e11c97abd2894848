"""Prometheus' HTTP API about targets, in Prometheus' JSON (prometheus.io/docs/prometheus/latest/querying/api).

`/api/v1/targets`, `/api/v1/targets/metadata`, `/api/v1/scrape_pools`, `/api/v1/status/{config,buildinfo,runtimeinfo}`,
`/metrics`, `/-/healthy`, `/-/ready`. Secrets are shown as `<secret>`. Where several collectors of one process have the same
endpoint, one server answers with the targets of all.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import chain, islice, repeat
from typing import Any

import yaml
from aiohttp import web
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel, SecretStr

from kofagent import __version__
from kofagent.component.protocols import Context
from kofagent.config.base import PARAMETERS
from kofagent.config.blocks import HttpServerBlock
from kofagent.config.redact import MASK, parameter_shown, without_secrets
from kofagent.net.joined import JoinedServer, joined
from kofagent.net.routes import Routes
from kofagent.net.server import Handler, HttpServer
from kofagent.prometheus.config import PrometheusConfig, format_duration
from kofagent.prometheus.pool import ScrapePool
from kofagent.prometheus.relabel import compile_regex
from kofagent.prometheus.target import Dropped, Target
from kofagent.telemetry.merged import Merged

PIECE = 100
"""Targets written to an answer at a time."""
_MATCHER = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*"((?:\\.|[^"\\])*)"\s*(?:,|\Z)')


class ApiServer:
    """The server, or a collector's part of it. `start` raises StartError when the address is taken."""

    def __init__(
        self,
        block: HttpServerBlock,
        max_connections: int,
        config: PrometheusConfig,
        pools: Mapping[str, ScrapePool],
        context: Context,
    ) -> None:
        self._config = config
        self._pools = pools
        self._context = context
        self._started = datetime.now(UTC)
        routes = Routes()
        for path, page in (
            ("/api/v1/targets", self._targets),
            ("/api/v1/targets/metadata", self._metadata),
            ("/api/v1/scrape_pools", self._scrape_pools),
            ("/api/v1/status/config", self._status_config),
            ("/api/v1/status/buildinfo", self._buildinfo),
            ("/api/v1/status/runtimeinfo", self._runtimeinfo),
            ("/metrics", self._metrics),
            ("/-/healthy", self._healthy),
            ("/-/ready", self._ready),
        ):
            routes.add(path, page)
        self._routes = routes

        def make(handler: Handler) -> HttpServer:
            return HttpServer(
                block,
                context.id,
                handler,
                host=context.host,
                on_error=lambda request, status, text: _error("unauthorized", text, status),
                option="api_server.server_config.endpoint",
                backlog=max_connections,
            )

        self._joined: JoinedServer[ApiServer] = joined(
            context.host, ("prometheus api", block.endpoint), make, lambda member: member._routes
        )

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._joined.server.port

    async def start(self) -> None:
        """Binds; StartError."""
        await self._joined.join(self._context.host.collector, self)

    async def stop(self) -> None:
        """Closes the server, if no other collector has it."""
        await self._joined.leave(self)

    def _pools_of_all(self) -> list[tuple[str, ScrapePool]]:
        """The jobs of all collectors that have this server, by name; those of two may have the same."""
        members = self._joined.members().values()
        return sorted([pool for member in members for pool in member._pools.items()], key=lambda pool: pool[0])

    async def _targets(self, request: web.BaseRequest) -> web.Response:
        wanted = request.query.get("scrapePool", "")
        state = request.query.get("state", "").lower()
        active: Iterator[dict[str, Any]] = iter(())
        dropped: Iterator[dict[str, Any]] = iter(())
        counts = None
        found = self._pools_of_all()
        pools = [pool for name, pool in found if not wanted or name == wanted]
        if state in ("", "any", "active"):
            active = chain.from_iterable([map(_target, repeat(pool.name), sorted(pool.targets, key=_order)) for pool in pools])
        if state in ("", "any", "dropped"):
            counts = dict.fromkeys([name for name, _ in found], 0)
            for name, pool in found:
                counts[name] += pool.dropped_count
            dropped = chain.from_iterable([map(_dropped, repeat(pool.name), list(pool.dropped)) for pool in pools])
        return web.Response(body=_pieces(active, dropped, counts), content_type="application/json", charset="utf-8")

    async def _metadata(self, request: web.BaseRequest) -> web.Response:
        try:
            limit = int(request.query.get("limit", "-1"))
        except ValueError:
            return _error("bad_data", "limit must be a number", 400)
        metric = request.query.get("metric", "")
        try:
            matches = _matcher(request.query.get("match_target", ""))
        except ValueError as error:
            return _error("bad_data", f'invalid parameter "match_target": {error}', 400)
        out: list[dict[str, Any]] = []
        for _, pool in self._pools_of_all():
            for loop in pool.loops:
                if not matches(loop.target.labels):
                    continue
                for name, family in loop.reader.families.items():
                    if metric and name != metric:
                        continue
                    entry = {"target": loop.target.labels, "type": family.type, "help": family.help, "unit": family.unit}
                    out.append(entry if metric else {**entry, "metric": name})
                    if 0 <= limit <= len(out):
                        return _success(out[:limit])
        return _success(out)

    async def _scrape_pools(self, request: web.BaseRequest) -> web.Response:
        return _success({"scrapePools": list(dict.fromkeys([name for name, _ in self._pools_of_all()]))})

    async def _status_config(self, request: web.BaseRequest) -> web.Response:
        configs = [_plain(member._config) for member in self._joined.members().values()]
        return _success({"yaml": "---\n".join([yaml.safe_dump(config, sort_keys=False) for config in configs])})

    async def _buildinfo(self, request: web.BaseRequest) -> web.Response:
        return _success({"version": __version__, "revision": "", "branch": "", "buildUser": "", "buildDate": "", "goVersion": ""})

    async def _runtimeinfo(self, request: web.BaseRequest) -> web.Response:
        return _success({"startTime": self._started.isoformat().replace("+00:00", "Z"), "reloadConfigSuccess": True})

    async def _metrics(self, request: web.BaseRequest) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        members = self._joined.members()
        labels = {name: {"collector": name} if name else {} for name in members}
        merged: Any = Merged([(member._context.ledger.registry, labels[name]) for name, member in members.items()])
        return web.Response(body=encode(merged), headers={"Content-Type": content_type})

    async def _healthy(self, request: web.BaseRequest) -> web.Response:
        return web.Response(text="kofagent is Healthy.\n")

    async def _ready(self, request: web.BaseRequest) -> web.Response:
        return web.Response(text="kofagent is Ready.\n")


async def _pieces(
    active: Iterator[dict[str, Any]], dropped: Iterator[dict[str, Any]], counts: Mapping[str, int] | None
) -> AsyncIterator[bytes]:
    """The answer about targets, some at a time: ten thousand are 30 MB, and scraping must not be held up."""
    yield b'{"status": "success", "data": {"activeTargets": ['
    for name, found in ((b"", active), (b'], "droppedTargets": [', dropped)):
        yield name
        between = ""
        while some := list(islice(found, PIECE)):
            yield (between + json.dumps(some)[1:-1]).encode()
            between = ", "
            await asyncio.sleep(0)
    yield b'], "droppedTargetCounts": ' + json.dumps(counts).encode() + b"}}"


def _order(target: Target) -> tuple[list[tuple[str, str]], str]:
    return sorted(target.labels.items()), target.url


def _dropped(pool: str, target: Dropped) -> dict[str, Any]:
    return {"discoveredLabels": _labels(target.discovered), "scrapePool": pool}


def _labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Labels of a target as they are shown: those that become the query of its URL may hold a token, and so may URLs."""
    return {
        name: MASK
        if name.startswith("__param_") and value and not parameter_shown(name.removeprefix("__param_"))
        else without_secrets(value)
        for name, value in labels.items()
    }


def _target(pool: str, target: Target) -> dict[str, Any]:
    last = datetime.fromtimestamp(target.last_scrape, UTC) if target.last_scrape else datetime(1, 1, 1, tzinfo=UTC)
    return {
        "discoveredLabels": _labels(target.discovered),
        "labels": _labels(target.labels),
        "scrapePool": pool,
        "scrapeUrl": (url := without_secrets(target.url)),
        "globalUrl": _global_url(url),
        "lastError": without_secrets(target.last_error),
        "lastScrape": last.isoformat().replace("+00:00", "Z"),
        "lastScrapeDuration": target.last_duration,
        "health": target.health,
        "scrapeInterval": format_duration(target.interval),
        "scrapeTimeout": format_duration(target.timeout),
    }


def _global_url(url: str) -> str:
    """The URL as another host would use it: this host's name instead of a loopback address."""
    match = re.match(r"(https?://)(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?(?=/|\Z)", url)
    return f"{match[1]}{socket.gethostname()}{match[3] or ''}{url[match.end() :]}" if match else url


def _matcher(selector: str) -> Callable[[Mapping[str, str]], bool]:
    """A label selector `{job="x",instance=~"y.*"}` as a function; ValueError for anything else."""
    text = selector.strip()
    if not text:
        return lambda labels: True
    if not (text.startswith("{") and text.endswith("}")):
        raise ValueError('expected {label="value", ...}')
    text, at = text[1:-1], 0
    tests: list[Callable[[Mapping[str, str]], bool]] = []
    while text[at:].strip():
        match = _MATCHER.match(text, at)
        if match is None:
            raise ValueError('expected {label="value", ...}')
        at = match.end()
        name, operator = match[1], match[2]
        value = re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], match[3])
        if operator in ("=", "!="):
            tests.append(lambda labels, n=name, v=value, o=operator: (labels.get(n, "") == v) is (o == "="))  # type: ignore[misc]
        else:
            full = compile_regex(value).fullmatch
            tests.append(lambda labels, n=name, f=full, o=operator: (f(labels.get(n, "")) is not None) is (o == "=~"))  # type: ignore[misc]
    return lambda labels: all(test(labels) for test in tests)


def _plain(value: Any) -> Any:
    """Options as YAML shows them: what was set, without secrets."""
    if isinstance(value, str):
        return without_secrets(value) if "://" in value else value
    if isinstance(value, SecretStr):
        return "<secret>" if value.get_secret_value() else ""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return {
            fields[name].alias or name: (_parameters if PARAMETERS in fields[name].metadata else _plain)(getattr(value, name))
            for name in fields
            if name in value.model_fields_set and name != "other_sd_configs"
        }
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value


def _parameters(values: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a query or of a form; what their names do not know to be plain is hidden."""
    return {
        name: _plain(value) if parameter_shown(name) else ["<secret>"] * len(value) if isinstance(value, list) else "<secret>"
        for name, value in values.items()
    }


def _success(data: Any) -> web.Response:
    return web.json_response({"status": "success", "data": data})


def _error(kind: str, text: str, status: int) -> web.Response:
    return web.json_response({"status": "error", "errorType": kind, "error": text}, status=status)
