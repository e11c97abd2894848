"""The chart on a real node: `helm template | kubectl apply`, and metrics and logs of the cluster arrive in real storage.

The agents have the chart's accounts, rights, limits and users; nothing is given to them beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster, images
from tests.cluster.control_plane import NODE_ADDRESS
from tests.cluster.node import NODE as NODE_NAME
from tests.cluster.node import obstacles
from tests.helm.chart import CLUSTER, NODE, template
from tests.support.servers import Server, find, free_port, get, get_json, wait_until

pytestmark = [*(pytest.mark.server(name) for name in (
    "helm", "kubelet", "kube-apiserver", "etcd", "kubectl", "kube-scheduler", "kube-controller-manager", "containerd", "victoria-metrics",
    "victoria-logs", "prometheus-node-exporter")), pytest.mark.skipif(bool(obstacles()), reason="; ".join(obstacles()))]
SELECT = {"node": f"app.kubernetes.io/name={NODE}", "k8scluster": f"app.kubernetes.io/name={CLUSTER}"}


@dataclass
class World:
    """A cluster with the chart in it, and its storage."""

    cluster: Cluster
    metrics: str
    logs: str

    def query(self, promql: str) -> list[dict[str, Any]]:
        """Labels of what the storage of metrics answers."""
        return [r["metric"] for r in get_json(f"{self.metrics}/api/v1/query", query=promql)["data"]["result"]]

    def records(self, logsql: str) -> list[dict[str, Any]]:
        """Records of the storage of logs."""
        from urllib.parse import urlencode

        body = get(f"{self.logs}/select/logsql/query?{urlencode({'query': logsql, 'limit': 1000})}")[1]
        return [json.loads(line) for line in body.splitlines()]

    def said(self, role: str) -> str:
        """What an agent printed."""
        return self.cluster.kubectl("-n", "kof", "logs", "-l", SELECT[role], "--tail=-1")


def storage(name: str, folder: Path, *flags: str) -> tuple[Server, str]:
    """A server on the node's own address, which pods reach."""
    port = free_port()
    program = find(name)
    assert program is not None
    url = f"http://{NODE_ADDRESS}:{port}"
    command = [program, f"-storageDataPath={folder}/{name}", f"-httpListenAddr={NODE_ADDRESS}:{port}", *flags]
    return Server(name, command, folder, lambda: get(url + "/health")[0] == 200), url


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The chart's default values with storage at other addresses and without OpenCost, whose image is not here."""
    folder = tmp_path_factory.mktemp("chart")
    with Cluster(folder / "c", kubelet=True) as cluster:
        metrics_server, metrics = storage("victoria-metrics", folder, "-search.latencyOffset=0s")
        logs_server, logs = storage("victoria-logs", folder)
        try:
            cluster.import_agent("localhost/kofagent:0.1.0")
            cluster.import_program("prometheus-node-exporter", "localhost/prometheus/node-exporter:v1.9.1")
            cluster.kubectl("create", "namespace", "kof")
            cluster.kubectl("create", "namespace", "apps")
            cluster.kubectl("-n", "kof", "create", "secret", "generic", "storage-vmuser-credentials",
                            "--from-literal=username=agent", "--from-literal=password=s3cret-of-the-storage")
            cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "talker", "namespace": "apps"}, "spec": {
                "terminationGracePeriodSeconds": 1, "containers": [{
                    "name": "c", "image": images.BUSYBOX, "imagePullPolicy": "Never",
                    "command": ["sh", "-c", "i=0; while true; do echo warning: line $i; i=$((i+1)); sleep 0.2; done"]}]}})
            values = {
                "global": {"clusterName": "test1", "imageRegistry": "localhost"},
                "kof": {"metrics": {"endpoint": f"{metrics}/api/v1/write"}, "logs": {"endpoint": f"{logs}/insert/opentelemetry/v1/logs"},
                        "traces": {"endpoint": f"{logs}/none"}},
                "kofagent": {"image": {"pullPolicy": "Never"}},
                # this machine's root is no shared mount
                "prometheus-node-exporter": {"image": {"pullPolicy": "Never"}, "hostRootFsMount": {"mountPropagation": ""}},
                "kube-state-metrics": {"enabled": False}, "opencost": {"enabled": False}}
            release = template(values=values, folder=folder)
            cluster.kubectl("apply", "-f", "-", text=release.text)
            yield World(cluster, metrics, logs)
        finally:
            metrics_server.stop()
            logs_server.stop()


