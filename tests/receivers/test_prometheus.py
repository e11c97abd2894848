"""The receiver against real HTTP servers: good pages, broken ones, endings, authentication, discovery, the API."""

from __future__ import annotations

import asyncio
import gzip
import json
import math
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from pydantic import ValidationError

from kofagent.component.protocols import StartError
from kofagent.memory.pressure import PRESSURE
from kofagent.receivers.prometheus import COMPONENT
from kofagent.receivers.prometheus.api import PIECE
from kofagent.receivers.prometheus.receiver import OUTSTANDING
from kofagent.telemetry.batch import MetricBatch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.series import STALE_BITS
from kofagent.telemetry.signal import Signal
from tests.support.certificates import Authority
from tests.support.components import FakeHost, Sink, eventually, make
from tests.support.faulty import ConnectProxy
from tests.support.memory import memory

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Page:
    """A target whose page, headers and status a test changes while it is scraped."""

    def __init__(self, body: bytes = b"a 1\n", status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.body = body
        self.status = status
        self.headers = {"Content-Type": "text/plain", **(headers or {})}
        self.requests: list[web.Request] = []
        self.address = ""

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        return web.Response(body=self.body, status=self.status, headers=self.headers)


@asynccontextmanager
async def serve(answer: Answer, path: str = "/{any:.*}", tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    async def handle(request: web.Request) -> web.StreamResponse:
        return await answer(request)

    app = web.Application()
    app.router.add_route("*", path, handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def running(
    job: dict[str, Any], host: FakeHost | None = None, sink: Sink | None = None, **options: Any
) -> AsyncIterator[tuple[Any, Sink]]:
    general = options.pop("global_", {})
    job = {"job_name": "j", "scrape_interval": "200ms", "scrape_timeout": "200ms", **job}
    receiver = make(COMPONENT, {"config": {"global": general, "scrape_configs": [job]}, **options}, id="prometheus", host=host)
    sink = sink or Sink()
    receiver.outputs = {Signal.METRICS: sink}
    await receiver.start()
    try:
        yield receiver, sink
    finally:
        await receiver.stop()


def static(*addresses: str) -> dict[str, Any]:
    return {"static_configs": [{"targets": list(addresses)}]}


def samples(sink: Sink) -> list[tuple[dict[str, str], float, int]]:
    return [
        (dict(s.labels), v, t)
        for b in sink.batches
        for g in b.groups
        for s, v, t in zip(g.series, g.values, g.timestamps(), strict=True)
    ]


def values(sink: Sink, name: str) -> list[float]:
    return [v for labels, v, _ in samples(sink) if labels["__name__"] == name]


def stale(value: float) -> bool:
    return bool(struct.unpack("<Q", struct.pack("<d", value))[0] == STALE_BITS)


def target(receiver: Any) -> Any:
    return next(t for pool in receiver.pools.values() for t in pool.targets)


async def down(receiver: Any, sink: Sink) -> str:
    """Waits for `up 0` and gives its reason."""
    await sink.wait_for(lambda s: 0.0 in values(s, "up"))
    return next(str(t.last_error) for pool in receiver.pools.values() for t in pool.targets if t.health == "down")


async def test_a_page_and_what_is_reported_about_it() -> None:
    page = Page(b'# TYPE a counter\na{x="1"} 5\nb 2\n')
    async with serve(page) as address, running(static(address) | {"params": {"q": ["1", "2"]}, "metrics_path": "/m"}) as (_, sink):
        await sink.wait_for(lambda s: len(values(s, "up")) >= 3)
        assert values(sink, "a")[:2] == [5.0, 5.0]
        assert values(sink, "scrape_samples_scraped")[0] == 2.0 and values(sink, "scrape_series_added")[:2] == [2.0, 0.0]
        request = page.requests[0]
        assert request.path_qs == "/m?q=1&q=2"
        assert request.headers["Accept"] == (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
            "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
        )
        assert request.headers["X-Prometheus-Scrape-Timeout-Seconds"] == "0.2" and request.headers["Accept-Encoding"] == "gzip"
        # One connection serves all scrapes.
        assert len({id(r.transport) for r in page.requests}) == 1
    assert {labels["instance"] for labels, _, _ in samples(sink)} == {address}
    first = sink.batches[0].groups[0].series
    assert isinstance(sink.batches[1], MetricBatch) and sink.batches[1].groups[0].series is first
    times = [t for labels, _, t in samples(sink) if labels["__name__"] == "up"]
    assert times == sorted(set(times)) and times[-1] - times[0] >= 100
    # Who stops may start again at once: no marker, as Prometheus.
    assert not any(stale(v) for _, v, _ in samples(sink))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda p: setattr(p, "body", b"a 1\nb{\n"), "line 2: expected a label name"),
        (lambda p: setattr(p, "body", b"a 1\n\xff"), "expected a metric name"),
        (lambda p: setattr(p, "status", 503), "server returned HTTP status 503 Service Unavailable"),
        (lambda p: p.headers.update({"Content-Type": "application/openmetrics-text; version=1.0.0"}), "does not end with # EOF"),
        (lambda p: p.headers.update({"Content-Type": "application/vnd.google.protobuf"}), "protobuf"),
        (lambda p: p.headers.update({"Content-Encoding": "br"}), "Content-Encoding 'br'"),
        (
            lambda p: (setattr(p, "body", b"not gzip, but long enough to show it"), p.headers.update({"Content-Encoding": "gzip"})),
            "damaged",
        ),
        (
            lambda p: (setattr(p, "body", gzip.compress(b"a 1\n" * 500)[:-9]), p.headers.update({"Content-Encoding": "gzip"})),
            "cut off",
        ),
    ],
)
async def test_a_bad_page_is_up_0_with_the_reason_and_the_next_good_one_works(change: Callable[[Page], Any], reason: str) -> None:
    page = Page(b"a 1\nb 2\n")
    good = dict(page.headers)
    async with serve(page) as address, running(static(address)) as (receiver, sink):
        await sink.wait_for(lambda s: 1.0 in values(s, "up"))
        change(page)
        assert reason in await down(receiver, sink)
        page.body, page.status, page.headers = b"a 3\n", 200, good
        await sink.wait_for(lambda s: 3.0 in values(s, "a"))
        assert target(receiver).health == "up" and target(receiver).last_error == ""
    # Both series ended with the failed scrape, and nothing of the bad page was written.
    assert [stale(v) for v in values(sink, "b")] == [False] * (len(values(sink, "b")) - 1) + [True]
    assert sum(stale(v) for v in values(sink, "a")) == 1


