"""k8s_cluster and kubeletstats beside a Go collector (contrib 0.149) on the same cluster: everything either sends is the same.

Names, units, kinds, temporality, types of values, attributes, resources, scopes, schema URLs and values; with all metrics and all
resource attributes switched on. Descriptions and times are each one's own. The Go collector is `otelcol-k8s` among the test servers:
receivers k8scluster and kubeletstats, exporter otlphttp.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from kofagent.component.protocols import Kubeconfig
from kofagent.receivers.k8s_cluster import COMPONENT as K8S_CLUSTER
from kofagent.receivers.k8s_cluster import catalog as cluster_catalog
from kofagent.receivers.kubeletstats import COMPONENT as KUBELETSTATS
from kofagent.receivers.kubeletstats import catalog as kubelet_catalog
from kofagent.telemetry.signal import Signal
from tests.cluster import Cluster, images
from tests.cluster.node import NODE, obstacles
from tests.e2e_cluster.test_k8s_cluster_receiver import workload
from tests.receivers.k8s_cluster.support import attributes_of, number, read_events
from tests.support.components import FakeHost, Sink, eventually, make
from tests.support.servers import find

pytestmark = [
    *(
        pytest.mark.server(name)
        for name in (
            "otelcol-k8s",
            "kubelet",
            "kube-apiserver",
            "etcd",
            "kubectl",
            "kube-scheduler",
            "kube-controller-manager",
            "containerd",
            "kwok",
        )
    ),
    pytest.mark.skipif(bool(obstacles()), reason="; ".join(obstacles())),
]
Key = tuple[Any, ...]


def all_on(catalog: Any, but: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "metrics": {name: {"enabled": True} for name in catalog.CATALOG if name not in but},
        "resource_attributes": {name: {"enabled": True} for name in catalog.RESOURCE_ATTRIBUTES},
    }


CLUSTER_OPTIONS: dict[str, Any] = {
    "auth_type": "kubeConfig",
    "collection_interval": "1s",
    **all_on(cluster_catalog),
    "node_conditions_to_report": ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"],
    "allocatable_types_to_report": ["cpu", "memory", "ephemeral-storage", "storage", "pods", "hugepages-2Mi"],
}
KUBELET_OPTIONS: dict[str, Any] = {
    "auth_type": "kubeConfig",
    "endpoint": NODE,
    "collection_interval": "1s",
    **all_on(kubelet_catalog),
    "metric_groups": ["node", "pod", "container", "volume"],
    "extra_metadata_labels": ["container.id", "k8s.volume.type"],
    "node": NODE,
    "collect_all_network_interfaces": {"node": True, "pod": True},
    "k8s_api_config": {"auth_type": "kubeConfig"},
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("go") / "c", kubelet=True, fake_nodes=2, fake_pods=4) as running:
        running.namespace("shop")
        running.namespace("test")
        running.apply(
            workload("Deployment", "apps/v1", "web", replicas=2),
            workload("StatefulSet", "apps/v1", "db", replicas=1, serviceName="db"),
            workload("DaemonSet", "apps/v1", "logs"),
            workload("ReplicationController", "v1", "old", replicas=1),
            {
                "apiVersion": "autoscaling/v2",
                "kind": "HorizontalPodAutoscaler",
                "metadata": {"name": "web", "namespace": "shop"},
                "spec": {
                    "maxReplicas": 5,
                    "minReplicas": 2,
                    "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                    "metrics": [
                        {
                            "type": "Resource",
                            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
                        }
                    ],
                },
            },
            {
                "apiVersion": "v1",
                "kind": "ResourceQuota",
                "metadata": {"name": "quota", "namespace": "shop"},
                "spec": {"hard": {"pods": "100", "requests.cpu": "7500m", "cpu": "8500m", "limits.memory": "10Gi"}},
            },
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "web", "namespace": "shop", "labels": {"a": "b"}},
                "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
            },
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "balanced", "namespace": "shop"},
                "spec": {"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"port": 80}]},
            },
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "busy", "namespace": "test", "labels": {"app": "busy"}},
                "spec": {
                    "nodeName": NODE,
                    "terminationGracePeriodSeconds": 1,
                    "volumes": [{"name": "scratch", "emptyDir": {}}],
                    "initContainers": [{"name": "i", "image": images.BUSYBOX, "imagePullPolicy": "Never", "command": ["true"]}],
                    "containers": [
                        {
                            "name": "c",
                            "image": images.BUSYBOX,
                            "imagePullPolicy": "Never",
                            "volumeMounts": [{"name": "scratch", "mountPath": "/s"}],
                            "command": ["sleep", "10000"],
                            "resources": {"requests": {"cpu": "10m", "memory": "8Mi"}, "limits": {"cpu": "500m", "memory": "64Mi"}},
                        }
                    ],
                },
            },
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "ended", "namespace": "test"},
                "spec": {
                    "nodeName": NODE,
                    "restartPolicy": "Never",
                    "containers": [{"name": "c", "image": images.BUSYBOX, "imagePullPolicy": "Never", "command": ["false"]}],
                },
            },
        )
        running.wait_running("test", "app=busy")
        running.wait_for(
            "two pods of web",
            lambda: running.api.get("/apis/apps/v1/namespaces/shop/deployments/web")["status"].get("availableReplicas") == 2,
        )
        yield running


def flat(payload: bytes) -> dict[Key, float]:
    """Everything a metrics payload says, but descriptions and times."""
    out: dict[Key, float] = {}
    for entry in ExportMetricsServiceRequest.FromString(payload).resource_metrics:
        resource = tuple(sorted(attributes_of(entry.resource.attributes).items()))
        for scope in entry.scope_metrics:
            for metric in scope.metrics:
                kind = str(metric.WhichOneof("data"))
                data = getattr(metric, kind)
                more = (data.is_monotonic, data.aggregation_temporality) if kind == "sum" else ()
                for point in data.data_points:
                    key = (
                        metric.name,
                        metric.unit,
                        kind,
                        more,
                        point.WhichOneof("value"),
                        point.start_time_unix_nano > 0,
                        tuple(sorted(attributes_of(point.attributes).items())),
                        resource,
                        entry.schema_url,
                        scope.scope.name,
                    )
                    assert key not in out, key
                    out[key] = number(point)
    return out


def entities(payloads: list[bytes]) -> dict[tuple[str, str], Any]:
    """The newest event of each entity."""
    return {(e["otel.entity.type"], json.dumps(e["otel.entity.id"])): e for payload in payloads for e in read_events(payload)}


class Received:
    """What the Go collector sent, by path."""

    def __init__(self) -> None:
        self.bodies: dict[str, list[bytes]] = {"/v1/metrics": [], "/v1/logs": []}

    async def take(self, request: web.Request) -> web.Response:
        self.bodies[request.path].append(await request.read())
        return web.Response(content_type="application/x-protobuf")


@asynccontextmanager
async def both(
    cluster: Cluster,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    component: Any,
    name: str,
    options: dict[str, Any],
    signals: tuple[Signal, ...],
) -> AsyncIterator[tuple[dict[Signal, Sink], Received]]:
    """Our receiver and the Go collector's with the same options on the same cluster."""
    monkeypatch.setattr(FakeHost, "kubeconfig", Kubeconfig(str(cluster.kubeconfig)))
    received = Received()
    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/{tail:.*}", received.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    config = folder / "otelcol.yaml"
    config.write_text(
        json.dumps(
            {
                "receivers": {name: options},
                "exporters": {"otlphttp": {"endpoint": f"http://127.0.0.1:{runner.addresses[0][1]}", "compression": "none"}},
                "service": {
                    "telemetry": {"metrics": {"level": "none"}},
                    "pipelines": {s.value: {"receivers": [name], "exporters": ["otlphttp"]} for s in signals},
                },
            }
        )
    )
    program = find("otelcol-k8s")
    assert program is not None
    log = (folder / "otelcol.log").open("wb")
    process = subprocess.Popen(
        [program, "--config", str(config)],
        stdout=log,
        stderr=log,
        env={**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "TZ": "UTC"},
    )
    await eventually(lambda: process.poll() is not None or b"Everything is ready" in (folder / "otelcol.log").read_bytes(), 60)
    assert process.poll() is None, (folder / "otelcol.log").read_text()[-2000:]
    sinks = {signal: Sink() for signal in signals}
    receiver = make(component, options, id=name)
    receiver.outputs = dict(sinks)
    try:
        await receiver.start()
        yield sinks, received
        assert process.poll() is None, (folder / "otelcol.log").read_text()[-2000:]
    finally:
        await receiver.stop()
        process.terminate()
        await asyncio.to_thread(process.wait)
        log.close()
        await runner.cleanup()


