"""The test cluster's real node: containers run, their logs are files, the kubelet answers, and nothing is left afterwards."""

from __future__ import annotations

import gzip
import re
import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster, agent, host, images
from tests.cluster.control_plane import NODE_ADDRESS
from tests.cluster.node import KUBELET_PORT, NODE, READ_ONLY_PORT, obstacles
from tests.support import servers
from tests.support.servers import get

pytestmark = [
    pytest.mark.server("kubelet"),
    pytest.mark.server("kube-apiserver"),
    pytest.mark.server("etcd"),
    pytest.mark.server("kubectl"),
    pytest.mark.server("kube-scheduler"),
    pytest.mark.server("kube-controller-manager"),
    pytest.mark.server("containerd"),
    pytest.mark.skipif(bool(obstacles()), reason="; ".join(obstacles())),
]

CRI_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d) (stdout|stderr) [FP] .*")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with a real node; the machine is as before when it has gone."""
    folder = Path(tmp_path_factory.mktemp("node")) / "c"
    with Cluster(folder, kubelet=True) as running:
        running.namespace("test")
        assert host.snapshot()["cgroups"], "pods run in cgroups of their own"
        yield running
    assert running.leftovers == []
    assert not host.mounts_under(str(folder), str(running.node.runtime))
    assert not running.node.runtime.exists()


def pod(name: str, script: str, **container: Any) -> dict[str, Any]:
    """A busybox pod that runs a shell script."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "test", "labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "restartPolicy": container.pop("restart", "Always"),
            "containers": [
                {"name": "c", "image": images.BUSYBOX, "imagePullPolicy": "Never", "command": ["sh", "-c", script], **container}
            ],
        },
    }


def log_files(name: str) -> list[Path]:
    """A test pod's log files, the current and rotated ones."""
    return sorted(Path("/var/log/pods").glob(f"test_{name}_*/c/*.log*"))


def test_a_pods_output_is_a_file_of_cri_lines(cluster: Cluster) -> None:
    cluster.apply(pod("talker", "i=0; while true; do echo line $i; echo err $i >&2; i=$((i+1)); sleep 1; done"))
    found = cluster.wait_running("test", "app=talker")[0]
    assert found["status"]["podIP"].startswith("10.245.0.")
    lines = cluster.wait_for(
        "lines in the log file", lambda: (text := log_files("talker")[0].read_text().split("\n")[:-1]) and len(text) >= 4 and text
    )
    assert all(CRI_LINE.fullmatch(line) for line in lines)
    assert any(line.endswith("stdout F line 0") for line in lines)
    assert any(" stderr F err " in line for line in lines)
    assert log_files("talker")[0].parts[-3] == f"test_talker_{found['metadata']['uid']}"
    links = [path for path in Path("/var/log/containers").iterdir() if path.name.startswith("talker_test_c-")]
    assert links[0].resolve() == log_files("talker")[0].resolve()
    assert "line 0" in cluster.kubectl("-n", "test", "logs", "talker")
    assert cluster.kubectl("-n", "test", "exec", "talker", "--", "hostname").strip() == "talker"


def test_the_kubelet_answers_with_a_service_accounts_token(cluster: Cluster) -> None:
    cluster.service_account(
        "test", "stats", [{"apiGroups": [""], "resources": ["nodes/metrics", "nodes/stats", "nodes/proxy"], "verbs": ["get"]}]
    )
    trust = ssl.create_default_context(cafile=cluster.ca)
    bearer = {"Authorization": f"Bearer {cluster.token('test', 'stats')}"}
    base = f"https://{NODE_ADDRESS}:{KUBELET_PORT}"
    for path in ("/metrics", "/metrics/cadvisor", "/metrics/resource", "/metrics/probes", "/stats/summary", "/pods"):
        status, body = get(base + path, context=trust, headers=bearer)
        assert status == 200, (path, body[:300])
    assert get(base + "/metrics", context=trust)[0] == 401
    cluster.service_account("test", "nobody")
    assert get(base + "/metrics", context=trust, headers={"Authorization": f"Bearer {cluster.token('test', 'nobody')}"})[0] == 403
    assert get(f"http://{NODE_ADDRESS}:{READ_ONLY_PORT}/stats/summary")[0] == 200
    cluster.apply(pod("idle", "sleep 1000"))
    cluster.wait_for(
        "the container in cAdvisor's page, through the API server's proxy",
        lambda: re.search(
            r'container_memory_working_set_bytes\{container="c",[^}]*pod="idle"',
            cluster.kubectl("get", "--raw", f"/api/v1/nodes/{NODE}/proxy/metrics/cadvisor"),
        ),
    )