async def test_gzip_is_read_and_a_bomb_costs_the_limit_only() -> None:
    page = Page(gzip.compress(b"a 1\n") + gzip.compress(b"b 2\n"), headers={"Content-Encoding": "gzip"})
    async with serve(page) as address, running(static(address) | {"body_size_limit": "1MB"}) as (receiver, sink):
        await sink.wait_for(lambda s: 2.0 in values(s, "b"))
        page.body = gzip.compress(b"# " + b"x" * 20_000_000, 9)
        assert await down(receiver, sink) == "body size limit exceeded"


async def test_a_body_without_end_and_a_slow_one() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        try:
            while True:
                await response.write(b"# " + b"x" * 65536 + b"\n")
                if "slow" in request.path:
                    await asyncio.sleep(3600)
        except ConnectionError:
            pass
        return response

    slow = {"metrics_path": "/slow", "scrape_timeout": "100ms"}
    async with serve(endless) as address:
        async with running(static(address) | {"body_size_limit": 300_000, "scrape_interval": "2s", "scrape_timeout": "2s"}) as (
            receiver,
            sink,
        ):
            assert await down(receiver, sink) == "body size limit exceeded"
        async with running(static(address) | slow) as (receiver, sink):
            assert await down(receiver, sink) == "no complete answer within 0.1 s"


async def test_nobody_listens() -> None:
    async with serve(Page()) as address:
        pass
    async with running(static(address)) as (receiver, sink):
        assert "cannot connect to 127.0.0.1" in await down(receiver, sink)
        assert values(sink, "scrape_samples_scraped")[0] == 0.0


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ({"sample_limit": 1}, "sample limit exceeded (2 samples, limit 1)"),
        ({"label_limit": 3}, "label_limit exceeded (metric: a, number of labels: 4, limit: 3)"),
        ({"label_name_length_limit": 9}, "label_name_length_limit exceeded"),
        ({"label_value_length_limit": 20}, "label_value_length_limit exceeded"),
        ({"target_limit": 1}, "target_limit exceeded (number of targets: 2, limit: 1)"),
        ({"metric_name_validation_scheme": "legacy"}, "invalid metric name"),
    ],
)
async def test_limits_fail_the_scrape(limit: dict[str, Any], reason: str) -> None:
    utf8 = b'{"a.b"} 1\n' if "metric_name_validation_scheme" in limit else b""
    page = Page(utf8 + b'a{longer_name="%s"} 1\nb 2\n' % (b"v" * 21))
    others = ["localhost:1"] if "target_limit" in limit else []
    async with serve(page) as address, running(static(address, *others) | limit) as (receiver, sink):
        assert reason in await down(receiver, sink)
    if "sample_limit" in limit:
        assert values(sink, "scrape_samples_scraped")[0] == 2.0


