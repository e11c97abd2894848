"""200 nodes and 5000 pods: what agents discover and know of them, what it costs, and that nothing is left of what is gone.

Memory is resident memory of whole agents; figures are printed (`pytest -s`). The backend takes everything (bench.sink).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster
from tests.support.servers import find, free_port, get, wait_until

pytestmark = [
    pytest.mark.server("kube-apiserver"),
    pytest.mark.server("etcd"),
    pytest.mark.server("kwok"),
    pytest.mark.server("kube-controller-manager"),
    pytest.mark.server("kube-scheduler"),
]
NODES, PODS = 200, 5000
NODE = "fake-0000"
ROLES = ("pod", "node", "endpointslice")
NODE_LIMIT, CLUSTER_LIMIT = 128, 256
"""MiB that the chart gives the agents."""
PODS_LIMIT = 15
"""MiB that 5000 pods may cost."""
GROWTH, LEVEL = 10, 5
"""MiB by which memory may differ between looks at the same state: since the first rounds, and since caches of what has gone are full."""
Options = dict[str, Any]


class Process:
    """A running program: its CPU and memory."""

    def __init__(self, command: list[str], folder: Path, env: dict[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "log"
        self.name = Path(command[0]).name
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **(env or {})})

    def _mib(self, field: str) -> float:
        found = re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        assert found is not None
        return int(found[1]) / 1024

    @property
    def memory(self) -> float:
        """MiB resident now."""
        return self._mib("VmRSS")

    @property
    def peak(self) -> float:
        """The most that there ever was."""
        return self._mib("VmHWM")

    @property
    def cpu(self) -> float:
        """Seconds so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __str__(self) -> str:
        return f"{self.memory:.1f} MiB (peak {self.peak:.1f}), CPU {self.cpu:.2f} s"

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


class Agent(Process):
    """The agent with a configuration; `overlay` is laid over what `arguments` make."""

    def __init__(self, cluster: Cluster, folder: Path, overlay: Options, *arguments: str) -> None:
        folder.mkdir()
        self.port = free_port()
        overlay.setdefault("service", {})["telemetry"] = {"metrics": {"address": f"127.0.0.1:{self.port}"}}
        (folder / "overlay.yaml").write_text(json.dumps(overlay))
        super().__init__(
            [
                sys.executable,
                "-m",
                "kofagent",
                "run",
                *arguments,
                "--config",
                str(folder / "overlay.yaml"),
                "--kubeconfig",
                str(cluster.kubeconfig),
            ],
            folder,
            {"PYTHONDONTWRITEBYTECODE": "1"},
        )

    def metric(self, name: str, label: str = "") -> float:
        """The sum of a metric of the agent's own, of the lines that hold `label`."""
        page = get(f"http://127.0.0.1:{self.port}/metrics", timeout=30)[1].decode()
        return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(f"{name}{{") and label in line)

    def ready(self) -> Agent:
        wait_until(lambda: b"everything is ready" in self.log.read_bytes(), 60, "the agent")
        return self


def pause() -> bool:
    """For conditions that cost too much to be asked ten times a second."""
    time.sleep(0.5)
    return False


@contextmanager
def running(*processes: Process) -> Iterator[None]:
    try:
        yield
    finally:
        for process in processes:
            process.stop()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Every Deployment has a Service."""
    with Cluster(Path(tmp_path_factory.mktemp("scale")) / "c", fake_nodes=NODES, fake_pods=PODS) as cluster:
        path = "/api/v1/namespaces/fake/services"
        for number in range(NODES):
            cluster.api.request(
                "POST",
                path,
                {
                    "metadata": {"name": f"app-{number:03d}"},
                    "spec": {
                        "selector": {"app": f"app-{number:03d}"},
                        "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
                    },
                },
            )
        cluster.wait_for("the slices", lambda: endpoints(cluster) == PODS, 180)
        yield cluster


def endpoints(cluster: Cluster) -> int:
    found = cluster.api.get("/apis/discovery.k8s.io/v1/namespaces/fake/endpointslices?resourceVersion=0")["items"]
    return sum(len(piece.get("endpoints") or ()) for piece in found)


@pytest.fixture(scope="module")
def sink() -> Iterator[str]:
    """The URL of a backend that takes everything and counts requests."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.sink", str(port)], cwd=Path(__file__).parents[2])
    try:
        wait_until(lambda: get(f"http://127.0.0.1:{port}/")[0] == 200, 20)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