def test_pods_crash_and_run_out_of_memory(cluster: Cluster) -> None:
    cluster.apply(
        pod("crasher", "echo going; exit 3"),
        pod("hungry", "x=aaaaaaaa; while true; do x=$x$x; done", resources={"limits": {"memory": "32Mi"}}, restart="Never"),
    )

    def state(name: str) -> dict[str, Any]:
        statuses = cluster.pods("test", f"app={name}")[0]["status"].get("containerStatuses", [{}])
        return statuses[0]  # type: ignore[no-any-return]

    cluster.wait_for("OOMKilled", lambda: state("hungry")["state"].get("terminated", {}).get("reason") == "OOMKilled")
    cluster.wait_for("CrashLoopBackOff", lambda: state("crasher")["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff")
    assert state("crasher")["lastState"]["terminated"]["exitCode"] == 3
    assert len(log_files("crasher")) >= 1


def test_a_chatty_pods_log_is_rotated_and_compressed(cluster: Cluster) -> None:
    cluster.apply(
        pod(
            "chatty",
            "i=0; while [ $i -lt 60000 ]; do echo $i 0123456789012345678901234567890123456789012345678901234567890123; "
            "i=$((i+1)); [ $((i % 2000)) = 0 ] && sleep 1; done; sleep 1000",
        )
    )
    packed = cluster.wait_for("a compressed log file", lambda: [path for path in log_files("chatty") if path.suffix == ".gz"], 90)
    with gzip.open(packed[0], "rt") as file:
        assert CRI_LINE.fullmatch(file.readline().rstrip("\n"))


def test_services_and_names_work(cluster: Cluster) -> None:
    cluster.apply(
        pod("web", "mkdir -p /tmp/w && echo hello > /tmp/w/index.html && exec httpd -f -p 8080 -h /tmp/w"),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": "test"},
            "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
        },
    )
    cluster.wait_running("test", "app=web")
    cluster.apply(pod("caller", "until wget -q -O - http://web.test.svc.cluster.local/; do sleep 1; done; sleep 1000"))
    cluster.wait_for(
        "an answer by name", lambda: cluster.kubectl("-n", "test", "logs", "caller", check=False).splitlines()[-1:] == ["hello"]
    )
    endpoints = cluster.api.get("/api/v1/namespaces/default/endpoints/kubernetes")["subsets"][0]
    assert endpoints["addresses"] == [{"ip": NODE_ADDRESS}]
    trust = ssl.create_default_context(cafile=cluster.ca)
    assert get(f"https://{NODE_ADDRESS}:{endpoints['ports'][0]['port']}/version", context=trust)[0] == 200


CONFIG = """
receivers:
  filelog: {include: [/var/log/pods/test_talker_*/*/*.log], start_at: beginning, include_file_path: true, operators: [{type: container}]}
exporters:
  debug: {verbosity: detailed}
service:
  pipelines:
    logs: {receivers: [filelog], exporters: [debug]}
  telemetry: {metrics: {level: none}}
"""


def test_the_agent_runs_as_a_pod(cluster: Cluster) -> None:
    cluster.apply(pod("talker", "i=0; while true; do echo line $i; echo err $i >&2; i=$((i+1)); sleep 1; done"))
    cluster.namespace("kof")
    cluster.apply(
        *agent.daemon_set("kof", ["run", "--config", "/conf/otel.yaml"], files={"otel.yaml": CONFIG}, rules=agent.NODE_RULES)
    )
    found = cluster.wait_running("kof", "app=kofagent")[0]
    name = found["metadata"]["name"]
    cluster.wait_for(
        "a talker's line in the agent's output", lambda: re.search(r"line \d+", cluster.kubectl("-n", "kof", "logs", name))
    )
    assert "CapEff:\t0000000000000000" in Path(f"/proc/{container_pid(found)}/status").read_text()
    assert memory_limit(found) == 128 << 20
    assert found["status"]["hostIP"] == NODE_ADDRESS


