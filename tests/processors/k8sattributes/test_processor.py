"""k8sattributes against a scripted API server: association, waiting, changes, deletion, sharing, filters, faults."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from kofagent.component.protocols import StartError
from kofagent.kubernetes.resources import DEPLOYMENTS, NAMESPACES, NODES, PODS, REPLICASETS
from kofagent.kubernetes.watch import Timing
from kofagent.memory.memo import Memo
from kofagent.net.peer import address_of, sender
from kofagent.processors.batch import BatchProcessor
from kofagent.processors.k8sattributes import cluster
from kofagent.processors.k8sattributes.cluster import Cluster
from kofagent.processors.k8sattributes.pods import Pods
from kofagent.processors.k8sattributes.processor import K8sAttributes
from kofagent.receivers.otlp import COMPONENT as OtlpReceiver
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from kofagent.transform.anyvalue import attributes
from tests.processors.support import logs, metrics
from tests.support.components import FakeHost, Sink, eventually, make
from tests.support.fake_kube import FakeKube, pod

BY_UID = [{"sources": [{"from": "resource_attribute", "name": "k8s.pod.uid"}]}]
FAST = Timing(first_wait=0.02, longest_wait=0.1, watch_seconds=(30, 30), margin=5)


@pytest.fixture
async def kube(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[FakeKube]:
    monkeypatch.setattr(cluster.Cluster, "timing", FAST)
    async with FakeKube() as server:
        server.use(monkeypatch, tmp_path)
        yield server


class Running:
    """A started processor before a sink."""

    def __init__(self, options: dict[str, Any] | None = None, host: FakeHost | None = None, signal: Signal = Signal.LOGS) -> None:
        self.host = host or FakeHost()
        self.sink = Sink()
        self.processor = make(K8sAttributes, options, kind="processor", id="k8sattributes", host=self.host)
        self.processor.signal, self.processor.next = signal, self.sink

    async def __aenter__(self) -> Running:
        await self.processor.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.processor.stop()

    async def send(self, resource: dict[str, Any], peer: str = "", count: int = 1) -> dict[str, Any]:
        """Sends records of a resource, returns its attributes as they went on."""
        request = logs(*[{"body": "x"}] * count, resource=resource)
        token = sender.set((lambda: peer) if peer else None)
        try:
            await self.processor.consume(Batch(Signal.LOGS, request.SerializeToString(), count))
        finally:
            sender.reset(token)
        batch = self.sink.batches[-1]
        assert isinstance(batch, Batch) and batch.count == count
        out = ExportLogsServiceRequest.FromString(batch.payload)
        assert [r for e in out.resource_logs for s in e.scope_logs for r in s.log_records] == list(
            request.resource_logs[0].scope_logs[0].log_records
        ), "records go on as they were"
        return attributes(out.resource_logs[0].resource.attributes)

    def unknown(self) -> float:
        return self.host.ledger.sum("kofagent_k8sattributes_unknown_items_total")

    def known(self, count: int) -> Any:
        return eventually(lambda: len(self.processor._cluster.pods) == count)


async def test_kofs_default(kube: FakeKube) -> None:
    """The log pipeline of KOF: k8s.node.name by the pod's uid."""
    kube.put(PODS, pod("shop", "web-0", node="node-7", uid="u1"))
    async with Running(
        {"auth_type": "serviceAccount", "passthrough": False, "extract": {"metadata": ["k8s.node.name"]}, "pod_association": BY_UID}
    ) as running:
        assert await running.send({"k8s.pod.uid": "u1", "a": "b"}) == {"k8s.pod.uid": "u1", "a": "b", "k8s.node.name": "node-7"}
        assert running.unknown() == 0
        assert (
            running.host.ledger.total(
                "otelcol_k8s_pod_association_total",
                processor="k8sattributes",
                status="success",
                pod_identifier="resource_attribute/k8s.pod.uid",
                otel_signal="logs",
            )
            == 1
        )


async def test_what_the_data_has_stays(kube: FakeKube) -> None:
    kube.put(PODS, pod("shop", "web-0", uid="u1"))
    async with Running({"pod_association": BY_UID}) as running:
        await running.known(1)
        out = await running.send({"k8s.pod.uid": "u1", "k8s.pod.name": "mine", "k8s.node.name": "", "k8s.namespace.name": 5})
        assert out["k8s.pod.name"] == "mine" and out["k8s.node.name"] == "n1" and out["k8s.namespace.name"] == 5


