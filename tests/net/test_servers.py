"""What the HTTP server promises, held against every server of the product, and that there is no other kind of server in it."""

from __future__ import annotations

import ast
import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import aiohttp
import pytest
from aiohttp import web

from kofagent.component.protocols import StartError, Unauthorized
from kofagent.config.blocks import HttpServerBlock
from kofagent.config.model import TelemetryConfig
from kofagent.extensions import health_check, zpages
from kofagent.net import connection
from kofagent.net import server as module
from kofagent.net.connection import ConnectionServer
from kofagent.net.server import HttpServer
from kofagent.pipeline.telemetry import OwnTelemetry
from kofagent.receivers import jaeger, otlp, zipkin
from kofagent.receivers import prometheus as prometheus_receiver
from kofagent.region.server import Region
from kofagent.telemetry.signal import Signal
from tests.rooms import ROOT, tree_of
from tests.support.certificates import Authority
from tests.support.components import FakeHost, Sink, make, make_context


class Door:
    """Lets in those who know the word."""

    async def authenticate(self, headers: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
        if headers.get("authorization") != "word":
            raise Unauthorized("who are you")
        return {}


class Running(NamedTuple):
    """A server that was made; `port` is to be asked after `start`."""

    start: Callable[[], Awaitable[None]]
    stop: Callable[[], Awaitable[None]]
    port: Callable[[], int]


def host() -> FakeHost:
    return FakeHost({"door": Door()})


def of_health_check(options: dict[str, Any]) -> Running:
    it = make(health_check.COMPONENT, options, host=host())
    return Running(it.start, it.stop, lambda: it.server.port)


def of_zpages(options: dict[str, Any]) -> Running:
    it = make(zpages.COMPONENT, options, host=host())
    return Running(it.start, it.stop, lambda: it.server.port)


def of_otlp(options: dict[str, Any]) -> Running:
    it = make(otlp.COMPONENT, {"protocols": {"http": options}}, host=host())
    it.outputs = {Signal.LOGS: Sink()}
    return Running(it.start, it.stop, lambda: it.ports["http"])


def of_jaeger(options: dict[str, Any]) -> Running:
    it = make(jaeger.COMPONENT, {"protocols": {"thrift_http": options}}, host=host())
    it.outputs = {Signal.TRACES: Sink()}
    return Running(it.start, it.stop, lambda: it.ports["thrift_http"])


def of_zipkin(options: dict[str, Any]) -> Running:
    it = make(zipkin.COMPONENT, options, host=host())
    it.outputs = {Signal.TRACES: Sink()}
    return Running(it.start, it.stop, lambda: it.ports["http"])


def of_targets_api(options: dict[str, Any]) -> Running:
    api = {"enabled": True, "server_config": options}
    it = make(prometheus_receiver.COMPONENT, {"config": {"scrape_configs": [{"job_name": "x"}]}, "api_server": api}, host=host())
    it.outputs = {Signal.METRICS: Sink()}
    return Running(it.start, it.stop, lambda: it._api.port)


def of_own_metrics(options: dict[str, Any]) -> Running:
    name, port = options["endpoint"].split(":")
    reader = {"pull": {"exporter": {"prometheus": {"host": name, "port": int(port)}}}}
    settings = TelemetryConfig.model_validate({"metrics": {"readers": [reader]}})
    it = OwnTelemetry(settings, make_context("service", "telemetry"))
    return Running(it.start, it.stop, lambda: it.addresses[0][1])


def of_region(options: dict[str, Any]) -> Running:
    it = Region(options["endpoint"])
    return Running(it.start, it.stop, lambda: int(it.endpoint.rpartition(":")[2]))


class Kind(NamedTuple):
    """A server of the product: where it is made, how, a page of it, and whether users set confighttp's options of it."""

    file: str
    make: Callable[[dict[str, Any]], Running]
    method: str
    page: str
    options: bool
    answer: int = 200
    """What an empty request of `method` for the page is answered, if it is not 503."""


SERVERS = [
    Kind("extensions/health_check.py", of_health_check, "GET", "/", True),
    Kind("extensions/zpages.py", of_zpages, "GET", "/debug/servicez", True),
    Kind("receivers/jaeger/http.py", of_jaeger, "POST", "/api/traces", True, 400),
    Kind("receivers/otlp/http.py", of_otlp, "POST", "/v1/logs", True),
    Kind("receivers/prometheus/api.py", of_targets_api, "GET", "/api/v1/scrape_pools", True),
    Kind("receivers/zipkin/receiver.py", of_zipkin, "POST", "/api/v2/spans", True, 202),
    Kind("pipeline/telemetry.py", of_own_metrics, "GET", "/metrics", False),
    Kind("region/server.py", of_region, "GET", "/health", False),
]
ids = [kind.file for kind in SERVERS]
every = pytest.mark.parametrize("kind", SERVERS, ids=ids)
with_options = pytest.mark.parametrize("kind", [k for k in SERVERS if k.options], ids=[k.file for k in SERVERS if k.options])


class Serving:
    """A server between start and stop, and requests to it."""

    def __init__(self, kind: Kind, **options: Any) -> None:
        self.kind = kind
        self.running = kind.make({"endpoint": "127.0.0.1:0", **options})

    async def __aenter__(self) -> Self:
        await self.running.start()
        self.port = self.running.port()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.running.stop()

    async def ask(
        self, method: str = "", path: str = "", headers: Mapping[str, str] | None = None, tls: ssl.SSLContext | None = None
    ) -> tuple[int, Mapping[str, str]]:
        """Status and headers of an answer; POSTs have an empty protobuf message."""
        kind = self.kind
        send = {"Content-Type": "application/x-protobuf", **(headers or {})}
        url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}{path or kind.page}"
        async with (
            aiohttp.ClientSession() as session,
            session.request(method or kind.method, url, headers=send, ssl=tls or True) as answer,
        ):
            await answer.read()
            return answer.status, answer.headers