# -- discovery ------------------------------------------------------------------------------------------------------------------------


def jobs(**entry: str) -> list[Options]:
    return [{"job_name": role, "scrape_interval": "1h", "kubernetes_sd_configs": [{"role": role, **entry}]} for role in ROLES]


def scraper(cluster: Cluster, folder: Path, allocation: Options) -> tuple[Agent, str]:
    """An agent that discovers the roles, and the URL of its targets."""
    port = free_port()
    server = {"enabled": True, "server_config": {"endpoint": f"127.0.0.1:{port}"}}
    return Agent(
        cluster,
        folder,
        {
            "receivers": {"prometheus": {"config": {"scrape_configs": jobs()}, "allocation": allocation, "api_server": server}},
            "exporters": {"nop": {}},
            "service": {"pipelines": {"metrics": {"receivers": ["prometheus"], "exporters": ["nop"]}}},
        },
    ), f"http://127.0.0.1:{port}/api/v1/targets"


def targets(url: str, job: str) -> list[dict[str, str]]:
    """The labels discovery gave the targets of a job."""
    body = get(f"{url}?state=active&scrapePool={job}", timeout=120)[1]
    return [t["discoveredLabels"] for t in json.loads(body)["data"]["activeTargets"] if t["scrapePool"] == job]


def test_targets_of_a_node_and_of_none(cluster: Cluster, tmp_path: Path) -> None:
    expected = sum(pod["spec"]["nodeName"] == NODE for pod in cluster.pods("fake"))
    own, url = scraper(cluster, tmp_path / "node", {"strategy": "per-node", "node_name": NODE})
    nodeless, nodeless_url = scraper(cluster, tmp_path / "cluster", {"strategy": "without-node"})
    with running(own, nodeless):
        wait_until(lambda: len(targets(url, "pod")) == len(targets(url, "endpointslice")) == expected, 120, "the targets of a node")
        assert {t["__meta_kubernetes_pod_node_name"] for t in targets(url, "pod")} == {NODE}
        assert [t["__meta_kubernetes_node_name"] for t in targets(url, "node")] == [NODE]
        assert {t["__meta_kubernetes_endpointslice_endpoint_node_name"] for t in targets(url, "endpointslice")} == {NODE}
        assert not targets(nodeless_url, "pod") and not targets(nodeless_url, "node")
        assert not [t for t in targets(nodeless_url, "endpointslice") if "__meta_kubernetes_endpointslice_endpoint_node_name" in t]
        print(f"discovery: a node's targets {own}, those without a node {nodeless}")
        assert own.peak < NODE_LIMIT and nodeless.peak < NODE_LIMIT