async def test_rules_in_their_order_and_several_sources(kube: FakeKube) -> None:
    kube.put(PODS, pod("a", "web-0", uid="u1", ip="10.0.0.1"))
    kube.put(PODS, pod("b", "web-0", uid="u2", ip="10.0.0.2"))
    async with Running(
        {
            "extract": {"metadata": ["k8s.pod.uid", "k8s.pod.ip"]},
            "wait_for_pod": "0s",
            "pod_association": [
                {
                    "sources": [
                        {"from": "resource_attribute", "name": "k8s.pod.name"},
                        {"from": "resource_attribute", "name": "k8s.namespace.name"},
                    ]
                },
                {"sources": [{"from": "resource_attribute", "name": "k8s.pod.ip"}]},
                {"sources": [{"from": "connection"}]},
            ],
        }
    ) as running:
        await running.known(2)
        by_name = {"k8s.pod.name": "web-0", "k8s.namespace.name": "b"}
        assert (await running.send(by_name))["k8s.pod.uid"] == "u2"
        assert (await running.send({"k8s.pod.name": "web-0", "k8s.pod.ip": "10.0.0.1"}))["k8s.pod.uid"] == "u1"
        assert await running.send({"x": "y"}, "10.0.0.1") == {"x": "y", "k8s.pod.uid": "u1", "k8s.pod.ip": "10.0.0.1"}
        assert await running.send({"x": "y"}, "192.0.2.1") == {"x": "y", "k8s.pod.ip": "192.0.2.1"}
        assert await running.send({"x": "y"}) == {"x": "y"}
        # what is empty or no text is not there
        for nothing in ("", 5):
            assert (await running.send({**by_name, "k8s.pod.name": nothing, "k8s.pod.ip": "10.0.0.1"}))["k8s.pod.uid"] == "u1"
        # the first rule whose sources are there decides, also when it finds nothing
        assert (await running.send({**by_name, "k8s.pod.name": "other", "k8s.pod.ip": "10.0.0.1"}))["k8s.pod.uid"] == "u1"


async def test_the_default_rules(kube: FakeKube) -> None:
    kube.put(PODS, pod("a", "one", uid="u1", ip="10.0.0.1"))
    kube.put(PODS, pod("a", "two", uid="u2", ip="10.0.0.2"))
    host_network = pod("a", "three", uid="u3", ip="10.0.0.3")
    host_network["spec"]["hostNetwork"] = True
    kube.put(PODS, host_network)
    async with Running({"extract": {"metadata": ["k8s.pod.name"]}, "wait_for_pod": "0s"}) as running:
        await running.known(3)
        for resource, peer, wanted in (
            ({"k8s.pod.ip": "10.0.0.1"}, "10.0.0.2", "one"),
            ({"ip": "10.0.0.1"}, "10.0.0.2", "one"),
            ({}, "10.0.0.2", "two"),
            ({"host.name": "10.0.0.1"}, "", "one"),
            ({"host.name": "10.0.0.1"}, "10.0.0.2", "two"),
            ({"host.name": "web"}, "", None),
            ({}, "10.0.0.3", None),
            ({}, "::ffff:10.0.0.1", "one"),
        ):
            assert (await running.send(resource, peer)).get("k8s.pod.name") == wanted, (resource, peer)


async def test_by_container_id_and_static_pods(kube: FakeKube) -> None:
    made = pod("a", "one", uid="u1")
    made["status"]["containerStatuses"][0]["containerID"] = "containerd://c1"
    kube.put(PODS, made)
    kube.put(PODS, pod("kube-system", "kube-apiserver-n1", uid="mirror", annotations={"kubernetes.io/config.hash": "hash"}))
    async with Running(
        {
            "extract": {"metadata": ["k8s.pod.name", "container.id"]},
            "wait_for_pod": "0s",
            "pod_association": [{"sources": [{"from": "resource_attribute", "name": "container.id"}]}, *BY_UID],
        }
    ) as running:
        await running.known(2)
        assert (await running.send({"container.id": "c1"}))["k8s.pod.name"] == "one"
        assert (await running.send({"k8s.pod.uid": "hash"}))["k8s.pod.name"] == "kube-apiserver-n1"


