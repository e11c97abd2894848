"""health_check: what a probe is answered, over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import aiohttp
import pytest
from pydantic import ValidationError

from kofagent.component.protocols import StartError
from kofagent.extensions import health_check
from kofagent.extensions.health_check import COMPONENT, _go_duration
from tests.support.components import make, validated


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


async def health(**options: Any) -> Any:
    made = make(COMPONENT, {"endpoint": "127.0.0.1:0", **options}, kind="extensions", id="health_check")
    await made.start()
    return made


async def test_life(session: aiohttp.ClientSession) -> None:
    made = await health()
    async with session.get(made.server.url) as answer:
        assert answer.status == 503
        assert (await answer.json())["status"] == "Server not available"
    made.pipelines_ready()
    async with session.get(made.server.url) as answer:
        assert answer.status == 200 and answer.content_type == "application/json"
        body = await answer.json()
    assert list(body) == ["status", "upSince", "uptime"] and body["status"] == "Server available"
    assert datetime.fromisoformat(body["upSince"]).tzinfo is not None and body["uptime"].endswith("s")
    made.context.host.statuses["exporters/otlp"] = "connection refused"
    async with session.get(made.server.url) as answer:
        assert answer.status == 200
    made.pipelines_stopping()
    async with session.get(made.server.url) as answer:
        assert answer.status == 503
    await made.stop()


async def test_path_method_and_bodies(session: aiohttp.ClientSession) -> None:
    made = await health(path="/health/status", response_body={"healthy": "fine", "unhealthy": "not fine"})
    for ready, text in ((False, "not fine"), (True, "fine")):
        if ready:
            made.pipelines_ready()
        async with session.get(made.server.url + "/health/status") as answer:
            assert await answer.text() == text
    async with session.get(made.server.url + "/") as answer:
        assert answer.status == 404
    async with session.post(made.server.url + "/health/status") as answer:
        assert answer.status == 405
    await made.stop()


async def test_failing_exporters_count_when_asked_for(session: aiohttp.ClientSession) -> None:
    made = await health(check_collector_pipeline={"enabled": True, "interval": "60s", "exporter_failure_threshold": 2})
    made.pipelines_ready()
    made.context.host.statuses.update({"exporter/a": "down", "receiver/b": "down", "exporter/c": None})
    for now, status in ((0, 200), (1, 200), (2, 503), (61.5, 200)):
        made._look(now)
        if now > 60:
            made.context.host.statuses["exporter/a"] = None
        async with session.get(made.server.url) as answer:
            assert answer.status == status, now
            assert ((await answer.json())["upSince"] == "0001-01-01T00:00:00Z") == (status == 503)
    await made.stop()
    assert all(not t.done() or t.cancelled() or t.exception() is None for t in asyncio.all_tasks())


async def test_exporters_are_looked_at_again_and_again(session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_check, "LOOK_SECONDS", 0.001)
    made = await health(check_collector_pipeline={"enabled": True, "exporter_failure_threshold": 2})
    made.pipelines_ready()
    made.context.host.statuses["exporter/a"] = "down"

    async def unhealthy() -> bool:
        async with session.get(made.server.url) as answer:
            return answer.status == 503

    async with asyncio.timeout(20):
        while not await unhealthy():
            pass
    await made.stop()


async def test_a_port_in_use() -> None:
    made = await health()
    other = make(COMPONENT, {"endpoint": f"127.0.0.1:{made.server.port}"}, kind="extensions")
    with pytest.raises(StartError, match=str(made.server.port)):
        await other.start()
    await other.stop()
    await made.stop()


def test_options() -> None:
    assert validated(COMPONENT, {}).endpoint == "localhost:13133"
    with pytest.raises(ValidationError, match="start with /"):
        make(COMPONENT, {"path": "x"}, kind="extensions")


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (12.5, "12.5s"), (61, "1m1s"), (3723.25, "1h2m3.25s")])
def test_durations_as_go_writes_them(seconds: float, text: str) -> None:
    assert _go_duration(seconds) == text