def test_all_servers_are_here_and_of_one_kind() -> None:
    made, others = [], []
    for path in sorted(ROOT.rglob("*.py")):
        names = {
            node.attr if isinstance(node, ast.Attribute) else node.id
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.Attribute | ast.Name)
        }
        file = str(path.relative_to(ROOT))
        if "HttpServer" in names and file not in ("net/server.py", "net/joined.py"):
            made.append(file)
        if names & {
            "Acceptor",
            "TCPSite",
            "SockSite",
            "UnixSite",
            "AppRunner",
            "ServerRunner",
            "Application",
            "start_server",
            "create_server",
            "connect_accepted_socket",
        }:
            others.append(file)
    assert made == sorted(ids)
    assert others == ["net/accept.py", "net/grpc_server.py", "net/server.py"]


@every
async def test_a_page_is_served(kind: Kind) -> None:
    async with Serving(kind) as server:
        assert (await server.ask())[0] in (kind.answer, 503)  # 503: health_check before the pipelines are ready
        any_path = "zipkin" in kind.file  # upstream's takes spans at every path
        assert (await server.ask(path="/no/such/page"))[0] in (kind.answer if any_path else 404, 503)
        assert (await server.ask("DELETE"))[0] in (405, 503)
    await server.running.stop()


@every
async def test_an_address_that_cannot_be_bound(kind: Kind) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        running = kind.make({"endpoint": f"127.0.0.1:{port}"})
        says = rf"cannot listen on 127\.0\.0\.1:{port}: the port is in use by another process; .* choose another port in \S+"
        with pytest.raises(StartError, match=says):
            await running.start()
        await running.stop()
    with pytest.raises(StartError, match="this machine does not have that address"):
        await kind.make({"endpoint": "192.0.2.1:4318"}).start()
    with pytest.raises(StartError, match="not a valid host name; check the host"):
        await kind.make({"endpoint": f"{'a' * 64}:4318"}).start()


async def closed(reader: asyncio.StreamReader) -> bytes:
    """What comes before the server closes the connection."""
    async with asyncio.timeout(5):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


