"""Every event of a cluster reaches storage, whatever restarts: the agent with the files that the chart renders for it.

A stream of events is written while etcd is compacted, the API server and etcd restart, tokens rotate and are revoked, and the agent
is stopped and started: each event is in VictoriaLogs once. The contract of a kill -9: nothing is lost, and what comes twice is what
was under way between agent and storage, at most one batch of `kofagent.kubernetes.changes` and in one piece.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlencode

import pytest
import yaml

from kofagent.kubernetes.changes import BATCH_RECORDS
from tests.cluster import Cluster
from tests.e2e_cluster.event_writer import Writer
from tests.helm.chart import CHECKOUT, CLUSTER, Release, template
from tests.support.servers import Server, free_port, get, victoria_logs, victoria_metrics, wait_until

pytestmark = [
    pytest.mark.server(name) for name in ("kube-apiserver", "etcd", "kubectl", "helm", "victoria-logs", "victoria-metrics")
]
MAIN = """
import sys
from kofagent.kubernetes import access
from kofagent.cli.main import main
access.SERVICE_ACCOUNT = sys.argv[1]
sys.exit(main(sys.argv[2:]))
"""
"""The agent where /var/run/secrets/kubernetes.io/serviceaccount is elsewhere."""
ENOUGH = 15
"""Events to wait for when one more must have come."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(Path(tmp_path_factory.mktemp("restarts")) / "c", controllers=False, scheduler=False) as running:
        running.namespace("kof")
        yield running


class Tokens:
    """The token of the chart's account where the kubelet would mount it. Each lives as long as a Secret it is bound to."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster = cluster
        self.folder = cluster.mounted_token(folder, "kof", CLUSTER)
        self._secret = ""

    def rotate(self) -> str:
        """Another token takes the place of the one before; the Secret that `revoke` takes to make it void."""
        secret = f"token-{time.time_ns()}"
        made = self._cluster.api.call("POST", "/api/v1/namespaces/kof/secrets", {"metadata": {"name": secret}})
        bound = {"kind": "Secret", "apiVersion": "v1", "name": secret, "uid": made["metadata"]["uid"]}
        answer = self._cluster.api.call(
            "POST",
            f"/api/v1/namespaces/kof/serviceaccounts/{CLUSTER}/token",
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {"boundObjectRef": bound, "expirationSeconds": 3600},
            },
        )
        part = self.folder / "token.part"
        part.write_text(answer["status"]["token"])
        part.replace(self.folder / "token")
        return secret

    def revoke(self, secret: str) -> None:
        """Makes a token void; the API server restarts, so that no watch goes on with what it was opened with."""
        self._cluster.api.call("DELETE", f"/api/v1/namespaces/kof/secrets/{secret}")
        self._cluster.restart("kube-apiserver")


class World:
    """The chart's cluster agent as a process, and the storage it sends to."""

    def __init__(self, cluster: Cluster, folder: Path, generation: str) -> None:
        self.cluster = cluster
        self._metrics, metrics = victoria_metrics(folder)
        self._logs, self.logs = victoria_logs(folder)
        values = {
            "kof": {
                "metrics": {"endpoint": f"{metrics}/api/v1/write"},
                "logs": {"endpoint": f"{self.logs}/insert/opentelemetry/v1/logs"},
            },
            "kofagent": {"generation": generation},
        }
        release = template(values=values, folder=folder)
        cluster.apply(*[o for o in release.objects if o["kind"] in ("ServiceAccount", "ClusterRole", "ClusterRoleBinding")])
        self.tokens = Tokens(cluster, folder / "account")
        self.token = self.tokens.rotate()
        self._start(folder, release, generation)

    def _start(self, folder: Path, release: Release, generation: str) -> None:
        for name, text in release.get("ConfigMap", CLUSTER)["data"].items():
            (folder / name).write_text(text)
        state = folder / "state"
        state.mkdir()
        self._places = state / ("receiver_k8sobjects_" if generation == "0.1.1" else "receiver_k8s_events_")
        arguments = [a.replace("/etc/kofagent/values", str(folder)) for a in release.container("k8scluster")["args"]]
        # the pod has these to itself
        arguments.append(f"--config=yaml:extensions::file_storage/kofagent::directory: {state}")
        self._command = [sys.executable, "-c", MAIN, str(self.tokens.folder), *arguments]
        receivers = yaml.safe_load((folder / "pod.yaml").read_text())["receivers"]
        self._listen = [
            "service::telemetry::metrics::address",
            *(f"receivers::{id}::api_server::server_config::endpoint" for id, each in receivers.items() if "api_server" in each),
        ]
        host, port = self.cluster.url.removeprefix("https://").split(":")
        self._environment = {
            "KUBERNETES_SERVICE_HOST": host,
            "KUBERNETES_SERVICE_PORT": port,
            "PYTHONPATH": str(CHECKOUT),
            **{e["name"]: "x" for e in release.container("k8scluster")["env"]},
        }
        self._folder = folder
        self._read = 0
        self.agent = self._agent(self._ready)

    def _agent(self, ready: Callable[[], bool]) -> Server:
        ports = [f"--config=yaml:{option}: 127.0.0.1:{free_port()}" for option in self._listen]
        return Server("kofagent", [*self._command, *ports], self._folder, ready, env=self._environment)

    def _ready(self) -> bool:
        return b"everything is ready" in (self._folder / "kofagent.log").read_bytes()[self._read :]

    def again(self) -> None:
        """Starts the agent that was stopped or killed."""
        self._read = len(self.agent.log.read_bytes())
        self.agent.restart()

    def replace(self) -> None:
        """Starts another agent on the same state; the old one is stopped when the new one wants its place."""
        old, self._read = self.agent, len(self.agent.log.read_bytes())

        def ready() -> bool:
            if old.process.poll() is None and len(users(self._places)) > 1:
                old.process.terminate()
            return self._ready()

        self.agent = self._agent(ready)
        assert old.stop() == 0

    def close(self) -> None:
        for server in (self.agent, self._logs, self._metrics):
            server.stop()

    def said(self, text: str) -> bool:
        """Whether the agent has printed this."""
        return text in self.agent.output()

    def got(self, name: str = "*") -> Counter[str]:
        """How often each event (or this one) is in storage."""
        value = name if name == "*" else f'"{name}"'
        # k8s_events calls it one way, k8sobjects the other
        query = urlencode({"query": f"k8s.event.name:{value} or event.name:{value} | fields k8s.event.name, event.name"})
        lines = map(json.loads, get(f"{self.logs}/select/logsql/query?{query}", timeout=60)[1].splitlines())
        return Counter([line.get("k8s.event.name") or line["event.name"] for line in lines])

    def flows(self, writer: Writer) -> None:
        """Waits until an event that is written from now on is in storage, and some more are."""
        written = len(writer.written)
        wait_until(lambda: len(writer.written) > written + ENOUGH, 120, "the stream of events")
        name = writer.written[written + 1]
        wait_until(lambda: self.got(name), 120, f"{name} in storage")


