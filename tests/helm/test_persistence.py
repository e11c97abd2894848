"""Where the agents keep their places in files and events: which receivers, in which volume, and what a user's storage changes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kofagent.config.load import LoadedConfig
from tests.helm.chart import CHART, CLUSTER, Release, helm, template
from tests.helm.test_chart import loaded

pytestmark = pytest.mark.server("helm")
OURS = "file_storage/kofagent"


def cluster_config(folder: Path, receivers: dict[str, Any], generation: str = "", **section: Any) -> LoadedConfig:
    """What the cluster's agent makes of a user's receivers."""
    values = {"collectors": {"k8scluster": {"receivers": receivers, **section}}, "kofagent": {"generation": generation}}
    return loaded(template(values=values, folder=folder), "k8scluster", folder, generation)


@pytest.mark.parametrize(
    "generation, role, receiver",
    [
        ("", "k8scluster", "k8s_events"),
        ("0.1.1", "k8scluster", "k8sobjects"),
        ("", "node", "filelog/kube"),
        ("0.1.1", "node", "filelog"),
    ],
)
def test_a_place_is_kept_beside_the_generated_logins(tmp_path: Path, generation: str, role: str, receiver: str) -> None:
    release = template(sets=[f"kofagent.generation={generation}"])
    config = loaded(release, role, tmp_path, generation)
    assert config.extensions == ["basicauth/metrics", "basicauth/logs", OURS]
    assert config.effective["receivers"][receiver]["storage"] == OURS
    assert config.effective["extensions"][OURS] == {
        "directory": "/var/lib/otelcol/file_storage",
        "timeout": "30s",
        "recreate": True,
    }
    mounts = {m["name"]: m["mountPath"] for m in release.container(role)["volumeMounts"]}
    assert mounts["state"] == "/var/lib/otelcol/file_storage"


def test_what_a_user_set_stays(tmp_path: Path) -> None:
    own = {"file_storage": {"directory": "/elsewhere"}}
    config = cluster_config(
        tmp_path,
        {"k8s_events": {"storage": "file_storage"}},
        extensions=own,
        service={"extensions": ["basicauth/metrics", "basicauth/logs", "file_storage"]},
    )
    assert config.effective["receivers"]["k8s_events"]["storage"] == "file_storage"
    assert config.extensions == ["basicauth/metrics", "basicauth/logs", "file_storage", OURS], "the queues are still the chart's"

    more = {
        "k8s_events": None,
        "k8s_events/apps": {"namespaces": ["apps"]},
        "k8s_objects": {"objects": [{"name": "configmaps", "mode": "watch"}]},
        "k8sobjects/since": {"objects": [{"name": "jobs", "mode": "watch", "resource_version": "7"}]},
    }
    config = cluster_config(tmp_path, more, service={"pipelines": {"logs": {"receivers": ["k8s_events/apps"]}}})
    assert {
        id: r.get("storage") for id, r in config.effective["receivers"].items() if id.startswith("k8s") and id != "k8s_cluster"
    } == {"k8s_events/apps": OURS, "k8s_objects": OURS, "k8sobjects/since": OURS}


def test_nothing_to_keep_needs_no_storage(tmp_path: Path) -> None:
    pipelines = {"logs": None}
    values = {
        "collectors": {"k8scluster": {"receivers": {"k8s_events": None}, "service": {"pipelines": pipelines}}},
        "kofagent": {"k8scluster": {"queues": {"enabled": False}}},
    }
    config = loaded(template(values=values, folder=tmp_path), "k8scluster", tmp_path)
    assert OURS not in config.extensions
    assert OURS not in config.effective["extensions"]


def state(release: Release, role: str = "k8scluster") -> dict[str, Any]:
    (volume,) = (v for v in release.pod(role)["volumes"] if v["name"] == "state")
    return {k: v for k, v in volume.items() if k != "name"}


def test_the_volume_of_the_places(tmp_path: Path) -> None:
    release = template()
    assert state(release) == {"emptyDir": {"sizeLimit": "512Mi"}}
    on_node = {"path": "/var/lib/kofagent/kof/kof-collectors-node-exporter-collector", "type": "DirectoryOrCreate"}
    assert state(release, "node") == {"hostPath": on_node}
    assert not release.kinds("PersistentVolumeClaim")

    release = template(
        values={
            "kofagent": {
                "k8scluster": {
                    "persistence": {
                        "enabled": True,
                        "size": "2Gi",
                        "storageClass": "fast",
                        "annotations": {"helm.sh/resource-policy": "keep"},
                    }
                }
            }
        },
        folder=tmp_path,
    )
    claim = release.get("PersistentVolumeClaim", CLUSTER)
    assert claim["metadata"]["namespace"] == "kof"
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert claim["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "2Gi"}},
        "storageClassName": "fast",
    }
    assert state(release) == {"persistentVolumeClaim": {"claimName": CLUSTER}}
    assert state(release, "node") == {"hostPath": on_node}
    assert release.pod("k8scluster")["securityContext"]["fsGroup"] == release.pod("k8scluster")["securityContext"]["runAsUser"]

    sets = ["kofagent.k8scluster.persistence.enabled=true"]
    assert "storageClassName" not in template(sets=sets).get("PersistentVolumeClaim", CLUSTER)["spec"]
    none = template(sets=[*sets, "kofagent.k8scluster.persistence.storageClass=-"])
    assert none.get("PersistentVolumeClaim", CLUSTER)["spec"]["storageClassName"] == ""
    other = template(sets=[*sets, "kofagent.k8scluster.persistence.existingClaim=mine"])
    assert not other.kinds("PersistentVolumeClaim")
    assert state(other) == {"persistentVolumeClaim": {"claimName": "mine"}}


@pytest.mark.parametrize("generation", ["", "0.1.1"])
def test_metrics_logs_and_traces_have_queues_in_the_volume(tmp_path: Path, generation: str) -> None:
    release = template(sets=[f"kofagent.generation={generation}", "kof.traces.endpoint=http://traces:4318"])
    for role, most in (("node", "256MiB"), ("k8scluster", "128MiB")):
        exporters = loaded(release, role, tmp_path, generation).effective["exporters"]
        sent = {id: options for id, options in exporters.items() if not id.startswith("debug")}
        assert len(sent) == (3 if role == "node" else 2)
        for options in sent.values():
            queue = options["sending_queue"]
            assert (queue["storage"], queue["sizer"], queue["storage_max_size"]) == (OURS, "items", most)


def test_the_users_own_queues_stay_and_what_is_not_sent_has_none(tmp_path: Path) -> None:
    own = {
        "prometheusremotewrite": {"remote_write_queue": {"queue_size": 7}},
        "otlphttp/logs": {"sending_queue": {"queue_size": 7}},
    }
    node = {"exporters": own, "service": {"pipelines": {"traces": {"exporters": ["debug"]}}}}
    values = {"collectors": {"node": node}, "kof": {"traces": {"endpoint": ""}}}
    config = loaded(template(values=values, folder=tmp_path), "node", tmp_path).effective["exporters"]
    assert "sending_queue" not in config["prometheusremotewrite"]
    assert config["otlphttp/logs"]["sending_queue"] == {"queue_size": 7}
    assert "otlphttp/traces" not in config


def test_the_directory_of_the_node_is_given_to_the_agents_user(tmp_path: Path) -> None:
    (container,) = template().pod("node")["initContainers"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["CHOWN", "DAC_READ_SEARCH"]}
    assert "initContainers" not in template(sets=["kofagent.node.state.emptyDir.sizeLimit=1Gi"]).pod("node")
    *program, script = container["command"]
    assert program == ["python3", "-I", "-S", "-c"] and "65532" in script
    if os.getuid():
        print("the script was not tried: only root can give files away")
        return
    (tmp_path / "a.queue").mkdir()
    (tmp_path / "a.queue" / "state").write_bytes(b"")
    subprocess.run([sys.executable, *program[1:], script.replace("/state", str(tmp_path))], check=True)
    assert {path.stat().st_uid for path in [tmp_path, *tmp_path.rglob("*")]} == {65532}


def test_two_volumes_for_one_place_are_refused() -> None:
    done = helm(
        "template",
        "x",
        str(CHART),
        "--set=kofagent.k8scluster.persistence.enabled=true",
        "--set=kofagent.k8scluster.state.emptyDir.sizeLimit=1Mi",
    )
    assert done.returncode != 0
    assert "persistence and state are two volumes for the same place" in done.stderr