async def one_answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head, re.IGNORECASE)
    await reader.readexactly(int(length[1]) if length else 0)
    return head


@every
async def test_headers_have_to_come_in_time(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    def hurried(handler: Any, **options: Any) -> ConnectionServer:
        assert options["header_seconds"] == 60
        return ConnectionServer(handler, **{**options, "header_seconds": 0.3})

    monkeypatch.setattr(module, "ConnectionServer", hurried)
    async with Serving(kind) as server:
        for before in (b"", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(before)
            assert await closed(reader) == b""
            writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        whole = (
            f"{kind.method} {kind.page} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"
        )
        for _ in range(2):
            writer.write(whole.encode())
            assert await one_answer(reader)
            await asyncio.sleep(0.4)  # idle is no slow header
        writer.write(b"GET / HTTP/1.1\r\nHo")
        assert await closed(reader) == b""
        writer.close()


@every
@pytest.mark.parametrize("line", [b"X: " + b"y" * 100_000, b"no colon", b"X: a\x00b"])
async def test_headers_that_are_too_large_or_none(kind: Kind, line: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with Serving(kind) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n" + line + b"\r\n\r\n")
        assert re.match(rb"HTTP/1\.[01] 4(00|31) ", await closed(reader))
        writer.close()
        assert (await server.ask())[0] in (kind.answer, 503)
        assert "Traceback" not in caplog.text


@with_options
async def test_only_those_who_are_known_get_in(kind: Kind) -> None:
    async with Serving(kind, auth={"authenticator": "door"}) as server:
        assert (await server.ask())[0] == 401
        assert (await server.ask(path="/no/such/page"))[0] == 401
        assert (await server.ask(headers={"Authorization": "wrong"}))[0] == 401
        assert (await server.ask(headers={"Authorization": "word"}))[0] in (kind.answer, 503)
    with pytest.raises(StartError, match="'nobody'"):
        await kind.make({"endpoint": "127.0.0.1:0", "auth": {"authenticator": "nobody"}}).start()


@with_options
async def test_browsers_of_other_origins(kind: Kind) -> None:
    cors = {"allowed_origins": ["https://*.example.com"], "allowed_headers": ["X-Own"], "max_age": 60}
    async with Serving(kind, cors=cors, response_headers={"X-Frame-Options": "DENY"}, auth={"authenticator": "door"}) as server:
        asks = {"Origin": "https://a.example.com", "Access-Control-Request-Method": kind.method}
        status, headers = await server.ask("OPTIONS", headers={**asks, "Access-Control-Request-Headers": "x-own"})
        assert (status, headers["Access-Control-Allow-Origin"]) == (204, "https://a.example.com")
        assert headers["Access-Control-Max-Age"] == "60"
        status, headers = await server.ask(headers={"Origin": "https://a.example.com"})
        assert (status, headers["Access-Control-Allow-Origin"]) == (401, "https://a.example.com")
        assert headers["X-Frame-Options"] == "DENY"
        _, headers = await server.ask(headers={"Origin": "https://example.org"})
        assert "Access-Control-Allow-Origin" not in headers


@with_options
async def test_keep_alives_may_be_switched_off(kind: Kind) -> None:
    for enabled, says in ((True, None), (False, "close")):
        async with Serving(kind, keep_alives_enabled=enabled) as server:
            assert (await server.ask())[1].get("Connection") == says


@with_options
async def test_tls(kind: Kind, tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    own = authority.issue("server")
    trusting = ssl.create_default_context(cafile=authority.cert)
    async with Serving(kind, tls={"cert_file": own.cert, "key_file": own.key, "client_ca_file": other.cert}) as server:
        with pytest.raises(aiohttp.ClientError):
            await server.ask(tls=trusting)
        client = other.issue("client")
        trusting.load_cert_chain(client.cert, client.key)
        assert (await server.ask(tls=trusting))[0] in (kind.answer, 503)
    with pytest.raises(StartError, match=r"tls\.cert_file .*none"):
        await kind.make({"endpoint": "127.0.0.1:0", "tls": {"cert_file": str(tmp_path / "none"), "key_file": own.key}}).start()


# --- what needs a handler made for the test


class Plain:
    """A server with a handler of the test."""

    def __init__(self, handler: Any, **options: Any) -> None:
        self.server = HttpServer(HttpServerBlock.model_validate({"endpoint": "127.0.0.1:0", **options}), "test", handler)

    async def __aenter__(self) -> HttpServer:
        await self.server.start()
        return self.server

    async def __aexit__(self, *error: object) -> None:
        await self.server.stop()


async def fetch(server: HttpServer, tls: ssl.SSLContext | None = None) -> tuple[int, int]:
    """Status and size of an answer."""
    async with aiohttp.ClientSession() as session, session.get(server.url, ssl=tls or True) as answer:
        return answer.status, len(await answer.read())


async def test_a_client_that_does_not_take_its_answer_loses_the_connection() -> None:
    async def large(request: web.BaseRequest, metadata: object) -> web.Response:
        asyncio.get_running_loop().call_soon(watch.append, request.transport)
        return web.Response(body=bytes(64 << 20))

    watch: list[Any] = []
    async with Plain(large, write_timeout="200ms") as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(5):
            while not watch or not watch[0].is_closing():
                await asyncio.sleep(0.02)
        writer.close()
    async with Plain(large, write_timeout="5s") as server:
        assert await fetch(server) == (200, 64 << 20)


@pytest.mark.parametrize("options", [{"read_timeout": "300ms"}, {"read_timeout": "300ms", "read_header_timeout": "10s"}])
async def test_a_whole_request_has_to_come_in_time(options: dict[str, Any]) -> None:
    async def reads(request: web.BaseRequest, metadata: object) -> web.Response:
        try:
            return web.Response(body=await server.read_body(request))
        except TimeoutError:
            return web.Response(status=408)

    async with Plain(reads, **options) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nfull")
        assert b" 200 " in await one_answer(reader)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nha")
        async with asyncio.timeout(5):
            assert b" 408 " in await one_answer(reader)
        writer.close()


@pytest.mark.parametrize(
    "options, ends",
    [
        ({"idle_timeout": "200ms"}, True),
        ({"idle_timeout": "0s", "read_timeout": "200ms"}, True),
        ({"idle_timeout": "0s"}, False),
        ({"idle_timeout": "10s", "read_header_timeout": "0s", "read_timeout": "200ms"}, False),
    ],
)
async def test_idle_connections(options: dict[str, Any], ends: bool) -> None:
    async def page(request: web.BaseRequest, metadata: object) -> web.Response:
        return web.Response(text="ok")

    async with Plain(page, **options) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await one_answer(reader)
        try:
            async with asyncio.timeout(1.5):
                assert await reader.read() == b"" and ends
        except TimeoutError:
            assert not ends
        writer.close()


async def test_certificates_and_client_cas_that_are_replaced_on_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def page(request: web.BaseRequest, metadata: object) -> web.Response:
        return web.Response(text="ok")

    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    cert, key, ca = tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "ca.crt"

    def put(authority: Authority, name: str) -> None:
        pair = authority.issue(name)
        for source, target in ((pair.cert, cert), (pair.key, key), (authority.cert, ca)):
            fresh = Path(str(target) + ".new")
            fresh.write_bytes(Path(source).read_bytes())
            fresh.rename(target)

    def client(trusts: Authority, name: str) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=trusts.cert)
        pair = trusts.issue(name)
        context.load_cert_chain(pair.cert, pair.key)
        return context

    async def works(server: HttpServer, context: ssl.SSLContext) -> bool:
        try:
            async with aiohttp.ClientSession() as session, session.get(server.url, ssl=context) as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    put(old, "first")
    tls = {"cert_file": str(cert), "key_file": str(key), "client_ca_file": str(ca)}
    tls |= {"reload_interval": "1ms", "client_ca_file_reload": True}  # type: ignore[dict-item]
    old_client, new_client = client(old, "c1"), client(new, "c2")
    async with Plain(page, tls=tls) as server:
        assert await works(server, old_client) and not await works(server, new_client)
        cert.write_text("half")
        assert await works(server, old_client)
        assert "stays in use" in caplog.text and str(cert) in caplog.text
        put(new, "second")
        assert await works(server, new_client)
        assert not await works(server, old_client)  # neither its certificate nor its trust


async def test_pem_texts_serve_as_well_and_leave_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def page(request: web.BaseRequest, metadata: object) -> web.Response:
        return web.Response(text="ok")

    authority = Authority(tmp_path)
    pair = authority.issue("server")
    private = tmp_path / "private"
    private.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(private))
    tls = {"cert_pem": Path(pair.cert).read_text(), "key_pem": Path(pair.key).read_text(), "reload_interval": "1ms"}
    context = ssl.create_default_context(cafile=authority.cert)
    async with Plain(page, tls=tls) as server:
        assert await fetch(server, context) == (200, 2)
    assert list(private.iterdir()) == []


async def test_a_client_that_waits_for_leave_to_send_its_body_is_given_it() -> None:
    async def reads(request: web.BaseRequest, metadata: object) -> web.Response:
        return web.Response(body=await server.read_body(request))

    async with Plain(reads) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        async with asyncio.timeout(5):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"full")
            assert b" 200 " in await one_answer(reader)
        writer.close()


@every
async def test_idle_connections_do_not_keep_others_out(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "connection_limit", lambda option: 4)
    async with Serving(kind) as server:
        begun = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(20)]
        for _, writer in begun:
            writer.write(b"GET / HTTP/1.1\r\nHo")
        for _ in range(3):
            assert (await server.ask())[0] in (kind.answer, 503)
        async with asyncio.timeout(10):
            for reader, writer in begun[:16]:
                try:
                    assert await reader.read() == b""
                except ConnectionError:
                    pass
                writer.close()
        for _, writer in begun:
            writer.close()