async def test_telemetry_waits_for_its_pod(kube: FakeKube) -> None:
    async with Running({"pod_association": BY_UID, "wait_for_pod": "20s"}) as running:
        await eventually(lambda: kube.watches("pods") == 1)
        sending = asyncio.create_task(running.send({"k8s.pod.uid": "u1"}))
        kube.put(PODS, pod("shop", "other", uid="u0"))
        await running.known(1)
        assert not sending.done() and not running.sink.batches
        kube.put(PODS, pod("shop", "web-0", uid="u1"))
        assert (await sending)["k8s.pod.name"] == "web-0"
        assert running.unknown() == 0


async def test_the_wait_is_bounded_once_a_pod_and_counted(kube: FakeKube) -> None:
    async with Running({"pod_association": BY_UID, "wait_for_pod": "300ms"}) as running:
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await running.send({"k8s.pod.uid": "nobody"}, count=3) == {"k8s.pod.uid": "nobody"}
        assert loop.time() - began >= 0.3
        assert running.unknown() == 3
        running.processor.config.wait_for_pod = 3600.0  # a second wait would not end
        async with asyncio.timeout(10):
            await running.send({"k8s.pod.uid": "nobody"}, count=2)
            await running.send({"no": "identity"})
        assert running.unknown() == 5, "what says nothing of a pod is not counted"
        kube.put(PODS, pod("shop", "late", uid="nobody"))
        await running.known(1)
        assert (await running.send({"k8s.pod.uid": "nobody"}))["k8s.pod.name"] == "late"


@pytest.mark.slow
async def test_waits_in_vain_become_short(kube: FakeKube) -> None:
    """Log files of a hundred pods that are long gone."""
    async with Running({"pod_association": BY_UID, "wait_for_pod": "1s"}) as running:
        async with asyncio.timeout(15):
            for i in range(100):
                await running.send({"k8s.pod.uid": f"gone-{i}"})
        assert running.unknown() == 100
        known = running.processor._cluster
        sending = asyncio.create_task(running.send({"k8s.pod.uid": "u1"}))
        await asyncio.sleep(0)
        kube.put(PODS, pod("shop", "web-0", uid="u1"))
        await sending
        await eventually(lambda: len(known.pods) == 1)
        loop = asyncio.get_running_loop()
        known.waited(True)
        assert known.may_wait((0, "next")) - loop.time() > 0.5, "full patience again after a wait that was worth it"


@pytest.mark.parametrize("namespaces", [True, False])
async def test_telemetry_of_a_known_pod_waits_for_the_first_lists_of_what_it_belongs_to(kube: FakeKube, namespaces: bool) -> None:
    path, gate = "/api/v1/namespaces", asyncio.Event()

    async def late(request: web.Request) -> web.StreamResponse:
        await gate.wait()
        kube.routes.pop(path, None)
        return await kube._handle(request)

    kube.routes[path] = late
    kube.put(PODS, pod("shop", "web-0", uid="u1"))
    if namespaces:
        kube.put(NAMESPACES, {"metadata": {"name": "kube-system", "uid": "of-the-cluster"}})
    options = {"pod_association": BY_UID, "extract": {"metadata": ["k8s.pod.name", "k8s.cluster.uid"]}, "wait_for_pod": "1h"}
    async with Running(options) as running:
        await running.known(1)
        sending = asyncio.create_task(running.send({"k8s.pod.uid": "u1"}))
        await eventually(lambda: any(asked == path for _, asked, _ in kube.requests))
        kube.put(PODS, pod("shop", "other", uid="u0"))
        await running.known(2)
        assert not sending.done() and not running.sink.batches
        gate.set()
        async with asyncio.timeout(10):
            out = await sending
        assert out["k8s.pod.name"] == "web-0" and out.get("k8s.cluster.uid") == ("of-the-cluster" if namespaces else None)


