"""What the transport promises, held against each client that is made of it: exporters', scrapes' and that of the Kubernetes API."""

from __future__ import annotations

import asyncio
import gzip
import re
import ssl
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import aiohttp
import pytest
import yaml
from aiohttp import web
from yarl import URL

from kofagent.config.blocks import HttpClientBlock
from kofagent.kubernetes.client import ApiClient
from kofagent.kubernetes.errors import ApiError
from kofagent.kubernetes.kubeconfig import load
from kofagent.net.client import HttpClient
from kofagent.net.transport import Denied, Route, Transport, denied, failure
from kofagent.prometheus.client import Client, FetchError
from kofagent.prometheus.client_config import HttpClientOptions
from kofagent.telemetry.refused import Refused
from tests.net.conftest import Serve
from tests.support.certificates import Authority, Pair
from tests.support.components import FakeHost, make_context
from tests.support.faulty import ConnectProxy

SECRET = "hidden-word"
TIMEOUT = 0.4
LIMIT = 1000


class Signs:
    async def request_headers(self, metadata: object) -> dict[str, str]:
        return {"Authorization": f"Bearer {SECRET}"}

    async def authenticate(self, headers: object) -> dict[str, tuple[str, ...]]:
        return {}


class Side(Protocol):
    """One client with a secret in every way it has, and limits of `LIMIT` bytes and `TIMEOUT` seconds."""

    failure: ClassVar[type[Exception]]
    follows: ClassVar[bool]
    kept: ClassVar[int]
    """Bytes it keeps of a body that is too large."""

    def __init__(self, folder: Path, origin: str, tls: dict[str, str], proxy: str) -> None: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def get(self, path: str, timeout: float) -> tuple[int, bytes]: ...


class ExporterSide:
    failure: ClassVar[type[Exception]] = Refused
    follows = True
    kept = LIMIT

    def __init__(self, folder: Path, origin: str, tls: dict[str, str], proxy: str) -> None:
        options: dict[str, Any] = {
            "headers": {"X-Key": SECRET, "Cookie": f"a={SECRET}"},
            "auth": {"authenticator": "signs"},
            "tls": {**tls, "reload_interval": "1ms"},
            "proxy_url": proxy,
        }
        context = make_context("exporter", "x", FakeHost({"signs": Signs()}))
        self._client, self._origin = HttpClient(HttpClientBlock.model_validate(options), context), origin

    async def start(self) -> None:
        await self._client.start()

    async def stop(self) -> None:
        await self._client.stop()

    async def get(self, path: str, timeout: float) -> tuple[int, bytes]:
        answer = await self._client.request("GET", self._origin + path, limit=LIMIT, timeout=timeout)
        return answer.status, answer.body


class ScrapeSide:
    failure: ClassVar[type[Exception]] = FetchError
    follows = True
    kept = 0

    def __init__(self, folder: Path, origin: str, tls: dict[str, str], proxy: str) -> None:
        options: dict[str, Any] = {
            "authorization": {"credentials": SECRET},
            "http_headers": {"X-Key": {"secrets": [SECRET]}, "Cookie": {"values": [f"a={SECRET}"]}},
            "tls_config": tls,
            "proxy_url": proxy,
        }
        self._client, self._origin = Client(HttpClientOptions.model_validate(options), "test"), origin

    async def start(self) -> None:
        await self._client.start()

    async def stop(self) -> None:
        await self._client.stop()

    async def get(self, path: str, timeout: float) -> tuple[int, bytes]:
        page = await self._client.get(self._origin + path, {"Accept-Encoding": "gzip"}, timeout, LIMIT)
        return page.status, page.body


class ApiSide:
    failure: ClassVar[type[Exception]] = ApiError
    follows = False
    kept = 0

    def __init__(self, folder: Path, origin: str, tls: dict[str, str], proxy: str) -> None:
        cluster = {"server": origin, "certificate-authority": tls.get("ca_file", ""), "proxy-url": proxy}
        user = {
            "token": SECRET,
            "as-user-extra": {"x": [SECRET]},
            "client-certificate": tls.get("cert_file", ""),
            "client-key": tls.get("key_file", ""),
        }
        file = folder / "kubeconfig"
        one = {"contexts": {"cluster": "c", "user": "c"}, "clusters": cluster, "users": user}
        entries = {kind: [{"name": "c", kind[:-1]: body}] for kind, body in one.items()}
        file.write_text(yaml.safe_dump({"current-context": "c", **entries}))
        self._client = ApiClient(load(str(file)))

    async def start(self) -> None:
        await self._client.start()

    async def stop(self) -> None:
        await self._client.stop()

    async def get(self, path: str, timeout: float) -> tuple[int, bytes]:
        answer = await self._client.request("GET", path, limit=LIMIT, timeout=timeout)
        return answer.status, answer.body


