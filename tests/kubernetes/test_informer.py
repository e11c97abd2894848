"""Informers against a scripted API server: lists, watches, bookmarks, 410 in both ways, silence, RBAC, sharing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from kofagent.kubernetes.client import ApiClient
from kofagent.kubernetes.informer import Subscription, subscribe
from kofagent.kubernetes.resources import PODS
from kofagent.kubernetes.watch import Timing
from tests.support.components import eventually
from tests.support.fake_kube import FakeKube, pod

FAST = Timing(first_wait=0.02, longest_wait=0.1, watch_seconds=(30, 30), margin=5)


@pytest.fixture
async def kube() -> AsyncIterator[FakeKube]:
    async with FakeKube() as server:
        yield server


@pytest.fixture
async def client(kube: FakeKube) -> AsyncIterator[ApiClient]:
    made = kube.client()
    await made.start()
    yield made
    for informer in list(made.informers.values()):
        for subscription in list(informer._subscriptions):
            await subscription.stop()
    await made.stop()


class Log:
    """What handlers were told, checked for consistency as it comes."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.known: dict[str, Any] = {}
        self.errors: list[str | None] = []

    def add(self, obj: Any) -> None:
        uid = obj["metadata"]["uid"]
        assert uid not in self.known
        self.known[uid] = obj
        self.said.append(f"+{obj['metadata']['name']}")

    def update(self, old: Any, new: Any) -> None:
        uid = new["metadata"]["uid"]
        assert self.known[uid] == old
        self.known[uid] = new
        self.said.append(f"~{new['metadata']['name']}")

    def delete(self, obj: Any) -> None:
        assert self.known.pop(obj["metadata"]["uid"]) == obj
        self.said.append(f"-{obj['metadata']['name']}")

    def join(self, client: ApiClient, resource: Any = PODS, **options: Any) -> Subscription:
        return subscribe(client, resource, on_add=self.add, on_update=self.update, on_delete=self.delete, report=self.errors.append,
                         timing=FAST, **options)


async def test_lists_in_pages_then_watches(kube: FakeKube, client: ApiClient) -> None:
    for i in range(7):
        kube.put(PODS, pod("default", f"p{i}"))
    log = Log()
    sub = log.join(client, fields=["metadata.labels", "status.podIP"], page=3)
    await sub.synced.wait()
    assert sorted(sub.store) == [f"default/p{i}" for i in range(7)]
    assert sub.get("default", "p3") == {"metadata": {"name": "p3", "namespace": "default", "uid": "uid-104", "labels": {}},
                                        "status": {"podIP": "10.0.0.1"}}
    kube.put(PODS, pod("default", "p3", ip="10.0.0.9"))
    kube.put(PODS, pod("default", "new"))
    kube.delete(PODS, "p0", "default")
    await eventually(lambda: log.said[7:] == ["~p3", "+new", "-p0"])
    lists = [q for m, p, q in kube.requests if "watch" not in q]
    assert [q["limit"] for q in lists] == ["3", "3", "3"]
    assert sub.informer.version == str(kube.version)


async def test_an_update_outside_the_cached_fields_is_not_told(kube: FakeKube, client: ApiClient) -> None:
    kube.put(PODS, pod("default", "a"))
    log = Log()
    sub = log.join(client, fields=["status.podIP"])
    await sub.synced.wait()
    kube.put(PODS, pod("default", "a", labels={"x": "y"}))
    kube.put(PODS, pod("default", "b"))
    await eventually(lambda: "+b" in log.said)
    assert log.said == ["+a", "+b"]


@pytest.mark.parametrize("way", ["drop", "end", "compact", "stream", "restart"])
async def test_goes_on_after(way: str, kube: FakeKube, client: ApiClient) -> None:
    kube.put(PODS, pod("default", "stays"))
    kube.put(PODS, pod("default", "goes"))
    kube.put(PODS, pod("default", "changes"))
    kube.put(PODS, pod("default", "replaced"))
    log = Log()
    sub = log.join(client, fields=["status.podIP"])
    await sub.synced.wait()
    await eventually(lambda: kube.watching)
    if way == "restart":
        await kube.stop()
    elif way == "drop":
        kube.drop_watches()
    elif way == "end":
        kube.end_watches()
    await eventually(lambda: kube.watching == (1 if way in ("compact", "stream") else 0) or kube.watching)
    kube.silent = True  # what follows happens while nobody tells the informer
    kube.delete(PODS, "goes", "default")
    kube.put(PODS, pod("default", "changes", ip="10.9.9.9"))
    kube.delete(PODS, "replaced", "default")
    kube.put(PODS, pod("default", "replaced"))
    if way in ("compact", "restart"):
        kube.compact()
    kube.silent = False
    if way == "stream":
        kube.gone_in_stream()
    if way == "restart":
        await kube.start()
    if way in ("drop", "end"):
        kube.end_watches()
    await eventually(lambda: sorted(log.said[4:]) == sorted(["-goes", "~changes", "-replaced", "+replaced"]), message=str(log.said))
    assert sorted(sub.store) == ["default/changes", "default/replaced", "default/stays"]
    assert log.said.index("-replaced") < len(log.said) - 1 - log.said[::-1].index("+replaced")