async def test_the_wait_for_first_lists_is_bounded(kube: FakeKube) -> None:
    kube.forbidden.add(("list", "namespaces"))
    kube.put(PODS, pod("shop", "web-0", uid="u1"))
    options = {"pod_association": BY_UID, "extract": {"metadata": ["k8s.pod.name", "k8s.cluster.uid"]}, "wait_for_pod": "300ms"}
    async with Running(options) as running:
        async with asyncio.timeout(10):
            assert (await running.send({"k8s.pod.uid": "u1"}))["k8s.pod.name"] == "web-0"
        assert running.unknown() == 0


async def test_stop_ends_the_wait(kube: FakeKube, monkeypatch: pytest.MonkeyPatch) -> None:
    waits, wait = asyncio.Event(), Cluster.wait

    async def seen(self: Cluster, until: float) -> None:
        waits.set()
        await wait(self, until)

    monkeypatch.setattr(Cluster, "wait", seen)
    running = Running({"pod_association": BY_UID, "wait_for_pod": "1h"})
    await running.processor.start()
    sending = asyncio.create_task(running.send({"k8s.pod.uid": "nobody"}))
    async with asyncio.timeout(10):
        await waits.wait()
        await running.processor.stop()
        assert await sending == {"k8s.pod.uid": "nobody"}


async def test_what_changes_is_seen(kube: FakeKube) -> None:
    options = {
        "pod_association": BY_UID,
        "extract": {
            "metadata": ["k8s.pod.name", "k8s.deployment.uid"],
            "labels": [
                {"key": "app", "tag_name": "app"},
                {"key": "team", "tag_name": "team", "from": "namespace"},
                {"key": "zone", "tag_name": "zone", "from": "node"},
                {"key": "tier", "tag_name": "tier", "from": "deployment"},
            ],
        },
    }
    owner = ("ReplicaSet", "web-1", "rs1")
    kube.put(PODS, pod("shop", "web-0", uid="u1", labels={"app": "one"}, owner=owner))
    async with Running(options) as running:
        me = {"k8s.pod.uid": "u1"}
        assert await running.send(me) == {**me, "k8s.pod.name": "web-0", "app": "one"}
        kube.put(PODS, pod("shop", "web-0", uid="u1", labels={"app": "two"}, owner=owner))
        kube.put(NAMESPACES, {"metadata": {"name": "shop", "labels": {"team": "red"}}})
        kube.put(NODES, {"metadata": {"name": "n1", "labels": {"zone": "z1"}}})
        kube.put(DEPLOYMENTS, {"metadata": {"name": "web", "namespace": "shop", "uid": "d1", "labels": {"tier": "front"}}})
        kube.put(
            REPLICASETS,
            {
                "metadata": {
                    "name": "web-1",
                    "namespace": "shop",
                    "uid": "rs1",
                    "ownerReferences": [{"kind": "Deployment", "name": "web", "uid": "d1", "controller": True}],
                }
            },
        )
        wanted = {
            **me,
            "k8s.pod.name": "web-0",
            "app": "two",
            "team": "red",
            "zone": "z1",
            "tier": "front",
            "k8s.deployment.uid": "d1",
        }
        async with asyncio.timeout(20):
            while await running.send(me) != wanted:
                await asyncio.sleep(0.02)
        kube.put(NAMESPACES, {"metadata": {"name": "shop", "labels": {"team": "blue"}}})
        async with asyncio.timeout(20):
            while (await running.send(me))["team"] != "blue":
                await asyncio.sleep(0.02)
        # without a pod, by the names the resource has
        assert await running.send({"k8s.namespace.name": "shop", "k8s.node.name": "n1", "k8s.deployment.uid": "d1"}) == {
            "k8s.namespace.name": "shop",
            "k8s.node.name": "n1",
            "k8s.deployment.uid": "d1",
            "team": "blue",
            "zone": "z1",
            "tier": "front",
        }


async def test_node_and_cluster_uids(kube: FakeKube) -> None:
    kube.put(PODS, pod("shop", "web-0", uid="u1"))
    kube.put(NODES, {"metadata": {"name": "n1", "uid": "node-uid"}})
    kube.put(NAMESPACES, {"metadata": {"name": "kube-system", "uid": "cluster-uid"}})
    async with Running(
        {
            "pod_association": BY_UID,
            "wait_for_metadata": True,
            "extract": {"metadata": ["k8s.node.uid", "k8s.cluster.uid", "service.namespace"]},
        }
    ) as running:
        assert await running.send({"k8s.pod.uid": "u1"}) == {
            "k8s.pod.uid": "u1",
            "k8s.node.uid": "node-uid",
            "k8s.cluster.uid": "cluster-uid",
            "service.namespace": "shop",
        }


