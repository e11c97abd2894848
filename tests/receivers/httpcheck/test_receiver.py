"""The receiver against servers that answer, that do not, that are slow, and that say something else than was hoped for."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from pydantic import ValidationError

from kofagent.receivers.httpcheck import COMPONENT
from kofagent.receivers.httpcheck.config import Config
from tests.receivers.httpcheck.support import checked, points, running, serving
from tests.support.components import FakeHost, Sink

CLASSES = ["1xx", "2xx", "3xx", "4xx", "5xx"]


async def missing(request: web.Request) -> web.Response:
    return web.Response(status=404)


async def test_a_server_that_answers() -> None:
    async with serving(missing) as url:
        sink, host = Sink(), FakeHost()
        async with running(sink, {"endpoint": f"{url}/a?b=c", "method": "post"}, host=host):
            await sink.wait_for(lambda s: s.batches)
    found = points(sink)
    where = {"http.url": f"{url}/a?b=c"}
    assert set(found) == {"duration", "status"}
    assert [point.attributes for point in found["duration"]] == [where]
    about = {**where, "http.method": "POST"}
    assert [(point.value, point.attributes) for point in found["status"]] == [
        (int(each == "4xx"), {**about, "http.status_class": each, **({"http.status_code": 404} if each == "4xx" else {})})
        for each in CLASSES
    ]
    assert host.ledger.total("otelcol_scraper_scraped_metric_points_total", receiver="httpcheck", scraper="httpcheck") == 6
    metrics = ExportMetricsServiceRequest.FromString(sink.batches[0].payload).resource_metrics[0].scope_metrics[0].metrics  # type: ignore[union-attr]
    assert {metric.name: (metric.unit, metric.WhichOneof("data")) for metric in metrics} == {
        "httpcheck.duration": ("ms", "gauge"),
        "httpcheck.status": ("1", "sum"),
    }
    status = next(metric.sum for metric in metrics if metric.name == "httpcheck.status")
    assert (status.aggregation_temporality, status.is_monotonic) == (2, False)


async def test_a_server_that_is_not_there_and_the_login_of_its_url() -> None:
    found = await checked({"endpoint": "http://joe:sesame@127.0.0.1:1/x?token=abc"})
    (error,) = found["error"]
    assert error.value == 1
    assert error.attributes["http.url"] == "http://127.0.0.1:1/x?token=abc"
    assert re.fullmatch(r"cannot connect to 127\.0\.0\.1:1: .*refused.*", error.attributes["error.message"])
    assert [point.value for point in found["status"]] == [0] * 5
    assert not any("http.status_code" in point.attributes for point in found["status"])
    assert "sesame" not in repr(found)


async def test_the_login_of_a_url_is_sent_to_its_server() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=200 if request.headers.get("Authorization", "").startswith("Basic ") else 401)

    async with serving(answer) as url:
        found = await checked({"endpoint": url.replace("//", "//joe:sesame@")})
    assert {point.attributes["http.url"] for point in found["status"]} == {url}
    assert [point.attributes["http.status_code"] for point in found["status"] if point.value] == [200]


async def test_one_that_is_slow_delays_nobody() -> None:
    release = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/slow":
            await release.wait()
        return web.Response()

    async with serving(answer) as url:
        sink = Sink()
        async with running(sink, {"endpoints": [f"{url}/slow", f"{url}/fast"]}, collection_interval="10ms"):
            await sink.wait_for(lambda s: len(s.batches) >= 3)
            assert {point.attributes["http.url"] for point in points(sink)["status"]} == {f"{url}/fast"}
            release.set()
            await sink.wait_for(lambda s: any(point.attributes["http.url"].endswith("slow") for point in points(s)["status"]))


@pytest.mark.parametrize("options, target", [({}, {"timeout": "50ms"}), ({"timeout": "50ms"}, {})])
async def test_one_that_never_answers(options: dict[str, Any], target: dict[str, str]) -> None:
    release = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        await release.wait()
        return web.Response()

    async with serving(answer) as url:
        found = await checked({"endpoint": url, **target}, **options)
        release.set()
    assert [point.attributes["error.message"] for point in found["error"]] == ["no answer within 0.05 s"]
    assert [point.value for point in found["status"]] == [0] * 5


@pytest.mark.parametrize(
    "said, message",
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "the answer is not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", "the answer is cut off"),
        (b"HTTP/1.1 301 Moved\r\nLocation: http://[::\r\nContent-Length: 0\r\n\r\n", "not a URL"),
        (b"", "the server closed the connection"),
    ],
)
async def test_what_is_no_answer(said: bytes, message: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        found = await checked({"endpoint": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"})
    assert message in found["error"][0].attributes["error.message"]
    assert [point.value for point in found["status"]] == [0] * 5


async def test_what_is_sent() -> None:
    async def answer(request: web.Request) -> web.Response:
        said = (request.method, await request.text(), request.content_type, request.headers.get("X-Key"))
        seen.append(said)
        return web.Response(status=204)

    seen: list[tuple[object, ...]] = []
    async with serving(answer) as url:
        common = {"endpoint": url, "method": "PUT", "headers": {"X-Key": "k"}, "auto_content_type": True}
        for body, more in (
            (' {"a": 1}', {}),
            ("a=b", {}),
            ("words", {}),
            ("[]", {"headers": {"content-type": "a/b"}}),
        ):
            await checked({**common, "body": body, **more})
    assert seen == [
        ("PUT", ' {"a": 1}', "application/json", "k"),
        ("PUT", "a=b", "application/x-www-form-urlencoded", "k"),
        ("PUT", "words", "text/plain", "k"),
        ("PUT", "[]", "a/b", None),
    ]


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "targets"),
        ({"targets": []}, "at least 1"),
        ({"targets": [{}]}, "endpoint or endpoints"),
        ({"targets": [{"endpoint": "127.0.0.1:80"}]}, "has no scheme"),
        ({"targets": [{"endpoints": ["http://a", ""]}]}, "an endpoint is empty"),
        ({"targets": [{"endpoint": "http://a", "method": "GET /"}]}, "not a method"),
        ({"targets": [{"endpoint": "http://a", "headers": {"X": "token\n"}}]}, "control character"),
        ({"targets": [{"endpoint": "http://a", "validations": [{"regex": "("}]}]}, "RE2"),
        ({"targets": [{"endpoint": "http://a", "validations": [{"json_path": "a.*"}]}]}, "not supported"),
        ({"targets": [{"endpoint": "http://a", "validations": [{"equals": "b"}]}]}, "json_path"),
        ({"targets": [{"endpoint": "http://a"}], "metrics": {"httpcheck.statu": {}}}, "httpcheck.statu"),
    ],
)
def test_options_that_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Config.model_validate(options)


def test_metrics_are_switched() -> None:
    off = {"httpcheck.duration": {"enabled": False}, "httpcheck.response.size": {"enabled": True}}
    config = Config.model_validate({"targets": [{"endpoint": "http://a"}], "metrics": off})
    assert config.on() == {"httpcheck.error", "httpcheck.status", "httpcheck.response.size"}
    assert COMPONENT.Config is Config
    with pytest.raises(ValidationError):
        Config.model_validate({"targets": [{"endpoint": "http://a"}], "collection_interval": "0s"})
