"""On a real cluster, with a real node: the containers of the chart's agents are killed, and the cluster agent's pod is replaced.

The volume of a pod outlives the container, a PersistentVolumeClaim outlives the pod: no event of the cluster and no line of a pod is
lost, and only a kill -9 may bring the last batch again.
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from kofagent.kubernetes.changes import BATCH_RECORDS
from tests.cluster import Cluster, images
from tests.cluster.control_plane import NODE_ADDRESS
from tests.cluster.node import obstacles
from tests.e2e_cluster.event_writer import Writer
from tests.helm.chart import CLUSTER, NODE, template
from tests.support.servers import Server, find, free_port, get, wait_until

pytestmark = [
    *(
        pytest.mark.server(name)
        for name in (
            "helm",
            "kubelet",
            "kube-apiserver",
            "etcd",
            "kubectl",
            "kube-scheduler",
            "kube-controller-manager",
            "containerd",
            "victoria-logs",
        )
    ),
    pytest.mark.skipif(bool(obstacles()), reason="; ".join(obstacles())),
]
ENOUGH = 15


class World:
    """A node, its control plane, and a storage of logs on the node's address."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self._folder = folder
        port = free_port()
        program = find("victoria-logs")
        assert program is not None
        self.logs = f"http://{NODE_ADDRESS}:{port}"
        self.server = Server(
            "victoria-logs",
            [program, f"-storageDataPath={folder}/vl", f"-httpListenAddr={NODE_ADDRESS}:{port}"],
            folder,
            lambda: get(self.logs + "/health")[0] == 200,
        )

    def install(self, **agent: Any) -> None:
        """The chart, with these values of `kofagent.k8scluster`. Metrics go nowhere: the storage of logs refuses them."""
        values = {
            "global": {"imageRegistry": "localhost"},
            "kof": {
                "metrics": {"endpoint": f"{self.logs}/none"},
                "logs": {"endpoint": f"{self.logs}/insert/opentelemetry/v1/logs"},
                "traces": {"endpoint": f"{self.logs}/none"},
            },
            "kofagent": {"image": {"pullPolicy": "Never"}, "k8scluster": agent},
            "prometheus-node-exporter": {"enabled": False},
            "kube-state-metrics": {"enabled": False},
            "opencost": {"enabled": False},
        }
        self.cluster.kubectl("apply", "-f", "-", text=template(values=values, folder=self._folder).text)
        self.rolled_out()

    def rolled_out(self) -> None:
        """Waits until the new pod has taken the old one's place."""
        self.cluster.kubectl("-n", "kof", "rollout", "status", f"deployment/{CLUSTER}", "--timeout=120s")

    def container(self, agent: str = CLUSTER) -> dict[str, Any]:
        """The status of an agent's container, which runs."""
        pod = self.cluster.wait_running("kof", f"app.kubernetes.io/name={agent}", seconds=120)[0]
        status: dict[str, Any] = pod["status"]["containerStatuses"][0]
        return status

    def signal(self, number: int, agent: str = CLUSTER) -> None:
        """Sends a signal to an agent in its container, and waits until the kubelet has started another one."""
        status = self.container(agent)
        os.kill(process_of(status["containerID"].removeprefix("containerd://")), number)
        wait_until(lambda: self.container(agent)["restartCount"] > status["restartCount"], 90, "the container starts again")

    def lines(self, pod: str) -> Counter[str]:
        """How often each line of a pod is in storage."""
        query = urlencode({"query": f'k8s.pod.name:"{pod}" | fields _msg'})
        return Counter(
            [json.loads(line)["_msg"] for line in get(f"{self.logs}/select/logsql/query?{query}", timeout=60)[1].splitlines()]
        )

    def more_lines(self, pod: str, count: int) -> bool:
        """Whether there are more lines of a pod than before."""
        return len(self.lines(pod)) > count + ENOUGH

    def got(self, name: str = "*") -> Counter[str]:
        """How often each event (or this one) is in storage."""
        value = name if name == "*" else f'"{name}"'
        query = urlencode({"query": f"k8s.event.name:{value} | fields k8s.event.name"})
        lines = get(f"{self.logs}/select/logsql/query?{query}", timeout=60)[1].splitlines()
        return Counter([json.loads(line)["k8s.event.name"] for line in lines])

    def flows(self, writer: Writer) -> None:
        """Waits until an event that is written from now on is in storage, and some more are written."""
        written = len(writer.written)
        wait_until(lambda: len(writer.written) > written + ENOUGH, 60, "the stream of events")
        wait_until(lambda: self.got(writer.written[written + 1]), 120, "a new event in storage")