BY_UID_THEN_NAME = [
    *BY_UID,
    {"sources": [{"from": "resource_attribute", "name": n} for n in ("k8s.pod.name", "k8s.namespace.name")]},
    {"sources": [{"from": "connection"}]},
]


async def test_a_rule_that_finds_no_pod_gives_way_to_the_next(kube: FakeKube) -> None:
    """contrib#41844: the uid of a static pod, or of one made anew, is none that the API knows."""
    kube.put(PODS, pod("shop", "web-0", uid="u1", ip="10.0.0.1"))
    kube.put(PODS, pod("shop", "db-0", uid="u2", node="n2", ip="10.0.0.2"))
    kube.put(PODS, pod("shop", "hidden", uid="u3", annotations={"opentelemetry.io/k8s-processor/ignore": "true"}))
    options = {"pod_association": BY_UID_THEN_NAME, "wait_for_pod": "0s", "extract": {"metadata": ["k8s.node.name"]}}
    async with Running(options) as running:
        await running.known(3)

        async def node(peer: str = "", **names: str) -> Any:
            return (await running.send({f"k8s.{k.replace('_', '.')}": v for k, v in names.items()}, peer)).get("k8s.node.name")

        web = {"pod_uid": "another", "pod_name": "web-0", "namespace_name": "shop"}
        assert await node(**web) == "n1"
        assert await node(pod_uid="u2", pod_name="web-0", namespace_name="shop") == "n2", "the first rule that finds one"
        assert await node("10.0.0.2", pod_uid="another") == "n2"
        assert await node("192.0.2.9", pod_uid="another") is None
        assert await node("10.0.0.2", pod_uid="u3") is None, "an excluded pod is not replaced by the sender's"
        # what a later rule found is looked up again when the pod of an earlier one comes, changes or goes
        kube.put(PODS, pod("shop", "web-9", uid="another", node="n9"))
        await running.known(4)
        assert await node(**web) == "n9"


async def test_the_pod_of_an_earlier_rule_is_waited_for(kube: FakeKube) -> None:
    """The sender's pod, a gateway's perhaps, is not taken for one that the API has not told yet."""
    kube.put(PODS, pod("kof", "gateway", uid="g", ip="10.0.0.1", node="n1"))
    async with Running({"pod_association": BY_UID_THEN_NAME, "extract": {"metadata": ["k8s.node.name"]}}) as running:
        await running.known(1)
        sending = asyncio.create_task(running.send({"k8s.pod.uid": "new"}, "10.0.0.1"))
        await eventually(lambda: running.processor._cluster._patience.until((0, "new")) is not None)
        assert not sending.done()
        kube.put(PODS, pod("shop", "web-0", uid="new", ip="10.0.0.9", node="n2"))
        assert (await sending)["k8s.node.name"] == "n2"
    async with Running({"pod_association": BY_UID_THEN_NAME, "wait_for_pod": "50ms", "pod_delete_grace_period": "0s"}) as running:
        await running.known(2)
        assert (await running.send({"k8s.pod.uid": "never"}, "10.0.0.1"))["k8s.pod.name"] == "gateway"
        kube.delete(PODS, "gateway", "kof")
        await running.known(1)
        assert "k8s.pod.name" not in await running.send({"k8s.pod.uid": "never"}, "10.0.0.1"), "it is forgotten with its pod"


@pytest.mark.parametrize("names", [("k8s.pod.ip", ""), ("ip", "host.name")])
async def test_without_rules_every_address_is_tried(kube: FakeKube, names: tuple[str, str]) -> None:
    kube.put(PODS, pod("shop", "web-0", uid="u1", ip="10.0.0.1"))
    async with Running({"wait_for_pod": "0s"}) as running:
        await running.known(1)
        resource = {name: ip for name, ip in zip(names, ("192.0.2.1", "10.0.0.1"), strict=True) if name}
        assert (await running.send(resource, "" if names[1] else "10.0.0.1"))["k8s.pod.name"] == "web-0"