@pytest.fixture(params=[ExporterSide, ScrapeSide, ApiSide])
def side(request: pytest.FixtureRequest) -> type[Side]:
    found: type[Side] = request.param
    return found


class Open:
    """One side between start and stop."""

    def __init__(self, side: type[Side], folder: Path, origin: str, tls: dict[str, str] | None = None, proxy: str = "") -> None:
        self.client = side(folder, origin, tls or {}, proxy)
        self._failure = side.failure

    async def __aenter__(self) -> Self:
        await self.client.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.client.stop()

    async def get(self, path: str = "/", timeout: float = 5.0) -> tuple[int, bytes]:
        return await self.client.get(path, timeout)

    async def outcome(self) -> tuple[bytes, str]:
        """The body, or why there is none."""
        try:
            return (await self.get())[1], ""
        except self._failure as error:
            return b"", str(error)


def server_tls(pair: Pair, client_ca: str = "") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    if client_ca:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


# --- redirects


@pytest.mark.parametrize("place", ["same", "port", "host", "scheme", "away and back"])
async def test_secrets_stay_with_the_first_scheme_host_and_port(side: type[Side], place: str, serve: Serve, tmp_path: Path) -> None:
    seen: list[tuple[str, bool]] = []
    where: dict[str, str] = {}

    async def page(request: web.Request) -> web.Response:
        told = SECRET in str(request.headers) or SECRET in str(request.cookies)
        if request.path in where:
            raise web.HTTPTemporaryRedirect(where[request.path])
        seen.append((request.path, told))
        return web.Response(text="there")

    authority = Authority(tmp_path)
    tls = {"ca_file": authority.cert}
    first, other = await serve(page), await serve(page)
    secure = await serve(page, server_tls(authority.issue("server")))
    port = first.rpartition(":")[2]
    where["/out"] = {
        "same": "/there",
        "port": other + "/there",
        "host": f"http://localhost:{port}/there",
        "scheme": secure + "/there",
        "away and back": other + "/back",
    }[place]
    where["/back"] = first + "/there"
    async with Open(side, tmp_path, first, tls) as client:
        await client.get("/in")
        status, body = await client.get("/out")
    assert seen[0] == ("/in", True)
    if side.follows:
        assert (status, body) == (200, b"there")
        assert seen[1:] == [("/there", place == "same")]
    else:
        assert (status, len(seen)) == (307, 1)


