"""The node agent with KOF's values as a DaemonSet pod (128 MiB, read-only root, no capabilities) on a real node: the logs of pods
that crash, run out of memory, chat through rotations or live one second arrive complete and named, and so do the kubelet's series."""

from __future__ import annotations

import json
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cluster import Cluster, agent, images
from tests.cluster.node import obstacles
from tests.support import servers
from tests.support.servers import free_port, get, get_json

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
    )
]
pytestmark.append(pytest.mark.skipif(bool(obstacles()), reason="; ".join(obstacles())))

CHATTY_LINES = 40_000


class Setup(NamedTuple):
    """A cluster with the agent in it, and the stores it writes to."""

    cluster: Cluster
    vlogs: str
    metrics: str


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    """Starts the stores, the cluster and the agent, as `helm install` with these values would."""
    folder = Path(tmp_path_factory.mktemp("podlogs"))
    logs_store, vlogs = servers.victoria_logs(folder)
    metric_store, metrics = servers.victoria_metrics(folder)
    values = {
        "global": {"clusterName": "testing"},
        "collectors": {"node": {}, "k8scluster": {}},
        "kof": {
            "basic_auth": False,
            "logs": {"endpoint": f"{vlogs}/insert/opentelemetry/v1/logs"},
            "metrics": {"endpoint": f"{metrics}/api/v1/write"},
            "traces": {"endpoint": "http://127.0.0.1:4318"},
        },
    }
    # ports that are free on a machine shared with other tests; a shorter interval
    http, grpc, own, targets = (free_port() for _ in range(4))
    changes = {
        "receivers": {
            "otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{http}"}, "grpc": {"endpoint": f"127.0.0.1:{grpc}"}}},
            "prometheus": {
                "config": {"global": {"scrape_interval": "5s"}},
                "api_server": {"server_config": {"endpoint": f"127.0.0.1:{targets}"}},
            },
        },
        "service": {
            "telemetry": {"metrics": {"readers": [{"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": own}}}}]}}
        },
    }
    try:
        with Cluster(folder / "c", kubelet=True) as cluster:
            cluster.namespace("kof")
            cluster.namespace("work")
            cluster.apply(
                *agent.daemon_set(
                    "kof",
                    [
                        "run",
                        "--values",
                        "/conf/values.yaml",
                        "--role",
                        "node",
                        "--generation",
                        "0.3.0",
                        "--config",
                        "/conf/changes.yaml",
                    ],
                    files={"values.yaml": json.dumps(values), "changes.yaml": json.dumps(changes)},
                    rules=agent.NODE_RULES,
                )
            )
            cluster.wait_running("kof", "app=kofagent")
            try:
                cluster.wait_for("the agent's metrics", lambda: get(f"http://127.0.0.1:{own}/metrics")[0] == 200)
            except RuntimeError as error:
                raise RuntimeError(f"{error}\n{cluster.kubectl('-n', 'kof', 'logs', 'daemonset/kofagent', check=False)}") from None
            yield Setup(cluster, vlogs, metrics)
            found = cluster.pods("kof", "app=kofagent")[0]["status"]["containerStatuses"][0]
            print("the agent's memory at the end:", ", ".join(memory(found["containerID"].split("//")[1])))
            assert found["restartCount"] == 0, found["lastState"]
    finally:
        logs_store.stop()
        metric_store.stop()


def memory(container: str) -> list[str]:
    """Resident memory of the processes in a container's cgroup."""
    groups = [file for file in Path("/sys/fs/cgroup").rglob("cgroup.procs") if container in str(file)]
    pids = {pid for file in groups for pid in file.read_text().split()}
    return [
        line for pid in pids for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(("VmRSS", "VmHWM"))
    ]


def pod(name: str, script: str, *, restart: str = "Never", **container: Any) -> dict[str, Any]:
    """A busybox pod in the namespace work."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "work", "labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "restartPolicy": restart,
            "containers": [
                {"name": "main", "image": images.BUSYBOX, "imagePullPolicy": "Never", "command": ["sh", "-c", script], **container}
            ],
        },
    }


def records(vlogs: str, words: str) -> list[dict[str, Any]]:
    """Stored log records with this phrase."""
    get(vlogs + "/internal/force_flush")
    query = urllib.parse.urlencode({"query": f'"{words}"', "limit": 200_000})
    return [json.loads(line) for line in get(vlogs + "/select/logsql/query?" + query, timeout=60)[1].splitlines()]


def numbers(found: list[dict[str, Any]]) -> Counter[int]:
    """How often each numbered line is there."""
    return Counter(int(record["_msg"].rsplit(" ", 1)[1]) for record in found)


def assert_named(found: list[dict[str, Any]], name: str) -> None:
    """Every record has its pod's names, and the node k8sattributes knows."""
    for record in found:
        assert (record["k8s.namespace.name"], record["k8s.pod.name"], record["k8s.container.name"]) == ("work", name, "main")
        assert record["k8s.node.name"] == "node1"