async def test_deleted_pods_stay_for_their_last_lines(kube: FakeKube) -> None:
    kube.put(PODS, pod("shop", "web-0", uid="u1"))
    kube.put(PODS, pod("shop", "web-1", uid="u2"))
    async with Running({"pod_association": BY_UID, "pod_delete_grace_period": "500ms", "wait_for_pod": "0s"}) as running:
        await running.known(2)
        kube.delete(PODS, "web-0", "shop")
        pods = running.processor._cluster.pods
        await eventually(lambda: pods.next_expiry() is not None)
        assert (await running.send({"k8s.pod.uid": "u1"}))["k8s.pod.name"] == "web-0"
        await running.known(1)
        assert "k8s.pod.name" not in await running.send({"k8s.pod.uid": "u1"})
        assert (await running.send({"k8s.pod.uid": "u2"}))["k8s.pod.name"] == "web-1"


async def test_pods_deleted_while_the_watch_was_away(kube: FakeKube) -> None:
    kube.put(PODS, pod("shop", "web-0", uid="u1"))
    async with Running({"pod_association": BY_UID, "pod_delete_grace_period": "0s", "wait_for_pod": "0s"}) as running:
        await running.known(1)
        kube.delete(PODS, "web-0", "shop")
        kube.put(PODS, pod("shop", "web-0", uid="u2"))
        kube.compact()
        await eventually(lambda: running.processor._cluster.pods.find((0, "u2")))
        assert (await running.send({"k8s.pod.uid": "u2"}))["k8s.pod.name"] == "web-0"


async def test_only_the_nodes_own_pods_are_watched(kube: FakeKube, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_NODE", "n2")
    kube.put(PODS, pod("shop", "web-0", node="n1", uid="u1"))
    kube.put(PODS, pod("shop", "web-1", node="n2", uid="u2"))
    async with Running({"pod_association": BY_UID, "wait_for_pod": "0s", "filter": {"node_from_env_var": "MY_NODE"}}) as running:
        await running.known(1)
        assert (await running.send({"k8s.pod.uid": "u2"}))["k8s.pod.name"] == "web-1"
        assert {q.get("fieldSelector") for _, path, q in kube.requests if path.endswith("/pods")} == {"spec.nodeName=n2"}


async def test_excluded_pods(kube: FakeKube) -> None:
    kube.put(PODS, pod("shop", "web-0", uid="u1", annotations={"opentelemetry.io/k8s-processor/ignore": "true"}))
    kube.put(PODS, pod("shop", "jaeger-agent-0", uid="u2"))
    kube.put(PODS, pod("shop", "db-0", uid="u3"))
    async with Running({"pod_association": BY_UID, "wait_for_pod": "0s"}) as running:
        await running.known(3)
        for uid, there in (("u1", False), ("u2", False), ("u3", True)):
            assert ("k8s.pod.name" in await running.send({"k8s.pod.uid": uid})) == there
    async with Running({"pod_association": BY_UID, "wait_for_pod": "0s", "exclude": {"pods": [{"name": "^db-"}]}}) as running:
        await running.known(3)
        assert "k8s.pod.name" not in await running.send({"k8s.pod.uid": "u3"})


async def test_passthrough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeHost, "kubeconfig", None)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    async with Running({"passthrough": True}) as running:
        assert await running.send({"a": "b"}, "10.0.0.9") == {"a": "b", "k8s.pod.ip": "10.0.0.9"}
        assert await running.send({"k8s.pod.ip": "10.0.0.1"}, "10.0.0.9") == {"k8s.pod.ip": "10.0.0.1"}
        assert await running.send({"ip": "10.0.0.2"}) == {"ip": "10.0.0.2", "k8s.pod.ip": "10.0.0.2"}
        assert await running.send({"a": "b"}) == {"a": "b"}


