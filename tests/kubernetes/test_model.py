"""Any sequence of changes and faults: the informer ends up with the server's state, and handlers saw a consistent history."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kofagent.kubernetes.informer import subscribe
from kofagent.kubernetes.resources import NODES, PODS
from kofagent.kubernetes.watch import Timing
from tests.kubernetes.conftest import stop_all
from tests.support.components import eventually
from tests.support.examples import examples
from tests.support.fake_kube import FakeKube, pod

TIMING = Timing(first_wait=0.001, longest_wait=0.005, watch_seconds=(30, 30), margin=5)
NAMES = ["a", "b", "c", "d"]

steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["put", "put", "label", "delete", "replace", "node"]), st.sampled_from(NAMES), st.integers(0, 3)),
        st.tuples(st.just("settle"), st.just(""), st.just(0)),
        st.tuples(st.sampled_from(["lost put", "lost delete", "lost replace"]), st.sampled_from(NAMES), st.integers(0, 3)),
        st.tuples(
            st.sampled_from(
                [
                    "drop",
                    "end",
                    "compact",
                    "stream410",
                    "bookmark",
                    "fail",
                    "expire",
                    "unauthorized",
                    "restart",
                    "pause",
                    "join",
                    "widen",
                ]
            ),
            st.just(""),
            st.integers(1, 3),
        ),
    ),
    max_size=25,
)


class History:
    """Fails in the handler when a step does not fit what was told before."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}
        self.names: dict[str, str] = {}
        self.wrong: list[str] = []

    def add(self, obj: Any) -> None:
        name, uid = obj["metadata"]["name"], obj["metadata"]["uid"]
        if uid in self.known or name in self.names:
            self.wrong.append(f"{name} added twice")
        self.known[uid], self.names[name] = obj, uid

    def update(self, old: Any, new: Any) -> None:
        uid = new["metadata"]["uid"]
        if self.known.get(uid) != old or old == new:
            self.wrong.append(f"{uid} updated from {old} where {self.known.get(uid)} was known")
        self.known[uid] = new

    def delete(self, obj: Any) -> None:
        uid = obj["metadata"]["uid"]
        if self.known.pop(uid, None) != obj or self.names.pop(obj["metadata"]["name"], None) != uid:
            self.wrong.append(f"{uid} deleted, which was not known so")


@given(steps)
@settings(max_examples=examples(100), deadline=None, suppress_health_check=list(HealthCheck))
def test_store_equals_server(script: list[tuple[str, str, int]]) -> None:
    asyncio.run(_play(script))


async def _play(script: list[tuple[str, str, int]]) -> None:
    async with FakeKube() as kube:
        client = kube.client()
        await client.start()
        histories: list[History] = []

        def join(*fields: str) -> None:
            history = History()
            histories.append(history)
            subscribe(
                client,
                PODS,
                namespace="default",
                fields=["status.podIP", *fields],
                on_add=history.add,
                on_update=history.update,
                on_delete=history.delete,
                timing=TIMING,
                page=2,
            )

        join()
        informer = next(iter(client.informers.values()))

        def same() -> bool:
            there = {f"default/{o['metadata']['name']}": (o["metadata"]["uid"], o["status"]["podIP"]) for o in kube.items(PODS)}
            here = {k: (o["metadata"]["uid"], o["status"]["podIP"]) for k, o in informer.store.items()}
            return there == here

        async def settled() -> None:
            kube.failures.clear()
            await eventually(lambda: same() and kube.watching, 10, "store differs")

        for what, name, n in script:
            if what == "settle":
                await settled()
            else:
                await _step(kube, join, what, name, n)
        kube.expire_continue = False
        await settled()
        await eventually(lambda: same() and all(s.synced.is_set() for s in informer._subscriptions), 10, "store differs")
        for history in histories:
            assert not history.wrong
            assert history.known == {o["metadata"]["uid"]: o for o in informer.store.values()}
        await stop_all(client)
        await client.stop()


async def _step(kube: FakeKube, join: Any, what: str, name: str, n: int) -> None:
    if what.startswith("lost "):
        kube.compact()
        what = what[5:]
    there = any(o["metadata"]["name"] == name for o in kube.items(PODS))
    if what == "put":
        kube.put(PODS, pod("default", name, ip=f"10.0.0.{n}"))
    elif what == "label":
        kube.put(PODS, pod("default", name, labels={"n": str(n)}))
    elif what in ("delete", "replace"):
        if there:
            kube.delete(PODS, name, "default")
        if what == "replace":
            kube.put(PODS, pod("default", name, ip=f"10.0.1.{n}"))
    elif what == "node":
        kube.put(NODES, {"metadata": {"name": name}})
    elif what == "drop":
        kube.drop_watches()
    elif what == "end":
        kube.end_watches()
    elif what == "compact":
        kube.compact(break_watches=n > 1)
    elif what == "stream410":
        kube.gone_in_stream()
    elif what == "bookmark":
        kube.bookmark()
    elif what == "fail":
        kube.failures += [("pods", status) for status in (500, 429, 410)[:n]]
    elif what == "expire":
        kube.expire_continue = True
    elif what == "unauthorized":
        kube.failures.append(("pods", 401))
        kube.drop_watches()
    elif what == "restart":
        await kube.stop()
        if n > 1:
            kube.oldest = kube.version
            kube.history.clear()
        await kube.start()
    elif what == "join":
        join()
    elif what == "widen":
        join(f"spec.f{n}", "metadata.labels")
    else:
        await asyncio.sleep(0.01 * n)
