"""k8s_cluster against a real API server with real controllers: every value is what the API says, seen with exactly the rights it needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kofagent.kubernetes import access as access_module
from kofagent.receivers.k8s_cluster import COMPONENT
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.signal import Signal
from tests.cluster import Cluster
from tests.receivers.k8s_cluster.support import attributes_of, number, read_events, read_metrics
from tests.support.components import FakeHost, Sink, eventually, make

pytestmark = [
    pytest.mark.server(name) for name in ("kube-apiserver", "etcd", "kubectl", "kube-controller-manager", "kube-scheduler", "kwok")
]
READ = ["list", "watch"]
RULES = [
    {
        "apiGroups": [""],
        "verbs": READ,
        "resources": ["nodes", "namespaces", "pods", "services", "resourcequotas", "replicationcontrollers"],
    },
    {"apiGroups": ["apps"], "verbs": READ, "resources": ["deployments", "replicasets", "daemonsets", "statefulsets"]},
    {"apiGroups": ["batch"], "verbs": READ, "resources": ["jobs", "cronjobs"]},
    {"apiGroups": ["autoscaling"], "verbs": READ, "resources": ["horizontalpodautoscalers"]},
    {"apiGroups": ["discovery.k8s.io"], "verbs": READ, "resources": ["endpointslices"]},
]


def template(name: str) -> dict[str, Any]:
    return {
        "metadata": {"labels": {"app": name}},
        "spec": {
            "nodeSelector": {"type": "fake"},
            "tolerations": [{"operator": "Exists"}],
            "restartPolicy": "Always",
            "containers": [
                {
                    "name": "c",
                    "image": "registry.test:5000/team/app:1.2",
                    "resources": {"requests": {"cpu": "150m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "128Mi"}},
                }
            ],
        },
    }


def workload(kind: str, version: str, name: str, **spec: Any) -> dict[str, Any]:
    selector = {} if kind in ("Job", "ReplicationController") else {"selector": {"matchLabels": {"app": name}}}
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {**selector, "template": template(name), **spec},
    }


def once(name: str) -> dict[str, Any]:
    made = template(name)
    made["spec"]["restartPolicy"] = "Never"
    return made


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("k8s_cluster") / "c", fake_nodes=2, fake_pods=4) as running:
        running.namespace("shop")
        running.service_account("shop", "agent", RULES)
        running.apply(
            workload("Deployment", "apps/v1", "web", replicas=2),
            workload("StatefulSet", "apps/v1", "db", replicas=1, serviceName="db"),
            workload("DaemonSet", "apps/v1", "logs"),
            workload("ReplicationController", "v1", "old", replicas=1),
            {
                "apiVersion": "batch/v1",
                "kind": "CronJob",
                "metadata": {"name": "nightly", "namespace": "shop"},
                "spec": {"schedule": "0 3 * * *", "jobTemplate": {"spec": {"template": once("nightly")}}},
            },
            {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "metadata": {"name": "once", "namespace": "shop"},
                "spec": {"completions": 2, "parallelism": 1, "template": once("once")},
            },
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
                "spec": {"hard": {"pods": "100", "requests.cpu": "7500m", "limits.memory": "10Gi"}},
            },
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "web", "namespace": "shop"},
                "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
            },
        )
        running.wait_for(
            "two pods of web",
            lambda: running.api.get("/apis/apps/v1/namespaces/shop/deployments/web")["status"].get("availableReplicas") == 2,
        )
        yield running


@pytest.fixture
def account(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The pod's view of the cluster: token, CA and address."""
    host, port = cluster.url.removeprefix("https://").split(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    folder = cluster.mounted_token(tmp_path / "account", "shop", "agent")
    monkeypatch.setattr(access_module, "SERVICE_ACCOUNT", str(folder))
    return folder


@asynccontextmanager
async def running(
    host: FakeHost | None = None, to_metrics: Sink | None = None, to_logs: Sink | None = None, **options: Any
) -> AsyncIterator[Any]:
    receiver = make(COMPONENT, {"collection_interval": "300ms", **options}, id="k8s_cluster", host=host)
    receiver.outputs = {s: sink for s, sink in ((Signal.METRICS, to_metrics), (Signal.LOGS, to_logs)) if sink is not None}
    await receiver.start()
    try:
        yield receiver
    finally:
        await receiver.stop()


AMOUNTS = {"150m": 0.15, "10m": 0.01, "1": 1, "16Mi": 16 << 20, "64Mi": 64 << 20, "128Mi": 128 << 20}
"""What the quantities of the pods mean."""
Told = dict[tuple[str, str, str], float]


def told(sink: Sink) -> Told:
    """(uid or container id, metric, attributes) to value, of the newest batch."""
    batch = sink.batches[-1]
    assert isinstance(batch, Batch)
    out: Told = {}
    for resource, metrics, _ in read_metrics(batch.payload):
        own = [v for k, v in resource.items() if k.endswith(".uid") or k == "container.id"]
        identity = str(resource.get("container.id") or own[-1])
        for name, points in metrics.items():
            for point in points:
                key = (identity, name, ",".join(str(v) for v in attributes_of(point.attributes).values()))
                assert key not in out
                out[key] = number(point)
    return out


def said_by_the_api(cluster: Cluster) -> Told:
    """The same from the API's objects, by rules of their own."""
    out: Told = {}

    def items(path: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = cluster.api.get(path)["items"]
        return found

    def put(obj: dict[str, Any], prefix: str, **values: float | None) -> None:
        for name, value in values.items():
            if value is not None:
                out[obj["metadata"]["uid"], f"{prefix}.{name}", ""] = value

    for pod in items("/api/v1/pods"):
        put(pod, "k8s.pod", phase={"Pending": 1, "Running": 2, "Succeeded": 3, "Failed": 4}[pod["status"]["phase"]])
        for status in pod["status"].get("containerStatuses", []):
            container = {"metadata": {"uid": status.get("containerID", "").split("//")[-1] or pod["metadata"]["uid"]}}
            put(container, "k8s.container", ready=int(status["ready"]), restarts=status["restartCount"])
            resources = next(c for c in pod["spec"]["containers"] if c["name"] == status["name"])["resources"]
            for kind, amounts in resources.items():
                put(
                    container,
                    "k8s.container",
                    **{f"{name}_{kind.removesuffix('s')}": AMOUNTS[text] for name, text in amounts.items()},
                )
    for node in items("/api/v1/nodes"):
        ready = next(c["status"] for c in node["status"]["conditions"] if c["type"] == "Ready")
        put(node, "k8s.node", condition_ready={"True": 1, "False": 0}.get(ready, -1))
    for namespace in items("/api/v1/namespaces"):
        put(namespace, "k8s.namespace", phase=int(namespace["status"]["phase"] == "Active"))
    for path, prefix in (
        ("/apis/apps/v1/deployments", "k8s.deployment"),
        ("/apis/apps/v1/replicasets", "k8s.replicaset"),
        ("/api/v1/replicationcontrollers", "k8s.replication_controller"),
    ):
        for obj in items(path):
            put(obj, prefix, desired=obj["spec"]["replicas"], available=obj["status"].get("availableReplicas", 0))
    for obj in items("/apis/apps/v1/statefulsets"):
        status = obj["status"]
        put(
            obj,
            "k8s.statefulset",
            desired_pods=obj["spec"]["replicas"],
            ready_pods=status.get("readyReplicas", 0),
            current_pods=status.get("currentReplicas", 0),
            updated_pods=status.get("updatedReplicas", 0),
        )
    for obj in items("/apis/apps/v1/daemonsets"):
        status = obj["status"]
        put(
            obj,
            "k8s.daemonset",
            current_scheduled_nodes=status["currentNumberScheduled"],
            ready_nodes=status["numberReady"],
            desired_scheduled_nodes=status["desiredNumberScheduled"],
            misscheduled_nodes=status["numberMisscheduled"],
        )
    for obj in items("/apis/batch/v1/jobs"):
        status = obj["status"]
        put(
            obj,
            "k8s.job",
            active_pods=status.get("active", 0),
            failed_pods=status.get("failed", 0),
            successful_pods=status.get("succeeded", 0),
            desired_successful_pods=obj["spec"].get("completions"),
            max_parallel_pods=obj["spec"].get("parallelism"),
        )
    for obj in items("/apis/batch/v1/cronjobs"):
        put(obj, "k8s.cronjob", active_jobs=len(obj["status"].get("active", [])))
    for obj in items("/apis/autoscaling/v2/horizontalpodautoscalers"):
        status = obj["status"]
        put(
            obj,
            "k8s.hpa",
            max_replicas=obj["spec"]["maxReplicas"],
            min_replicas=obj["spec"]["minReplicas"],
            current_replicas=status.get("currentReplicas", 0),
            desired_replicas=status.get("desiredReplicas", 0),
        )
    for obj in items("/api/v1/resourcequotas"):
        thousandths = {"7500m": 7500, "10Gi": 10 << 30, "100": 100}
        for name, text in obj["status"]["hard"].items():
            out[obj["metadata"]["uid"], "k8s.resource_quota.hard_limit", name] = thousandths[text]
    return out


async def test_every_value_is_the_apis(cluster: Cluster, account: Path) -> None:
    sink, host = Sink(), FakeHost()

    def differences() -> list[Any]:
        ours = {key: value for key, value in told(sink).items() if key[1] != "k8s.resource_quota.used"}
        theirs = said_by_the_api(cluster)
        return [(key, ours.get(key), theirs.get(key)) for key in sorted({*ours, *theirs}) if ours.get(key) != theirs.get(key)]

    async with running(host, sink):
        await sink.wait_for(lambda s: len(s.batches) >= 2)
        # What the controllers still change is the same a moment later.
        for _ in range(40):
            left = await asyncio.to_thread(differences)
            if not left:
                break
            await asyncio.sleep(0.5)
        assert left == []
        names = {metric for _, metric, _ in told(sink)}
        assert {
            "k8s.pod.phase",
            "k8s.container.cpu_limit",
            "k8s.node.condition_ready",
            "k8s.deployment.available",
            "k8s.hpa.min_replicas",
            "k8s.job.successful_pods",
            "k8s.cronjob.active_jobs",
            "k8s.statefulset.ready_pods",
            "k8s.daemonset.ready_nodes",
            "k8s.resource_quota.used",
            "k8s.replication_controller.available",
            "k8s.namespace.phase",
        } <= names
        assert host.statuses.get("receivers/k8s_cluster") is None


async def test_changes_a_restarted_api_server_and_one_that_forgot(cluster: Cluster, account: Path) -> None:
    sink, host = Sink(), FakeHost()
    uid = cluster.api.get("/apis/apps/v1/namespaces/shop/deployments/web")["metadata"]["uid"]

    def wanted(replicas: int) -> Any:
        return lambda: sink.batches and told(sink).get((uid, "k8s.deployment.available", "")) == replicas

    async with running(host, sink):
        await eventually(wanted(2), 60)
        await asyncio.to_thread(cluster.kubectl, "-n", "shop", "scale", "deployment/web", "--replicas=4")
        await eventually(wanted(4), 60)
        await asyncio.to_thread(cluster.restart, "kube-apiserver")
        await asyncio.to_thread(cluster.kubectl, "-n", "shop", "scale", "deployment/web", "--replicas=1")
        await eventually(wanted(1), 90)
        await asyncio.to_thread(cluster.expire)
        await asyncio.to_thread(cluster.kubectl, "-n", "shop", "scale", "deployment/web", "--replicas=2")
        await eventually(wanted(2), 90)
        await eventually(lambda: host.statuses.get("receivers/k8s_cluster") is None, 60)


async def test_entities_of_real_objects(cluster: Cluster, account: Path) -> None:
    sink = Sink()

    def events() -> dict[tuple[str, str], dict[str, Any]]:
        found = [e for batch in sink.batches for e in read_events(batch.payload)]  # type: ignore[union-attr]
        return {(e["otel.entity.type"], next(iter(e["otel.entity.id"].values()))): e for e in found}

    pod = next(p for p in cluster.pods("shop", "app=web"))
    async with running(to_logs=sink):
        await eventually(lambda: ("k8s.pod", pod["metadata"]["uid"]) in events() and len({t for t, _ in events()}) >= 12)
        told_of = events()["k8s.pod", pod["metadata"]["uid"]]["otel.entity.attributes"]
        assert told_of["k8s.workload.kind"] == "Deployment"
        assert told_of["k8s.deployment.name"] == "web"
        assert told_of["k8s.service.web"] == ""
        assert told_of["k8s.node.name"] == pod["spec"]["nodeName"]
        assert {t for t, _ in events()} >= {
            "k8s.pod",
            "k8s.node",
            "k8s.namespace",
            "k8s.deployment",
            "k8s.replicaset",
            "k8s.statefulset",
            "k8s.daemonset",
            "k8s.job",
            "k8s.cronjob",
            "k8s.hpa",
            "k8s.service",
            "k8s.replicationcontroller",
        }
        await asyncio.to_thread(cluster.kubectl, "-n", "shop", "delete", "pod", pod["metadata"]["name"], "--now")
        await eventually(lambda: events()["k8s.pod", pod["metadata"]["uid"]]["otel.entity.event.type"] == "entity_delete", 60)


async def test_a_right_that_is_missing_is_named(cluster: Cluster, tmp_path: Path, account: Path) -> None:
    cluster.service_account("shop", "less", [r for r in RULES if r["apiGroups"] != ["autoscaling"]])
    cluster.mounted_token(account, "shop", "less")
    sink, host = Sink(), FakeHost()
    async with running(host, sink):
        await eventually(lambda: host.statuses.get("receivers/k8s_cluster") and sink.batches)
        said = host.statuses["receivers/k8s_cluster"] or ""
        assert "horizontalpodautoscalers" in said
        assert "autoscaling" in said
        await eventually(lambda: "k8s.pod.phase" in {metric for _, metric, _ in told(sink)})
        assert not [metric for _, metric, _ in told(sink) if metric.startswith("k8s.hpa")]