async def test_pipelines_share_what_is_known(kube: FakeKube) -> None:
    kube.put(PODS, pod("shop", "web-0", uid="u1"))
    host = FakeHost()
    async with contextlib.AsyncExitStack() as stack:
        for signal in (Signal.LOGS, Signal.METRICS, Signal.TRACES):
            await stack.enter_async_context(Running({"pod_association": BY_UID}, host, signal))
        last = await stack.enter_async_context(Running({"pod_association": BY_UID}, host))
        assert (await last.send({"k8s.pod.uid": "u1"}))["k8s.pod.name"] == "web-0"
        await eventually(lambda: kube.watches("pods") == 1)
        assert sum(path.endswith("/pods") for _, path, query in kube.requests if "watch" not in query) == 1
    again = Running({"pod_association": BY_UID, "wait_for_pod": "0s"}, host)
    kube.delete(PODS, "web-0", "shop")
    async with again:
        assert "k8s.pod.name" not in await again.send({"k8s.pod.uid": "u1"}), "a new start knows nothing of before"


async def test_metrics(kube: FakeKube) -> None:
    async with Running({"pod_association": BY_UID, "wait_for_pod": "0s"}, signal=Signal.METRICS) as running:
        payload = metrics("a", "b", points=3, resource={"k8s.pod.uid": "nobody"}).SerializeToString()
        await running.processor.consume(Batch(Signal.METRICS, payload, 6))
        assert running.unknown() == 6 and running.sink.batches[0].payload == payload  # type: ignore[union-attr]


async def test_without_an_api_server(kube: FakeKube) -> None:
    kube.put(PODS, pod("shop", "web-0", uid="u1"))
    await kube.stop()
    async with Running({"pod_association": BY_UID, "wait_for_pod": "50ms"}) as running:
        assert await running.send({"k8s.pod.uid": "u1"}) == {"k8s.pod.uid": "u1"}
        assert await eventually(lambda: running.host.statuses.get("processor/k8sattributes"))
        await kube.start()
        await running.known(1)
        assert (await running.send({"k8s.pod.uid": "u1"}))["k8s.pod.name"] == "web-0"
        await eventually(lambda: running.host.statuses["processor/k8sattributes"] is None)


async def test_wait_for_metadata_fails_the_start(kube: FakeKube) -> None:
    kube.forbidden = {("list", "pods")}
    running = Running({"wait_for_metadata": True, "wait_for_metadata_timeout": "300ms"})
    with pytest.raises(StartError, match=r"not known after 0.3 s: .*may not list pods"):
        await running.processor.start()
    await running.processor.stop()


async def test_malformed_payloads_are_refused_and_counted(kube: FakeKube) -> None:
    async with Running() as running:
        with pytest.raises(Refused) as refused:
            await running.processor.consume(Batch(Signal.LOGS, b"\x0a\xff", 1))
        assert refused.value.permanent
        assert (
            running.host.ledger.total("kofagent_dropped_items_total", component="k8sattributes", signal="logs", reason="malformed")
            == 1
        )


def small(name: str, **options: Any) -> Memo[Any, Any]:
    return Memo(name, **{**options, "entries": 10})


async def test_what_is_dropped_to_make_room_is_no_user_of_its_pod(kube: FakeKube, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "Memo", small)
    kube.put(PODS, pod("shop", "web-0", uid="u1"))
    async with Running({"pod_association": BY_UID, "wait_for_pod": "0s"}) as running:
        await running.known(1)
        known = running.processor._cluster
        for i in range(100):
            assert (await running.send({"k8s.pod.uid": "u1", "i": i}))["k8s.pod.name"] == "web-0"
            await running.send({"k8s.pod.uid": "nobody", "i": i})
            assert known._remembered.entries <= 10 and known._unknown.entries <= 10
        found = known.pods.find((0, "u1"))
        assert found.users == {key for key, _ in known._remembered.everything()} and found.users
        kube.put(PODS, pod("shop", "web-0", uid="u1", node="n9"))
        await eventually(lambda: known.pods.pod(found)["spec"]["nodeName"] == "n9")
        assert known._remembered.entries == known._unknown.entries == 0


