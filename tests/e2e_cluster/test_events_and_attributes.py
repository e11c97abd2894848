"""k8s_events, k8sobjects and k8sattributes on a real API server, as ServiceAccounts that may do no more than they need.

Watches expire, etcd is compacted (410), the API server and the agent's receiver restart while somebody writes events all the time:
each event arrives once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from kofagent.component.protocols import Kubeconfig
from kofagent.extensions.file_storage.extension import FileStorage
from kofagent.kubernetes.watch import Timing
from kofagent.processors.k8sattributes.processor import K8sAttributes
from kofagent.receivers.k8s_events.receiver import K8sEvents
from kofagent.receivers.k8sobjects.receiver import K8sObjects
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.signal import Signal
from kofagent.transform.anyvalue import attributes, to_python
from tests.cluster import Cluster
from tests.e2e_cluster.event_writer import Writer
from tests.processors.support import logs
from tests.support.components import FakeHost, Sink, eventually, make

pytestmark = [pytest.mark.server("kube-apiserver"), pytest.mark.server("etcd"), pytest.mark.server("kubectl")]
SHORT = Timing(first_wait=0.05, longest_wait=0.5, watch_seconds=(1, 2), margin=10)
"""Watches end every second or two."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(Path(tmp_path_factory.mktemp("events")) / "c", controllers=False, scheduler=False) as running:
        yield running


def account(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, name: str, *rules: dict[str, Any]) -> None:
    """Makes the agent a ServiceAccount with these rules and nothing else."""
    cluster.service_account("default", name, rules)
    monkeypatch.setattr(FakeHost, "kubeconfig", Kubeconfig(str(cluster.kubeconfig_of("default", name))))


def may(group: str, *resources: str) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": list(resources), "verbs": ["list", "watch"]}


def records(sink: Sink) -> Iterator[tuple[dict[str, Any], Any]]:
    request = ExportLogsServiceRequest.FromString(sink.payload(Signal.LOGS))
    for entry in request.resource_logs:
        for scope in entry.scope_logs:
            for record in scope.log_records:
                yield attributes(entry.resource.attributes), record


def bodies(sink: Sink) -> list[str]:
    return [record.body.string_value for _, record in records(sink)]


@asynccontextmanager
async def running(cls: Any, sink: Sink, host: FakeHost, options: dict[str, Any]) -> AsyncIterator[Any]:
    receiver = make(cls, options, kind="receiver", id="under-test", host=host)
    receiver.timing = SHORT
    receiver.outputs = {Signal.LOGS: sink}
    await receiver.start()
    try:
        yield receiver
    finally:
        await receiver.stop()


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[FakeHost]:
    extension = make(
        FileStorage, {"directory": str(tmp_path / "state"), "create_directory": True}, kind="extension", id="file_storage"
    )
    await extension.start()
    yield FakeHost({"file_storage": extension})
    await extension.stop()


async def test_each_event_once_whatever_happens(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, storage: FakeHost) -> None:
    account(cluster, monkeypatch, "events", may("", "events"))
    sink = Sink()
    options = {"storage": "file_storage"}
    with Writer(cluster) as writer:
        async with running(K8sEvents, sink, storage, options):
            await eventually(lambda: len(bodies(sink)) > 20)
            await asyncio.sleep(3)  # watches end and begin again
        await asyncio.sleep(1)  # written while nobody looks
        async with running(K8sEvents, sink, storage, options):
            await asyncio.to_thread(cluster.restart, "kube-apiserver")
            written = len(writer.written)
            await eventually(lambda: len(writer.written) > written + 20, 60)
            await asyncio.to_thread(cluster.expire)
            written = len(writer.written)
            await eventually(lambda: len(writer.written) > written + 20, 60)
        await asyncio.to_thread(cluster.expire)  # the position that was kept is forgotten by the API
        async with running(K8sEvents, sink, storage, options):
            written = len(writer.written)
            await eventually(lambda: len(writer.written) > written + 20, 60)
            writer.stop()
            await eventually(lambda: len(bodies(sink)) >= len(writer.written) - len(_before(writer, sink)), 60)
            await asyncio.sleep(1)
            assert storage.statuses.get("receiver/under-test") is None
    got = Counter(bodies(sink))
    assert [name for name, count in got.items() if count > 1] == [], "repeated"
    missed = [name for name in writer.written if name not in got]
    assert missed == _before(writer, sink), "lost"
    assert len(got) > 100
    resource, record = next(records(sink))
    assert resource["k8s.object.name"] == "web-0" and resource["k8s.node.name"] == "node-1"
    assert record.severity_number in (9, 13) and attributes(record.attributes)["k8s.namespace.name"] == "default"


def _before(writer: Writer, sink: Sink) -> list[str]:
    """Events written before the first one that was received: from before the start."""
    got = set(bodies(sink))
    return writer.written[: next((i for i, name in enumerate(writer.written) if name in got), len(writer.written))]


