"""Pages to scrape on many addresses of this machine, with a record of every scrape: when, which page, by whom.

EndpointSlices take no loopback addresses, so a range of its own is made local for as long as the pages are served (needs root).
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NamedTuple

from aiohttp import web

from tests.cluster.certificates import Keys
from tests.support.servers import free_port

RANGE = "10.98.7.0/24"
ADDRESSES = 60
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def address(number: int) -> str:
    """One of the addresses, 1 to ADDRESSES."""
    return f"10.98.7.{number}"


def obstacle() -> str:
    """Why there can be no such pages here; empty when there can."""
    return "" if os.geteuid() == 0 else "an address range on the loopback device needs root"


class Scrape(NamedTuple):
    """One request that asked for a page. `time` is the monotonic clock when it came, `agent` what its User-Agent has after a +."""

    time: float
    agent: str
    address: str
    path: str
    status: int
    authorization: str
    query: str


class Pages:
    """`http://<any address>:<port>/...` and the same with TLS that asks for a client certificate on `tls_port`.

    /metrics and unknown paths are plain; the others are named after what is special: /basic, /bearer, /oauth (with /token), /slow,
    /large, /many, /labels, /names, /values, /times, /honor, /redirect, /probe, /sd. What they accept may be changed while they run.
    """

    def __init__(self, keys: Keys) -> None:
        self.port, self.tls_port = free_port(), free_port()
        self.scrapes: list[Scrape] = []
        self.by_page: dict[str, list[Scrape]] = {}
        self.basic, self.bearer, self.oauth = ("user", "word"), "bearer-1", "oauth-token"
        self.clients: dict[str, float] = {}
        self.client = ("id", "client-word")
        self.sd: list[dict[str, Any]] = []
        self._keys = keys
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pages", daemon=True)

    def __enter__(self) -> Pages:
        subprocess.run(["ip", "route", "replace", "local", RANGE, "dev", "lo"], check=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(30)
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(TimeoutError):  # who keeps a connection open must not keep us
            asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        subprocess.run(["ip", "route", "del", "local", RANGE, "dev", "lo"], check=False, capture_output=True)

    def renew(self, name: str) -> None:
        """Serves TLS with another certificate of the folder from the next connection on."""
        self._tls.load_cert_chain(self._keys.cert(name), self._keys.key(name))

    def of(self, host: str, path: str = "/metrics", since: float = 0.0) -> list[Scrape]:
        """The scrapes of a page, oldest first."""
        return self.at(f"{host}{path}", since)

    def at(self, page: str, since: float = 0.0) -> list[Scrape]:
        """The scrapes of `address/path?query`, oldest first."""
        return [scrape for scrape in list(self.by_page.get(page, ())) if scrape.time >= since]

    async def _start(self) -> None:
        app = web.Application(middlewares=[self._record])
        for path in (
            "basic",
            "bearer",
            "oauth",
            "slow",
            "large",
            "many",
            "labels",
            "names",
            "values",
            "times",
            "honor",
            "redirect",
            "probe",
            "sd",
        ):
            app.router.add_get(f"/{path}", getattr(self, f"_{path}"))
        app.router.add_post("/token", self._token)
        app.router.add_get("/{tail:.*}", self._plain)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self._keys.cert("ca"))
        self._tls.verify_mode = ssl.CERT_REQUIRED
        self.renew("pages")
        for port, tls in ((self.port, None), (self.tls_port, self._tls)):
            for number in range(1, ADDRESSES + 1):
                await web.TCPSite(self._runner, address(number), port, ssl_context=tls).start()

    @web.middleware
    async def _record(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        moment = time.monotonic()
        transport = request.transport
        name = transport.get_extra_info("sockname") if transport is not None else None
        if transport is None or name is None:
            return web.Response(status=503)  # who asked has gone
        if request.path in ("/token", "/sd"):
            return await handler(request)
        who = request.headers.get("User-Agent", "").partition("+")[2]
        certificate = transport.get_extra_info("peercert")
        if certificate:
            self.clients[dict(pair[0] for pair in certificate["subject"])["commonName"]] = moment
        try:
            answer = await handler(request)
        except web.HTTPException as error:
            answer = error
        scrape = Scrape(
            moment,
            who,
            name[0],
            request.path,
            answer.status,
            request.headers.get("Authorization", ""),
            request.rel_url.raw_query_string,
        )
        self.scrapes.append(scrape)
        self.by_page.setdefault(f"{scrape.address}{scrape.path}{'?' + scrape.query if scrape.query else ''}", []).append(scrape)
        return answer if not isinstance(answer, web.HTTPException) else web.Response(status=answer.status, headers=answer.headers)

    async def _plain(self, request: web.Request) -> web.Response:
        return _page("page 1\n")

    async def _basic(self, request: web.Request) -> web.Response:
        wanted = "Basic " + base64.b64encode(":".join(self.basic).encode()).decode()
        return _page("page 1\n") if request.headers.get("Authorization") == wanted else web.Response(status=401)

    async def _bearer(self, request: web.Request) -> web.Response:
        return _page("page 1\n") if request.headers.get("Authorization") == f"Bearer {self.bearer}" else web.Response(status=401)

    async def _oauth(self, request: web.Request) -> web.Response:
        return _page("page 1\n") if request.headers.get("Authorization") == f"Bearer {self.oauth}" else web.Response(status=401)

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        given = form.get("client_id"), form.get("client_secret")
        if "Authorization" in request.headers:
            user, _, word = base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode().partition(":")
            given = user, word
        if given != self.client:
            return web.json_response({"error": "invalid_client"}, status=401)
        return web.json_response({"access_token": self.oauth, "token_type": "Bearer", "expires_in": 3600})

    async def _slow(self, request: web.Request) -> web.Response:
        await asyncio.sleep(3)
        return _page("page 1\n")

    async def _large(self, request: web.Request) -> web.Response:
        return _page("# " + "x" * 200_000 + "\npage 1\n")

    async def _many(self, request: web.Request) -> web.Response:
        return _page("".join(f'page{{n="{i}"}} 1\n' for i in range(100)))

    async def _labels(self, request: web.Request) -> web.Response:
        return _page("page{" + ",".join(f'l{i}="x"' for i in range(30)) + "} 1\n")

    async def _names(self, request: web.Request) -> web.Response:
        return _page(f'page{{{"n" * 100}="x"}} 1\n')

    async def _values(self, request: web.Request) -> web.Response:
        return _page(f'page{{v="{"v" * 300}"}} 1\n')

    async def _times(self, request: web.Request) -> web.Response:
        return _page(f"page 1 {round(time.time() * 1000) - 60_000}\n")

    async def _honor(self, request: web.Request) -> web.Response:
        return _page('page{job="own-job",namespace="own-namespace"} 1\n')

    async def _redirect(self, request: web.Request) -> web.Response:
        raise web.HTTPFound("/redirected")

    async def _probe(self, request: web.Request) -> web.Response:
        return _page("probe_success 1\n")

    async def _sd(self, request: web.Request) -> web.Response:
        return web.json_response(self.sd)


def _page(text: str) -> web.Response:
    return web.Response(text=text, content_type="text/plain", headers={"X-Version": "0.0.4"})
