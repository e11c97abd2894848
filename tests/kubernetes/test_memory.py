"""What 5000 pods cost, with all fields that the agent's components read together."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import pytest

from kofagent.kubernetes.client import ApiClient
from kofagent.kubernetes.informer import subscribe
from kofagent.kubernetes.resources import PODS
from tests.support.fake_kube import FakeKube, pod

PODS_COUNT = 5000
BUDGET = 15 << 20
FIELDS = [
    "metadata.labels",
    "metadata.annotations",
    "metadata.ownerReferences",
    "metadata.creationTimestamp",
    "spec.nodeName",
    "spec.hostNetwork",
    "spec.containers.name",
    "spec.containers.image",
    "spec.containers.ports",
    "spec.containers.resources",
    "status.phase",
    "status.reason",
    "status.qosClass",
    "status.hostIP",
    "status.podIP",
    "status.podIPs",
    "status.startTime",
    "status.conditions.type",
    "status.conditions.status",
    "status.containerStatuses",
]


def one(i: int) -> dict[str, Any]:
    app, replicas = f"app-{i % 200}", i % 1000
    labels = {
        "app.kubernetes.io/name": app,
        "app.kubernetes.io/instance": f"{app}-prod",
        "pod-template-hash": f"{replicas:08x}",
        "team": f"team-{i % 20}",
    }
    annotations = {
        "prometheus.io/scrape": "true",
        "checksum/config": f"{replicas:064x}",
        "cni.example.test/podIP": f"10.0.{i >> 8}.{i & 255}/32",
    }
    containers = [
        {
            "name": name,
            "image": f"registry.example.test/{app}/{name}:1.2.3",
            "ports": [{"name": "http", "containerPort": 8080}],
            "resources": {"limits": {"cpu": "500m", "memory": "256Mi"}, "requests": {"cpu": "100m", "memory": "128Mi"}},
            "env": [{"name": f"VARIABLE_{n}", "value": f"value {n} of {app}"} for n in range(4)],
        }
        for name in ("main", "sidecar")
    ]
    made = pod(
        f"ns-{i % 50}",
        f"{app}-{replicas:08x}-{i:05d}",
        node=f"node-{i % 200}",
        ip=f"10.0.{i >> 8}.{i & 255}",
        labels=labels,
        annotations=annotations,
        owner=("ReplicaSet", f"{app}-{replicas:08x}", f"owner-{replicas}"),
        containers=containers,
        uid=f"{i * 7919:08x}-1111-2222-3333-{i:012x}",
    )
    made["metadata"]["managedFields"] = [{"manager": "controller", "fieldsV1": {f"f:field-{n}": {} for n in range(20)}}]
    return made


@pytest.mark.slow
async def test_5000_pods(kube: FakeKube, client: ApiClient) -> None:
    for i in range(PODS_COUNT):
        kube.put(PODS, one(i), copied=False)
    await client.get("/api/v1")
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        sub = subscribe(client, PODS, fields=FIELDS)
        await sub.synced.wait()
        kube.requests.clear()
        gc.collect()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(sub.store) == PODS_COUNT
    assert sub.store["ns-7/app-7-00000007-00007"]["status"]["podIP"] == "10.0.0.7"
    print(f"5000 pods: {(after - before) / 2**20:.1f} MiB, at most {(peak - before) / 2**20:.1f} MiB with the server's own part")
    assert after - before < BUDGET / 3  # the rest is for the list while it is read, and for what readers make of the pods
    assert peak - before < BUDGET
