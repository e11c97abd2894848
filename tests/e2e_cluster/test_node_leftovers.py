"""A real node that comes and goes leaves the machine as it was: also when everything in it was killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster, host, images
from tests.cluster.node import obstacles
from tests.cluster.record import Record, start_time

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

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "sleeper", "namespace": "default", "labels": {"app": "sleeper"}},
    "spec": {
        "containers": [
            {
                "name": "c",
                "image": images.BUSYBOX,
                "imagePullPolicy": "Never",
                "command": ["sleep", "1000"],
                "ports": [{"containerPort": 8080, "hostPort": 18080, "hostIP": "127.0.0.1"}],
            }
        ]
    },
}


def container_processes() -> set[int]:
    """Processes in a kubelet's or containerd's cgroups, and shims."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            groups, words = (entry / "cgroup").read_text(), (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if (b"containerd-shim" in words[0] or "/kubepods" in groups) and start_time(int(entry.name)) is not None:
            found.add(int(entry.name))
    return found


def test_a_node_comes_and_goes_twice(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    for killed in (False, True):
        cluster = Cluster(folder, kubelet=True)
        cluster.up(owned=True)
        try:
            cluster.apply(POD)
            cluster.wait_running("default", "app=sleeper")
            changed = {line.split(":")[0] for line in host.differences(Record(folder))}
            assert changed >= {"chains", "cgroups", "links", "sysctls", "folders", "mounted"}
            containers = container_processes()
            assert len(containers) >= 3
            if killed:
                for name in cluster.processes.names():
                    pid = cluster.processes.pid(name)
                    assert pid is not None, name
                    os.kill(pid, signal.SIGKILL)
        finally:
            other = Cluster(folder)  # as another process does it: from the record alone
            other.down()
        assert other.leftovers == []
        assert not container_processes() & containers
        assert not host.mounts_under(str(folder), str(cluster.node.runtime))
        assert not folder.exists()


def test_a_node_that_does_not_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "c", kubelet=True, kubelet_options={"evictionHard": {"nodefs.available": "nonsense"}})
    with pytest.raises(RuntimeError, match=r"kubelet has ended; .*kubelet\.log ends with") as error:
        cluster.up(owned=True)
    assert "quantities must match" in str(error.value)
    assert cluster.leftovers == []
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["logs"]