def process_of(container: str) -> int:
    """The id of a container's first process on this machine."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            if container in (folder / "cgroup").read_text():
                inside = (folder / "status").read_text().partition("NSpid:")[2].splitlines()[0].split()
                found += [int(folder.name)] if inside[-1] == "1" else []
    assert len(found) == 1, found
    return found[0]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("restarts")
    with Cluster(folder / "c", kubelet=True) as cluster:
        world = World(cluster, folder)
        try:
            cluster.import_agent("localhost/kofagent:0.1.0")
            cluster.kubectl("create", "namespace", "kof")
            cluster.kubectl(
                "-n",
                "kof",
                "create",
                "secret",
                "generic",
                "storage-vmuser-credentials",
                "--from-literal=username=agent",
                "--from-literal=password=s3cret-of-the-storage",
            )
            yield world
        finally:
            world.server.stop()


def arrived(world: World, writer: Writer, first: int = 0) -> list[int]:
    """Waits for everything that was written from `first` on; numbers of the events that came more than once."""
    wait_until(lambda: set(writer.written[first:]) <= set(world.got()), 60, "all events in storage")
    got = world.got()
    return [i for i, name in enumerate(writer.written) if got[name] > 1]


def test_no_event_is_lost_when_the_container_restarts(world: World) -> None:
    world.install()
    with Writer(world.cluster, pause=0.02) as writer:
        world.flows(writer)
        world.signal(signal.SIGKILL)
        world.flows(writer)
        writer.stop()
        twice = arrived(world, writer)
    print(f"{len(writer.written)} events, {len(twice)} twice")
    assert len(twice) <= BATCH_RECORDS
    assert twice == list(range(twice[0], twice[-1] + 1)) if twice else True, "in one piece"

    with Writer(world.cluster, pause=0.02) as writer:
        world.flows(writer)
        world.signal(signal.SIGTERM)
        world.flows(writer)
        writer.stop()
        assert arrived(world, writer) == [], "twice"


def test_no_line_is_lost_when_the_nodes_container_restarts(world: World) -> None:
    world.container(NODE)
    world.cluster.namespace("apps")
    world.cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "talker", "namespace": "apps"},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [
                    {
                        "name": "c",
                        "image": images.BUSYBOX,
                        "imagePullPolicy": "Never",
                        "command": [
                            "sh",
                            "-c",
                            "i=0; until [ -e /stop ]; do echo line-$i; i=$((i+1)); sleep 0.02; done; echo end-$i; sleep 600",
                        ],
                    }
                ],
            },
        }
    )
    wait_until(lambda: world.lines("talker"), 60, "lines in storage")
    for number in (signal.SIGKILL, signal.SIGTERM):
        world.signal(number, NODE)
        wait_until(partial(world.more_lines, "talker", len(world.lines("talker"))), 60, "lines in storage")
    world.cluster.kubectl("-n", "apps", "exec", "talker", "--", "touch", "/stop")

    def last() -> int:
        ends = [line for line in world.lines("talker") if line.startswith("end-")]
        return int(ends[0].removeprefix("end-")) if ends else 0

    count = wait_until(last, 60, "the last line in storage")
    wait_until(lambda: {f"line-{i}" for i in range(count)} <= set(world.lines("talker")), 30, "all lines in storage")
    got = world.lines("talker")
    twice = [i for i in range(count) if got[f"line-{i}"] > 1]
    print(f"{count} lines, {len(twice)} twice")
    assert twice == list(range(twice[0], twice[-1] + 1)) if twice else True, "in one piece, at the kill -9"


def test_no_event_is_lost_when_the_pod_is_replaced(world: World, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    place.chmod(0o777)  # volumes of hostPath do not get the pod's fsGroup
    claim = {"kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": "kof", "name": CLUSTER}
    world.cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": "place"},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce"],
                "claimRef": claim,
                "hostPath": {"path": str(place)},
            },
        }
    )
    world.install(persistence={"enabled": True, "storageClass": "-"})
    before = world.container()["containerID"]
    with Writer(world.cluster, pause=0.02) as writer:
        world.flows(writer)
        world.cluster.kubectl("-n", "kof", "rollout", "restart", f"deployment/{CLUSTER}")
        world.rolled_out()
        assert world.container()["containerID"] != before
        world.flows(writer)
        writer.stop()
        assert arrived(world, writer) == [], "twice"
    assert [path.name for path in place.glob("receiver_*_")] == ["receiver_k8s_events_"]