async def test_what_is_as_large_as_a_limit_is_taken() -> None:
    page = Page(b'a{longer_name="%s"} 1\nb 2\n' % (b"v" * 30))
    limits = {"sample_limit": 2, "label_limit": 4, "label_name_length_limit": 11, "label_value_length_limit": 30, "target_limit": 1}
    async with serve(page) as address, running(static(address) | limits) as (_, sink):
        await sink.wait_for(lambda s: values(s, "up"))
    assert values(sink, "up")[0] == 1


async def test_a_page_that_does_not_fit_into_memory_is_up_0_logged_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    """10 KB of gzip with 10 MiB inside, of short lines, then of blank ones: nothing is parsed, and a good page is read again."""
    page = Page(gzip.compress(b"a 1\n" * (5 << 19)), headers={"Content-Encoding": "gzip"})
    with memory(128, 50):
        before = PRESSURE.refusals().get("pages", 0)
        async with serve(page) as address, running(static(address)) as (receiver, sink):
            assert await down(receiver, sink) == "the page does not fit into the memory that is left (limit: 128 MiB)"
            page.body = gzip.compress(b"\n" * (10 << 20))
            await eventually(lambda: len(page.requests) > 3)
            sink.batches.clear()
            page.body = gzip.compress(b"a 2\n")
            await sink.wait_for(lambda s: 1.0 in values(s, "up"))
            assert PRESSURE.refusals()["pages"] > before + 1
    assert sum("does not fit" in record.getMessage() for record in caplog.records) == 1