def users(path: Path) -> set[str]:
    """Ids of the processes that have a file open."""
    out = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if os.readlink(link) == str(path):
                out.add(link.parts[2])
    return out


@pytest.fixture(params=["0.3.0", "0.1.1"])
def world(request: pytest.FixtureRequest, cluster: Cluster, tmp_path: Path) -> Iterator[World]:
    with closing(World(cluster, tmp_path, request.param)) as running:
        yield running


def test_every_event_arrives_once(world: World) -> None:
    cluster = world.cluster
    with Writer(cluster, pause=0.01) as writer:
        wait_until(world.got, 60, "the first event in storage")

        # what the agent has not read yet is compacted away, and the API server's cache with it
        cluster.expire()
        world.flows(writer)
        cluster.restart("kube-apiserver")
        world.flows(writer)
        cluster.restart("etcd")
        world.flows(writer)

        void, world.token = world.token, world.tokens.rotate()
        world.tokens.revoke(void)
        world.flows(writer)
        assert not world.said("does not accept the agent's credentials")
        world.tokens.revoke(world.token)
        wait_until(lambda: world.said("does not accept the agent's credentials"), 60, "401")
        world.token = world.tokens.rotate()
        world.flows(writer)

        assert world.agent.stop() == 0
        missed = len(writer.written)
        wait_until(lambda: len(writer.written) > missed + ENOUGH, 60, "events while nobody looks")
        world.again()
        world.flows(writer)
        world.replace()
        world.flows(writer)
        assert world.agent.stop() == 0
        missed = len(writer.written)
        wait_until(lambda: len(writer.written) > missed + ENOUGH, 60, "events while nobody looks")
        cluster.expire()
        world.again()
        world.flows(writer)
        writer.stop()
        written = since_the_first(world, writer)
        wait_until(lambda: set(written) <= set(world.got()), 60, "all events in storage")
    got = settled(world)
    assert [name for name, count in got.items() if count > 1] == [], "twice"
    assert len(written) > 300

    with Writer(cluster, pause=0.002) as writer:
        for _ in range(3):
            world.flows(writer)
            world.agent.kill()
            world.again()
        world.flows(writer)
        writer.stop()
        wait_until(lambda: set(writer.written) <= set(world.got()), 60, "all events in storage")
    got = settled(world)
    twice = [i for i, name in enumerate(writer.written) if got[name] > 1]
    assert max(got.values()) <= 2
    pieces = [i for i in twice if i - 1 not in twice]
    print(f"{len(written)} events; then {len(writer.written)} with 3 kills, {len(twice)} twice")
    assert len(pieces) <= 3, "in one piece for each kill"
    assert len(twice) <= 3 * BATCH_RECORDS


def since_the_first(world: World, writer: Writer) -> list[str]:
    """What was written since the agent began to look; k8sobjects begins with what comes after its start."""
    got = world.got()
    first = next(i for i, name in enumerate(writer.written) if name in got)
    assert first < 100
    return writer.written[first:]


def settled(world: World) -> Counter[str]:
    """What is in storage when nothing comes any more: the agent has sent all it had when it stopped."""
    assert world.agent.stop() == 0
    got = world.got()
    world.again()
    return got