async def test_headers_that_do_not_end_are_bounded_for_each_client_and_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    async def page(request: web.BaseRequest, metadata: object) -> web.Response:
        return web.Response(text="ok")

    monkeypatch.setattr(connection, "ALL_HEADER_BYTES", 100_000)
    line = b"X-%d: " + b"y" * 60_000 + b"\r\n"
    async with Plain(page) as server:
        first = await asyncio.open_connection("127.0.0.1", server.port)
        first[1].write(b"GET / HTTP/1.1\r\nHost: x\r\n" + line % 1)
        for _ in range(4):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n" + line % 1)
            assert b" 431 " in await closed(reader)
            assert await fetch(server) == (200, 2)
            writer.close()
        first[1].write(b"\r\n")
        assert b" 200 " in await one_answer(first[0])
        first[1].close()
    monkeypatch.undo()
    async with Plain(page) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
        for number in range(10):
            writer.write(line % number)
        assert b" 200 " not in await closed(reader)  # it ends while the client still sends: the answer may be lost
        assert await fetch(server) == (200, 2)


async def test_a_large_body_may_come_before_the_handler_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """As clients send that write headers and body one after the other: the body is read in the next turn of the loop."""
    client = socket.socket()
    pieces = [b"y" * (2 * connection.HEADER_BYTES)] * 2
    received = connection.Connection.data_received

    def then_the_body(self: connection.Connection, data: bytes) -> None:
        received(self, data)
        if data.startswith(b"POST") and pieces:
            client.sendall(pieces.pop())  # fits into the buffers of the kernel: it is there in the next turn

    sizes: list[int] = []

    async def size(request: web.BaseRequest, metadata: object) -> web.Response:
        sizes.append(len(await server.read_body(request)))
        return web.Response(text="ok")

    monkeypatch.setattr(connection.Connection, "data_received", then_the_body)
    async with Plain(size) as server, asyncio.timeout(5):
        client.connect(("127.0.0.1", server.port))
        reader, writer = await asyncio.open_connection(sock=client.dup())
        for _ in range(2):
            client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (2 * connection.HEADER_BYTES))
            assert b" 200 " in await one_answer(reader)
        assert sizes == [2 * connection.HEADER_BYTES] * 2
        writer.close()
        client.close()


