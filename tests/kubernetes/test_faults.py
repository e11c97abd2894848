"""What goes wrong between an agent and its API server: hanging, stalling, cutting, refusing, too much."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from aiohttp import web

from kofagent.kubernetes import client as client_module
from kofagent.kubernetes.client import ApiClient
from kofagent.kubernetes.errors import TooLarge, Unreachable
from kofagent.kubernetes.informer import subscribe
from kofagent.kubernetes.resources import CONFIGMAPS, NAMESPACES, NODES, PODS
from kofagent.kubernetes.watch import Event, Query, Timing, follow
from tests.support.components import eventually
from tests.support.fake_kube import FakeKube, TokenAccess, pod
from tests.support.faulty import FaultyProxy

FAST = Timing(first_wait=0.02, longest_wait=0.05, watch_seconds=(30, 30), margin=5)


@pytest.fixture
async def proxy(kube: FakeKube) -> AsyncIterator[FaultyProxy]:
    async with FaultyProxy(kube.port) as made:
        yield made


@pytest.fixture
async def far(kube: FakeKube, proxy: FaultyProxy) -> AsyncIterator[ApiClient]:
    """A client whose connections go through the faulty proxy."""
    client = ApiClient(TokenAccess(f"http://127.0.0.1:{proxy.port}", kube.token))
    await client.start()
    yield client
    await client.stop()


class Followed:
    """Follows pods in the background and keeps what came."""

    def __init__(self, client: ApiClient, timing: Timing = FAST, page: int = 250) -> None:
        self.events: list[Event] = []
        self.told: list[str | None] = []
        self.task = asyncio.create_task(self._run(client, timing, page))

    async def _run(self, client: ApiClient, timing: Timing, page: int) -> None:
        async with aclosing(follow(client, Query(PODS), report=self.told.append, timing=timing, page=page)) as events:
            async for event in events:
                self.events.append(event)

    async def __aenter__(self) -> Followed:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def names(self, *types: str) -> list[str]:
        return [e.object["metadata"]["name"] for e in self.events if e.type in types]

    def count(self, kind: str) -> int:
        return sum(e.type == kind for e in self.events)


async def test_a_server_that_accepts_and_never_answers_a_list(
    kube: FakeKube, proxy: FaultyProxy, far: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "REQUEST_TIMEOUT", 0.2)
    kube.put(PODS, pod("default", "a"))
    proxy.stalled = True
    async with asyncio.timeout(20):
        with pytest.raises(Unreachable, match=r"no answer from http://127\.0\.0\.1:\d+ within 0\.2 s"):
            await far.list_page(PODS)
    async with Followed(far) as followed:
        await eventually(lambda: followed.told)
        assert "no answer from" in (followed.told[0] or "")
        proxy.stalled = False
        await eventually(lambda: followed.told[-1] is None)
        assert followed.names("ITEM") == ["a"]


async def test_a_server_that_accepts_and_never_answers_a_watch(
    kube: FakeKube, proxy: FaultyProxy, far: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "REQUEST_TIMEOUT", 0.2)
    page = await far.list_page(PODS)
    proxy.stalled = True
    async with asyncio.timeout(20):
        with pytest.raises(Unreachable, match=r"no answer from .* within 0\.2 s"):
            async for _ in far.watch(PODS, version=page.version):
                pass
    # ten that hang do not keep the others from being asked once it answers again
    tasks = [asyncio.create_task(_drain(far, page.version)) for _ in range(20)]
    await asyncio.gather(*tasks, return_exceptions=True)
    proxy.stalled = False
    assert list((await far.list_page(PODS)).items) == []


async def _drain(client: ApiClient, version: str) -> None:
    async for _ in client.watch(PODS, version=version):
        pass


async def test_a_server_that_ends_a_watch_at_once_is_not_asked_again_at_once(kube: FakeKube, client: ApiClient) -> None:
    async with Followed(client, Timing(first_wait=60, longest_wait=60, watch_seconds=(30, 30), margin=5)) as followed:
        await eventually(lambda: kube.watching == 1)
        kube.end_watches()
        await eventually(lambda: kube.watching == 0)
        for _ in range(10):  # meanwhile it could have asked again
            await client.list_page(PODS)
        assert sum("watch" in query for _, _, query in kube.requests) == 1
        assert followed.count("LISTED") == 1


async def test_a_watch_that_falls_silent_is_opened_again(kube: FakeKube, proxy: FaultyProxy, far: ApiClient) -> None:
    async with Followed(far, Timing(first_wait=0.02, longest_wait=0.05, watch_seconds=(1, 1), margin=0.2)) as followed:
        await eventually(lambda: kube.watching == 1)
        kube.put(PODS, pod("default", "before"))
        await eventually(lambda: followed.names("ADDED") == ["before"])
        proxy.stalled = True  # not even bookmarks, and the connection stays open
        kube.put(PODS, pod("default", "meanwhile"))
        before = proxy.connections
        await eventually(lambda: proxy.connections > before)
        proxy.stalled = False
        await eventually(lambda: followed.names("ADDED") == ["before", "meanwhile"])
        assert followed.count("LISTED") == 1
    proxy.stalled = True
    with pytest.raises(Unreachable, match=r"said nothing for 0\.3 s|no answer"):
        proxy.stalled = False
        async for _ in far.watch(
            PODS, version=str(kube.version), seconds=0.1, margin=0.2, opened=lambda: setattr(proxy, "stalled", True)
        ):
            pass


async def test_a_slow_body_arrives_and_a_body_that_stops_does_not_hang(
    kube: FakeKube, proxy: FaultyProxy, far: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "REQUEST_TIMEOUT", 0.3)
    for i in range(20):
        kube.put(PODS, pod("default", f"p{i}"))
    proxy.piece, proxy.pause = 500, 0.03  # some 20 KB: more than a second in all, never long without a byte
    assert len(list((await far.list_page(PODS)).items)) == 20
    before = proxy.passed
    listing = asyncio.create_task(far.list_page(PODS))
    await eventually(lambda: proxy.passed > before + 1000)
    proxy.stalled = True
    async with asyncio.timeout(20):
        with pytest.raises(Unreachable, match=r"no answer from .* within 0\.3 s"):
            await listing


@pytest.mark.parametrize("cut", [1, 100, 160, 400, 900, 1500, 2300])
async def test_cut_anywhere_nothing_is_lost_or_doubled(cut: int, kube: FakeKube, proxy: FaultyProxy, far: ApiClient) -> None:
    for i in range(3):
        kube.put(PODS, pod("default", f"old{i}"))
    async with Followed(far) as followed:
        await eventually(lambda: kube.watching == 1 and followed.count("LISTED"))
        proxy.cuts = [cut, cut * 2, cut * 3]
        kube.drop_watches()
        for i in range(5):
            kube.put(PODS, pod("default", f"new{i}"))
        await eventually(lambda: len(followed.names("ADDED")) >= 5 and len(proxy.cuts) < 3)
        proxy.cuts = []
        kube.put(PODS, pod("default", "last"))
        await eventually(lambda: followed.names("ADDED")[-1] == "last")
        assert followed.names("ADDED") == [*(f"new{i}" for i in range(5)), "last"]
        assert followed.count("LISTED") == 1
    proxy.cuts = [cut, cut]  # aiohttp itself asks once more where nothing at all came back
    fresh = ApiClient(TokenAccess(f"http://127.0.0.1:{proxy.port}", kube.token))  # no connection in the pool yet
    await fresh.start()
    with pytest.raises(Unreachable):
        await fresh.list_page(PODS)
    proxy.cuts = []
    assert len(list((await fresh.list_page(PODS)).items)) == 9
    await fresh.stop()


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("verb", ["list", "watch"])
async def test_a_server_that_says_later_is_asked_later(verb: str, status: int, kube: FakeKube, client: ApiClient) -> None:
    times: list[float] = []
    handle = kube._handle

    async def busy(request: web.Request) -> web.StreamResponse:
        if ("watch" in request.query) == (verb == "watch"):
            times.append(asyncio.get_running_loop().time())
            if len(times) == 1:
                return web.json_response(
                    {"kind": "Status", "code": status, "message": "too busy"}, status=status, headers={"Retry-After": "1"}
                )
        del kube.routes["/api/v1/pods"]
        try:
            return await handle(request)
        finally:
            kube.routes["/api/v1/pods"] = busy

    kube.put(PODS, pod("default", "a"))
    kube.routes["/api/v1/pods"] = busy
    async with Followed(client) as followed:
        await eventually(lambda: kube.watching == 1)
        assert times[1] - times[0] >= 1.0
        assert followed.names("ITEM") == ["a"] and followed.count("LISTED") == 1
        assert followed.told == []  # once is no trouble


async def test_what_goes_on_is_said_once(kube: FakeKube, client: ApiClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "kofagent.kubernetes")
    kube.forbidden = {("list", "pods")}
    async with Followed(client) as followed:
        await eventually(lambda: len(kube.requests) >= 6)
        kube.forbidden = set()
        kube.tokens = {"another"}
        before = len(kube.requests)
        await eventually(lambda: len(kube.requests) >= before + 6)
        kube.tokens = {kube.token}
        await eventually(lambda: followed.told[-1:] == [None])
    forbidden, refused, well = followed.told
    assert "may not list pods at cluster scope (403)" in (forbidden or "")
    assert "does not accept the agent's credentials (401)" in (refused or "")
    assert well is None
    assert [r.levelname for r in caplog.records] == ["ERROR", "ERROR", "INFO"]


@pytest.mark.slow
async def test_a_page_of_large_objects_is_asked_for_in_smaller_pages(
    kube: FakeKube, client: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client_module.LIST_LIMIT == 16 << 20
    monkeypatch.setattr(client_module, "LIST_LIMIT", 1 << 20)
    for i in range(500):
        kube.put(PODS, pod("default", f"small{i:03}"))
    page = await client.list_page(PODS, limit=500)
    assert len(list(page.items)) == 500 and not page.continue_token
    for i in range(8):
        kube.put(PODS, pod("default", f"large{i}", annotations={"blob": str(i) * (3 << 16)}))
    with pytest.raises(TooLarge):
        await client.list_page(PODS, limit=508)
    assert len(await client.list_all(PODS, limit=508)) == 508
    async with Followed(client, page=508) as followed:
        await eventually(lambda: followed.count("LISTED") == 1, 60)
        begun = max(i for i, e in enumerate(followed.events) if e.type == "LISTING")
        assert sum(e.type == "ITEM" for e in followed.events[begun:]) == 508
        await eventually(lambda: kube.watching == 1)
        kube.put(PODS, pod("default", "another", annotations={"blob": "x" * (3 << 19)}))
        await eventually(lambda: followed.names("ADDED") == ["another"])
        assert len(followed.events[-1].object["metadata"]["annotations"]["blob"]) == 3 << 19


async def test_a_bomb_is_not_unpacked(kube: FakeKube, client: ApiClient) -> None:
    bomb = gzip.compress(b'{"items":[' + b" " * (40 << 20) + b"]}", 1)
    said: dict[str, Any] = {"Accept-Encoding": ""}

    async def answer(request: web.Request) -> web.Response:
        said.update(request.headers)
        return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})

    kube.routes["/api/v1/pods"] = answer
    tracemalloc.start()
    try:
        for _ in range(2):
            with pytest.raises(Unreachable, match="compressed its answer, which was not asked for"):
                await client.list_page(PODS)
        with pytest.raises(Unreachable, match="compressed"):
            await _drain(client, "1")
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    assert said["Accept-Encoding"] == "identity"


async def test_a_large_body_costs_its_limit_and_no_more(kube: FakeKube, client: ApiClient) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(2000):
            await response.write(b" " * (1 << 20))
        return response

    async def told(request: web.Request) -> web.Response:
        return web.Response(body=json.dumps({"pad": "x" * (17 << 20)}).encode())

    kube.routes["/api/v1/pods"] = endless
    kube.routes["/api/v1/configmaps"] = told
    with pytest.raises(TooLarge):
        await client.list_page(PODS)
    with pytest.raises(TooLarge):
        await client.list_page(CONFIGMAPS)
    with pytest.raises(TooLarge):
        await _drain(client, "1")


async def test_a_server_that_is_away_is_said_once_for_all(
    kube: FakeKube, client: ApiClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kofagent.kubernetes")
    told: dict[str, list[str | None]] = {}
    resources = (PODS, NODES, CONFIGMAPS)
    subs = [subscribe(client, r, timing=FAST, report=told.setdefault(r.plural, []).append) for r in resources]
    for sub in subs:
        await sub.synced.wait()
    gone = subscribe(client, NAMESPACES, timing=FAST)
    await gone.synced.wait()
    for _ in range(2):
        caplog.clear()
        await kube.stop()
        await eventually(lambda: all(len(texts) % 2 for texts in told.values()))
        await gone.stop()  # who leaves in the meantime is not waited for
        await kube.start()
        await eventually(lambda: all(texts and texts[-1] is None for texts in told.values()))
        errors = [r.message for r in caplog.records if r.levelname == "ERROR"]
        reasons = [e.split(": ", 1)[1] for e in errors]
        assert len(reasons) == len(set(reasons)) and all("logged once for everything" in r for r in reasons), errors
        assert [r.message for r in caplog.records if r.levelname == "INFO"] == ["the API server answers again"]