def inside(world: World, pod: str, *command: str) -> str:
    """What a command of busybox, which this image has for the tests, says in an agent's container."""
    return world.cluster.kubectl("-n", "kof", "exec", pod, "--", "busybox", *command)


def test_the_agents_come_up_as_the_chart_says(world: World) -> None:
    for role, select in SELECT.items():
        pod = world.cluster.wait_running("kof", select, seconds=180)[0]
        assert pod["spec"]["containers"][0]["resources"]["limits"]["memory"] == {"node": "128Mi", "k8scluster": "256Mi"}[role]
        name = pod["metadata"]["name"]
        status = inside(world, name, "cat", "/proc/1/status")
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert fields["Uid"].split()[0] == "65532"
        assert fields["Gid"].split()[0] == {"node": "0", "k8scluster": "65532"}[role]
        assert {int(fields[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
        assert fields["Seccomp"] == "2"
        with pytest.raises(RuntimeError, match="Read-only file system"):
            inside(world, name, "touch", "/x")
        inside(world, name, "touch", "/var/lib/otelcol/file_storage/x", "/tmp/x")


def test_metrics_arrive_with_kofs_labels(world: World) -> None:
    for job in ("integrations/kubernetes/kubelet", "integrations/kubernetes/cadvisor", "node-exporter", "apiserver"):
        wait_until(partial(world.query, f'up{{job="{job}"}} == 1'), 120, f"up of {job}")
    assert {r["clusterName"] for r in world.query('up{job="node-exporter"}')} == {"test1"}
    assert [r["nodename"] for r in world.query('node_load1{job="node-exporter"}')] == [NODE_NAME]
    assert wait_until(lambda: world.query('container_memory_working_set_bytes{pod="talker",namespace="apps",container="c"}'), 120)
    assert wait_until(lambda: world.query("k8s_pod_phase"), 120, "k8s_cluster's metrics")


def test_logs_of_pods_arrive_with_metadata(world: World) -> None:
    records = wait_until(lambda: world.records('"warning: line"'), 120, "logs of the pod")
    assert {(r["k8s.pod.name"], r["k8s.namespace.name"], r["k8s.container.name"], r["k8s.node.name"]) for r in records} == {
        ("talker", "apps", "c", NODE_NAME)}


def test_events_arrive(world: World) -> None:
    world.cluster.kubectl("-n", "apps", "delete", "pod", "talker", "--wait=false")
    assert wait_until(lambda: world.records('"Stopping container"'), 120, "the event of a stopped container")


def test_the_targets_api_answers_at_the_pods_address(world: World) -> None:
    pod = world.cluster.wait_running("kof", SELECT["node"])[0]
    path = f"/api/v1/namespaces/kof/pods/{pod['metadata']['name']}:9090/proxy/api/v1/targets"  # as KOF's UI asks
    targets = world.cluster.api.get(path)["data"]["activeTargets"]
    # without the CRD of ServiceMonitor the exporters have a receiver of their own, which has no API
    assert {t["labels"]["job"] for t in targets} == {"integrations/kubernetes/kubelet", "integrations/kubernetes/cadvisor"}


def test_nothing_was_refused_and_no_secret_was_told(world: World) -> None:
    for role in SELECT:
        said = world.said(role)
        assert "forbidden" not in said.lower(), [line for line in said.splitlines() if "orbidden" in line][:5]
        assert "s3cret" not in said
    for pod in world.cluster.pods("kof", SELECT["node"]):
        status = pod["status"]["containerStatuses"][0]
        assert status["restartCount"] == 0, status
