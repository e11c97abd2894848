"""k8s_observer and k8s_leader_elector with a real API server: pods as endpoints, one leader of two replicas."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kofagent.component.observing import TYPES, Wanted
from kofagent.component.protocols import Kubeconfig
from kofagent.extensions.k8s_leader_elector import COMPONENT as LeaderElector
from kofagent.extensions.k8s_observer import COMPONENT as K8sObserver
from kofagent.receivers.k8s_events import COMPONENT as K8sEvents
from kofagent.telemetry.signal import Signal
from tests.cluster import Cluster
from tests.receivers.receiver_creator.support import Heard
from tests.support.components import FakeHost, Sink, eventually, make

pytestmark = [pytest.mark.server(name) for name in ("kube-apiserver", "etcd", "kubectl")]
TIMES = {"lease_duration": "3s", "renew_deadline": "2s", "retry_period": "200ms"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(Path(tmp_path_factory.mktemp("observer")) / "c", controllers=False, scheduler=False) as running:
        running.namespace("shop")
        running.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "shop"}})
        yield running


class Replica:
    """An elector and a receiver of events that follows it."""

    def __init__(self, cluster: Cluster) -> None:
        self.host, self.sink = FakeHost(), Sink()
        self.host.kubeconfig = Kubeconfig(str(cluster.kubeconfig))
        lease = {"lease_name": "kof", "lease_namespace": "shop"}
        self.elector = make(LeaderElector, {**lease, **TIMES}, kind="extension", id="k8s_leader_elector", host=self.host)
        self.host.extensions["k8s_leader_elector"] = self.elector
        options = {"namespaces": ["shop"], "k8s_leader_elector": "k8s_leader_elector"}
        self.events = make(K8sEvents, options, kind="receiver", id="k8s_events", host=self.host)
        self.events.outputs = {Signal.LOGS: self.sink}

    async def start(self) -> Replica:
        await self.elector.start()
        await self.events.start()
        return self

    async def stop(self) -> None:
        await self.events.stop()
        await self.elector.stop()


async def event(cluster: Cluster, name: str) -> None:
    about = {"kind": "Pod", "namespace": "shop", "name": "web"}
    obj = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": "shop"}, "involvedObject": about}
    times = dict.fromkeys(("firstTimestamp", "lastTimestamp"), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 5)))
    await asyncio.to_thread(cluster.apply, {**obj, **times, "reason": "Tested", "message": name, "type": "Normal", "count": 1})


async def brings(cluster: Cluster, replica: Replica, name: str) -> None:
    """Events happen until one is brought in."""
    async with asyncio.timeout(30):
        made = 0
        while not replica.sink.count:
            await event(cluster, f"{name}-{made}")
            made += 1


async def test_one_of_two_replicas_collects_and_the_other_takes_over(cluster: Cluster) -> None:
    first, second = await Replica(cluster).start(), await Replica(cluster).start()
    await eventually(lambda: first.elector.is_leader() or second.elector.is_leader())
    leader, other = (first, second) if first.elector.is_leader() else (second, first)
    lease = await asyncio.to_thread(cluster.api.get, "/apis/coordination.k8s.io/v1/namespaces/shop/leases/kof")
    assert lease["spec"]["holderIdentity"] == leader.elector.identity and lease["spec"]["leaseDurationSeconds"] == 3
    await brings(cluster, leader, "one")
    assert other.sink.count == 0 and not other.elector.is_leader()
    await leader.stop()  # gives the Lease back
    await eventually(other.elector.is_leader)
    await brings(cluster, other, "two")
    # a replica that is killed gives nothing back: the Lease runs out
    third = await Replica(cluster).start()
    other.elector._task.cancel()
    assert not third.elector.is_leader()
    await eventually(third.elector.is_leader)
    lease = await asyncio.to_thread(cluster.api.get, "/apis/coordination.k8s.io/v1/namespaces/shop/leases/kof")
    assert lease["spec"]["leaseTransitions"] >= 2
    other.elector._leads = False
    await other.stop()
    await third.stop()


def pod(name: str) -> dict[str, Any]:
    container = {"name": "app", "image": "registry.test/app:1", "ports": [{"name": "http", "containerPort": 8080}]}
    metadata = {"name": name, "namespace": "shop", "labels": {"app": name}, "annotations": {"a": "b"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"nodeName": "n1", "containers": [container]}}


def runs(cluster: Cluster, name: str) -> None:
    """Says of a pod what its kubelet would say."""
    state = {"running": {"startedAt": "2026-01-02T03:04:05Z"}}
    container = {
        "name": "app",
        "containerID": "containerd://abc",
        "image": "i",
        "imageID": "i",
        "ready": True,
        "restartCount": 0,
        "state": state,
    }
    status = {"phase": "Running", "podIP": "10.0.0.7", "podIPs": [{"ip": "10.0.0.7"}], "containerStatuses": [container]}
    patch = json.dumps({"status": status})
    cluster.kubectl("patch", "pod", name, "-n", "shop", "--subresource=status", "--type=merge", "-p", patch)


async def test_pods_services_ingresses_and_nodes_come_and_go(cluster: Cluster) -> None:
    host, heard = FakeHost(), Heard()
    host.kubeconfig = Kubeconfig(str(cluster.kubeconfig))
    options = {"observe_services": True, "observe_ingresses": True, "observe_nodes": True, "namespaces": ["shop"]}
    observer = make(K8sObserver, options, kind="extension", id="k8s_observer", host=host)
    await observer.start()
    observation = observer.observe(Wanted(frozenset(TYPES)), heard)
    await observation.synced.wait()
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"ports": [{"port": 80}]},
    }
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    paths = [{"path": "/x", "pathType": "Prefix", "backend": backend}]
    rules = [{"host": "a.example.org", "http": {"paths": paths}}]
    ingress = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "i", "namespace": "shop"}}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}
    objects = [node, pod("web"), service, {**ingress, "spec": {"rules": rules}}]
    await asyncio.to_thread(cluster.apply, *objects)
    await asyncio.to_thread(runs, cluster, "web")

    def found(type: str) -> list[dict[str, Any]]:
        return [each.env() for each in heard.now.values() if each.type == type]

    await eventually(
        lambda: all(found(type) for type in ("pod", "pod.container", "port", "k8s.service", "k8s.ingress", "k8s.node"))
    )
    [container], [port] = found("pod.container"), found("port")
    assert (
        container["container_id"] == "abc" and container["pod"]["labels"] == {"app": "web"} and port["endpoint"] == "10.0.0.7:8080"
    )
    assert [each["service_type"] for each in found("k8s.service")] == ["ClusterIP"] and found("k8s.service")[0]["cluster_ip"]
    assert found("k8s.ingress")[0]["endpoint"] == "http://a.example.org/x" and found("k8s.node")[0]["name"] == "n1"
    assert all(each.fresh for each in heard.now.values())
    await asyncio.to_thread(cluster.kubectl, "delete", "pod", "web", "-n", "shop", "--force", "--grace-period=0")
    await eventually(lambda: not found("pod") and not found("port") and not found("pod.container"))
    await observation.stop()
    await observer.stop()
    assert not any(host.statuses.values())
