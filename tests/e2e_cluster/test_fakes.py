"""kwok's nodes and pods: Ready, Running, with addresses and owners, beside the real API."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster import Cluster

pytestmark = [
    pytest.mark.server("kwok"),
    pytest.mark.server("kube-apiserver"),
    pytest.mark.server("etcd"),
    pytest.mark.server("kubectl"),
    pytest.mark.server("kube-scheduler"),
    pytest.mark.server("kube-controller-manager"),
]


def test_fake_nodes_and_pods_look_alive(tmp_path: Path) -> None:
    with Cluster(tmp_path / "c", fake_nodes=5, fake_pods=23) as cluster:
        pods = cluster.pods("fake")
        assert len(pods) == 23
        assert len({pod["status"]["podIP"] for pod in pods}) == 23
        assert {pod["spec"]["nodeName"] for pod in pods} == {f"fake-000{n}" for n in range(5)}
        assert {pod["metadata"]["ownerReferences"][0]["kind"] for pod in pods} == {"ReplicaSet"}
        leases = cluster.api.get("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases")["items"]
        assert len(leases) == 5
        cluster.kubectl("-n", "fake", "delete", "deployment", "app-000")
        cluster.wait_for("the pods of a deleted Deployment gone", lambda: len(cluster.pods("fake")) == 18)
        cluster.kubectl("delete", "node", "fake-0001")
        assert not any("left over" in line for line in cluster.status())
