"""The HTTP client against a real server: redirects, limits, broken connections, certificates."""

import asyncio
import datetime
import email.utils
import ssl
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization

from kofagent.component.protocols import StartError
from kofagent.config.address import join_endpoint, split_endpoint
from kofagent.config.blocks import HttpClientBlock, TlsClientBlock
from kofagent.net.client import HttpClient, retry_after_seconds
from kofagent.prometheus.client_config import TlsConfig
from kofagent.telemetry.refused import Refused
from tests.net.conftest import Serve
from tests.support.certificates import Authority
from tests.support.components import FakeHost, eventually, make_context
from tests.support.servers import certificate


async def client(options: dict[str, Any] | None = None, host: FakeHost | None = None) -> HttpClient:
    it = HttpClient(HttpClientBlock.model_validate(options or {}), make_context("exporter", "x", host))
    await it.start()
    return it


async def test_the_environments_proxy(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text=f"{request.headers['Host']}{request.raw_path}")

    url = await serve(handler)
    for name in ("http_proxy", "NO_PROXY", "no_proxy", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    it = await client()
    assert (await it.request("GET", url + "/x")).body.endswith(b"/x")  # as Go: what is on this machine is asked directly
    with pytest.raises(Refused, match="cannot connect"):
        await it.request("GET", "http://far-one.test/x")
    monkeypatch.setenv("HTTP_PROXY", url)
    assert (await it.request("GET", "http://far-two.test/x")).body.startswith(b"far-two.test")
    monkeypatch.setenv("NO_PROXY", ".test")
    with pytest.raises(Refused, match="cannot connect to far-three"):
        await it.request("GET", "http://far-three.test/x")
    monkeypatch.setenv("HTTP_PROXY", "socks5://127.0.0.1:1")
    with pytest.raises(Refused, match="HTTP_PROXY is not the URL of an http or https proxy"):
        await it.request("GET", "http://far-four.example/x")
    await it.stop()


async def test_headers_compression_and_a_bounded_answer(serve: Serve) -> None:
    seen: list[tuple[dict[str, str], bytes]] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(({k.lower(): v for k, v in request.headers.items()}, await request.read()))
        return web.Response(status=418, body=b"x" * 1_000_000)

    url = await serve(handler)
    it = await client({"headers": {"X-Scope": "t1", "user-agent": "mine"}})
    answer = await it.request("POST", url + "/p", b"body" * 100, {"Content-Type": "a/b"}, compress=True)
    assert (answer.status, len(answer.body)) == (418, 65536)
    headers, body = seen[0]
    assert body == b"body" * 100  # the server undid the gzip
    assert (headers["x-scope"], headers["user-agent"], headers["content-encoding"]) == ("t1", "mine", "gzip")
    assert len((await it.request("GET", url, limit=10)).body) == 10
    await it.stop()


async def test_a_redirect_to_another_host_takes_no_secret_along(serve: Serve) -> None:
    seen: list[tuple[str, bool, bool, bytes]] = []

    async def target(request: web.Request) -> web.Response:
        seen.append((request.path, "Authorization" in request.headers, "X-Key" in request.headers, await request.read()))
        return web.Response()

    other = await serve(target)

    async def first(request: web.Request) -> web.Response:
        if request.path == "/here":
            return await target(request)
        raise web.HTTPTemporaryRedirect(other + "/there" if request.path == "/out" else "/here")

    class Auth:
        async def request_headers(self, metadata: object) -> dict[str, str]:
            return {"Authorization": "Basic c2VjcmV0"}

    url = await serve(first)
    it = await client({"headers": {"X-Key": "s"}, "auth": {"authenticator": "basicauth"}}, FakeHost({"basicauth": Auth()}))
    await it.request("POST", url + "/in", b"data")
    await it.request("POST", url + "/out", b"data")
    assert seen == [("/here", True, True, b"data"), ("/there", False, False, b"data")]
    await it.stop()


async def test_a_body_meant_for_tls_is_not_sent_in_plain_text(serve: Serve, tmp_path: Path) -> None:
    seen: list[str] = []

    async def page(request: web.Request) -> web.Response:
        seen.append(request.method)
        return web.Response(text="plain")

    plain = await serve(page)
    cert, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)

    async def down(request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect(plain)

    url = await serve(down, context)
    it = await client({"tls": {"ca_file": str(cert)}})
    with pytest.raises(Refused, match="a redirect from https to http was not followed"):
        await it.request("POST", url, b"x")
    assert (await it.request("GET", url)).body == b"plain"  # there is nothing in it that was meant for TLS
    assert seen == ["GET"]
    await it.stop()


@pytest.mark.parametrize("status, followed", [(301, False), (302, False), (303, False), (307, True), (308, True)])
async def test_which_redirects_of_a_post_are_followed(serve: Serve, status: int, followed: bool) -> None:
    async def page(request: web.Request) -> web.Response:
        if request.path == "/there":
            return web.Response(body=await request.read())
        return web.Response(status=status, headers={"Location": "/there"})

    it = await client()
    answer = await it.request("POST", await serve(page), b"data")
    assert (answer.status, answer.body) == ((200, b"data") if followed else (status, b""))
    await it.stop()


async def test_tls_is_verified_and_what_is_wrong_is_said(serve: Serve, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)

    async def ok(request: web.Request) -> web.Response:
        return web.Response(text="hi")

    url = await serve(ok, context)
    for options, good in (
        ({}, False),
        ({"tls": {"ca_file": str(cert)}}, True),
        ({"tls": {"insecure_skip_verify": True}}, True),
        ({"tls": {"ca_file": str(cert), "server_name_override": "elsewhere"}}, False),
        ({"tls": {"ca_pem": cert.read_text(), "server_name_override": "localhost"}}, True),
    ):
        it = await client(options)
        if good:
            assert (await it.request("GET", url)).body == b"hi"
        else:
            with pytest.raises(Refused, match=r"certificate|TLS"):
                await it.request("GET", url)
        await it.stop()
    for bad, words in (
        ({"ca_file": "/nonexistent.pem"}, "ca_file /nonexistent.pem"),
        ({"ca_file": str(key)}, "PEM"),
    ):
        with pytest.raises(StartError, match=words):
            await client({"tls": bad})


async def test_the_systems_certificates_are_read_when_a_connection_asks_for_them(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)

    async def ok(request: web.Request) -> web.Response:
        return web.Response(text="hi")

    it = await client()
    with monkeypatch.context() as patch:
        patch.delattr(ssl.SSLContext, "load_default_certs")
        assert (await it.request("GET", await serve(ok))).body == b"hi"
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    assert (await it.request("GET", await serve(ok, context))).body == b"hi"
    await it.stop()


async def test_broken_connections_and_timeouts_are_retryable(serve: Serve) -> None:
    hold = asyncio.Event()

    async def stall(request: web.Request) -> web.Response:
        await hold.wait()
        return web.Response()

    async def cut(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    it = await client({"timeout": "100ms"})
    for url, reason in ((await serve(stall), "timeout"), (await serve(cut), "connection"), ("http://127.0.0.1:1", "connection")):
        with pytest.raises(Refused) as error:
            await it.request("POST", url, b"x")
        assert (error.value.reason, error.value.permanent) == (reason, False)
    hold.set()
    await it.stop()


def test_retry_after() -> None:
    assert retry_after_seconds({"Retry-After": "7"}) == 7
    assert retry_after_seconds({"Retry-After": "soon"}) is None
    assert retry_after_seconds({"Retry-After": "inf"}) is None
    assert retry_after_seconds({}) is None
    date = email.utils.format_datetime(datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=100))
    assert 90 < (retry_after_seconds({"Retry-After": date}) or 0) <= 100
    assert retry_after_seconds({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0


@pytest.mark.parametrize("low, high, fits", [("1.3", "1.2", False), ("", "1.1", False), ("1.2", "1.2", True), ("1.3", "", True)])
def test_there_is_a_tls_version_to_agree_on(low: str, high: str, fits: bool) -> None:
    in_prometheus = {"min_version": low and f"TLS{low.replace('.', '')}", "max_version": high and f"TLS{high.replace('.', '')}"}
    for block, options in ((TlsClientBlock, {"min_version": low, "max_version": high}), (TlsConfig, in_prometheus)):
        if fits:
            block.model_validate(options)
        else:
            with pytest.raises(ValueError, match="higher than max_version"):
                block.model_validate(options)


def test_endpoints() -> None:
    assert split_endpoint("localhost:4317") == ("localhost", 4317)
    assert split_endpoint(":4317") == ("", 4317)
    assert split_endpoint("[::1]:1") == ("::1", 1)
    assert join_endpoint("::1", 1) == "[::1]:1"
    for bad in ("localhost", "http://localhost:1", "::1:4317", "localhost:http", "localhost:70000"):
        with pytest.raises(ValueError):
            split_endpoint(bad)


class Counting:
    """A server that counts its connections."""

    def __init__(self) -> None:
        self.now = self.most = self.ever = 0
        self.gate = asyncio.Event()

    async def __aenter__(self) -> str:
        async def page(request: web.BaseRequest) -> web.Response:
            if request.path == "/wait":
                await self.gate.wait()
            return web.Response(text="ok")

        self._runner = web.ServerRunner(web.Server(page, access_log=None))
        await self._runner.setup()
        make = self._runner.server
        assert make is not None

        def connection() -> Any:
            protocol = make()
            made, lost = protocol.connection_made, protocol.connection_lost

            def count_made(transport: Any) -> None:
                self.now += 1
                self.ever += 1
                self.most = max(self.most, self.now)
                made(transport)

            def count_lost(error: Exception | None) -> None:
                self.now -= 1
                lost(error)

            return Counted(protocol, count_made, count_lost)

        self._server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        await self._runner.cleanup()


class Counted(asyncio.Protocol):
    """A protocol with two of its calls replaced."""

    def __init__(self, inner: Any, made: Any, lost: Any) -> None:
        self._inner = inner
        self.connection_made, self.connection_lost = made, lost

    def __getattribute__(self, name: str) -> Any:
        if name in ("data_received", "eof_received", "pause_writing", "resume_writing"):
            return getattr(object.__getattribute__(self, "_inner"), name)
        return object.__getattribute__(self, name)


@pytest.mark.parametrize(
    "options, most, kept",
    [
        ({}, 5, 5),
        ({"max_idle_conns": 0}, 5, 5),
        ({"max_idle_conns": 3}, 5, 3),
        ({"max_idle_conns_per_host": 2}, 5, 2),
        ({"max_idle_conns": 1, "max_idle_conns_per_host": 2}, 5, 1),
        ({"max_conns_per_host": 2}, 2, 2),
        ({"disable_keep_alives": True}, 5, 0),
        ({"idle_conn_timeout": "100ms"}, 5, 0),
        ({"idle_conn_timeout": "0s"}, 5, 5),
    ],
)
async def test_limits_of_connections(options: dict[str, Any], most: int, kept: int) -> None:
    server = Counting()
    async with server as url:
        it = await client(options)
        requests = [asyncio.ensure_future(it.request("POST", url + "/wait", b"x")) for _ in range(5)]
        await eventually(lambda: server.now == most)
        server.gate.set()
        assert [answer.body for answer in await asyncio.gather(*requests)] == [b"ok"] * 5
        await eventually(lambda: server.now == kept)
        ever = server.ever
        await it.request("POST", url, b"x")
        assert (server.most, server.ever - ever) == (most, 0 if kept else 1)
        await it.stop()


async def test_a_key_with_a_password_is_an_error_and_no_question_at_the_terminal(tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue("own")
    key = serialization.load_pem_private_key(Path(pair.key).read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"word")
    )
    Path(pair.key).write_bytes(locked)
    with pytest.raises(StartError, match=r"tls\.cert_file .*own\.key: not a usable PEM file"):
        await client({"tls": {"cert_file": pair.cert, "key_file": pair.key}})
