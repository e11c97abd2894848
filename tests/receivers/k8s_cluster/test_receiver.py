"""The receiver against a scripted API server: both signals, changes, namespaces, RBAC, an API server that is away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kofagent.component.protocols import StartError
from kofagent.kubernetes.resources import (
    DEPLOYMENTS,
    ENDPOINTSLICES,
    NAMESPACES,
    NODES,
    PODS,
    RESOURCEQUOTAS,
    SERVICES,
)
from kofagent.receivers.k8s_cluster import COMPONENT
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from tests.receivers.k8s_cluster.support import meta, number, on, read_events, read_metrics
from tests.support.components import FakeHost, Sink, eventually, make
from tests.support.fake_kube import FakeKube, pod

QUICK = {"collection_interval": "50ms"}


@pytest.fixture
async def kube(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[FakeKube]:
    async with FakeKube() as server:
        server.use(monkeypatch, tmp_path)
        yield server


def fill(kube: FakeKube) -> None:
    kube.put(NODES, {"metadata": meta("n1"), "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    kube.put(NAMESPACES, {"metadata": meta("shop"), "status": {"phase": "Active"}})
    kube.put(DEPLOYMENTS, {"metadata": meta("web", "shop"), "spec": {"replicas": 2}, "status": {"availableReplicas": 1}})
    kube.put(PODS, pod("shop", "web-0", labels={"app": "web"}))
    kube.put(PODS, pod("other", "x-0"))
    kube.put(SERVICES, {"metadata": meta("web", "shop"), "spec": {"type": "ClusterIP", "selector": {"app": "web"}}})
    kube.put(RESOURCEQUOTAS, {"metadata": meta("q", "shop"), "status": {"hard": {"pods": "10"}, "used": {"pods": "1"}}})


@asynccontextmanager
async def running(
    host: FakeHost | None = None, to_metrics: Sink | None = None, to_logs: Sink | None = None, **options: Any
) -> AsyncIterator[Any]:
    receiver = make(COMPONENT, {**QUICK, **options}, id="k8s_cluster", host=host)
    receiver.outputs = {s: sink for s, sink in ((Signal.METRICS, to_metrics), (Signal.LOGS, to_logs)) if sink is not None}
    await receiver.start()
    try:
        yield receiver
    finally:
        await receiver.stop()


def newest(sink: Sink) -> list[tuple[dict[str, Any], dict[str, list[Any]], Any]]:
    batch = sink.batches[-1]
    assert isinstance(batch, Batch)
    found = read_metrics(batch.payload)
    assert sum(len(points) for _, metrics, _ in found for points in metrics.values()) == batch.count
    return found


def values(sink: Sink) -> dict[tuple[str, str], float]:
    """(metric, name of its object) to value, of the last batch."""
    out = {}
    for resource, metrics, _ in newest(sink):
        names = {k: v for k, v in resource.items() if k.endswith(".name") and "image" not in k}
        own = [v for k, v in names.items() if k not in ("k8s.namespace.name", "k8s.node.name")] or list(names.values())
        name = own[0]
        for metric, points in metrics.items():
            out[metric, name] = number(points[0])
    return out


async def test_metrics_of_a_cluster_and_of_its_changes(kube: FakeKube) -> None:
    fill(kube)
    sink, host = Sink(), FakeHost()
    async with running(host, sink) as receiver:
        await eventually(lambda: sink.batches and len(newest(sink)) == 8)
        told = values(sink)
        assert told["k8s.node.condition_ready", "n1"] == 1
        assert told["k8s.namespace.phase", "shop"] == 1
        assert (told["k8s.deployment.desired", "web"], told["k8s.deployment.available", "web"]) == (2, 1)
        assert told["k8s.pod.phase", "web-0"] == told["k8s.pod.phase", "x-0"] == 2
        assert told["k8s.resource_quota.hard_limit", "q"] == 10
        (entry, *_) = [e for resource, _, e in newest(sink) if resource.get("k8s.deployment.name")]
        assert entry.schema_url == "https://opentelemetry.io/schemas/1.18.0"
        assert entry.scope_metrics[0].scope.name.endswith("k8sclusterreceiver")
        kube.put(DEPLOYMENTS, {"metadata": meta("web", "shop"), "spec": {"replicas": 7}, "status": {}})
        kube.delete(PODS, "x-0", "other")
        await eventually(
            lambda: values(sink).get(("k8s.deployment.desired", "web")) == 7 and ("k8s.pod.phase", "x-0") not in values(sink)
        )
        assert "k8s.pod.phase" in receiver.explain()
        assert host.statuses.get("receivers/k8s_cluster") is None
    accepted = host.ledger.total("otelcol_receiver_accepted_metric_points_total", receiver="k8s_cluster", transport="http")
    assert accepted == sink.count > 0
    await eventually(lambda: kube.watching == 0)


async def test_entity_events(kube: FakeKube) -> None:
    fill(kube)
    sink = Sink()

    def events() -> list[dict[str, Any]]:
        return [e for b in sink.batches for e in read_events(b.payload)]  # type: ignore[union-attr]

    async with running(to_logs=sink, metadata_collection_interval="1h"):
        await eventually(lambda: len(events()) >= 8)
        told = {(e["otel.entity.type"], next(iter(e["otel.entity.id"].values()))): e for e in events()}
        assert {t for t, _ in told} == {"k8s.node", "k8s.namespace", "k8s.deployment", "k8s.pod", "container", "k8s.service"}
        uid = kube.items(PODS)[0]["metadata"]["uid"]
        web = told["k8s.pod", uid]
        assert web["otel.entity.interval"] == 3_600_000
        assert web["otel.entity.attributes"]["k8s.pod.name"] == "web-0"
        before = len(events())
        changed = pod("shop", "web-0", labels={"app": "web"}, phase="Succeeded")
        kube.put(PODS, changed)
        await eventually(lambda: len(events()) > before)
        assert events()[-1]["otel.entity.attributes"]["k8s.pod.phase"] == "Succeeded"
        assert events()[-1]["otel.entity.attributes"]["k8s.service.web"] == ""
        kube.delete(PODS, "web-0", "shop")
        await eventually(lambda: {"entity_delete"} == {e["otel.entity.event.type"] for e in events()[-2:]})
        assert {e["otel.entity.type"] for e in events()[-2:]} == {"k8s.pod", "container"}


async def test_all_entities_are_told_again_and_again(kube: FakeKube) -> None:
    kube.put(NAMESPACES, {"metadata": meta("shop"), "status": {"phase": "Active"}})
    sink = Sink()
    async with running(to_logs=sink, metadata_collection_interval="300ms"):
        await sink.wait_for(lambda s: s.count >= 3)
    assert {e["otel.entity.id"]["k8s.namespace.uid"] for b in sink.batches for e in read_events(b.payload)} == {"uid-shop"}  # type: ignore[union-attr]


async def test_only_some_namespaces(kube: FakeKube) -> None:
    fill(kube)
    sink = Sink()
    async with running(to_metrics=sink, namespaces=["other", "empty"]):
        await eventually(lambda: sink.batches)
        assert {resource["k8s.namespace.name"] for resource, _, _ in newest(sink)} == {"other"}
    paths = {path for _, path, _ in kube.requests}
    assert "/api/v1/namespaces/other/pods" in paths
    assert not paths & {"/api/v1/nodes", "/api/v1/namespaces", "/api/v1/pods"}


async def test_endpoints_of_services(kube: FakeKube) -> None:
    fill(kube)
    sink = Sink()

    def ready() -> float | None:
        found = [p for _, metrics, _ in newest(sink) for p in metrics.get("k8s.service.endpoint.count", ())]
        return sum(number(p) for p in found if p.attributes[1].value.string_value == "ready") if found else None

    def slice_of(name: str, *conditions: bool) -> Any:
        return {
            "metadata": {**meta(name, "shop"), "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.1"], "zone": "a", "conditions": {"ready": c}} for c in conditions],
        }

    async with running(to_metrics=sink, metrics=on("k8s.service.endpoint.count")):
        await eventually(lambda: sink.batches)
        kube.put(ENDPOINTSLICES, slice_of("s1", True, False))
        await eventually(lambda: ready() == 1)
        kube.put(ENDPOINTSLICES, slice_of("s2", True, True))
        await eventually(lambda: ready() == 3)
        kube.put(ENDPOINTSLICES, slice_of("s1", False))
        await eventually(lambda: ready() == 2)
        kube.put(ENDPOINTSLICES, slice_of("s2", False))
        await eventually(lambda: ready() == 0)
        kube.delete(ENDPOINTSLICES, "s1", "shop")
        kube.delete(ENDPOINTSLICES, "s2", "shop")
        await eventually(lambda: ready() is None)


async def test_a_kind_that_may_not_be_read_is_named_and_the_rest_goes_on(kube: FakeKube) -> None:
    fill(kube)
    kube.forbidden.add(("list", "resourcequotas"))
    sink, host = Sink(), FakeHost()
    async with running(host, sink):
        await eventually(lambda: host.statuses.get("receivers/k8s_cluster") and sink.batches and len(newest(sink)) == 7)
        said = host.statuses["receivers/k8s_cluster"]
        assert said is not None
        assert "resourcequotas" in said
        assert "pods" not in said


@pytest.mark.slow
async def test_without_the_api_server_it_starts_says_so_and_goes_on_when_it_is_there(kube: FakeKube) -> None:
    fill(kube)
    await kube.stop()
    sink, host = Sink(), FakeHost()
    async with running(host, sink):
        await eventually(lambda: host.statuses.get("receivers/k8s_cluster"))
        assert "127.0.0.1" in (host.statuses["receivers/k8s_cluster"] or "")
        assert not sink.batches
        await kube.start()
        await eventually(lambda: sink.batches and len(newest(sink)) == 8, seconds=40)
        await eventually(lambda: host.statuses["receivers/k8s_cluster"] is None, seconds=40)
        kube.compact()
        kube.put(NAMESPACES, {"metadata": meta("later"), "status": {"phase": "Active"}})
        await eventually(lambda: ("k8s.namespace.phase", "later") in values(sink))


async def test_refused_metrics_are_counted(kube: FakeKube) -> None:
    fill(kube)
    sink, host = Sink(), FakeHost()
    sink.refuse = Refused("sending queue full")
    async with running(host, sink):
        await eventually(
            lambda: (
                host.ledger.total(
                    "kofagent_dropped_items_total", component="k8s_cluster", signal="metrics", reason="sending queue full"
                )
                > 0
            )
        )
        sink.refuse = None
        await eventually(lambda: sink.batches)


async def test_without_a_cluster_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(StartError, match="no-cluster"):
        async with running(to_metrics=Sink()):
            pass
