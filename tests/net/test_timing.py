"""A client that is measured, against servers with names, with TLS, and with redirects between them."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from yarl import URL

from kofagent.config.blocks import HttpClientBlock
from kofagent.net.client import HttpClient
from kofagent.net.timing import Certificates, Timing, measure
from kofagent.telemetry.refused import Refused
from tests.receivers.httpcheck.support import serving
from tests.support.certificates import Authority
from tests.support.components import make_context


async def get(url: str, certificates: Certificates | None = None, *, timed: bool = True, **options: Any) -> Timing:
    client = HttpClient(HttpClientBlock.model_validate(options), make_context("receivers", "x"), timed=timed)
    await client.start()
    try:
        with measure(certificates or Certificates()) as timing:
            await client.request("GET", url)
    finally:
        await client.stop()
    return timing


async def hello(request: web.Request) -> web.Response:
    return web.Response(text="hello")


async def test_the_parts_of_a_request() -> None:
    async with serving(hello) as url:
        by_name = await get(url.replace("127.0.0.1", "localhost"))
        by_address = await get(url)
        not_timed = await get(url, timed=False)
    assert by_name.dns > 0 and by_name.connection > 0 and by_name.request > by_name.dns + by_name.connection
    assert by_name.answered and by_name.certificate() is None
    assert by_address.dns == 0 and by_address.connection > 0 and by_address.handshake == 0
    assert (not_timed.dns, not_timed.connection, not_timed.request, not_timed.answered) == (0, 0, 0, 0)


async def test_the_certificate_is_that_of_the_server_that_answered(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    tls = {"ca_file": authority.cert}
    async with serving(hello) as plain, serving(hello, context) as secure:

        async def elsewhere(request: web.Request) -> web.StreamResponse:
            raise web.HTTPFound(secure if request.path == "/secure" else plain)

        async with serving(elsewhere) as first, serving(elsewhere, context) as second:
            up = await get(f"{first}/secure", tls=tls)
            down = await get(f"{second}/plain", tls=tls)
    assert up.handshake > 0
    assert (up.certificate() or {})["subject"] == ((("commonName", "server"),),)
    assert down.handshake > 0 and down.certificate() is None


async def test_a_request_that_fails_has_the_parts_that_it_came_to() -> None:
    with pytest.raises(Refused):
        await get("http://127.0.0.1:1")
    certificates = Certificates()
    timing = Timing(certificates)
    timing.mark()
    timing.connected()
    assert timing.connection > 0 and timing.since_answer() == 0 and timing.certificate() is None


def test_of_very_many_servers_the_oldest_are_forgotten() -> None:
    certificates = Certificates()
    for number in range(150):
        certificates.put(URL(f"https://a:{number + 1}"), {"serialNumber": number})
    assert certificates.get(URL("https://a:50")) is None
    assert certificates.get(URL("https://a:51")) == {"serialNumber": 50}
