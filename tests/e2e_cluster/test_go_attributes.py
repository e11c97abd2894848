"""k8sattributes beside a Go collector (contrib 0.149) on the same API server: the same resources become the same.

Upstream finds pods by container.id only when something of containers is extracted, so that is always so here.
The Go collector is `otelcol-attributes` among the test servers: receiver otlp, processor k8sattributes, exporter otlphttp.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from kofagent.component.protocols import Kubeconfig
from kofagent.net.peer import sender
from kofagent.processors.k8sattributes.config import METADATA
from kofagent.processors.k8sattributes.processor import K8sAttributes
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.signal import Signal
from kofagent.transform.anyvalue import attributes
from tests.cluster import Cluster
from tests.processors.support import logs
from tests.support.components import FakeHost, Sink, make
from tests.support.servers import find, free_port

pytestmark = [pytest.mark.server(name) for name in ("otelcol-attributes", "kube-apiserver", "etcd", "kubectl")]
DIGEST = "sha256:" + "ab" * 32


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(Path(tmp_path_factory.mktemp("go")) / "c", controllers=False, scheduler=False) as running:
        running.namespace("default")
        fill(running)
        yield running


def owned(api_version: str, kind: str, name: str, uid: str) -> list[dict[str, Any]]:
    return [{"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": True}]


def fill(cluster: Cluster) -> None:
    """Pods of every kind of owner, with labels, annotations, addresses and containers."""
    api = cluster.api
    api.call("POST", "/api/v1/nodes", {"metadata": {"name": "n1", "labels": {"zone": "z1"}, "annotations": {"note": "node"}}})
    api.patch("/api/v1/namespaces/default", {"metadata": {"labels": {"team": "red"}, "annotations": {"note": "namespace"}}})
    template = {
        "metadata": {"labels": {"app": "x"}},
        "spec": {"containers": [{"name": "app", "image": "x"}], "restartPolicy": "Never"},
    }
    plain = {"metadata": template["metadata"], "spec": {"containers": [{"name": "app", "image": "x"}]}}
    selector = {"matchLabels": {"app": "x"}}

    def make_one(group: str, plural: str, name: str, spec: dict[str, Any], owners: list[dict[str, Any]] | None = None) -> str:
        made = api.call(
            "POST",
            f"/apis/{group}/namespaces/default/{plural}",
            {
                "metadata": {
                    "name": name,
                    "labels": {"tier": f"{plural}-tier"},
                    "annotations": {"note": plural},
                    "ownerReferences": owners or [],
                },
                "spec": spec,
            },
        )
        return str(made["metadata"]["uid"])

    deployment = make_one("apps/v1", "deployments", "web", {"replicas": 0, "selector": selector, "template": plain})
    replicaset = make_one(
        "apps/v1",
        "replicasets",
        "web-6b7c9",
        {"replicas": 0, "selector": selector, "template": plain},
        owned("apps/v1", "Deployment", "web", deployment),
    )
    alone = make_one("apps/v1", "replicasets", "alone-1", {"replicas": 0, "selector": selector, "template": plain})
    daemonset = make_one("apps/v1", "daemonsets", "agent", {"selector": selector, "template": plain})
    statefulset = make_one(
        "apps/v1", "statefulsets", "db", {"replicas": 0, "selector": selector, "serviceName": "db", "template": plain}
    )
    cronjob = make_one(
        "batch/v1",
        "cronjobs",
        "backup",
        {"schedule": "* * * * *", "suspend": True, "jobTemplate": {"spec": {"template": template}}},
    )
    job = make_one(
        "batch/v1",
        "jobs",
        "backup-28000000",
        {"template": template, "suspend": True},
        owned("batch/v1", "CronJob", "backup", cronjob),
    )

    def pod(
        name: str,
        number: int,
        owners: list[dict[str, Any]] | None = None,
        labels: dict[str, str] | None = None,
        annotations: dict[str, str] | None = None,
        containers: list[dict[str, Any]] | None = None,
        **spec: Any,
    ) -> None:
        containers = containers or [{"name": "app", "image": f"registry.test:5000/team/app:1.{number}"}]
        path = f"/api/v1/namespaces/default/pods/{name}"
        api.call(
            "POST",
            "/api/v1/namespaces/default/pods",
            {
                "metadata": {
                    "name": name,
                    "labels": labels or {},
                    "annotations": annotations or {},
                    "ownerReferences": owners or [],
                },
                "spec": {"nodeName": "n1", "containers": containers, **spec},
            },
        )
        status = {
            "phase": "Running",
            "podIP": f"10.9.0.{number}",
            "podIPs": [{"ip": f"10.9.0.{number}"}],
            "hostIP": "192.168.0.1",
            "startTime": "2026-01-02T03:04:05Z",
            "containerStatuses": [
                {
                    "name": c["name"],
                    "image": c["image"],
                    "imageID": f"registry.test/{c['name']}@{DIGEST}",
                    "ready": True,
                    "restartCount": i,
                    "containerID": f"containerd://{name}-{c['name']}-{i}",
                    "state": {"running": {}},
                }
                for i, c in enumerate(containers)
            ],
        }
        api.patch(f"{path}/status", {"status": status})

    hashed = {"pod-template-hash": "6b7c9", "app": "web"}
    pod("web", 1, owned("apps/v1", "ReplicaSet", "web-6b7c9", replicaset), hashed)
    pod("alone", 2, owned("apps/v1", "ReplicaSet", "alone-1", alone), {"app": "alone"})
    pod(
        "agent",
        3,
        owned("apps/v1", "DaemonSet", "agent", daemonset),
        {"app.kubernetes.io/name": "named", "app.kubernetes.io/version": "9"},
    )
    pod(
        "db",
        4,
        owned("apps/v1", "StatefulSet", "db", statefulset),
        {"app.kubernetes.io/instance": "inst", "app.kubernetes.io/name": "n"},
    )
    pod("job", 5, owned("batch/v1", "Job", "backup-28000000", job))
    pod(
        "bare",
        6,
        labels={"x.io/one": "1", "x.io/two": "2"},
        annotations={"resource.opentelemetry.io/service.name": "said", "resource.opentelemetry.io/extra": "more", "note": "pod"},
    )
    pod("two", 7, containers=[{"name": "app", "image": f"app@{DIGEST}"}, {"name": "side", "image": "busybox"}], hostname="two-host")
    pod("jaeger-agent-1", 8)
    pod("host", 10, hostNetwork=True)
    pod("tagged", 11, containers=[{"name": "app", "image": f"quay.test/a/b:v1@{DIGEST}"}])


@asynccontextmanager
async def go_collector(cluster: Cluster, folder: Path, options: dict[str, Any]) -> AsyncIterator[Any]:
    """A function that sends a resource through the Go collector and gives its attributes back."""
    received: list[bytes] = []

    async def take(request: web.Request) -> web.Response:
        received.append(await request.read())
        return web.Response(content_type="application/x-protobuf")

    app = web.Application()
    app.router.add_post("/{tail:.*}", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = free_port()
    config = folder / "otelcol.yaml"
    config.write_text(
        json.dumps(
            {
                "receivers": {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}}}},
                "processors": {"k8sattributes": {**options, "wait_for_metadata": True}},
                "exporters": {
                    "otlphttp": {
                        "endpoint": f"http://127.0.0.1:{runner.addresses[0][1]}",
                        "compression": "none",
                        "sending_queue": {"enabled": False},
                    }
                },
                "service": {
                    "telemetry": {"metrics": {"level": "none"}},
                    "pipelines": {"logs": {"receivers": ["otlp"], "processors": ["k8sattributes"], "exporters": ["otlphttp"]}},
                },
            }
        )
    )
    program = find("otelcol-attributes")
    assert program is not None
    with (folder / "otelcol.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "--config", str(config)], stdout=log, stderr=log, env={**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
        )
    session = aiohttp.ClientSession()

    async def send(resource: dict[str, Any]) -> dict[str, Any]:
        body = logs({"body": "x"}, resource=resource).SerializeToString()
        async with session.post(
            f"http://127.0.0.1:{port}/v1/logs", data=body, headers={"Content-Type": "application/x-protobuf"}
        ) as answer:
            assert answer.status == 200, await answer.text()
        return attributes(ExportLogsServiceRequest.FromString(received.pop()).resource_logs[0].resource.attributes)

    async def up() -> bool:
        try:
            async with session.get(f"http://127.0.0.1:{port}/"):
                return True
        except aiohttp.ClientError:
            assert process.poll() is None, (folder / "otelcol.log").read_text()[-2000:]
            return False

    try:
        async with asyncio.timeout(60):
            while not await up():
                await asyncio.sleep(0.1)
        yield send
    finally:
        await session.close()
        process.terminate()
        process.wait(20)
        await runner.cleanup()


def resources(cluster: Cluster) -> Iterator[dict[str, Any]]:
    for pod in cluster.pods("default"):
        uid, ip = pod["metadata"]["uid"], pod["status"]["podIP"]
        yield {"k8s.pod.uid": uid}
        if not pod["spec"].get("hostNetwork"):  # pods on the host's network share an address: upstream takes one of them, we none
            yield {"k8s.pod.ip": ip}
        yield {"k8s.pod.uid": uid, "k8s.pod.name": "given", "k8s.node.name": "", "service.name": "mine"}
        yield {"k8s.pod.name": pod["metadata"]["name"], "k8s.namespace.name": "default"}
        for status in pod["status"]["containerStatuses"]:
            yield {"k8s.pod.uid": uid, "k8s.container.name": status["name"]}
            yield {
                "k8s.pod.uid": uid,
                "k8s.container.name": status["name"],
                "k8s.container.restart_count": str(status["restartCount"]),
            }
            yield {"k8s.pod.uid": uid, "container.id": status["containerID"].removeprefix("containerd://")}
            yield {"container.id": status["containerID"].removeprefix("containerd://")}
        yield {"k8s.pod.uid": uid, "k8s.container.name": "nothing"}
        yield {"k8s.pod.uid": uid, "k8s.container.name": "app", "k8s.container.restart_count": 7}
    yield {"host.name": "10.9.0.1"}
    yield {"host.name": "web"}
    yield {"ip": "10.9.0.2"}
    yield {"a": "b"}
    yield {"k8s.namespace.name": "default", "k8s.node.name": "n1"}
    yield {"k8s.pod.uid": "nobody", "n": 5, "list": ["a"], "empty": ""}


EVERYTHING: dict[str, Any] = {
    "metadata": [name for name in METADATA if name != "container.image.tags"],
    "otel_annotations": True,
    "labels": [
        {"key": "app"},
        {"tag_name": "x.$1", "key_regex": r"x\.io/(.*)"},
        {"key_regex": "app.*", "tag_name": "no groups"},
        *[{"key": "tier", "from": kind} for kind in ("deployment", "statefulset", "daemonset", "job")],
        {"key": "team", "from": "namespace"},
        {"key": "zone", "from": "node", "tag_name": "zone"},
    ],
    "annotations": [
        {"key": "note", "from": kind} for kind in ("pod", "namespace", "node", "deployment", "statefulset", "daemonset", "job")
    ],
}
RULES: list[dict[str, Any]] = [
    {"sources": [{"from": "resource_attribute", "name": name} for name in names]}
    for names in (["k8s.pod.uid"], ["k8s.pod.name", "k8s.namespace.name"], ["container.id"], ["k8s.pod.ip"], ["host.name"])
]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"extract": {"metadata": ["k8s.node.name"]}, "pod_association": RULES[:1]},
        {"extract": EVERYTHING, "pod_association": RULES},
        {"extract": EVERYTHING},
        {
            "pod_association": [*RULES, {"sources": [{"from": "connection"}]}],
            "exclude": {"pods": [{"name": "^db$"}]},
            "extract": {"metadata": ["k8s.pod.ip", "k8s.pod.name", "k8s.container.name"]},
        },
        {
            "extract": {"metadata": ["k8s.pod.name", "container.id"]},
            "pod_association": RULES,
            "filter": {"labels": [{"key": "app", "op": "exists"}], "node": "n1"},
        },
    ],
    ids=["default", "kof", "everything", "everything by address", "excluded", "filtered"],
)
async def test_the_same_resources(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.setattr(FakeHost, "kubeconfig", Kubeconfig(str(cluster.kubeconfig)))
    options = {"auth_type": "kubeConfig", **options}
    sink = Sink()
    processor = make(
        K8sAttributes, {**options, "wait_for_metadata": True, "wait_for_pod": "0s"}, kind="processor", id="k8sattributes"
    )
    processor.signal, processor.next = Signal.LOGS, sink
    await processor.start()
    try:
        async with go_collector(cluster, tmp_path, options) as theirs:
            count = 0
            for resource in resources(cluster):
                wanted = await theirs(resource)
                sender.set(lambda: "127.0.0.1")
                await processor.consume(Batch(Signal.LOGS, logs({"body": "x"}, resource=resource).SerializeToString(), 1))
                batch = sink.batches.pop()
                assert isinstance(batch, Batch)
                got = attributes(ExportLogsServiceRequest.FromString(batch.payload).resource_logs[0].resource.attributes)
                # upstream adds what it does not know as an empty text
                assert got == {k: v for k, v in wanted.items() if v != "" or k in resource}, resource
                count += 1
            assert count > 80
    finally:
        await processor.stop()