async def test_objects_watched_and_pulled(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, storage: FakeHost) -> None:
    account(cluster, monkeypatch, "objects", may("", "configmaps", "namespaces"), may("events.k8s.io", "events"))
    cluster.api.request("POST", "/api/v1/namespaces", {"metadata": {"name": "notes"}})
    names = []

    def note(name: str) -> None:
        cluster.api.call("POST", "/api/v1/namespaces/notes/configmaps", {"metadata": {"name": name}, "data": {"a": "b"}})
        names.append(name)

    def watched(sink: Sink) -> list[str]:
        out = []
        for resource, record in records(sink):
            body = to_python(record.body)
            if attributes(record.attributes)["k8s.resource.name"] == "configmaps":
                assert resource == {"k8s.namespace.name": "notes"}
                assert body["object"]["kind"] == "ConfigMap" and body["object"]["apiVersion"] == "v1"
                out.append(f"{body['type']} {body['object']['metadata']['name']}")
        return out

    sink = Sink()
    options = {
        "storage": "file_storage",
        "objects": [
            {"name": "configmaps", "mode": "watch", "namespaces": ["notes"]},
            {"name": "namespaces", "interval": "1s"},
            {"name": "events", "group": "events.k8s.io", "mode": "watch", "exclude_watch_type": ["DELETED"]},
        ],
    }
    await asyncio.to_thread(note, "before")
    async with running(K8sObjects, sink, storage, options):
        await eventually(lambda: any(attributes(r.attributes)["k8s.resource.name"] == "namespaces" for _, r in records(sink)))
        await asyncio.sleep(0.5)
        await asyncio.to_thread(note, "one")
        await eventually(lambda: watched(sink) == ["ADDED one"])
        await asyncio.to_thread(cluster.expire)
        await asyncio.to_thread(note, "two")
        await eventually(lambda: watched(sink) == ["ADDED one", "ADDED two"], 60)
    await asyncio.to_thread(note, "three")
    await asyncio.to_thread(cluster.api.call, "DELETE", "/api/v1/namespaces/notes/configmaps/one")
    async with running(K8sObjects, sink, storage, options):
        await eventually(lambda: watched(sink) == ["ADDED one", "ADDED two", "ADDED three", "DELETED one"], 60)
    pulled = [to_python(r.body) for _, r in records(sink) if attributes(r.attributes)["k8s.resource.name"] == "namespaces"]
    assert {"default", "notes", "kube-system"} <= {o["metadata"]["name"] for o in pulled}
    assert pulled[0]["kind"] == "Namespace" and storage.statuses.get("receiver/under-test") is None


async def test_attributes_of_pods(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    account(cluster, monkeypatch, "attributes", may("", "pods", "namespaces"), may("apps", "replicasets"))
    cluster.namespace("default")
    api = cluster.api
    api.call(
        "POST",
        "/apis/apps/v1/namespaces/default/replicasets",
        {
            "metadata": {
                "name": "web-abc",
                "ownerReferences": [
                    {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "d-uid", "controller": True}
                ],
            },
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "app", "image": "r.test/app:1.2"}]},
                },
            },
        },
    )
    replicaset = api.get("/apis/apps/v1/namespaces/default/replicasets/web-abc")

    def create(name: str, node: str) -> str:
        made = api.call(
            "POST",
            "/api/v1/namespaces/default/pods",
            {
                "metadata": {
                    "name": name,
                    "labels": {"app": "web", "pod-template-hash": "abc"},
                    "ownerReferences": [
                        {
                            "apiVersion": "apps/v1",
                            "kind": "ReplicaSet",
                            "name": "web-abc",
                            "uid": replicaset["metadata"]["uid"],
                            "controller": True,
                        }
                    ],
                },
                "spec": {"nodeName": node, "containers": [{"name": "app", "image": "r.test/app:1.2"}]},
            },
        )
        return str(made["metadata"]["uid"])

    host, sink = FakeHost(), Sink()
    processor = make(
        K8sAttributes,
        {
            "extract": {
                "metadata": [
                    "k8s.pod.name",
                    "k8s.node.name",
                    "k8s.deployment.name",
                    "k8s.deployment.uid",
                    "container.image.tag",
                    "k8s.cluster.uid",
                ],
                "labels": [{"key": "app", "tag_name": "app"}],
            },
            "filter": {"node": "n1"},
            "pod_association": [{"sources": [{"from": "resource_attribute", "name": "k8s.pod.uid"}]}],
            "wait_for_pod": "10s",
            "pod_delete_grace_period": "2s",
        },
        kind="processor",
        id="k8sattributes",
        host=host,
    )
    processor.signal, processor.next = Signal.LOGS, sink

    async def ask(uid: str) -> dict[str, Any]:
        await processor.consume(Batch(Signal.LOGS, logs({"body": "x"}, resource={"k8s.pod.uid": uid}).SerializeToString(), 1))
        return list(records(sink))[-1][0]

    here = await asyncio.to_thread(create, "web-here", "n1")
    elsewhere = await asyncio.to_thread(create, "web-elsewhere", "n2")
    await processor.start()
    try:
        wanted = {
            "k8s.pod.name": "web-here",
            "k8s.node.name": "n1",
            "k8s.deployment.name": "web",
            "k8s.deployment.uid": "d-uid",
            "container.image.tag": "1.2",
            "app": "web",
            "k8s.pod.uid": here,
            "k8s.cluster.uid": api.get("/api/v1/namespaces/kube-system")["metadata"]["uid"],
        }
        assert await ask(here) == wanted, "waits for the pod, and for what it belongs to"
        new = await asyncio.to_thread(create, "web-new", "n1")
        assert (await ask(new))["k8s.pod.name"] == "web-new", "waits for what the watch brings"
        await asyncio.to_thread(cluster.expire)
        await asyncio.to_thread(api.call, "DELETE", f"/api/v1/namespaces/default/pods/web-new?gracePeriodSeconds={0}")
        assert (await ask(new))["k8s.pod.name"] == "web-new", "deleted a moment ago"
        processor.config.wait_for_pod = 0.1
        await eventually(lambda: len(processor._cluster.pods) == 1, 60)
        assert await ask(new) == {"k8s.pod.uid": new}
        assert await ask(elsewhere) == {"k8s.pod.uid": elsewhere}
        assert await ask(here) == wanted
        await eventually(lambda: host.statuses.get("processor/k8sattributes") is None, 60)
    finally:
        await processor.stop()
