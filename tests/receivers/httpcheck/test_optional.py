"""The metrics that are off by default: the parts of a check, certificates, bodies and their validations."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from kofagent.receivers.httpcheck.certificate import seen
from kofagent.receivers.httpcheck.json_path import Missing, equals, find, parse
from kofagent.receivers.httpcheck.validations import LIMIT
from tests.receivers.httpcheck.support import Point, checked, points, running, serving
from tests.support.certificates import Authority, Pair
from tests.support.components import Sink

PARTS = (
    "dns.lookup.duration",
    "client.connection.duration",
    "tls.handshake.duration",
    "client.request.duration",
    "response.duration",
)


async def hello(request: web.Request) -> web.Response:
    return web.Response(text="hello")


def tls_of(pair: Pair) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    return context


@pytest.mark.parametrize("verified", [True, False])
async def test_a_certificate_and_the_parts_of_a_check(tmp_path: Path, verified: bool) -> None:
    authority = Authority(tmp_path)
    tls = {"ca_file": authority.cert} if verified else {"insecure_skip_verify": True}
    async with serving(hello, tls_of(authority.issue("server", hours=2))) as url:
        sink = Sink()
        metrics = {f"httpcheck.{name}": {"enabled": True} for name in ("tls.cert_remaining", *PARTS)}
        async with running(sink, {"endpoint": url, "tls": tls}, metrics=metrics, collection_interval="20ms"):
            await sink.wait_for(lambda s: len(s.batches) >= 2)
    first, second = points(sink, 0), points(sink, 1)
    assert {name for name in PARTS if name in first} == set(PARTS)
    assert first["client.connection.duration"][0].attributes["network.transport"] == "tcp"
    assert first["dns.lookup.duration"][0].value == 0, "an address is not looked up"
    assert second["tls.handshake.duration"][0].value == 0, "the connection is used again"
    for found in (first, second):
        (left,) = found["tls.cert_remaining"]
        assert 7000 < left.value <= 7200
        assert left.attributes == {
            "http.url": url,
            "http.tls.issuer": "CN=test-ca",
            "http.tls.cn": "server",
            "http.tls.san": ["127.0.0.1", "localhost"],
        }


async def test_a_certificate_that_is_not_trusted(tmp_path: Path) -> None:
    async with serving(hello, tls_of(Authority(tmp_path).issue("server"))) as url:
        target = {"endpoint": url, "tls": {"ca_file": Authority(tmp_path, "other").cert}}
        found = await checked(target, on=("tls.cert_remaining",))
    assert "TLS" in found["error"][0].attributes["error.message"]
    assert "tls.cert_remaining" not in found


def test_how_a_certificate_is_written() -> None:
    issuer = ((("countryName", "US"),), (("organizationName", "Let's Encrypt, Inc"),), (("commonName", "R3"),))
    found = seen(
        {
            "issuer": issuer,
            "subject": ((("commonName", "a.example"),),),
            "subjectAltName": (("DNS", "a.example"), ("email", "x@example"), ("IP Address", "10.0.0.1"), ("URI", "spiffe://a")),
            "notAfter": "Jan  5 09:34:43 2018 GMT",
        }
    )
    assert found == (
        "CN=R3,O=Let's Encrypt\\, Inc,C=US",
        "a.example",
        ["10.0.0.1", "spiffe://a", "a.example", "x@example"],
        1515144883,
    )
    assert seen({}) is None


def validated(found: dict[str, list[Point]], metric: str) -> dict[str, int]:
    return {point.attributes["validation.type"]: point.value for point in found.get(metric, [])}


ON = ("validation.passed", "validation.failed", "response.size")


async def test_validations() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "checks": [{"n": 1.5}]})

    validations: list[dict[str, Any]] = [
        {"contains": "ok", "not_contains": "ok"},
        {"contains": "status"},
        {"json_path": "$.status", "equals": "ok"},
        {"json_path": "checks.0.n", "equals": "2"},
        {"json_path": "nothing"},
        {"max_size": 1000, "min_size": 1000},
        {"regex": '"n": [0-9.]+'},
    ]
    async with serving(answer) as url:
        found = await checked({"endpoint": url, "validations": validations}, on=ON)
    assert validated(found, "validation.passed") == {"contains": 2, "json_path": 1, "size": 1, "regex": 1}
    assert validated(found, "validation.failed") == {"not_contains": 1, "json_path": 2, "size": 1}
    assert [point.value for point in found["response.size"]] == [len('{"status": "ok", "checks": [{"n": 1.5}]}')]


async def test_a_body_that_is_too_long() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=b"a" * (LIMIT + 5))

    async with serving(answer) as url:
        validations = [{"contains": "a"}, {"not_contains": "b"}, {"max_size": LIMIT}, {"min_size": 1}]
        found = await checked({"endpoint": url, "validations": validations}, on=ON)
    assert validated(found, "validation.passed") == {"size": 1}
    assert validated(found, "validation.failed") == {"contains": 1, "not_contains": 1, "size": 1}
    assert "response.size" not in found
    assert "longer" in found["error"][0].attributes["error.message"]
    assert [point.value for point in found["status"]] == [0, 1, 0, 0, 0]


async def test_an_empty_body_is_not_validated() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response()

    async with serving(answer) as url:
        found = await checked({"endpoint": url, "validations": [{"contains": "a"}]}, on=ON)
    assert set(found) == {"duration", "status"}


def test_paths() -> None:
    document = {"a.b": [{"c": None}, 1e3, 2.50, True], "o": {"x": [1]}}
    for path, text in (
        ("a\\.b.#", "4"),
        ("a\\.b.1", "1000"),
        ("a\\.b.2", "2.5"),
        ("a\\.b.3", "true"),
        ("a\\.b.0.c", ""),
        ("o", '{ "x":[1] }'),
    ):
        assert equals(find(document, parse(path)), text), path
        assert not equals(find(document, parse(path)), "other"), path
    for path in ("a", "a\\.b.4", "o.x.-1", "o.x.c", "a\\.b.0.c.d"):
        with pytest.raises(Missing):
            find(document, parse(path))
    for path in ("a..b", ".", "a.#.b", "a.#(b==1)", "@this"):
        with pytest.raises(ValueError):
            parse(path)