CANARY = b"CANARY-5ee"
NOT_HTTP = [
    b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Basic " + CANARY + b"\x01\r\n\r\n",
    b"GET /?token=" + CANARY + b"\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
    CANARY + b" / HTTP/9.9\r\n\r\n",
    b"\x16\x03\x01" + CANARY + b"\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + CANARY + b"\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + CANARY + b"\r\n",
]


@every
async def test_what_is_not_http_is_in_no_log_and_no_answer(kind: Kind, caplog: pytest.LogCaptureFixture) -> None:
    async with Serving(kind) as server:
        for request in NOT_HTTP:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(request)
            answer = await closed(reader)
            writer.close()
            assert re.match(rb"HTTP/1\.[01] 400 ", answer) and CANARY not in answer
            assert b"Server: kofagent\r\n" in answer
        assert CANARY.decode() not in caplog.text and "Traceback" not in caplog.text
        assert caplog.text.count("requests that are not HTTP were refused") == 1
        assert (await server.ask())[1]["Server"] == "kofagent"
        assert (await server.ask(path="/no/such/page"))[1]["Server"] == "kofagent"


async def test_a_damaged_body_is_the_clients_fault(caplog: pytest.LogCaptureFixture) -> None:
    async with Serving(SERVERS[ids.index("receivers/otlp/http.py")]) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = b"POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head + b"5\r\nabcde\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(CANARY + b"\r\n")
        async with asyncio.timeout(5):
            assert re.match(rb"HTTP/1\.[01] 400 ", answer := await one_answer(reader)) and CANARY not in answer
        writer.close()
        assert CANARY.decode() not in caplog.text and "Traceback" not in caplog.text