@pytest.mark.parametrize("place", ["ftp://127.0.0.1/", "file:///etc/passwd", "/again", "http://", "http://[::1", "http://h:99999"])
async def test_redirects_that_lead_nowhere(side: type[Side], place: str, serve: Serve, tmp_path: Path) -> None:
    async def page(request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": place})

    async with Open(side, tmp_path, await serve(page)) as client:
        if side.follows:
            with pytest.raises(side.failure, match="redirect"):
                await client.get()
        else:
            assert (await client.get())[0] == 302


@pytest.mark.parametrize("host", ["a..b", "a" * 64, "xn--"])
async def test_a_redirect_to_a_name_that_cannot_exist(side: type[Side], host: str, serve: Serve, tmp_path: Path) -> None:
    async def page(request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": f"http://{host}/"})

    async with Open(side, tmp_path, await serve(page)) as client:
        if side.follows:
            with pytest.raises(side.failure, match=r"URL is not valid|cannot connect"):
                await client.get()
        else:
            assert (await client.get())[0] == 302


# --- TLS


def copy(pair: Pair, folder: Path, name: str = "own") -> Pair:
    """Puts a pair where a client reads it, by renaming as the kubelet does."""
    there = Pair(str(folder / f"{name}.crt"), str(folder / f"{name}.key"))
    for source, target in zip(pair, there, strict=True):
        replace(source, target)
    return there


def replace(source: str, target: str) -> None:
    new = Path(target + ".new")
    new.write_bytes(Path(source).read_bytes())
    new.rename(target)


@asynccontextmanager
async def tls_server(context: ssl.SSLContext) -> AsyncIterator[tuple[str, Callable[[ssl.SSLContext], None]]]:
    """Answers with the serial number of the client's certificate, one request a connection; its context can be changed."""
    current = context

    async def page(request: web.BaseRequest) -> web.Response:
        assert request.transport is not None
        peer = request.transport.get_extra_info("peercert") or {}
        response = web.Response(text=str(peer.get("serialNumber", "")))
        response.force_close()
        return response

    def choose(connection: ssl.SSLObject, name: str | None, outer: ssl.SSLContext) -> None:
        connection.context = current

    def change(new: ssl.SSLContext) -> None:
        nonlocal current
        current = new

    context.sni_callback = choose
    runner = web.ServerRunner(web.Server(page, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}", change
    finally:
        await runner.cleanup()


async def becomes(ask: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await ask():
            await asyncio.sleep(0.02)


async def test_a_ca_that_is_replaced_on_disk(side: type[Side], tmp_path: Path) -> None:
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    trusted = tmp_path / "trusted.crt"
    replace(old.cert, str(trusted))
    async with (
        tls_server(server_tls(old.issue("a"))) as (url, change),
        Open(side, tmp_path, url, {"ca_file": str(trusted)}) as client,
    ):
        assert (await client.get())[0] == 200
        change(server_tls(new.issue("b")))
        with pytest.raises(side.failure, match="TLS handshake failed"):
            await client.get()
        replace(new.cert, str(trusted))

        async def works() -> bool:
            return not (await client.outcome())[1]

        await becomes(works)
        change(server_tls(old.issue("c")))
        with pytest.raises(side.failure, match="TLS handshake failed"):
            await client.get()


async def test_a_client_certificate_that_is_replaced_on_disk(side: type[Side], tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own = copy(authority.issue("first"), tmp_path)
    tls = {"ca_file": authority.cert, "cert_file": own.cert, "key_file": own.key}
    context = server_tls(authority.issue("server"), authority.cert)
    async with tls_server(context) as (url, _), Open(side, tmp_path, url, tls) as client:
        first = (await client.get())[1]
        assert len(first) > 10
        second = authority.issue("second")
        replace(second.cert, own.cert)  # without its key yet: nothing that could be used
        body, error = await client.outcome()
        assert body == first or own.cert in error
        replace(second.key, own.key)

        async def shows_the_new_one() -> bool:
            return (await client.outcome())[0] not in (first, b"")

        await becomes(shows_the_new_one)


# --- proxies


@pytest.mark.parametrize("secure", [False, True])
async def test_a_proxy_with_a_login(side: type[Side], secure: bool, serve: Serve, tmp_path: Path) -> None:
    async def page(request: web.Request) -> web.Response:
        assert "Proxy-Authorization" not in request.headers or not secure
        return web.Response(text="there")

    authority = Authority(tmp_path)
    url = await serve(page, server_tls(authority.issue("server", dns=("far.test",))) if secure else None)
    scheme, port = url.split(":")[0], int(url.rpartition(":")[2])
    names = {f"far.test:{port}": port}
    async with ConnectProxy(names, login="me:pass") as proxy:
        far = f"{scheme}://far.test:{port}"
        tls = {"ca_file": authority.cert}
        async with Open(side, tmp_path, far, tls, f"http://me:pass@127.0.0.1:{proxy.port}") as client:
            assert await client.get("/x") == (200, b"there")
        assert proxy.asked[0].startswith("CONNECT far.test" if secure else "GET http://far.test")
        async with Open(side, tmp_path, far, tls, f"http://me:wrong@127.0.0.1:{proxy.port}") as client:
            if secure:
                with pytest.raises(side.failure, match="the proxy answered 407") as error:
                    await client.get("/x")
                assert "wrong" not in str(error.value)
            else:
                assert (await client.get("/x"))[0] == 407
    async with Open(side, tmp_path, far, tls, "http://127.0.0.1:1") as client:
        with pytest.raises(side.failure, match=r"cannot connect to the proxy.*refused"):
            await client.get("/x")


# --- servers that do not do what they should


@asynccontextmanager
async def raw(answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """A server that does what `answer` does with each connection once a request has come."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            await answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
CUT = "closed the connection|cut off|Connection reset"


async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def hangs_in_the_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"half")
    await reader.read()


async def drips(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for byte in HEAD:
        writer.write(bytes([byte]))
        await asyncio.sleep(TIMEOUT / 8)


async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    pass


async def cuts_the_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"half")
    await writer.drain()


async def talks_something_else(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
    await writer.drain()


@pytest.mark.parametrize(
    "answer, says",
    [
        (hangs, "no .*answer"),
        (hangs_in_the_body, "no .*answer"),
        (drips, "no .*answer"),
        (closes, CUT),
        (cuts_the_body, CUT),
        (talks_something_else, "."),
    ],
)
async def test_servers_that_are_slow_or_cut(side: type[Side], answer: Any, says: str, tmp_path: Path) -> None:
    async with raw(answer) as url, Open(side, tmp_path, url) as client:
        async with asyncio.timeout(TIMEOUT * 10):
            with pytest.raises(side.failure, match=says) as error:
                await client.get(timeout=TIMEOUT)
    assert SECRET not in str(error.value)


async def test_nobody_listens(side: type[Side], tmp_path: Path) -> None:
    async with Open(side, tmp_path, "http://127.0.0.1:1") as client:
        with pytest.raises(side.failure, match="Connection refused"):
            await client.get()


@pytest.fixture(scope="module")
def bomb() -> bytes:
    return gzip.compress(bytes(100_000_000), 9)


@pytest.mark.parametrize("coding", ["gzip", "", "chunked"])
async def test_a_body_without_end_costs_the_limit(side: type[Side], coding: str, bomb: bytes, tmp_path: Path) -> None:
    ended = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if coding == "gzip":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb)
                await reader.read()
            piece = bytes(16384)
            writer.write(b"HTTP/1.1 200 OK\r\n" + (b"Transfer-Encoding: chunked\r\n\r\n" if coding else b"\r\n"))
            while True:
                writer.write(b"4000\r\n" + piece + b"\r\n" if coding else piece)
                await writer.drain()
        finally:
            ended.set()

    async with raw(answer) as url, Open(side, tmp_path, url) as client:
        tracemalloc.start()
        try:
            body, error = await client.outcome()
            assert tracemalloc.get_traced_memory()[1] < 5_000_000
        finally:
            tracemalloc.stop()
        assert len(body) == side.kept
        assert side.kept or any(word in error for word in ("limit", "more than", "compressed"))
        if coding != "gzip":
            async with asyncio.timeout(5):
                await ended.wait()  # the connection was given up, not read to its end


@pytest.mark.parametrize("side", [ExporterSide, ScrapeSide])
async def test_a_body_in_gzip_that_fits(side: type[Side], serve: Serve, tmp_path: Path) -> None:
    async def page(request: web.Request) -> web.Response:
        return web.Response(body=gzip.compress(b"x" * 500), headers={"Content-Encoding": "gzip"})

    async with Open(side, tmp_path, await serve(page)) as client:
        assert await client.get() == (200, b"x" * 500)


# --- addresses and logins


async def test_what_is_forbidden_is_not_connected_to_by_any_name(serve: Serve) -> None:
    async def page(request: web.Request) -> web.Response:
        return web.Response(text="there")

    url = URL(await serve(page, None)).with_host("localhost")
    transport = Transport()
    await transport.start()
    route = Route(lambda: True, lambda target: None)
    try:
        denied.set(Denied(["127.0.0.0/8", "::1"], "the option"))
        with pytest.raises(aiohttp.ClientConnectorError) as error:
            await transport.send("GET", url, route, {})
        assert re.search(r"the option forbids (127\.0\.0\.1|::1)", failure(error.value).sentence)
        denied.set(Denied(["169.254.0.0/16"], "the option"))
        async with await transport.send("GET", url, route, {}) as answer:
            assert answer.status == 200
    finally:
        denied.set(None)
        await transport.stop()


async def test_a_login_in_the_url_gives_way_to_an_authenticator(serve: Serve) -> None:
    seen: list[str] = []

    async def page(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization", ""))
        return web.Response(text="there")

    url = URL(await serve(page, None)).with_user("me").with_password("pass")
    transport = Transport()
    await transport.start()
    route = Route(lambda: True, lambda target: None)
    for headers in ({"authorization": "Bearer token"}, {}):
        async with await transport.send("GET", url, route, headers) as answer:
            assert answer.status == 200
    await transport.stop()
    assert seen == ["Bearer token", "Basic bWU6cGFzcw=="]