def test_a_pod_that_lives_one_second(setup: Setup) -> None:
    setup.cluster.apply(pod("brief", "i=0; while [ $i -lt 50 ]; do echo brief line $i; i=$((i+1)); done; sleep 1"))
    found = setup.cluster.wait_for("its lines", lambda: (got := records(setup.vlogs, "brief line")) and len(got) >= 50 and got)
    assert numbers(found) == Counter(range(50))
    assert_named(found, "brief")


def test_a_pod_that_crashes_again_and_again(setup: Setup) -> None:
    setup.cluster.apply(
        pod("crasher", "i=0; while [ $i -lt 20 ]; do echo crasher line $i; i=$((i+1)); done; exit 3", restart="Always")
    )

    def restarts() -> int:
        return int(setup.cluster.pods("work", "app=crasher")[0]["status"]["containerStatuses"][0]["restartCount"])

    setup.cluster.wait_for("two restarts", lambda: restarts() >= 2, 90)
    found = setup.cluster.wait_for("its lines", lambda: (got := records(setup.vlogs, "crasher line")) and len(got) >= 60 and got)
    by_restart: dict[str, list[dict[str, Any]]] = {}
    for record in found:
        by_restart.setdefault(record["k8s.container.restart_count"], []).append(record)
    for number in ("0", "1", "2"):
        assert numbers(by_restart[number]) == Counter(range(20)), f"restart {number}"
    assert_named(found, "crasher")


def test_a_pod_that_runs_out_of_memory(setup: Setup) -> None:
    setup.cluster.apply(
        pod("hungry", "echo hungry line 0; x=aaaaaaaa; while true; do x=$x$x; done", resources={"limits": {"memory": "32Mi"}})
    )
    setup.cluster.wait_for(
        "OOMKilled",
        lambda: (
            setup.cluster.pods("work", "app=hungry")[0]["status"]["containerStatuses"][0]["state"]["terminated"]["reason"]
            == "OOMKilled"
        ),
    )
    found = setup.cluster.wait_for("its line", lambda: records(setup.vlogs, "hungry line"))
    assert numbers(found) == Counter([0])
    assert_named(found, "hungry")


def test_a_chatty_pod_through_rotations(setup: Setup) -> None:
    filler = "0123456789" * 8
    setup.cluster.apply(
        pod(
            "chatty",
            f"i=0; while [ $i -lt {CHATTY_LINES} ]; do echo {filler} chatty line $i; i=$((i+1)); "
            "[ $((i % 2000)) = 0 ] && sleep 1; done; sleep 1000",
        )
    )
    setup.cluster.wait_for("a compressed file", lambda: list(Path("/var/log/pods").glob("work_chatty_*/main/*.gz")), 120)
    found = setup.cluster.wait_for(
        "its last line",
        lambda: (
            records(setup.vlogs, f"chatty line {CHATTY_LINES - 1}")
            and (got := records(setup.vlogs, "chatty line"))
            and len(got) >= CHATTY_LINES
            and got
        ),
        120,
    )
    seen = numbers(found)
    assert len(seen) == CHATTY_LINES, f"lost: {sorted(set(range(CHATTY_LINES)) - set(seen))[:20]}"
    assert max(seen.values()) == 1, "doubled"
    assert_named(found[:100], "chatty")


def series(metrics: str, query: str) -> list[dict[str, Any]]:
    """Labels of the series a query finds."""
    found: list[dict[str, Any]] = get_json(metrics + "/api/v1/query", query=query)["data"]["result"]
    return [one["metric"] for one in found]


def test_series_of_the_kubelet_and_of_containers(setup: Setup) -> None:
    setup.cluster.apply(pod("idle", "sleep 1000"))
    found = setup.cluster.wait_for(
        "cAdvisor's series",
        lambda: series(
            setup.metrics, 'container_memory_working_set_bytes{job="integrations/kubernetes/cadvisor",pod="idle",container="main"}'
        ),
        90,
    )
    assert found[0]["namespace"] == "work"
    assert found[0]["instance"] == "node1"
    assert found[0]["clusterName"] == "testing"
    kubelet = setup.cluster.wait_for(
        "the kubelet's series", lambda: series(setup.metrics, 'kubelet_running_pods{job="integrations/kubernetes/kubelet"}'), 60
    )
    assert kubelet[0]["clusterName"] == "testing"
