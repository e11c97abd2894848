"""Where the agents keep their places in files and events: which receivers, in which volume, and what a user's storage changes."""

from __future__ import annotations

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
    assert config.extensions == ["basicauth/metrics", "basicauth/logs", "file_storage"]
    assert OURS not in config.effective["extensions"]

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
    config = cluster_config(tmp_path, {"k8s_events": None}, service={"pipelines": pipelines})
    assert OURS not in config.extensions
    assert OURS not in config.effective["extensions"]


def state(release: Release, role: str = "k8scluster") -> dict[str, Any]:
    (volume,) = (v for v in release.pod(role)["volumes"] if v["name"] == "state")
    return {k: v for k, v in volume.items() if k != "name"}


def test_the_volume_of_the_places(tmp_path: Path) -> None:
    release = template()
    assert state(release) == {"emptyDir": {"sizeLimit": "256Mi"}}
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
    assert state(release, "node") == {"emptyDir": {"sizeLimit": "256Mi"}}
    assert release.pod("k8scluster")["securityContext"]["fsGroup"] == release.pod("k8scluster")["securityContext"]["runAsUser"]

    sets = ["kofagent.k8scluster.persistence.enabled=true"]
    assert "storageClassName" not in template(sets=sets).get("PersistentVolumeClaim", CLUSTER)["spec"]
    none = template(sets=[*sets, "kofagent.k8scluster.persistence.storageClass=-"])
    assert none.get("PersistentVolumeClaim", CLUSTER)["spec"]["storageClassName"] == ""
    other = template(sets=[*sets, "kofagent.k8scluster.persistence.existingClaim=mine"])
    assert not other.kinds("PersistentVolumeClaim")
    assert state(other) == {"persistentVolumeClaim": {"claimName": "mine"}}


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
