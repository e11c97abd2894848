"""Entity events: what is told of each kind of object, and the records."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kofagent.kubernetes.resources import JOBS, REPLICASETS, Resource
from kofagent.kubernetes.trim import Object, Trimmer
from kofagent.receivers.k8s_cluster import entity_log, nodes, pods, services, workloads
from kofagent.receivers.k8s_cluster.entity_log import EntityQueue, delete_record, request, state_record
from kofagent.receivers.k8s_cluster.model import Entity, Source
from kofagent.telemetry.refused import Refused
from tests.receivers.k8s_cluster.support import meta, no_lookup, read_events
from tests.support.components import FakeHost, Sink, eventually, make_context

BORN = {"creationTimestamp": "2024-05-01T10:00:00Z"}


def entities(source: Source, obj: Object) -> list[Entity]:
    assert source.entities is not None
    return source.entities(Trimmer(source.entity_fields)(obj), no_lookup)


def a_pod(owner: tuple[str, str] | None = None) -> Object:
    owners = [{"kind": owner[0], "name": owner[1], "uid": f"uid-{owner[1]}", "controller": True}] if owner else []
    return {
        "metadata": meta("web-0", "shop", labels={"app": "web"}, ownerReferences=owners, **BORN),
        "spec": {"nodeName": "n1", "containers": [{"name": "app"}]},
        "status": {
            "phase": "Failed",
            "reason": "Evicted",
            "containerStatuses": [
                {
                    "name": "app",
                    "image": "app:1",
                    "containerID": "containerd://abc",
                    "state": {"terminated": {"reason": "Error", "startedAt": "2024-05-01T10:00:05Z"}},
                }
            ],
        },
    }


def test_a_pod_and_its_container() -> None:
    pod, container = entities(pods.SOURCE, a_pod(("DaemonSet", "logs")))
    assert pod == Entity(
        "k8s.pod",
        "k8s.pod.uid",
        "uid-web-0",
        {
            "app": "web",
            "pod.creation_timestamp": "2024-05-01T10:00:00Z",
            "k8s.pod.phase": "Failed",
            "k8s.pod.status_reason": "Evicted",
            "k8s.node.name": "n1",
            "k8s.daemonset.name": "logs",
            "k8s.daemonset.uid": "uid-logs",
            "k8s.workload.kind": "DaemonSet",
            "k8s.workload.name": "logs",
            "k8s.namespace.name": "shop",
            "k8s.pod.name": "web-0",
        },
    )
    assert container == Entity(
        "container",
        "container.id",
        "abc",
        {
            "container.image.name": "app",
            "container.image.tag": "1",
            "k8s.container.name": "app",
            "k8s.pod.name": "web-0",
            "k8s.pod.uid": "uid-web-0",
            "k8s.namespace.name": "shop",
            "k8s.node.name": "n1",
            "container.status": "terminated",
            "container.status.reason": "Error",
            "container.creation_timestamp": "2024-05-01T10:00:05Z",
        },
    )


def test_a_container_that_was_not_made_yet_is_no_entity() -> None:
    pod = a_pod()
    pod["status"]["containerStatuses"][0] |= {"containerID": "", "state": {"waiting": {"reason": "ContainerCreating"}}}
    assert [entity.type for entity in entities(pods.SOURCE, pod)] == ["k8s.pod"]


@pytest.mark.parametrize(
    "kind, resource, above, told",
    [
        (
            "ReplicaSet",
            REPLICASETS,
            "Deployment",
            {
                "k8s.replicaset.name": "own",
                "k8s.replicaset.uid": "uid-own",
                "k8s.deployment.name": "top",
                "k8s.deployment.uid": "uid-top",
                "k8s.workload.kind": "Deployment",
                "k8s.workload.name": "top",
            },
        ),
        (
            "ReplicaSet",
            REPLICASETS,
            None,
            {
                "k8s.replicaset.name": "own",
                "k8s.replicaset.uid": "uid-own",
                "k8s.workload.kind": "ReplicaSet",
                "k8s.workload.name": "own",
            },
        ),
        (
            "Job",
            JOBS,
            "CronJob",
            {
                "k8s.job.name": "own",
                "k8s.job.uid": "uid-own",
                "k8s.cronjob.name": "top",
                "k8s.cronjob.uid": "uid-top",
                "k8s.workload.kind": "CronJob",
                "k8s.workload.name": "top",
            },
        ),
        ("Job", JOBS, "unknown", {"k8s.job.name": "own", "k8s.job.uid": "uid-own"}),
    ],
)
def test_the_workload_of_a_pod(kind: str, resource: Resource, above: str | None, told: dict[str, str]) -> None:
    def lookup(asked: Resource, namespace: str, name: str) -> Object | None:
        if asked is not resource or (namespace, name) != ("shop", "own") or above == "unknown":
            return None
        owners = [{"kind": above, "name": "top", "uid": "uid-top"}] if above else []
        return {"metadata": meta("own", "shop", ownerReferences=owners)}

    (pod, _) = pods.entities(a_pod((kind, "own")), lookup, ["web-b", "web-a"])
    assert pod.attributes.pop("k8s.service.web-a") == ""
    assert {
        k: v
        for k, v in pod.attributes.items()
        if k.split(".")[1:2] not in (["pod"], ["node"], ["namespace"]) and k.startswith("k8s.")
    } == told


def test_a_service_without_a_selector_selects_no_pod() -> None:
    assert not services.selects({"metadata": meta("kubernetes", "default"), "spec": {}}, {"a": "b"})
    assert services.selects({"metadata": meta("s", "default"), "spec": {"selector": {"a": "b"}}}, {"a": "b", "c": "d"})
    assert not services.selects({"metadata": meta("s", "default"), "spec": {"selector": {"a": "x"}}}, {"a": "b"})


def test_nodes_namespaces_and_services() -> None:
    node = {
        "metadata": meta("n1", labels={"zone": "a"}, **BORN),
        "status": {
            "conditions": [
                {"type": "Ready", "status": "True"},
                {"type": "PIDPressure", "status": "Unknown"},
                {"type": "KernelDeadlock", "status": "True"},
            ]
        },
    }
    assert entities(nodes.NODE, node) == [
        Entity(
            "k8s.node",
            "k8s.node.uid",
            "uid-n1",
            {
                "zone": "a",
                "k8s.node.name": "n1",
                "node.creation_timestamp": "2024-05-01T10:00:00Z",
                "k8s.node.condition_ready": "true",
                "k8s.node.condition_pid_pressure": "unknown",
            },
        )
    ]
    namespace = {"metadata": meta("shop", labels={"x": "y"}, **BORN), "status": {"phase": "Active"}}
    assert entities(nodes.NAMESPACE, namespace) == [
        Entity(
            "k8s.namespace",
            "k8s.namespace.uid",
            "uid-shop",
            {
                "k8s.namespace.name": "shop",
                "k8s.namespace.phase": "active",
                "k8s.namespace.creation_timestamp": "2024-05-01T10:00:00Z",
            },
        )
    ]
    service = {
        "metadata": meta(
            "web",
            "shop",
            labels={"l": "1"},
            annotations={"a": "2", "kubectl.kubernetes.io/last-applied-configuration": "{}"},
            **BORN,
        ),
        "spec": {"selector": {"app": "web"}},
    }
    assert entities(services.SOURCE, service) == [
        Entity(
            "k8s.service",
            "k8s.service.uid",
            "uid-web",
            {
                "k8s.namespace.name": "shop",
                "k8s.service.name": "web",
                "k8s.service.creation_timestamp": "2024-05-01T10:00:00Z",
                "k8s.service.selector.app": "web",
                "k8s.service.label.l": "1",
                "k8s.service.annotation.a": "2",
            },
        )
    ]


@pytest.mark.parametrize(
    "kind, type_, more_of",
    [
        ("Deployment", "deployment", {"k8s.deployment.name": "web"}),
        ("ReplicaSet", "replicaset", {}),
        ("ReplicationController", "replicationcontroller", {}),
        ("DaemonSet", "daemonset", {}),
        ("Job", "job", {}),
        ("StatefulSet", "statefulset", {"current_revision": "r1", "update_revision": "r2"}),
        ("CronJob", "cronjob", {"schedule": "@daily", "concurrency_policy": "Forbid"}),
        ("HorizontalPodAutoscaler", "hpa", {}),
    ],
)
def test_workloads(kind: str, type_: str, more_of: dict[str, str]) -> None:
    source = next(s for s in workloads.SOURCES if s.resource.kind == kind)
    obj = {
        "metadata": meta("web", "shop", labels={"l": "1"}, ownerReferences=[{"kind": "Thing", "name": "t", "uid": "u"}], **BORN),
        "spec": {"schedule": "@daily", "concurrencyPolicy": "Forbid", "replicas": 1},
        "status": {"currentRevision": "r1", "updateRevision": "r2"},
    }
    assert entities(source, obj) == [
        Entity(
            f"k8s.{type_}",
            f"k8s.{type_}.uid",
            "uid-web",
            {
                "l": "1",
                "k8s.workload.kind": "HPA" if type_ == "hpa" else kind,
                "k8s.workload.name": "web",
                f"{type_}.creation_timestamp": "2024-05-01T10:00:00Z",
                "k8s.namespace.name": "shop",
                "k8s.thing.name": "t",
                "k8s.thing.uid": "u",
                **more_of,
            },
        )
    ]


def test_records() -> None:
    entity = Entity("k8s.pod", "k8s.pod.uid", "u1", {"a": "b"})
    told = read_events(request([state_record(entity, 300, 1), state_record(entity, 0, 2), delete_record(entity, 3)]))
    state: dict[str, Any] = {
        "otel.entity.id": {"k8s.pod.uid": "u1"},
        "otel.entity.event.type": "entity_state",
        "otel.entity.type": "k8s.pod",
        "otel.entity.attributes": {"a": "b"},
    }
    assert told == [
        {**state, "otel.entity.interval": 300_000},
        state,
        {"otel.entity.id": {"k8s.pod.uid": "u1"}, "otel.entity.event.type": "entity_delete", "otel.entity.type": "k8s.pod"},
    ]


async def test_a_refused_event_waits_and_only_the_newest_of_an_entity_is_sent() -> None:
    host, sink = FakeHost(), Sink()
    queue = EntityQueue(make_context("receiver", "k8s_cluster", host), sink, 0)
    sink.refuse = Refused("sending queue full", retry_after=0.01)
    queue.start()
    for value in "123":
        queue.state(Entity("k8s.pod", "k8s.pod.uid", "u1", {"v": value}))
    queue.state(Entity("k8s.pod", "k8s.pod.uid", "u2", {"v": "x"}))
    sink.refuse = None
    await sink.wait_for(lambda s: s.count >= 2)
    (batch,) = sink.batches
    told = read_events(batch.payload)  # type: ignore[union-attr]
    assert [(e["otel.entity.id"]["k8s.pod.uid"], e["otel.entity.attributes"]["v"]) for e in told] == [("u1", "3"), ("u2", "x")]
    await queue.stop()
    assert host.ledger.total("otelcol_receiver_accepted_log_records_total", receiver="k8s_cluster", transport="http") == 2
    assert host.ledger.sum("kofagent_dropped_items_total") == 0


async def test_a_state_that_comes_while_the_one_before_is_under_way_is_sent_too() -> None:
    host, sink = FakeHost(), Sink()
    sink.gate = asyncio.Event()
    queue = EntityQueue(make_context("receiver", "k8s_cluster", host), sink, 0)
    queue.start()
    queue.state(Entity("k8s.pod", "k8s.pod.uid", "u1", {"v": "1"}))
    await sink.called.wait()
    queue.state(Entity("k8s.pod", "k8s.pod.uid", "u1", {"v": "2"}))
    sink.gate.set()
    await sink.wait_for(lambda s: s.count >= 2)
    told = [e["otel.entity.attributes"]["v"] for batch in sink.batches for e in read_events(batch.payload)]  # type: ignore[union-attr]
    assert told == ["1", "2"]
    await queue.stop()
    assert host.ledger.total("otelcol_receiver_accepted_log_records_total", receiver="k8s_cluster", transport="http") == 2


async def test_what_is_refused_for_good_and_what_waits_at_the_end_is_counted() -> None:
    host, sink = FakeHost(), Sink()
    queue = EntityQueue(make_context("receiver", "k8s_cluster", host), sink, 0)
    sink.refuse = Refused("rejected", permanent=True)
    queue.start()
    queue.state(Entity("k8s.pod", "k8s.pod.uid", "u1", {}))
    refused = {"receiver": "k8s_cluster", "transport": "http"}
    await eventually(lambda: host.ledger.total("otelcol_receiver_refused_log_records_total", **refused) == 1)
    sink.refuse = Refused("sending queue full", retry_after=1000)
    queue.state(Entity("k8s.pod", "k8s.pod.uid", "u2", {}))
    await queue.stop()
    assert host.ledger.total("kofagent_dropped_items_total", component="k8s_cluster", signal="logs", reason="shutdown") == 1


async def test_of_too_many_entities_that_wait_the_oldest_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entity_log, "WAITING", 2)
    host, sink = FakeHost(), Sink()
    queue = EntityQueue(make_context("receiver", "k8s_cluster", host), sink, 0)
    for uid in "abc":
        queue.state(Entity("k8s.pod", "k8s.pod.uid", uid, {}))
    queue.start()
    await sink.wait_for(lambda s: s.count >= 2)
    told = [e["otel.entity.id"]["k8s.pod.uid"] for batch in sink.batches for e in read_events(batch.payload)]  # type: ignore[union-attr]
    assert told == ["b", "c"]
    await queue.stop()
    assert host.ledger.total("kofagent_dropped_items_total", component="k8s_cluster", signal="logs", reason="backlog") == 1
    assert host.ledger.total("otelcol_receiver_refused_log_records_total", receiver="k8s_cluster", transport="http") == 1
