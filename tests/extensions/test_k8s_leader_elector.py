"""k8s_leader_elector against a scripted API server: one leads, another follows it, and receivers collect only meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from kofagent.component import leading
from kofagent.component.leading import WhileLeading
from kofagent.component.protocols import StartError
from kofagent.extensions.k8s_leader_elector import COMPONENT
from kofagent.extensions.k8s_leader_elector.extension import LeaderElectorExtension
from kofagent.kubernetes.resources import CORE_EVENTS, LEASES, PODS
from kofagent.receivers.k8s_cluster import COMPONENT as K8sCluster
from kofagent.receivers.k8s_events import COMPONENT as K8sEvents
from kofagent.receivers.k8sobjects import COMPONENT as K8sObjects
from tests.support.components import FakeHost, Sink, eventually, make, make_context, validated
from tests.support.fake_kube import FakeKube

FAST = {"lease_name": "kof", "lease_namespace": "ns", "lease_duration": "600ms", "renew_deadline": "400ms", "retry_period": "20ms"}


@pytest.fixture
async def kube(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[FakeKube]:
    async with FakeKube() as server:
        server.use(monkeypatch, tmp_path)
        yield server


def elector(host: FakeHost | None = None) -> Any:
    return make(COMPONENT, FAST, kind="extension", id="k8s_leader_elector", host=host or FakeHost())


def held(kube: FakeKube) -> Any:
    [lease] = kube.items(LEASES)
    return lease["spec"]


async def test_one_of_those_that_start_together_leads_and_the_next_follows_at_its_stop(kube: FakeKube) -> None:
    replicas = [elector() for _ in range(3)]
    await asyncio.gather(*[each.start() for each in replicas])
    led = []
    for transitions in (0, 1, 2):
        await eventually(lambda: any(each.is_leader() for each in replicas))
        [leader] = [each for each in replicas if each.is_leader()]
        spec = held(kube)
        assert spec["holderIdentity"] == leader.identity and spec["leaseTransitions"] == transitions
        assert spec["acquireTime"] <= spec["renewTime"] and spec["leaseDurationSeconds"] == 1
        led.append(leader)
        replicas.remove(leader)
        await leader.stop()
        assert not leader.is_leader()
    assert len(set(led)) == 3 and held(kube)["holderIdentity"] == ""


async def test_a_lease_that_nobody_renews_runs_out(kube: FakeKube) -> None:
    """Also one of a replica whose clock is an hour ahead: what counts is for how long it has not changed."""
    spec = {
        "holderIdentity": "killed",
        "leaseDurationSeconds": 1,
        "renewTime": "2999-01-01T00:00:00.000000Z",
        "leaseTransitions": 7,
    }
    kube.put(LEASES, {"metadata": {"name": "kof", "namespace": "ns"}, "spec": spec})
    replica = elector()
    await replica.start()
    await eventually(lambda: len(kube.requests) > 3)
    assert not replica.is_leader()
    await eventually(replica.is_leader)
    assert held(kube)["leaseTransitions"] == 8 and len([m for m, *_ in kube.requests if m == "PUT"]) >= 1
    await replica.stop()


async def test_who_cannot_renew_leads_no_longer(kube: FakeKube) -> None:
    host = FakeHost()
    replica = elector(host)
    await replica.start()
    await eventually(replica.is_leader)
    kube.forbidden.add(("update", "leases"))
    await replica.changed(True)
    await eventually(lambda: host.statuses["extension/k8s_leader_elector"])
    said = str(host.statuses["extension/k8s_leader_elector"])
    assert "may not update leases" in said and '"verbs": ["update"]' in said
    kube.forbidden.clear()
    await eventually(replica.is_leader)
    assert host.statuses["extension/k8s_leader_elector"] is None
    # somebody else has written himself into it
    lease = kube.items(LEASES)[0]
    kube.put(LEASES, {**lease, "spec": {**lease["spec"], "holderIdentity": "other"}})
    await replica.changed(True)
    await replica.stop()
    assert held(kube)["holderIdentity"] == "other", "what is another's is not given back"


@pytest.mark.parametrize(
    ("cls", "options", "plural"),
    [(K8sEvents, {}, "events"), (K8sObjects, {"objects": [{"name": "pods", "mode": "watch"}]}, "pods"), (K8sCluster, {}, "nodes")],
)
async def test_receivers_collect_only_while_they_lead(kube: FakeKube, cls: Any, options: dict[str, Any], plural: str) -> None:
    for resource in (CORE_EVENTS, PODS):
        kube.put(resource, {"metadata": {"name": "a", "namespace": "ns"}})
    host = FakeHost()
    lead = elector(host)
    host.extensions["elect"] = lead
    receiver = make(cls, {"k8s_leader_elector": "elect", **options}, kind="receiver", host=host)
    receiver.outputs = {signal: Sink() for signal in cls.signals}
    await receiver.start()
    kube.forbidden.add(("create", "leases"))
    await lead.start()
    await eventually(lambda: any(m == "POST" for m, *_ in kube.requests))
    assert not [path for _, path, _ in kube.requests if path.endswith(f"/{plural}")]
    kube.forbidden.clear()
    await eventually(lambda: kube.watches(plural))
    kube.forbidden.add(("update", "leases"))
    await eventually(lambda: not kube.watches(plural))
    kube.forbidden.clear()
    await eventually(lambda: kube.watches(plural))
    await receiver.stop()
    await eventually(lambda: not kube.watches(plural))
    await lead.stop()


async def test_a_leader_that_cannot_begin_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leading, "FIRST_RETRY", 0.01)
    lead = elector(host := FakeHost())
    host.extensions["elect"] = lead
    calls: list[str] = []

    async def begin() -> None:
        calls.append("begin")
        if len(calls) < 3:
            raise StartError("not yet")

    async def end() -> None:
        calls.append("end")

    work = WhileLeading(make_context("receiver", "r", host), "elect", begin, end)
    await work.start()
    lead._runs = True
    lead._candidate._turn(True)
    await eventually(lambda: len(calls) == 3)
    assert calls == ["begin", "end", "begin"] and host.statuses["receiver/r"] == "not yet"
    lead._candidate._turn(False)
    await eventually(lambda: calls[-1] == "end")
    assert host.statuses["receiver/r"] is None
    await work.stop()
    host.extensions.clear()
    with pytest.raises(StartError, match="'elect' is not running"):
        await work.start()


def test_times_that_let_two_lead_are_refused() -> None:
    assert validated(COMPONENT, {"lease_name": "l", "lease_namespace": "n"}).renew_deadline == 10
    for times, message in (
        ({"lease_duration": "10s"}, "longer than renew_deadline"),
        ({"retry_period": "9s"}, "1.2 times retry_period"),
        ({"lease_name": ""}, "at least 1"),
    ):
        with pytest.raises(ValidationError, match=message):
            validated(LeaderElectorExtension, {"lease_name": "l", "lease_namespace": "n", **times})


async def test_collectors_of_one_process_hold_one_lease_together(kube: FakeKube) -> None:
    hosts = [FakeHost(), FakeHost()]
    hosts[1]._shared = hosts[0]._shared  # what is common to them
    hosts[0].collector, hosts[1].collector = "a", "b"
    both, another = [elector(host) for host in hosts], elector()
    for each in (*both, another):
        await each.start()
        await eventually(both[0].is_leader)
    assert both[1].is_leader() and not another.is_leader()
    assert held(kube)["holderIdentity"] == both[0].identity == both[1].identity
    follows = asyncio.create_task(both[0].changed(True))
    await both[0].stop()  # a reload of one: the other leads on
    await follows
    assert not both[0].is_leader() and both[1].is_leader() and held(kube)["leaseTransitions"] == 0
    await both[1].stop()
    await eventually(another.is_leader)
    await another.stop()


async def test_two_of_one_collector_compete(kube: FakeKube) -> None:
    host = FakeHost()
    host.collector = "a"
    first, second = elector(host), elector(host)
    await first.start()
    await eventually(first.is_leader)
    await second.start()
    assert first.identity != second.identity and not second.is_leader()
    await first.stop()
    await eventually(second.is_leader)
    await second.stop()
