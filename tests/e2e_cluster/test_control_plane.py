"""The test cluster itself: a real control plane, its users, its 410s."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster import Cluster, record
from tests.cluster.api import ApiError
from tests.cluster.record import Record, start_time
from tests.support.servers import wait_until

pytestmark = [pytest.mark.server("kube-apiserver"), pytest.mark.server("etcd"), pytest.mark.server("kubectl")]


def processes_in(folder: Path) -> list[int]:
    """Processes that have this folder on their command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in words and int(entry.name) != os.getpid() and start_time(int(entry.name)) is not None:
            found.append(int(entry.name))
    return found


def test_twice_up_and_down_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    for _ in range(2):
        with Cluster(folder, controllers=False, scheduler=False) as cluster:
            assert cluster.api.get("/api/v1/namespaces/default")["metadata"]["name"] == "default"
            assert len(processes_in(folder)) == 2
        assert not processes_in(folder)
        assert not folder.exists()
        assert folder not in [known.folder for known in Record.all()]


def test_what_a_killed_process_left_is_found_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = tmp_path / "registry"  # of its own: any other start of a cluster would remove what is left here
    monkeypatch.setattr(record, "REGISTRY", registry)
    folder = tmp_path / "c"
    program = (
        f"from pathlib import Path\nfrom tests.cluster import Cluster\nimport time\n"
        f"with Cluster(Path({str(folder)!r}), controllers=False, scheduler=False):\n    print('up', flush=True)\n    time.sleep(600)\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "KOFAGENT_CLUSTERS": str(registry)},
    )
    assert owner.stdout is not None
    for line in owner.stdout:
        if line.strip() == "up":
            break
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    assert len(processes_in(folder)) == 2
    assert [known.abandoned for known in Record.all() if known.folder == folder] == [True]
    assert Cluster.sweep() == 1
    wait_until(lambda: not processes_in(folder), 10, "the processes gone")
    assert not folder.exists()


def test_a_folder_with_other_files_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("data")
    with pytest.raises(RuntimeError, match="not empty"):
        Cluster(tmp_path).up()
    assert (tmp_path / "mine").read_text() == "data"
    assert not Record(tmp_path).exists


def test_a_service_account_may_do_what_its_rules_say(control_plane: Cluster, tmp_path: Path) -> None:
    control_plane.namespace("accounts")
    control_plane.service_account(
        "accounts", "reader", [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]
    )
    kubeconfig = control_plane.kubeconfig_of("accounts", "reader")
    assert "No resources" in control_plane.kubectl("--kubeconfig", str(kubeconfig), "get", "pods", "-A", check=False)
    assert "forbidden" in control_plane.kubectl("--kubeconfig", str(kubeconfig), "get", "secrets", check=False)
    mounted = control_plane.mounted_token(tmp_path / "sa", "accounts", "reader")
    assert (mounted / "namespace").read_text() == "accounts"
    control_plane.kubectl("-n", "accounts", "delete", "serviceaccount", "reader")
    wait_until(
        lambda: (
            "Unauthorized" in control_plane.kubectl("--kubeconfig", str(kubeconfig), "get", "pods", check=False)
            or "logged in" in control_plane.kubectl("--kubeconfig", str(kubeconfig), "get", "pods", check=False)
        ),
        30,
        "the token is void",
    )


def test_controllers_make_pods_of_a_deployment(control_plane: Cluster) -> None:
    control_plane.namespace("apps")
    control_plane.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "apps"},
            "spec": {
                "replicas": 3,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "c", "image": "none.test/web"}]},
                },
            },
        }
    )
    control_plane.wait_for("three pods", lambda: len(control_plane.pods("apps", "app=web")) == 3)
    events = control_plane.wait_for(
        "a scheduling event",
        lambda: [
            event
            for event in control_plane.api.get("/api/v1/namespaces/apps/events")["items"]
            if event["reason"] == "FailedScheduling"
        ],
    )
    assert "no nodes available" in events[0]["message"]


def test_expire_makes_old_versions_answer_410(control_plane: Cluster) -> None:
    api = control_plane.api
    control_plane.namespace("expire")
    for number in range(5):
        api.call("POST", "/api/v1/namespaces/expire/configmaps", {"metadata": {"name": f"m{number}"}})
    page = api.get("/api/v1/namespaces/expire/configmaps?limit=2")
    version, token = page["metadata"]["resourceVersion"], page["metadata"]["continue"]
    for number in range(5):
        api.patch(f"/api/v1/namespaces/expire/configmaps/m{number}", {"data": {"a": "b"}})
    control_plane.expire()
    with pytest.raises(ApiError) as error:
        api.get(f"/api/v1/namespaces/expire/configmaps?limit=2&continue={token}")
    assert error.value.status == 410
    status, body = api.request("GET", f"/api/v1/namespaces/expire/configmaps?watch=1&resourceVersion={version}&timeoutSeconds=2")
    text = body if isinstance(body, str) else json.dumps(body)
    assert status == 410 or '"code":410' in text.replace(" ", "")


def test_a_stopped_api_server_comes_back_with_its_data(control_plane: Cluster) -> None:
    control_plane.namespace("kept")
    control_plane.stop("kube-apiserver")
    assert not control_plane.running
    with pytest.raises(OSError):
        control_plane.api.get("/api/v1/namespaces/kept")
    control_plane.resume("kube-apiserver")
    began = time.monotonic()
    assert control_plane.api.get("/api/v1/namespaces/kept")["status"]["phase"] == "Active"
    assert time.monotonic() - began < 60
