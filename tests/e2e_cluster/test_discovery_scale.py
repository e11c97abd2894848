"""200 nodes and 5000 pods: what the agent of a node and that of the cluster discover, and the memory they take."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.cluster import Cluster
from tests.support.servers import free_port, get_json, wait_until

pytestmark = [pytest.mark.server("kube-apiserver"), pytest.mark.server("etcd"), pytest.mark.server("kwok"),
              pytest.mark.server("kube-controller-manager"), pytest.mark.server("kube-scheduler")]
NODES, PODS = 200, 5000
NODE_LIMIT = 128 << 20


class Agent:
    """A running agent: its targets and its memory."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.url = f"http://127.0.0.1:{port}/api/v1/targets"
        self._process = psutil.Process(process.pid)

    def targets(self, job: str) -> list[dict[str, str]]:
        """The labels discovery gave the targets of a job."""
        return [t["discoveredLabels"] for t in get_json(self.url, state="active")["data"]["activeTargets"] if t["scrapePool"] == job]

    @property
    def memory(self) -> int:
        """Bytes that are this process's alone or shared with others."""
        return int(self._process.memory_info().rss)


@contextmanager
def agent(cluster: Cluster, folder: Path, allocation: dict[str, Any]) -> Iterator[Agent]:
    folder.mkdir()
    port = free_port()
    jobs = [{"job_name": role, "scrape_interval": "1h", "kubernetes_sd_configs": [{"role": role}]} for role in ("pod", "node", "endpointslice")]
    server = {"enabled": True, "server_config": {"endpoint": f"127.0.0.1:{port}"}}
    (folder / "config.yaml").write_text(yaml.safe_dump({
        "receivers": {"prometheus": {"config": {"scrape_configs": jobs}, "allocation": allocation, "api_server": server}},
        "exporters": {"nop": {}}, "service": {"telemetry": {"metrics": {"level": "none"}},
                                              "pipelines": {"metrics": {"receivers": ["prometheus"], "exporters": ["nop"]}}}}))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "kofagent", "run", "--config", str(folder / "config.yaml"), "--kubeconfig",
                                    str(cluster.kubeconfig)], stdout=log, stderr=log, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
        try:
            yield Agent(port, process)
        finally:
            process.terminate()
            process.wait(30)


def test_a_big_cluster(tmp_path: Path) -> None:
    with Cluster(tmp_path / "c", fake_nodes=NODES, fake_pods=PODS) as cluster:
        pods = cluster.pods("fake")
        per_node = Counter(pod["spec"]["nodeName"] for pod in pods)
        node = max(per_node, key=lambda name: (per_node[name], name))
        for app in sorted({pod["metadata"]["labels"]["app"] for pod in pods if pod["spec"]["nodeName"] == node})[:10]:
            cluster.api.call("POST", "/api/v1/namespaces/fake/services", {"metadata": {"name": app}, "spec": {
                "selector": {"app": app}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}})
        with agent(cluster, tmp_path / "node", {"strategy": "per-node", "node_name": node}) as own, \
                agent(cluster, tmp_path / "cluster", {"strategy": "without-node"}) as nodeless:
            wait_until(lambda: len(own.targets("pod")) == per_node[node] and own.targets("endpointslice"), 60, "the targets of a node")
            assert {t["__meta_kubernetes_pod_node_name"] for t in own.targets("pod")} == {node}
            assert [t["__meta_kubernetes_node_name"] for t in own.targets("node")] == [node]
            assert {t["__meta_kubernetes_endpointslice_endpoint_node_name"] for t in own.targets("endpointslice")} == {node}
            assert not nodeless.targets("pod") and not nodeless.targets("node")
            assert not [t for t in nodeless.targets("endpointslice") if "__meta_kubernetes_endpointslice_endpoint_node_name" in t]
            print(f"memory: node's agent {own.memory >> 20} MiB, cluster's agent {nodeless.memory >> 20} MiB")
            assert own.memory < NODE_LIMIT and nodeless.memory < NODE_LIMIT