async def test_credentials_stay_with_the_host_they_were_meant_for(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("p1\n")
    other = Page(b"a 1\n")
    async with serve(other) as elsewhere:
        seen: list[str] = []

        async def here(request: web.Request) -> web.StreamResponse:
            seen.append(request.path + " " + request.headers.get("Authorization", ""))
            place = f"http://{elsewhere.replace('127.0.0.1', 'localhost')}/x" if request.path == "/two" else "/two"
            raise web.HTTPFound(place)

        job = {
            "basic_auth": {"username": "u", "password_file": str(tmp_path / "password")},
            "http_headers": {"X-Key": {"secrets": ["k"]}},
        }
        async with serve(here) as address:
            async with running(static(address) | job) as (_, sink):
                await sink.wait_for(lambda s: 1.0 in values(s, "up"))
                (tmp_path / "password").write_text("p2\n")
                await eventually(lambda: "/two Basic dTpwMg==" in seen)
            assert seen[:2] == ["/metrics Basic dTpwMQ==", "/two Basic dTpwMQ=="]
            assert all("Authorization" not in r.headers and "X-Key" not in r.headers for r in other.requests)
            async with running(static(address) | job | {"follow_redirects": False}) as (receiver, sink):
                assert await down(receiver, sink) == "server returned HTTP status 302 Found"


async def test_a_redirect_that_never_ends() -> None:
    async def around(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("/again")

    async with (
        serve(around) as address,
        running(static(address) | {"scrape_interval": "1s", "scrape_timeout": "1s"}) as (receiver, sink),
    ):
        assert await down(receiver, sink) == "more than 10 redirects"


async def test_ways_to_authenticate(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("t1")
    issued: list[dict[str, str]] = []

    async def issue(request: web.Request) -> web.StreamResponse:
        issued.append({**{k: str(v) for k, v in (await request.post()).items()}, "auth": request.headers["Authorization"]})
        return web.json_response({"access_token": "o1", "token_type": "bearer", "expires_in": 3600})

    async with serve(issue) as tokens:
        ways: list[tuple[dict[str, Any], str]] = [
            ({"authorization": {"credentials": "c"}}, "Bearer c"),
            ({"bearer_token": "b"}, "Bearer b"),
            ({"authorization": {"type": "Token", "credentials_file": str(token)}}, "Token t1"),
            ({"bearer_token_file": str(token)}, "Bearer t1"),
            (
                {
                    "oauth2": {
                        "client_id": "id",
                        "client_secret": "s",
                        "token_url": f"http://{tokens}/t",
                        "scopes": ["x", "y"],
                        "endpoint_params": {"k": "v"},
                    }
                },
                "Bearer o1",
            ),
        ]
        for way, expected in ways:
            page = Page()
            async with serve(page) as address, running(static(address) | way) as (_, sink):
                await sink.wait_for(lambda s, page=page: len(values(s, "up")) >= 2 and page.requests)
            assert page.requests[0].headers["Authorization"] == expected
        assert issued == [{"grant_type": "client_credentials", "scope": "x y", "k": "v", "auth": "Basic aWQ6cw=="}]
    async with (
        serve(Page()) as address,
        running(static(address) | {"bearer_token_file": str(tmp_path / "none")}) as (receiver, sink),
    ):
        assert await down(receiver, sink) == f"credentials_file {tmp_path}/none: No such file or directory"


@pytest.mark.slow
async def test_tls(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    server, client = authority.issue("server", dns=("kubernetes",), addresses=()), authority.issue("client")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(server.cert, server.key)
    ca = {"ca_file": authority.cert}
    own = {"cert_file": client.cert, "key_file": client.key}
    inline = {"ca": Path(authority.cert).read_text(), "cert": Path(client.cert).read_text(), "key": Path(client.key).read_text()}
    slow = {"scheme": "https", "scrape_interval": "500ms", "scrape_timeout": "500ms"}
    async with serve(Page(), tls=tls) as address:
        for good in ({**ca, "server_name": "kubernetes"}, {"insecure_skip_verify": True}, {**inline, "server_name": "kubernetes"}):
            async with running(static(address) | slow | {"tls_config": good}) as (_, sink):
                await sink.wait_for(lambda s: 1.0 in values(s, "up"))
        for bad, says in (
            (ca, "TLS handshake failed"),
            ({"ca_file": other.cert, "server_name": "kubernetes"}, "TLS handshake failed"),
            ({"ca_file": str(tmp_path / "none.crt")}, "No such file"),
            ({**own, "key_file": server.key, **ca}, "cert_file"),
        ):
            async with running(static(address) | slow | {"tls_config": bad}) as (receiver, sink):
                assert says in await down(receiver, sink)
    tls.load_verify_locations(authority.cert)
    tls.verify_mode = ssl.CERT_REQUIRED
    async with serve(Page(), tls=tls) as address:
        async with running(static(address) | slow | {"tls_config": {**ca, **own, "server_name": "kubernetes"}}) as (_, sink):
            await sink.wait_for(lambda s: 1.0 in values(s, "up"))
        async with running(static(address) | slow | {"tls_config": {**ca, "server_name": "kubernetes"}}) as (receiver, sink):
            assert await down(receiver, sink)


async def test_the_environments_proxy_is_used_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, direct = Page(), Page()
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with serve(seen) as proxy, serve(direct) as address:
        monkeypatch.setenv("HTTP_PROXY", f"http://{proxy}")
        for target in ("target.test:80", address):
            async with running(static(target) | {"proxy_from_environment": True}) as (_, sink):
                await sink.wait_for(lambda s: 1.0 in values(s, "up"))
        assert seen.requests and direct.requests


async def test_a_proxy_is_used_except_where_it_must_not() -> None:
    seen = Page()
    async with serve(seen) as proxy:
        job = {"proxy_url": f"http://{proxy}", "no_proxy": "127.0.0.0/8", "proxy_connect_header": {"X-P": ["1"]}}
        async with running(static("target.test:80") | job) as (_, sink):
            await sink.wait_for(lambda s: 1.0 in values(s, "up"))
        assert seen.requests[0].raw_path == "http://target.test:80/metrics" or seen.requests[0].headers["Host"].startswith(
            "target.test"
        )
        direct = Page()
        async with serve(direct) as address, running(static(address) | job) as (_, sink):
            await sink.wait_for(lambda s: 1.0 in values(s, "up"))
            assert direct.requests


async def test_headers_for_the_proxy_are_for_the_proxy_alone(tmp_path: Path) -> None:
    server, page = Authority(tmp_path).issue("server", dns=("far.test",)), Page()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(server.cert, server.key)
    async with serve(page, tls=tls) as address, ConnectProxy({"far.test:443": int(address.rpartition(":")[2])}) as proxy:
        job = {"scheme": "https", "tls_config": {"insecure_skip_verify": True}, "proxy_url": f"http://127.0.0.1:{proxy.port}"}
        async with running(static("far.test") | job | {"proxy_connect_header": {"X-P": ["1"]}}) as (_, sink):
            await sink.wait_for(lambda s: 1.0 in values(s, "up"))
    assert b"x-p: 1" in proxy.heads[0].lower()
    assert "X-P" not in page.requests[0].headers


@pytest.mark.slow
async def test_series_and_targets_that_end_are_marked(tmp_path: Path) -> None:
    page = Page(b"a 1\nb 2\n")
    file = tmp_path / "targets.json"
    async with serve(page) as address:
        file.write_text(json.dumps([{"targets": [address], "labels": {"zone": 1}}]))
        async with running({"file_sd_configs": [{"files": [str(tmp_path / "*.json")], "refresh_interval": "100ms"}]}) as (
            receiver,
            sink,
        ):
            await sink.wait_for(lambda s: 2.0 in values(s, "b"))
            page.body = b"a 1\n"
            await sink.wait_for(lambda s: stale(values(s, "b")[-1]))
            assert not any(stale(v) for v in values(sink, "a"))
            file.write_text("[broken")
            seen = len(values(sink, "up"))
            await sink.wait_for(lambda s: len(values(s, "up")) > seen + 3)
            file.write_text("[]")
            await sink.wait_for(lambda s: stale(values(s, "up")[-1]))
            assert stale(values(sink, "a")[-1]) and not receiver.pools["j"].targets
            assert sum(stale(v) for v in values(sink, "b")) == 1
    assert {labels["zone"] for labels, _, _ in samples(sink)} == {"1"}


async def test_a_target_that_comes_back_under_the_same_labels_is_not_ended(tmp_path: Path) -> None:
    page = Page()
    file = tmp_path / "t.yaml"
    async with serve(page) as address:
        file.write_text(f"- targets: ['{address}']\n  labels: {{__param_a: '1'}}\n")
        async with running({"file_sd_configs": [{"files": [str(file)], "refresh_interval": "50ms"}]}) as (receiver, sink):
            await sink.wait_for(lambda s: 1.0 in values(s, "a"))
            file.write_text(f"- targets: ['{address}']\n  labels: {{__param_a: '2'}}\n")
            await eventually(lambda: any(r.query.get("a") == "2" for r in page.requests))
            await eventually(lambda: not receiver.pools["j"]._endings)
            await asyncio.wait_for(eventually(lambda: not receiver.pools["j"]._endings), 5)
    assert not any(stale(v) for _, v, _ in samples(sink))


async def test_http_discovery() -> None:
    page = Page()
    async with serve(page) as address:
        listing = Page(
            json.dumps([{"targets": [address, address], "labels": {"l": "1"}}]).encode(),
            headers={"Content-Type": "application/json"},
        )
        async with serve(listing) as where, running({"http_sd_configs": [{"url": f"http://{where}/sd"}]}) as (receiver, sink):
            await sink.wait_for(lambda s: 1.0 in values(s, "up"))
            assert target(receiver).discovered["__meta_url"] == f"http://{where}/sd"
            # Equal targets are one.
            assert len(receiver.pools["j"].targets) == 1


async def test_labels_of_page_target_and_outside() -> None:
    page = Page(b'a{job="mine",clusterName="page",exported_job="e"} 1\nb 2\n')
    job: dict[str, Any] = {
        "static_configs": [{"labels": {"zone": "z"}}],
        "relabel_configs": [{"target_label": "extra", "replacement": "x"}],
        "metric_relabel_configs": [{"action": "labeldrop", "regex": "extra"}],
    }
    async with serve(page) as address:
        job["static_configs"][0]["targets"] = [address]
        async with running(job, global_={"external_labels": {"clusterName": "c", "region": "r"}}) as (_, sink):
            await sink.wait_for(lambda s: 1.0 in values(s, "up"))
            found = {labels["__name__"]: labels for labels, _, _ in samples(sink)}
        common = {"instance": address, "job": "j", "zone": "z", "region": "r"}
        assert found["a"] == {
            "__name__": "a",
            **common,
            "clusterName": "page",
            "exported_job": "e",
            "exported_exported_job": "mine",
        }
        assert found["b"] == {"__name__": "b", **common, "clusterName": "c"}
        assert found["up"] == {"__name__": "up", **common, "clusterName": "c", "extra": "x"}


async def test_scrapes_wait_for_a_slow_backend_as_long_as_memory_has_room() -> None:
    sink, host = Sink(), FakeHost()
    sink.gate = asyncio.Event()
    page = Page()
    job = {"scrape_interval": "20ms", "scrape_timeout": "20ms"}
    async with serve(page) as address, running(static(address) | job, host, sink):
        await eventually(lambda: len(page.requests) > OUTSTANDING + 10)
        assert host.reserved > 0
        sink.gate.set()
        await sink.wait_for(lambda s: len(s.batches) >= OUTSTANDING + 10)
    assert host.reserved == 0 and host.ledger.sum("kofagent_dropped_items_total") == 0


async def test_a_timer_never_waits_for_a_backend_and_what_nobody_takes_is_counted() -> None:
    sink, host = Sink(), FakeHost(budget=0)
    sink.gate = asyncio.Event()
    page = Page()
    async with serve(page) as address:
        async with running(static(address) | {"scrape_interval": "20ms", "scrape_timeout": "20ms"}, host, sink):
            await eventually(lambda: len(page.requests) > OUTSTANDING + 4)
            await eventually(
                lambda: host.ledger.total(
                    "kofagent_dropped_items_total", component="prometheus", signal="metrics", reason="backlog"
                )
            )
            sink.gate.set()
            await sink.wait_for(lambda s: len(s.batches) >= OUTSTANDING)
        sink.refuse = Refused("sending queue full")
        async with running(static(address), host, sink):
            await eventually(
                lambda: host.ledger.total(
                    "kofagent_dropped_items_total", component="prometheus", signal="metrics", reason="sending queue full"
                )
            )
    accepted = host.ledger.total("otelcol_receiver_accepted_metric_points_total", receiver="prometheus", transport="http")
    dropped = host.ledger.sum("kofagent_dropped_items_total")
    refused = host.ledger.total("otelcol_receiver_refused_metric_points_total", receiver="prometheus", transport="http")
    assert accepted == sink.count and dropped == refused > 0


async def test_extra_metrics_and_the_last_scrape() -> None:
    page = Page()
    job = {"scrape_interval": "1h", "scrape_timeout": "5s", "extra_scrape_metrics": True, "sample_limit": 7}
    async with serve(page) as address, running(static(address) | job, scrape_on_shutdown=True) as (receiver, sink):
        await eventually(lambda: receiver.pools["j"].targets)
        await receiver.stop()
    assert values(sink, "scrape_timeout_seconds")[-1] == 5.0 and values(sink, "scrape_sample_limit")[-1] == 7.0
    assert values(sink, "scrape_body_size_bytes")[-1] == 4.0 and values(sink, "a")[-1] == 1.0


async def ask(receiver: Any, path: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{receiver._api.port}{path}") as response:
        text = await response.text()
        return json.loads(text) if path.startswith("/api") else (response.status, text)


@pytest.mark.parametrize("count", [1, PIECE - 1, PIECE, 3 * PIECE + 1])
async def test_the_api_tells_of_every_target(count: int) -> None:
    """They are written some at a time."""
    addresses = [f"h{i:04}:1" for i in range(2 * count)]
    job = {
        "scrape_interval": "1h",
        "relabel_configs": [{"action": "drop", "source_labels": ["__address__"], "regex": ".*[02468]:1"}],
    }
    server: dict[str, Any] = {"api_server": {"enabled": True, "server_config": {"endpoint": "127.0.0.1:0"}}}
    async with running(static(*addresses) | job, FakeHost(), **server) as (receiver, _):
        await eventually(lambda: len(receiver.pools["j"].targets) == count)
        for state in ("any", "active", "dropped"):
            data = (await ask(receiver, f"/api/v1/targets?state={state}"))["data"]
            shown = [[t["discoveredLabels"]["__address__"] for t in data[kind]] for kind in ("activeTargets", "droppedTargets")]
            assert shown == [addresses[1::2] if state != "dropped" else [], addresses[::2] if state != "active" else []]
            assert data["droppedTargetCounts"] == (None if state == "active" else {"j": count})


async def test_the_api() -> None:
    page = Page(b"# TYPE a counter\n# HELP a Some.\na 1\n")
    host = FakeHost()
    job = {
        "basic_auth": {"username": "u", "password": "hidden-word"},
        "relabel_configs": [{"action": "drop", "source_labels": ["__address__"], "regex": "gone:1"}],
    }
    api: dict[str, Any] = {"api_server": {"enabled": True, "server_config": {"endpoint": "127.0.0.1:0"}}}
    async with serve(page) as address, running(static(address, "gone:1", "127.0.0.1:1") | job, host, **api) as (receiver, sink):
        await sink.wait_for(lambda s: {0.0, 1.0} <= set(values(s, "up")))
        answer = await ask(receiver, "/api/v1/targets")
        assert answer["status"] == "success"
        active = {t["labels"]["instance"]: t for t in answer["data"]["activeTargets"]}
        good, bad = active[address], active["127.0.0.1:1"]
        assert list(good) == [
            "discoveredLabels",
            "labels",
            "scrapePool",
            "scrapeUrl",
            "globalUrl",
            "lastError",
            "lastScrape",
            "lastScrapeDuration",
            "health",
            "scrapeInterval",
            "scrapeTimeout",
        ]
        assert (good["health"], good["lastError"], good["scrapePool"], good["scrapeUrl"]) == (
            "up",
            "",
            "j",
            f"http://{address}/metrics",
        )
        assert good["discoveredLabels"]["__address__"] == address and good["labels"] == {"instance": address, "job": "j"}
        assert (bad["health"], good["scrapeInterval"]) == ("down", "200ms") and "cannot connect" in bad["lastError"]
        assert answer["data"]["droppedTargets"][0]["discoveredLabels"]["__address__"] == "gone:1"
        assert answer["data"]["droppedTargetCounts"] == {"j": 1}
        only = await ask(receiver, "/api/v1/targets?state=active&scrapePool=other")
        assert only["data"]["activeTargets"] == [] and only["data"]["droppedTargets"] == []
        assert (await ask(receiver, "/api/v1/scrape_pools"))["data"] == {"scrapePools": ["j"]}
        described = (await ask(receiver, '/api/v1/targets/metadata?match_target={job="j"}&metric=a'))["data"]
        assert described == [{"target": good["labels"], "type": "counter", "help": "Some.", "unit": ""}]
        assert (await ask(receiver, "/api/v1/targets/metadata?limit=x"))["status"] == "error"
        configuration = (await ask(receiver, "/api/v1/status/config"))["data"]["yaml"]
        assert "job_name: j" in configuration and "hidden-word" not in configuration and "<secret>" in configuration
        assert (await ask(receiver, "/-/healthy"))[0] == 200 and (await ask(receiver, "/-/ready"))[0] == 200
        assert "otelcol_receiver_accepted_metric_points_total" in (await ask(receiver, "/metrics"))[1]
        taken = {"enabled": True, "server_config": {"endpoint": f"127.0.0.1:{receiver._api.port}"}}
        second = make(COMPONENT, {"config": {"scrape_configs": [{"job_name": "x"}]}, "api_server": taken})
        second.outputs = {Signal.METRICS: sink}
        with pytest.raises(StartError, match="choose another port"):
            await second.start()
        await second.stop()


async def test_kubernetes_jobs_outside_a_cluster_say_so_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    host = FakeHost()
    async with (
        serve(Page()) as address,
        running({"kubernetes_sd_configs": [{"role": "pod"}], **static(address)}, host) as (_, sink),
    ):
        await sink.wait_for(lambda s: 1.0 in values(s, "up"))
        assert "job j: role pod: not in a Kubernetes cluster" in str(host.statuses["receivers/prometheus"])
        assert "--kubeconfig" in caplog.text


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "nothing to scrape"),
        ({"config": {"scrape_configs": [{}]}}, "job_name"),
        ({"config": {"scrape_configs": [{"job_name": "a"}, {"job_name": "a"}]}}, "'a'"),
        ({"config": {"scrape_configs": [{"job_name": "a", "scrape_timeout": "5m"}]}}, "make it smaller"),
        ({"config": {"scrape_configs": [{"job_name": "a", "static_configs": [{"targets": ["http://x/"]}]}]}}, "metrics_path"),
        ({"config": {"scrape_configs": [{"job_name": "a"}], "rule_files": ["x"]}}, "rule_files"),
        ({"config": {"scrape_configs": [{"job_name": "a"}], "remote_write": [{}]}}, "prometheusremotewrite"),
        ({"config": {"scrape_configs": [{"job_name": "a", "bearer_token": "x", "basic_auth": {"username": "u"}}]}}, "keep one"),
        ({"config": {"scrape_configs": [{"job_name": "a", "scrape_protocols": []}]}}, "scrape_protocols"),
        ({"config": {"scrape_configs": [{"job_name": "a", "metric_path": "/"}]}}, "metric_path"),
        ({"config": {"scrape_configs": [{"job_name": "a", "file_sd_configs": [{"files": ["x.txt"]}]}]}}, ".json"),
        ({"config": {"scrape_configs": [{"job_name": "a", "kubernetes_sd_configs": [{"role": "pods"}]}]}}, "role"),
        ({"config": {"scrape_configs": [{"job_name": "a", "body_size_limit": "much"}]}}, "size"),
    ],
)
def test_mistakes_in_options(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as error:
        COMPONENT.Config.model_validate(options)
    assert says in str(error.value)


def test_scrape_config_files(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text("scrape_configs: [{job_name: filed, scrape_interval: 5s}]")
    options = {"config": {"scrape_config_files": [str(tmp_path / "*.yml")], "scrape_configs": [{"job_name": "written"}]}}
    config: Any = COMPONENT.Config.model_validate(options)
    assert [(j.job_name, j.scrape_interval, j.scrape_timeout) for j in config.config.jobs()] == [
        ("written", 60.0, 10.0),
        ("filed", 5.0, 5.0),
    ]
    (tmp_path / "b.yml").write_text("scrape_configs: [{job_name: other, nope: 1}]")
    with pytest.raises(ValidationError, match=r"b\.yml: scrape_configs\[0\]\.nope: unknown key"):
        COMPONENT.Config.model_validate(options)


def test_nan_is_not_a_marker() -> None:
    assert not stale(math.nan)


async def test_a_budget_of_series_for_all_targets_of_a_namespace(caplog: pytest.LogCaptureFixture) -> None:
    """The first come; what is beyond is left out, counted, and comes when others are gone. Other namespaces have their own."""
    first, second, other = Page(b"a 1\nb 1\nc 1\n"), Page(b"d 1\ne 1\nf 1\ng 1\n"), Page(b"x 1\ny 1\nz 1\n")
    host = FakeHost()
    async with serve(first) as one, serve(second) as two, serve(other) as three:
        groups = [
            {"targets": [one, two], "labels": {"namespace": "shop"}},
            {"targets": [three], "labels": {"__meta_kubernetes_namespace": "bank"}},
        ]
        async with running({"static_configs": groups}, host, series_budget={"per_namespace": 5}) as (_, sink):

            def last(name: str) -> set[float]:
                """The last value of each series of a name."""
                found = {labels["instance"]: value for labels, value, _ in samples(sink) if labels["__name__"] == name}
                return set(found.values())

            names = ("a", "b", "c", "d", "e", "f", "g")
            overflow = {"receiver": "prometheus", "namespace": "shop"}
            await eventually(lambda: host.ledger.total("kofagent_scrape_namespace_overflow_samples_total", **overflow) >= 4)
            assert sum(last(name) == {1.0} for name in names) == 5
            assert last("scrape_samples_scraped") == {3.0, 4.0}, "the page is counted whole"
            assert 0.0 not in last("up"), "a target is not down for it"
            assert all(last(name) == {1.0} for name in "xyz")
            dropped = {"component": "prometheus", "signal": "metrics", "reason": "namespace series budget"}
            assert host.ledger.total("kofagent_dropped_items_total", **dropped) >= 4
            assert "over the series budget" in caplog.text
            first.body, second.body = b"a 1\n", b"d 1\ne 1\nf 1\ng 1\n"
            await eventually(lambda: all(last(name) == {1.0} for name in "adefg"))
            counted = host.ledger.total("kofagent_scrape_namespace_overflow_samples_total", **overflow)
            sink.batches.clear()
            await eventually(lambda: len(samples(sink)) > 60)
            assert host.ledger.total("kofagent_scrape_namespace_overflow_samples_total", **overflow) == counted