@every
async def test_loopback_answers_no_page_of_somebody_else(kind: Kind) -> None:
    """A name that a page made to resolve to 127.0.0.1 (DNS rebinding), and a request that a page of another origin sends."""
    async with Serving(kind) as server:
        for host in (
            "localhost",
            "127.0.0.1",
            f"localhost:{server.port}",
            "[::1]:1",
            "a.localhost",
            "LOCALHOST.",
            "sidecar:4318",
            "10.0.0.1",
        ):
            assert (await server.ask(headers={"Host": host}))[0] in (kind.answer, 503), host
        for host in (
            "evil.example",
            f"evil.example:{server.port}",
            "127.0.0.1.evil.example",
            "evil.example.",
            "localhost@evil.example",
            "[",
        ):
            assert (await server.ask(headers={"Host": host}))[0] in (400, 403), host
        for origin in ("http://localhost:3000", "http://127.0.0.1"):
            assert (await server.ask(headers={"Origin": origin}))[0] in (kind.answer, 503), origin
        for origin in ("http://evil.example", "null", "http://localhost.evil.example", "file://", "http://["):
            assert (await server.ask(headers={"Origin": origin}))[0] == 403, origin


@with_options
async def test_origins_that_the_user_allows_are_answered_on_loopback(kind: Kind) -> None:
    async with Serving(kind, cors={"allowed_origins": ["https://app.example"]}) as server:
        assert (await server.ask(headers={"Origin": "https://app.example"}))[0] in (kind.answer, 503)
        assert (await server.ask(headers={"Host": "app.example"}))[0] in (kind.answer, 503)
        assert (await server.ask(headers={"Origin": "https://other.example"}))[0] == 403


@with_options
async def test_other_listeners_answer_by_any_name(kind: Kind) -> None:
    async with Serving(kind, endpoint="0.0.0.0:0") as server:
        assert (await server.ask(headers={"Host": "agent.example", "Origin": "http://page.example"}))[0] in (kind.answer, 503)
