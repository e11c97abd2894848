"""`kofagent run --values ... --kubeconfig ...` beside a cluster, as on a laptop: what arrives in real stores, and what stays off.

The machine of these tests runs the cluster's node, so the laptop is a mount namespace with another machine id; the node's log files
are there to be seen in it, and must not be taken.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cluster import Cluster, images
from tests.cluster.node import obstacles
from tests.support import servers
from tests.support.servers import free_port, get, get_json, wait_until

pytestmark = [
    pytest.mark.server(name)
    for name in (
        "kubelet",
        "kube-apiserver",
        "etcd",
        "kubectl",
        "kube-scheduler",
        "kube-controller-manager",
        "containerd",
        "victoria-logs",
        "victoria-metrics",
        "jaeger",
    )
]
pytestmark.append(pytest.mark.skipif(bool(obstacles()), reason="; ".join(obstacles())))
pytestmark.append(pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed"))

VALUES = """\
global: {{clusterName: {cluster}}}
kof: {{basic_auth: false, logs: {{endpoint: {vlogs}/insert/opentelemetry/v1/logs}}, metrics: {{endpoint: {metrics}/api/v1/write}},
  traces: {{endpoint: {traces}}}}}
"""


class Agent:
    """One `kofagent run` on the laptop (or, with `on_node`, on the node itself)."""

    def __init__(self, folder: Path, name: str, *arguments: str, role: str = "", on_node: bool = False) -> None:
        self.otlp, self.targets, own, grpc = (free_port() for _ in range(4))
        changes: dict[str, Any] = {
            "service": {
                "telemetry": {"metrics": {"readers": [{"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": own}}}}]}}
            }
        }
        if name != "old-k8scluster":  # which scrapes nothing
            changes["receivers"] = {"prometheus": {"config": {"global": {"scrape_interval": "5s"}}}}
        if role == "node":
            changes["receivers"]["prometheus"]["api_server"] = {
                "enabled": True,
                "server_config": {"endpoint": f"127.0.0.1:{self.targets}"},
            }
            changes["receivers"]["otlp"] = {
                "protocols": {"http": {"endpoint": f"127.0.0.1:{self.otlp}"}, "grpc": {"endpoint": f"127.0.0.1:{grpc}"}}
            }
        command = [
            sys.executable,
            "-m",
            "kofagent",
            "run",
            *arguments,
            *(["--role", role] if role else []),
            "--config",
            "yaml:" + json.dumps(changes),
        ]
        if not on_node:
            identity = folder / "machine-id"
            identity.write_text("0123456789abcdef0123456789abcdef\n")
            command = ["unshare", "--mount", "sh", "-c", f'mount --bind {identity} /etc/machine-id && exec "$@"', "sh", *command]
        self.log = folder / f"{name}.log"
        self._out = self.log.open("wb")
        self.process = subprocess.Popen(
            command,
            stdout=self._out,
            stderr=self._out,
            cwd=Path(__file__).parents[2],
            env={k: v for k, v in os.environ.items() if k not in ("KUBECONFIG", "K8S_NODE_NAME")},
        )

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def ready(self) -> bool:
        assert self.process.poll() is None, self.said()
        return "everything is ready" in self.said()

    def stop(self) -> int:
        self.process.terminate()
        code = self.process.wait(20)
        self._out.close()
        return code


class Setup(NamedTuple):
    """The cluster, the stores, and the agents that run."""

    cluster: Cluster
    vlogs: str
    metrics: str
    traces: str
    agents: dict[str, Agent]


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    folder = Path(tmp_path_factory.mktemp("laptop"))
    logs_store, vlogs = servers.victoria_logs(folder)
    metric_store, metrics = servers.victoria_metrics(folder)
    trace_store, traces, jaeger, _ = servers.jaeger(folder)
    for cluster in ("new", "old", "node"):
        (folder / f"{cluster}.yaml").write_text(VALUES.format(cluster=cluster, vlogs=vlogs, metrics=metrics, traces=traces))
    agents: dict[str, Agent] = {}
    try:
        with Cluster(folder / "c", kubelet=True) as running:
            running.namespace("work")
            running.apply(
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": "talker", "namespace": "work"},
                    "spec": {
                        "terminationGracePeriodSeconds": 1,
                        "containers": [
                            {
                                "name": "main",
                                "image": images.BUSYBOX,
                                "imagePullPolicy": "Never",
                                "ports": [{"containerPort": 15020, "name": "http-envoy-prom"}],
                                "command": ["sh", "-c", "while true; do echo talker says; sleep 1; done"],
                            }
                        ],
                    },
                }
            )
            running.wait_running("work")
            config = ["--kubeconfig", str(running.kubeconfig)]
            for name, role, more in (
                ("new", "node", []),
                ("old", "node", ["--generation", "0.1.1"]),
                ("new", "k8scluster", ["--context", "test"]),
                ("old", "k8scluster", ["--generation", "0.1.1"]),
            ):
                agents[f"{name}-{role}"] = Agent(
                    folder, f"{name}-{role}", "--values", str(folder / f"{name}.yaml"), *config, *more, role=role
                )
            agents["on-node"] = Agent(folder, "on-node", "--values", str(folder / "node.yaml"), *config, role="node", on_node=True)
            for agent in agents.values():
                running.wait_for("an agent", agent.ready, 90)
            yield Setup(running, vlogs, metrics, jaeger, agents)
            stopped = {name: agent.stop() for name, agent in agents.items()}
            assert set(stopped.values()) == {0}, stopped
            for name, agent in agents.items():
                assert "Traceback" not in agent.said(), f"{name}: {agent.said()}"
                warnings = [line for line in agent.said().splitlines() if " warn " in line or " error " in line]
                assert len(warnings) <= 4, warnings
            agents.clear()
    finally:
        for agent in agents.values():
            agent.stop()
        for store in (logs_store, metric_store, trace_store):
            store.stop()


def series(setup: Setup, query: str) -> list[dict[str, str]]:
    """The labels of what a query finds in VictoriaMetrics."""
    return [found["metric"] for found in get_json(setup.metrics + "/api/v1/query", query=query)["data"]["result"]]


def records(setup: Setup, query: str) -> list[dict[str, Any]]:
    """Stored log records."""
    get(setup.vlogs + "/internal/force_flush")
    asked = urllib.parse.urlencode({"query": query, "limit": 10_000})
    return [json.loads(line) for line in get(setup.vlogs + "/select/logsql/query?" + asked)[1].splitlines()]


@pytest.mark.parametrize("name", ["new", "old"])
def test_kubelet_and_cadvisor_of_every_node_through_the_api_server(name: str, setup: Setup) -> None:
    for job in ("cadvisor", "kubelet"):
        found = wait_until(
            lambda job=job: series(setup, f'up{{job="integrations/kubernetes/{job}",clusterName="{name}"}} == 1'),  # type: ignore[misc]
            what=f"{job} of {name}",
        )
        assert [f["instance"] for f in found] == ["node1"]
    assert wait_until(lambda: series(setup, f'container_memory_working_set_bytes{{clusterName="{name}",pod="talker"}}'))
    assert series(setup, f'kubelet_running_pods{{clusterName="{name}"}}')


def test_targets_in_the_clusters_network_are_down_with_a_reason(setup: Setup) -> None:
    agent = setup.agents["new-node"]
    assert "note: receivers.prometheus: targets with addresses of pods and Services can be scraped only where" in agent.said()

    def down() -> Any:
        active = get_json(f"http://127.0.0.1:{agent.targets}/api/v1/targets")["data"]["activeTargets"]
        return [t for t in active if t["labels"]["job"] == "envoy-stats" and t["health"] == "down"]

    assert "15020" in wait_until(down)[0]["lastError"]
    assert agent.said().count("warn receiver.prometheus: job envoy-stats") == 1


def test_the_nodes_log_files_stay_off_and_one_line_says_so(setup: Setup) -> None:
    for name, receiver in (("new-node", "filelog/kube"), ("old-node", "filelog")):
        lines = [line for line in setup.agents[name].said().splitlines() if "stays off" in line]
        assert lines == [
            f"note: receivers.{receiver} stays off: log files of a node (/var/log/pods/*/*/*.log): "
            "this machine is none of the cluster's nodes"
        ]
    # the agent on the node itself knows where it is, and takes them: what it sent are all records there are
    assert "note: this machine is the cluster's node node1" in setup.agents["on-node"].said()
    found = wait_until(lambda: records(setup, '"talker says"'))
    assert found[0]["k8s.node.name"] == "node1"
    per_second = [r["_time"] for r in found]
    assert len(set(per_second)) == len(per_second)  # no line came twice, by another agent


def test_applications_of_the_laptop_send_logs_and_traces(setup: Setup) -> None:
    agent = setup.agents["new-node"]
    pod = setup.cluster.pods("work")[0]["metadata"]["uid"]
    now = time.time_ns()
    resource = {
        "attributes": [
            {"key": "service.name", "value": {"stringValue": "laptop-app"}},
            {"key": "k8s.pod.uid", "value": {"stringValue": pod}},
        ]
    }
    for path, body in (
        (
            "logs",
            {
                "resourceLogs": [
                    {
                        "resource": resource,
                        "scopeLogs": [{"logRecords": [{"timeUnixNano": str(now), "body": {"stringValue": "from the laptop"}}]}],
                    }
                ]
            },
        ),
        (
            "traces",
            {
                "resourceSpans": [
                    {
                        "resource": resource,
                        "scopeSpans": [
                            {
                                "spans": [
                                    {
                                        "traceId": "0af7651916cd43dd8448eb211c80319c",
                                        "spanId": "b7ad6b7169203331",
                                        "name": "work",
                                        "kind": 1,
                                        "startTimeUnixNano": str(now),
                                        "endTimeUnixNano": str(now + 1000),
                                    }
                                ]
                            }
                        ],
                    }
                ]
            },
        ),
    ):
        request = urllib.request.Request(
            f"http://127.0.0.1:{agent.otlp}/v1/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200
    assert wait_until(lambda: records(setup, '"from the laptop"'))[0]["k8s.node.name"] == "node1"
    wait_until(lambda: "laptop-app" in (get_json(setup.traces + "/api/services")["data"] or []))


@pytest.mark.parametrize("name", ["new", "old"])
def test_state_events_and_the_api_server(name: str, setup: Setup) -> None:
    assert "stays off" not in setup.agents[f"{name}-k8scluster"].said()
    if name == "new":
        assert wait_until(lambda: series(setup, "k8s_pod_phase"))
        assert wait_until(lambda: series(setup, 'up{job="apiserver"} == 1'))
    setup.cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"event-{name}", "namespace": "work"},
            "spec": {
                "restartPolicy": "Never",
                "containers": [{"name": "main", "image": images.BUSYBOX, "imagePullPolicy": "Never", "command": ["true"]}],
            },
        }
    )

    def scheduled() -> list[dict[str, Any]]:
        found = [r for r in records(setup, f'"event-{name}"') if "Scheduled" in json.dumps(r)]
        if name == "old":  # k8sobjects: the whole object is the body
            return [r for r in found if "k8s.event.reason" not in r]
        return [r for r in found if r.get("k8s.event.reason") == "Scheduled" and r.get("k8s.cluster.name") == "new"]

    assert len(wait_until(scheduled, what="the event")) == 1


def test_plain_configuration(setup: Setup, tmp_path: Path) -> None:
    """Nothing of KOF: pods' logs stay off, the rest of the receiver goes on; metrics through the API server's proxy by kubeletstats."""
    mine = tmp_path / "mine.log"
    mine.write_text("")
    (tmp_path / "otel.yaml").write_text(
        json.dumps(
            {
                "receivers": {
                    "filelog": {"include": ["/var/log/pods/*/*/*.log", str(mine)], "start_at": "beginning"},
                    "k8sobjects": {"objects": [{"name": "nodes", "mode": "pull", "interval": "2s"}]},
                    "kubeletstats": {"auth_type": "serviceAccount", "collection_interval": "2s"},
                    "kubeletstats/node1": {"auth_type": "serviceAccount", "endpoint": "node1", "collection_interval": "2s"},
                    "prometheus": {
                        "config": {
                            "scrape_configs": [
                                {
                                    "job_name": "nodes",
                                    "scheme": "https",
                                    "kubernetes_sd_configs": [{"role": "node"}],
                                    "relabel_configs": [
                                        {"target_label": "__address__", "replacement": "kubernetes.default.svc:443"},
                                        {
                                            "source_labels": ["__meta_kubernetes_node_name"],
                                            "target_label": "__metrics_path__",
                                            "replacement": "/api/v1/nodes/$1/proxy/metrics/resource",
                                        },
                                    ],
                                }
                            ]
                        }
                    },
                },
                "exporters": {
                    "file/logs": {"path": str(tmp_path / "logs.json")},
                    "file/metrics": {"path": str(tmp_path / "metrics.json")},
                },
                "service": {
                    "pipelines": {
                        "logs": {"receivers": ["filelog", "k8sobjects"], "exporters": ["file/logs"]},
                        "metrics": {
                            "receivers": ["kubeletstats", "kubeletstats/node1", "prometheus"],
                            "exporters": ["file/metrics"],
                        },
                    }
                },
            }
        )
    )
    agent = Agent(tmp_path, "plain", "--config", str(tmp_path / "otel.yaml"), "--kubeconfig", str(setup.cluster.kubeconfig))
    try:
        wait_until(agent.ready)
        mine.write_text("my own line\n")
        wait_until(
            lambda: all(word in (tmp_path / "logs.json").read_text() for word in ("my own line", "kubeletVersion")), what="logs"
        )
        assert "talker says" not in (tmp_path / "logs.json").read_text()
        wait_until(
            lambda: all(
                word in (tmp_path / "metrics.json").read_text()
                for word in ("k8s.pod.memory.usage", "node_memory_working_set_bytes")
            ),
            what="metrics",
        )
    finally:
        code = agent.stop()
    said = agent.said()
    assert (
        "note: receivers.filelog: log files of a node (/var/log/pods/*/*/*.log) left out: this machine is none of the cluster's nodes"
        in said
    )
    assert "note: receivers.kubeletstats stays off: the kubelet of a node that is not named" in said
    assert code == 0 and "Traceback" not in said, said