@pytest.mark.server("prometheus3")
def test_all_targets_as_prometheus(cluster: Cluster, tmp_path: Path) -> None:
    def to_all(start: Callable[[], tuple[Process, str]]) -> dict[str, Counter[str]]:
        """Addresses by job, and prints what it took."""
        began = time.monotonic()
        process, url = start()
        with running(process):
            # asked for rarely and job by job: the whole answer is 30 MB
            wait_until(lambda: [len(targets(url, job)) for job in ROLES][0:2] == [PODS, NODES] or pause(), 120, "all targets")
            wait_until(lambda: len(targets(url, "endpointslice")) >= PODS or pause(), 60, "the targets of slices")
            print(f"{process.name}: all targets in {time.monotonic() - began:.1f} s, {process}")
            return {job: Counter(t["__address__"] for t in targets(url, job)) for job in ROLES}

    def prometheus() -> tuple[Process, str]:
        port, folder = free_port(), tmp_path / "prometheus"
        folder.mkdir()
        (folder / "p.yml").write_text(json.dumps({"scrape_configs": jobs(kubeconfig_file=str(cluster.kubeconfig))}))
        return Process(
            [
                str(find("prometheus3")),
                f"--config.file={folder}/p.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            folder,
        ), f"http://127.0.0.1:{port}/api/v1/targets"

    ours = to_all(lambda: scraper(cluster, tmp_path / "all", {"strategy": "all"}))
    theirs = to_all(prometheus)
    assert {job: found.total() for job, found in ours.items()} == {job: found.total() for job, found in theirs.items()}
    assert ours == theirs


# -- k8sattributes --------------------------------------------------------------------------------------------------------------------

ATTRIBUTES: dict[str, Options] = {
    "upstream's defaults": {},
    "KOF's": {
        "extract": {"metadata": ["k8s.node.name"]},
        "pod_association": [{"sources": [{"from": "resource_attribute", "name": "k8s.pod.uid"}]}],
    },
    "much": {
        "extract": {
            "metadata": [
                "k8s.namespace.name",
                "k8s.pod.name",
                "k8s.pod.uid",
                "k8s.pod.ip",
                "k8s.deployment.name",
                "k8s.deployment.uid",
                "k8s.replicaset.uid",
                "k8s.node.name",
                "k8s.node.uid",
                "k8s.pod.start_time",
                "container.id",
                "container.image.name",
                "container.image.tag",
                "service.name",
            ],
            "labels": [{"tag_name": "$1", "key_regex": "(.*)"}],
            "annotations": [{"tag_name": "$1", "key_regex": "(.*)"}],
        },
        "pod_association": [
            {"sources": [{"from": "resource_attribute", "name": "k8s.pod.uid"}]},
            {"sources": [{"from": "connection"}]},
        ],
    },
}


def gateway(cluster: Cluster, folder: Path, attributes: Options | None) -> Agent:
    """An agent that takes OTLP of the whole cluster."""
    processors = {} if attributes is None else {"k8sattributes": attributes}
    http = {"protocols": {"http": {"endpoint": f"127.0.0.1:{free_port()}"}}}
    return Agent(
        cluster,
        folder,
        {
            "receivers": {"otlp": http},
            "processors": processors,
            "exporters": {"nop": {}},
            "service": {"pipelines": {"logs": {"receivers": ["otlp"], "processors": list(processors), "exporters": ["nop"]}}},
        },
    )


def known(agent: Agent) -> int:
    return int(agent.metric("otelcol_k8s_watcher_pod_cache_size"))


def test_what_5000_pods_cost(cluster: Cluster, tmp_path: Path) -> None:
    without = gateway(cluster, tmp_path / "without", None).ready()
    with running(without):
        wait_until(lambda: without.metric("otelcol_process_uptime_seconds_total") >= 0, 30)
        base, base_peak = without.memory, without.peak
    for number, (name, options) in enumerate(ATTRIBUTES.items()):
        agent = gateway(cluster, tmp_path / str(number), options)
        with running(agent):
            wait_until(lambda: known(agent) >= PODS, 120, "all pods known")  # noqa: B023 - called here only
            cost, peak = agent.memory - base, agent.peak - base_peak
            print(f"k8sattributes, {name}: {cost:.1f} MiB more than without it (peak {peak:.1f}), CPU {agent.cpu:.2f} s")
            assert cost < PODS_LIMIT and peak < PODS_LIMIT


# -- whole agents ---------------------------------------------------------------------------------------------------------------------


def kof(cluster: Cluster, folder: Path, role: str, sink: str) -> Agent:
    """KOF 0.3.0's defaults for a role, with what the chart lays over them."""
    folder.mkdir()
    (folder / "values.yaml").write_text(
        json.dumps(
            {
                "global": {"clusterName": "c1", "clusterLabel": "cluster"},
                "collectors": {"node": {}, "k8scluster": {}},
                "kof": {
                    "basic_auth": False,
                    "metrics": {"endpoint": f"{sink}/api/v1/write"},
                    "logs": {"endpoint": f"{sink}/logs"},
                    "traces": {"endpoint": sink},
                },
            }
        )
    )
    monitors = {"enabled": True, "scrape_interval": "10s"}

    def free() -> Options:
        return {"endpoint": f"127.0.0.1:{free_port()}"}

    overlay: Options
    if role == "node":
        overlay = {
            "receivers": {
                "otlp": {"protocols": {"grpc": free(), "http": free()}},
                "prometheus": {
                    "monitors": monitors,
                    "allocation": {"strategy": "per-node", "node_name": NODE},
                    "api_server": {"server_config": free()},
                },
            },
            "processors": {"k8sattributes": {"filter": {"node": NODE}, "pod_delete_grace_period": "2s"}},
        }
    else:
        overlay = {
            "receivers": {"prometheus/kofagent-nodeless": {"monitors": monitors, "allocation": {"strategy": "without-node"}}},
            "service": {
                "pipelines": {
                    "metrics/kofagent": {
                        "receivers": ["prometheus/kofagent-nodeless"],
                        "processors": ["batch"],
                        "exporters": ["prometheusremotewrite"],
                    }
                }
            },
        }
    return Agent(cluster, folder / "agent", overlay, "--values", str(folder / "values.yaml"), "--role", role)


def points(agent: Agent) -> float:
    return agent.metric("otelcol_receiver_accepted_metric_points_total", 'receiver="k8s_cluster"')


def points_of_a_round(agent: Agent) -> int:
    """How many points k8s_cluster sends each time."""
    ends: list[float] = []
    seen, since = points(agent), time.monotonic()
    deadline = since + 90
    while len(ends) < 2:
        assert time.monotonic() < deadline, "no two rounds"
        time.sleep(0.5)
        now = points(agent)
        if now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > 4 and seen not in ends:  # rounds are 10 s apart and take less than one
            ends.append(seen)
    return int(ends[1] - ends[0])


def replace(cluster: Cluster, first: int, count: int) -> None:
    """Deletes all pods of some Deployments, and waits for those that come in their place."""
    names = [f"app-{number % NODES:03d}" for number in range(first, first + count)]
    path = "/api/v1/namespaces/fake/pods?labelSelector=app"

    def pods() -> dict[str, bool]:
        """Which of them run, by uid. Not which are ready: nodes may be late with their leases while the API server restarts."""
        return {
            pod["metadata"]["uid"]: bool(pod["status"].get("podIP"))
            for pod in cluster.api.get(f"{path}%20in%20({','.join(names)})")["items"]
        }

    before = pods()
    for name in names:
        cluster.api.call("DELETE", f"{path}%3D{name}")

    def replaced() -> bool:
        now = pods()
        return len(now) == len(before) and all(now.values()) and now.keys().isdisjoint(before)

    cluster.wait_for("new pods", lambda: replaced() or pause(), 240)


def test_whole_agents_while_everything_changes(cluster: Cluster, tmp_path: Path, sink: str) -> None:
    """1000 pods are replaced; then ten times all watches expire and some pods are replaced: nothing grows, nothing is left."""
    names = ("node", "k8scluster", "gateway")
    agents = [
        kof(cluster, tmp_path / "n", "node", sink),
        kof(cluster, tmp_path / "k", "k8scluster", sink),
        gateway(cluster, tmp_path / "g", {"pod_delete_grace_period": "2s"}),
    ]
    node, whole, all_pods = agents
    history: list[list[float]] = []

    def there() -> tuple[int, int]:
        """The pods of the node and all."""
        page = cluster.api.get("/api/v1/pods?limit=1")
        on_node = cluster.api.get(f"/api/v1/pods?fieldSelector=spec.nodeName={NODE}")["items"]
        return len(on_node), 1 + page["metadata"].get("remainingItemCount", 0)

    def settled() -> None:
        wait_until(lambda: (known(node), known(all_pods)) == there() or pause(), 120, "pods known as they are")
        history.append([agent.memory for agent in agents])
        print("memory:", ", ".join(f"{name} {agent}" for name, agent in zip(names, agents, strict=True)), flush=True)

    with running(*agents):
        settled()
        before = points_of_a_round(whole)
        for turn in range(11):
            if turn:
                cluster.expire()
            replace(cluster, turn, 1 if turn else 40)
            settled()
        fresh = kof(cluster, tmp_path / "f", "k8scluster", sink)
        with running(fresh):
            wait_until(lambda: points(fresh) > before / 2, 60, "a round of a new agent")
            assert points_of_a_round(whole) == points_of_a_round(fresh), "what it holds is not what is there"
        print(
            f"k8s_cluster: {before} points a round; peaks:",
            ", ".join(f"{n} {a.peak:.1f} MiB" for n, a in zip(names, agents, strict=True)),
        )
        for name, *memory in zip(names, *history, strict=True):
            assert max(memory[8:]) <= max(memory[4:8]) + LEVEL, f"{name} does not level off: {memory}"
            assert max(memory[4:]) <= max(memory[:4]) + GROWTH, f"{name} grows: {memory}"
        assert node.peak < NODE_LIMIT and whole.peak < CLUSTER_LIMIT
        for agent in agents:
            assert b"Traceback" not in agent.log.read_bytes()


@pytest.mark.server("otelcol-k8s")
def test_k8s_cluster_beside_a_go_collector(cluster: Cluster, tmp_path: Path, sink: str) -> None:
    """CPU of the first list and of a minute in which nothing happens, five rounds of metrics; the same points from both."""
    receiver = {
        "auth_type": "kubeConfig",
        "collection_interval": "10s",
        "allocatable_types_to_report": ["cpu", "memory", "storage"],
        "node_conditions_to_report": ["Ready", "MemoryPressure", "DiskPressure", "NetworkUnavailable"],
    }
    config: Options = {
        "receivers": {"k8s_cluster": receiver},
        "exporters": {"otlphttp": {"endpoint": sink}},
        "service": {"pipelines": {"metrics": {"receivers": ["k8s_cluster"], "exporters": ["otlphttp"]}}},
    }
    (tmp_path / "go.yaml").write_text(
        json.dumps({**config, "service": {**config["service"], "telemetry": {"metrics": {"level": "none"}}}})
    )

    def requests() -> int:
        return int(get(sink)[1].split()[0])

    def measured(process: Process) -> tuple[float, float]:
        start = requests()
        with running(process):
            wait_until(lambda: requests() > start or pause(), 120, "the first metrics")
            time.sleep(5)  # the rest of the round
            first = process.cpu
            time.sleep(60)
            idle = process.cpu - first
            print(
                f"{process.name}: to the first metrics {first:.2f} s of CPU ({first / PODS * 1e6:.0f} us a pod), "
                f"a quiet minute {idle:.2f} s; {process}"
            )
            return idle, process.memory

    ours = measured(Agent(cluster, tmp_path / "ours", config))
    theirs = measured(
        Process(
            [str(find("otelcol-k8s")), "--config", str(tmp_path / "go.yaml")],
            tmp_path / "go",
            {"KUBECONFIG": str(cluster.kubeconfig)},
        )
    )
    print(f"a quiet minute: {theirs[0] / ours[0]:.1f} times less CPU than the Go collector")
    assert ours[0] < theirs[0] and ours[1] < theirs[1]