def container_pid(found: dict[str, Any]) -> int:
    """The process of a pod's first container on this machine."""
    uid = found["metadata"]["uid"]
    identity = found["status"]["containerStatuses"][0]["containerID"].split("//")[1]
    for file in Path("/sys/fs/cgroup").rglob("cgroup.procs"):
        if uid in str(file) and identity in str(file) and (pids := file.read_text().split()):
            return int(pids[0])
    raise AssertionError("the container has no process")


def memory_limit(found: dict[str, Any]) -> int:
    """The memory limit of the container's cgroup in bytes."""
    identity = found["status"]["containerStatuses"][0]["containerID"].split("//")[1]
    for name in ("memory.limit_in_bytes", "memory.max"):
        for file in Path("/sys/fs/cgroup").rglob(name):
            if identity in str(file):
                return int(file.read_text())
    raise AssertionError("the container has no memory cgroup")


def test_the_agents_image_runs(cluster: Cluster) -> None:
    cluster.import_agent()
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "image", "namespace": "test", "labels": {"app": "image"}},
            "spec": {
                "restartPolicy": "Never",
                "containers": [
                    {
                        "name": "c",
                        "image": images.AGENT,
                        "imagePullPolicy": "Never",
                        "args": ["components"],
                        "securityContext": {
                            "readOnlyRootFilesystem": True,
                            "runAsNonRoot": True,
                            "runAsUser": 10001,
                            "allowPrivilegeEscalation": False,
                            "capabilities": {"drop": ["ALL"]},
                        },
                        "resources": {"limits": {"memory": "128Mi"}},
                    }
                ],
            },
        }
    )
    phase = cluster.wait_for(
        "the pod's end",
        lambda: (
            cluster.pods("test", "app=image")[0]["status"]["phase"] in ("Succeeded", "Failed")
            and cluster.pods("test", "app=image")[0]["status"]["phase"]
        ),
    )
    output = cluster.kubectl("-n", "test", "logs", "image")
    assert phase == "Succeeded", output
    assert "filelog" in output


@pytest.mark.server("prometheus-node-exporter")
def test_an_image_of_one_program_runs(cluster: Cluster) -> None:
    tag = "registry.test/node-exporter:v1"
    cluster.import_program("prometheus-node-exporter", tag)
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "exporter", "namespace": "test", "labels": {"app": "exporter"}},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [
                    {"name": "c", "image": tag, "imagePullPolicy": "IfNotPresent", "args": ["--web.listen-address=:9100"]}
                ],
            },
        }
    )
    found = cluster.wait_running("test", "app=exporter")[0]
    page = cluster.wait_for("the exporter's page", lambda: get(f"http://{found['status']['podIP']}:9100/metrics")[1])
    assert b"node_cpu_seconds_total" in page


def test_an_image_of_a_folder_runs(cluster: Cluster, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    shutil.copy(servers.find("busybox") or "", root / "bin" / "busybox")
    (root / "bin" / "sh").symlink_to("busybox")
    cluster.import_image(
        images.of_folder(cluster.folder, "registry.test/folder:v1", root, entrypoint=["/bin/sh", "-c"], user="65532:65532")
    )
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "folder", "namespace": "test", "labels": {"app": "folder"}},
            "spec": {
                "restartPolicy": "Never",
                "containers": [
                    {
                        "name": "c",
                        "image": "registry.test/folder:v1",
                        "imagePullPolicy": "Never",
                        "args": ["busybox id -u; busybox stat -c %a /tmp"],
                    }
                ],
            },
        }
    )
    cluster.wait_for("the pod's end", lambda: cluster.pods("test", "app=folder")[0]["status"]["phase"] == "Succeeded")
    assert cluster.kubectl("-n", "test", "logs", "folder").split() == ["65532", "1777"]
