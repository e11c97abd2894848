"""kubeletstats against a real kubelet with real containers: every value lies between what /stats/summary says before and after."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kofagent.component.protocols import Kubeconfig
from kofagent.kubernetes import access as access_module
from kofagent.receivers.kubeletstats import COMPONENT
from kofagent.telemetry.signal import Signal
from tests.cluster import Cluster, images
from tests.cluster.control_plane import NODE_ADDRESS
from tests.cluster.node import KUBELET_PORT, NODE, READ_ONLY_PORT, obstacles
from tests.receivers.kubeletstats.support import expected, read, sent
from tests.support.components import FakeHost, Sink, eventually, make

pytestmark = [
    *(
        pytest.mark.server(name)
        for name in ("kubelet", "kube-apiserver", "etcd", "kubectl", "kube-scheduler", "kube-controller-manager", "containerd")
    ),
    pytest.mark.skipif(bool(obstacles()), reason="; ".join(obstacles())),
]
GROUPS = ["node", "pod", "container", "volume"]
LABELS = ["container.id", "k8s.volume.type"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("kubeletstats") / "c", kubelet=True) as running:
        running.namespace("test")
        running.service_account(
            "test",
            "agent",
            [
                {"apiGroups": [""], "resources": ["nodes/stats", "nodes/proxy"], "verbs": ["get"]},
                {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch"]},
            ],
        )
        running.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "busy", "namespace": "test", "labels": {"app": "busy"}},
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "volumes": [{"name": "scratch", "emptyDir": {}}],
                    "containers": [
                        {
                            "name": "c",
                            "image": images.BUSYBOX,
                            "imagePullPolicy": "Never",
                            "volumeMounts": [{"name": "scratch", "mountPath": "/s"}],
                            "command": ["sh", "-c", "while true; do echo x >> /s/f; sleep 0.1; done"],
                            "resources": {"requests": {"cpu": "10m", "memory": "8Mi"}, "limits": {"cpu": "500m", "memory": "64Mi"}},
                        }
                    ],
                },
            }
        )
        running.wait_running("test", "app=busy")
        running.wait_for(
            "the container in the summary",
            lambda: any(
                c.get("cpu", {}).get("usageNanoCores") is not None and p.get("volume")
                for p in summary(running)["pods"]
                if p["podRef"]["name"] == "busy"
                for c in p.get("containers", [])
            ),
            90,
        )
        yield running


def summary(cluster: Cluster) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cluster.kubectl("get", "--raw", f"/api/v1/nodes/{NODE}/proxy/stats/summary"))
    return found


@pytest.fixture
def account(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    host, port = cluster.url.removeprefix("https://").split(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    folder = cluster.mounted_token(tmp_path / "account", "test", "agent")
    monkeypatch.setattr(access_module, "SERVICE_ACCOUNT", str(folder))
    return folder


@asynccontextmanager
async def running(host: FakeHost | None = None, **options: Any) -> AsyncIterator[tuple[Any, Sink]]:
    sink = Sink()
    receiver = make(COMPONENT, {"collection_interval": "1h", "initial_delay": "0s", **options}, id="kubeletstats", host=host)
    receiver.outputs = {Signal.METRICS: sink}
    await receiver.start()
    try:
        yield receiver, sink
    finally:
        await receiver.stop()


async def holds(cluster: Cluster, receiver: Any) -> None:
    """What the receiver reads now lies between two readings of the summary; the same things are told of."""
    for _ in range(5):
        before = expected(await asyncio.to_thread(summary, cluster))
        outcome = await receiver.collect()
        after = expected(await asyncio.to_thread(summary, cluster))
        if set(before) == set(after):
            break
    ours = sent(outcome.payload)
    assert set(ours) == set(before)
    assert outcome.errored == 0
    wrong = {k: (before[k], ours[k], after[k]) for k in ours if not min(before[k], after[k]) <= ours[k] <= max(before[k], after[k])}
    assert wrong == {}
    assert {name.split(".")[0] + "." + name.split(".")[1] for _, name, *_ in ours} >= {
        "k8s.node",
        "k8s.pod",
        "container.cpu",
        "container.memory",
        "container.filesystem",
        "k8s.volume",
    }


async def test_with_the_service_account(cluster: Cluster, account: Path) -> None:
    host = FakeHost()
    async with running(
        host,
        auth_type="serviceAccount",
        endpoint=f"{NODE_ADDRESS}:{KUBELET_PORT}",
        metric_groups=GROUPS,
        extra_metadata_labels=LABELS,
    ) as (receiver, sink):
        await sink.wait_for(lambda s: bool(s.batches))
        await holds(cluster, receiver)
        assert host.statuses.get("receivers/kubeletstats") is None
        pod = cluster.pods("test", "app=busy")[0]
        wanted = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
        resources = [r for r, _, _ in read(sink.payload(Signal.METRICS)) if r.get("k8s.pod.uid") == pod["metadata"]["uid"]]
        assert [r["container.id"] for r in resources if "k8s.container.name" in r] == [wanted]
        assert [r["k8s.volume.type"] for r in resources if r.get("k8s.volume.name") == "scratch"] == ["emptyDir"]


async def test_through_the_api_server_and_on_the_read_only_port(
    cluster: Cluster, account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeHost, "kubeconfig", Kubeconfig(str(cluster.kubeconfig_of("test", "agent"))))
    async with running(auth_type="kubeConfig", endpoint=NODE, metric_groups=GROUPS) as (receiver, _):
        await holds(cluster, receiver)
    async with running(auth_type="none", endpoint=f"{NODE_ADDRESS}:{READ_ONLY_PORT}", metric_groups=GROUPS) as (receiver, _):
        await holds(cluster, receiver)


async def test_shares_of_limits_and_of_the_node(cluster: Cluster, account: Path) -> None:
    ratios = [f"k8s.container.memory{of}" for of in (".node.utilization", "_limit_utilization", "_request_utilization")]
    async with running(
        auth_type="serviceAccount",
        endpoint=f"{NODE_ADDRESS}:{KUBELET_PORT}",
        metric_groups=["container"],
        node=NODE,
        collection_interval="500ms",
        metrics={name: {"enabled": True} for name in ratios},
    ) as (_, sink):
        uid = cluster.pods("test", "app=busy")[0]["metadata"]["uid"]

        def found() -> dict[tuple[str, ...], float]:
            return {k: v for batch in sink.batches[-1:] for k, v in sent(batch.payload).items()}  # type: ignore[union-attr]

        of = f"{uid}/c"
        await eventually(lambda: (of, ratios[0]) in found(), 30)
        values = found()
        used = values[of, "container.memory.usage"]
        assert values[of, ratios[1]] == used / (64 << 20)
        assert values[of, ratios[2]] == used / (8 << 20)
        capacity = cluster.api.get(f"/api/v1/nodes/{NODE}")["status"]["capacity"]["memory"]
        assert values[of, ratios[0]] == used / (int(capacity.removesuffix("Ki")) << 10)


async def test_rights_and_a_kubelet_that_restarts(cluster: Cluster, account: Path) -> None:
    host = FakeHost()
    async with running(
        host, auth_type="serviceAccount", endpoint=f"{NODE_ADDRESS}:{KUBELET_PORT}", collection_interval="300ms"
    ) as (_, sink):
        await sink.wait_for(lambda s: bool(s.batches))
        await asyncio.to_thread(cluster.stop, "kubelet")
        await eventually(lambda: host.statuses.get("receivers/kubeletstats"), 30)
        await asyncio.to_thread(cluster.resume, "kubelet")
        await eventually(lambda: host.statuses.get("receivers/kubeletstats") is None, 60)
        cluster.service_account("test", "nobody")
        cluster.mounted_token(account, "test", "nobody")
        await eventually(lambda: "nodes/stats" in (host.statuses.get("receivers/kubeletstats") or ""), 30)
        cluster.mounted_token(account, "test", "agent")
        await eventually(lambda: host.statuses.get("receivers/kubeletstats") is None, 30)