async def test_the_sender_of_real_requests(kube: FakeKube) -> None:
    """OTLP/HTTP and gRPC tell who sent; behind a batch nobody did."""
    import aiohttp
    import grpc

    async with Running({"passthrough": True}) as running:
        receiver = make(
            OtlpReceiver, {"protocols": {"grpc": {"endpoint": "127.0.0.1:0"}, "http": {"endpoint": "127.0.0.1:0"}}}, id="otlp"
        )
        receiver.outputs = {Signal.LOGS: running.processor}
        await receiver.start()
        body = logs({"body": "x"}, resource={"a": "b"}).SerializeToString()
        port = receiver.ports["http"]
        try:
            async with aiohttp.ClientSession() as session:
                headers = {"Content-Type": "application/x-protobuf"}
                async with session.post(f"http://127.0.0.1:{port}/v1/logs", data=body, headers=headers) as answer:
                    assert answer.status == 200
            async with grpc.aio.insecure_channel(f"127.0.0.1:{receiver.ports['grpc']}") as channel:
                await channel.unary_unary("/opentelemetry.proto.collector.logs.v1.LogsService/Export")(body)
            batch = make(BatchProcessor, {"timeout": "10ms"}, kind="processor", id="batch")
            batch.signal, batch.next = Signal.LOGS, running.processor
            await batch.start()
            receiver.outputs[Signal.LOGS] = batch
            await running.send({"a": "b"}, "10.0.0.9")
            token = sender.set(lambda: "10.0.0.9")
            await batch.consume(Batch(Signal.LOGS, body, 1))
            sender.reset(token)
            await batch.stop()
        finally:
            await receiver.stop()
        found = [
            attributes(ExportLogsServiceRequest.FromString(b.payload).resource_logs[0].resource.attributes)  # type: ignore[union-attr]
            for b in running.sink.batches
        ]
        assert [f.get("k8s.pod.ip") for f in found] == ["127.0.0.1", "127.0.0.1", "10.0.0.9", None]


@pytest.mark.parametrize(
    "peer, wanted",
    [
        ("10.0.0.1", "10.0.0.1"),
        ("ipv4:10.0.0.1:5000", "10.0.0.1"),
        ("ipv6:[::1]:5000", "::1"),
        ("ipv6:%5Bfd00::1%5D:5000", "fd00::1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("unix:/tmp/x", ""),
        ("", ""),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_addresses_of_peers(peer: str, wanted: str) -> None:
    assert address_of(peer) == wanted


def test_an_address_that_goes_from_pod_to_pod() -> None:
    from kofagent.processors.k8sattributes.config import Config
    from kofagent.processors.k8sattributes.extract import Extraction

    def one(name: str, started: str, uid: str) -> dict[str, Any]:
        made = pod("a", name, ip="10.0.0.1", uid=uid)
        made["status"]["startTime"] = started
        return made

    pods = Pods([], Extraction(Config()), grace=10)
    old, new = one("old", "2026-01-01T00:00:00Z", "u1"), one("new", "2026-01-01T00:01:00Z", "u2")

    def who() -> str | None:
        found = pods.find((0, "10.0.0.1"))
        return str(pods.pod(found)["metadata"]["name"]) if found else None

    pods.put(old, 0)
    pods.find((0, "10.0.0.1")).users = {"remembered"}  # type: ignore[union-attr]
    assert pods.put(new, 1) == {"remembered"}
    assert who() == "new"
    pods.put({**old, "extra": 1}, 2)
    assert who() == "new", "a late update of the older pod does not take the address back"
    pods.remove(old, 3)
    pods.expire(14)
    assert who() == "new" and len(pods) == 1
    pods.remove(new, 20)
    assert who() == "new"
    pods.put(one("newest", "2026-01-01T00:00:30Z", "u3"), 21)
    assert who() == "newest", "a pod that is gone gives the address away"
    pods.expire(40)
    assert who() == "newest" and len(pods) == 1
    pods.remove(one("newest", "", "u3"), 41)
    pods.put(one("newest", "2026-01-01T00:00:30Z", "u3"), 42)
    pods.expire(60)
    assert who() == "newest", "it came back"
    moved = one("newest", "2026-01-01T00:00:30Z", "u3")
    moved["status"]["podIP"], moved["status"]["podIPs"] = "10.0.0.2", []
    pods.put(moved, 61)
    assert who() == "newest"
    pods.expire(72)
    assert who() is None and pods.find((0, "10.0.0.2")) is not None