async def same(ours: Callable[[], Any], theirs: Callable[[], Any], seconds: float = 60) -> None:
    """Waits until both are equal; says what differs when they never are."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        one, other = ours(), theirs()
        if one and one == other:
            return
        if asyncio.get_running_loop().time() > deadline:
            break
        await asyncio.sleep(0.5)
    differ = [
        (k, one.get(k, "absent"), other.get(k, "absent"))
        for k in sorted({*one, *other}, key=repr)
        if one.get(k, "absent") != other.get(k, "absent")
    ]
    raise AssertionError(
        f"{len(differ)} of {len({*one, *other})} differ (ours, the Go collector's):\n" + "\n".join(map(repr, differ[:40]))
    )


async def test_metrics_of_the_cluster(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with both(cluster, tmp_path, monkeypatch, K8S_CLUSTER, "k8s_cluster", CLUSTER_OPTIONS, (Signal.METRICS,)) as (
        sinks,
        received,
    ):
        sink, bodies = sinks[Signal.METRICS], received.bodies["/v1/metrics"]
        await same(
            lambda: flat(sink.batches[-1].payload) if sink.batches else {},  # type: ignore[union-attr]
            lambda: flat(bodies[-1]) if bodies else {},
        )
        assert len(flat(bodies[-1])) > 200


async def test_entities_of_the_cluster(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def comparable(found: dict[tuple[str, str], Any]) -> dict[tuple[str, str], Any]:
        # Which of the services that select a pod is told, upstream leaves to chance; one without a selector selects all there.
        # It also cuts the revisions off stateful sets before it reads them, so that they are always empty, and tells of containers
        # that have no id yet (or never, on fake nodes) as of one.
        return {
            key: {
                **event,
                "otel.entity.attributes": {
                    k: v
                    for k, v in event.get("otel.entity.attributes", {}).items()
                    if not (k.startswith("k8s.service.") and v == "") and k not in ("current_revision", "update_revision")
                },
            }
            for key, event in found.items()
            if key[1] != '{"container.id": ""}'
        }

    async with both(
        cluster,
        tmp_path,
        monkeypatch,
        K8S_CLUSTER,
        "k8s_cluster",
        {**CLUSTER_OPTIONS, "metadata_collection_interval": "5s"},
        (Signal.LOGS,),
    ) as (sinks, received):
        sink = sinks[Signal.LOGS]
        await same(
            lambda: comparable(entities([b.payload for b in sink.batches])),  # type: ignore[union-attr]
            lambda: comparable(entities(received.bodies["/v1/logs"])),
        )


async def test_metrics_of_the_kubelet(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kubelet measures anew all the time: what is told of must be the same, sizes and limits to the value, the rest nearly."""
    async with both(cluster, tmp_path, monkeypatch, KUBELETSTATS, "kubeletstats", KUBELET_OPTIONS, (Signal.METRICS,)) as (
        sinks,
        received,
    ):
        sink, bodies = sinks[Signal.METRICS], received.bodies["/v1/metrics"]

        def fixed(found: dict[Key, float]) -> dict[Key, float | None]:
            return {k: v if k[0].endswith((".capacity", ".inodes", "errors")) else None for k, v in found.items()}

        def names(found: dict[Key, float]) -> set[str]:
            return {k[0] for k in found}

        # The kubelet measures volumes once a minute, and the CPU of a new container only after a while.
        wanted = {
            "k8s.container.cpu_limit_utilization",
            "k8s.pod.memory.node.utilization",
            "container.uptime",
            "k8s.volume.inodes.used",
            "k8s.node.network.io",
            "k8s.pod.volume.usage",
        }
        await eventually(lambda: sink.batches and bodies and wanted <= names(flat(bodies[-1])), 120)
        await same(lambda: fixed(flat(sink.batches[-1].payload)), lambda: fixed(flat(bodies[-1])), 90)  # type: ignore[union-attr]
        ours, theirs = flat(sink.batches[-1].payload), flat(bodies[-1])  # type: ignore[union-attr]
        equal = sum(ours.get(k) == v for k, v in theirs.items())
        assert equal > len(theirs) / 2, "one summary is told twice alike"
