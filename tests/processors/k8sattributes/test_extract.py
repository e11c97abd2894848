"""What is added for a pod: metadata, owners, labels and annotations, containers, images. Values are upstream's."""

from __future__ import annotations

from typing import Any

import pytest
import re2
from pydantic import ValidationError

from kofagent.processors.k8sattributes.config import METADATA, Config
from kofagent.processors.k8sattributes.extract import KINDS, Extraction, Object, addresses, container_ids
from kofagent.processors.k8sattributes.images import repo_digest, service_version
from kofagent.processors.k8sattributes.rules import expand
from tests.support.fake_kube import pod

DIGEST = "sha256:" + "ab" * 32


def extraction(metadata: list[str] | None = None, **extract: Any) -> Extraction:
    return Extraction(Config.model_validate({"extract": {"metadata": metadata, **extract}}))


def a_pod(**more: Any) -> dict[str, Any]:
    made = pod("shop", "web-6b7c9-x1", uid="pod-uid", **{"labels": {"pod-template-hash": "6b7c9"}, **more})
    made["metadata"]["creationTimestamp"] = "2026-01-02T03:04:05Z"
    return made


def attributes(of: Extraction, obj: Object, **objects: Object) -> dict[str, str]:
    return of.of_pod(
        obj, lambda kind, uid: objects.get(kind) if objects.get(kind, {}).get("metadata", {}).get("uid") == uid else None
    )


def test_the_default_set() -> None:
    assert attributes(extraction(), a_pod(owner=("ReplicaSet", "web-6b7c9", "rs-uid"))) == {
        "k8s.pod.name": "web-6b7c9-x1",
        "k8s.namespace.name": "shop",
        "k8s.pod.uid": "pod-uid",
        "k8s.node.name": "n1",
        "k8s.pod.start_time": "2026-01-02T03:04:05Z",
        "k8s.deployment.name": "web",
    }


def test_all_metadata() -> None:
    made = a_pod(owner=("ReplicaSet", "web-6b7c9", "rs-uid"))
    made["spec"]["hostname"] = "web-host"
    replicaset = {
        "metadata": {
            "name": "web-6b7c9",
            "uid": "rs-uid",
            "ownerReferences": [{"kind": "Deployment", "name": "web", "uid": "d-uid", "controller": True}],
        }
    }
    assert attributes(extraction(list(METADATA)), made, replicaset=replicaset) == {
        "k8s.pod.name": "web-6b7c9-x1",
        "k8s.namespace.name": "shop",
        "k8s.pod.uid": "pod-uid",
        "k8s.node.name": "n1",
        "k8s.pod.start_time": "2026-01-02T03:04:05Z",
        "k8s.pod.hostname": "web-host",
        "k8s.pod.ip": "10.0.0.1",
        "k8s.replicaset.name": "web-6b7c9",
        "k8s.replicaset.uid": "rs-uid",
        "k8s.deployment.name": "web",
        "k8s.deployment.uid": "d-uid",
        "service.name": "web",
        "service.namespace": "shop",
    }


@pytest.mark.parametrize(
    "owner, wanted",
    [
        (("DaemonSet", "agent", "u"), {"k8s.daemonset.name": "agent", "k8s.daemonset.uid": "u", "service.name": "agent"}),
        (("StatefulSet", "db", "u"), {"k8s.statefulset.name": "db", "k8s.statefulset.uid": "u", "service.name": "db"}),
        (("Job", "once", "u"), {"k8s.job.name": "once", "k8s.job.uid": "u", "service.name": "once"}),
        # 29455384 minutes are 2026-01-02T03:04Z
        (
            ("Job", "backup-29455384", "u"),
            {"k8s.job.name": "backup-29455384", "k8s.job.uid": "u", "k8s.cronjob.name": "backup", "service.name": "backup"},
        ),
        (
            ("Job", "release-20240102", "u"),
            {"k8s.job.name": "release-20240102", "k8s.job.uid": "u", "service.name": "release-20240102"},
        ),
        (("ReplicaSet", "alone", "u"), {"k8s.replicaset.name": "alone", "k8s.replicaset.uid": "u", "service.name": "alone"}),
        (("Node", "n1", "u"), {"service.name": "web-6b7c9-x1"}),
    ],
)
def test_owners(owner: tuple[str, str, str], wanted: dict[str, str]) -> None:
    names = [
        n
        for n in METADATA
        if n.startswith(("k8s.daemonset", "k8s.statefulset", "k8s.job", "k8s.cronjob", "k8s.replicaset", "k8s.deployment"))
    ]
    assert attributes(extraction([*names, "service.name"]), a_pod(owner=owner)) == wanted


def test_cronjob_of_a_job_that_is_watched() -> None:
    job = {
        "metadata": {
            "name": "x",
            "uid": "u",
            "ownerReferences": [{"kind": "CronJob", "name": "c", "uid": "cu", "controller": True}],
        }
    }
    assert attributes(extraction(["k8s.cronjob.name", "k8s.cronjob.uid"]), a_pod(owner=("Job", "x", "u")), job=job) == {
        "k8s.cronjob.name": "c",
        "k8s.cronjob.uid": "cu",
    }


def test_deployment_name_from_replicaset() -> None:
    made = a_pod(owner=("ReplicaSet", "web-6b7c9", "u"), labels={})
    assert attributes(extraction(["k8s.deployment.name"]), made) == {}
    assert attributes(extraction(["k8s.deployment.name"], deployment_name_from_replicaset=True), made) == {
        "k8s.deployment.name": "web"
    }


def test_service_names_by_precedence() -> None:
    of = extraction(["service.name", "service.version"], otel_annotations=True)
    made = a_pod(owner=("DaemonSet", "owner", "u"))
    labels = made["metadata"]["labels"]
    assert attributes(of, made) == {"service.name": "owner"}
    labels["app.kubernetes.io/name"] = "by-name"
    labels["app.kubernetes.io/version"] = "1.2"
    assert attributes(of, made) == {"service.name": "by-name", "service.version": "1.2"}
    labels["app.kubernetes.io/instance"] = "by-instance"
    assert attributes(of, made)["service.name"] == "by-instance"
    made["metadata"]["annotations"] = {"resource.opentelemetry.io/service.name": "said", "resource.opentelemetry.io/team": "a"}
    assert attributes(of, made) == {"service.name": "said", "service.version": "1.2", "team": "a"}


def test_labels_and_annotations() -> None:
    of = extraction(
        [],
        labels=[
            {"key": "app"},
            {"key": "tier", "tag_name": "t"},
            {"key": "absent"},
            {"key_regex": r"x\.io/(.*)", "tag_name": "x.$1"},
            {"key_regex": r"y\.io/(?P<n>\w+)-(\w+)", "tag_name": "${n}_$2$$"},
            {"key_regex": "z.*", "tag_name": "ignored without groups"},
            {"key": "region", "from": "node"},
        ],
        annotations=[{"key": "note"}, {"key": "n", "from": "deployment"}],
    )
    made = a_pod(
        labels={"app": "a", "tier": "b", "x.io/one": "1", "not-x.io/two": "2", "y.io/a-b": "3", "zz": "4", "z0": ""},
        annotations={"note": "hello"},
    )
    assert attributes(of, made) == {
        "k8s.pod.labels.app": "a",
        "t": "b",
        "x.one": "1",
        "a_b$": "3",
        "k8s.pod.labels.zz": "4",
        "k8s.pod.annotations.note": "hello",
    }
    assert of.of_object("node", {"metadata": {"labels": {"region": "eu"}}}) == {"k8s.node.labels.region": "eu"}
    assert of.of_object("deployment", {"metadata": {"annotations": {"n": "1"}}}) == {"k8s.deployment.annotation.n": "1"}
    assert of.of_object("job", {"metadata": {}}) == {}


@pytest.mark.parametrize(
    "template, wanted",
    [("$1", "ab"), ("${1}x", "abx"), ("$1x", ""), ("$name", "ab"), ("$9", ""), ("$$1", "$1"), ("a$", "a$"), ("$2", "")],
)
def test_references(template: str, wanted: str) -> None:
    assert expand(template, re2.match(r"(?P<name>a.)(c)?", "ab")) == wanted


def status(name: str, id: str, count: int = 0, before: str = "", image_id: str = "") -> dict[str, Any]:
    made: dict[str, Any] = {"name": name, "containerID": f"containerd://{id}", "restartCount": count, "imageID": image_id}
    if before:
        made["lastState"] = {"terminated": {"containerID": f"containerd://{before}"}}
    return made


def test_containers() -> None:
    of = extraction(
        [
            "k8s.container.name",
            "container.id",
            "container.image.name",
            "container.image.tag",
            "container.image.tags",
            "container.image.repo_digests",
            "service.version",
            "service.instance.id",
        ]
    )
    made = a_pod(containers=[{"name": "app", "image": f"r.test:5000/team/app:1.2@{DIGEST}"}, {"name": "side", "image": "busybox"}])
    made["status"]["containerStatuses"] = [
        status("app", "new", 2, "old", f"docker.io/library/app@{DIGEST}"),
        status("side", "s", image_id="sha256:" + "0" * 64),
    ]
    app = {
        "k8s.container.name": "app",
        "container.image.name": "r.test:5000/team/app",
        "container.image.tag": "1.2",
        "container.image.tags": ["1.2"],
        "service.version": f"1.2@{DIGEST}",
        "service.instance.id": "shop.web-6b7c9-x1.app",
        "container.id": "new",
        "container.image.repo_digests": [f"docker.io/library/app@{DIGEST}"],
    }
    assert of.of_container(made, {"k8s.container.name": "app"}) == app
    assert of.of_container(made, {"container.id": "new"}) == app
    assert of.of_container(made, {"container.id": "old", "k8s.container.restart_count": "1"}) == {**app, "container.id": "old"}
    assert of.of_container(made, {"k8s.container.name": "app", "k8s.container.restart_count": 1})["container.id"] == "old"
    assert "container.id" not in of.of_container(made, {"k8s.container.name": "app", "k8s.container.restart_count": "0"})
    assert of.of_container(made, {"k8s.container.name": "side"}) == {
        "k8s.container.name": "side",
        "container.image.name": "busybox",
        "container.image.tag": "latest",
        "container.image.tags": ["latest"],
        "service.instance.id": "shop.web-6b7c9-x1.side",
        "container.id": "s",
    }
    assert of.of_container(made, {"k8s.container.name": "other"}) == {}
    assert of.of_container(made, {}) == {}, "two containers, none named"
    assert of.of_container(a_pod(), {})["k8s.container.name"] == "app", "the only one"
    assert extraction(["k8s.pod.name"]).of_container(made, {"k8s.container.name": "app"}) == {}
    assert container_ids(made) == ["new", "old", "s"]


@pytest.mark.parametrize(
    "image, wanted",
    [
        ("app:1.2", "1.2"),
        ("app", ""),
        (f"app@{DIGEST}", DIGEST),
        (f"r.test:5000/app:1@{DIGEST}", f"1@{DIGEST}"),
        ("r.test:5000/app", ""),
        ("not an image", ""),
        ("", ""),
    ],
)
def test_service_version(image: str, wanted: str) -> None:
    assert service_version(image) == wanted


@pytest.mark.parametrize(
    "image_id, wanted",
    [
        (f"nginx@{DIGEST}", f"docker.io/library/nginx@{DIGEST}"),
        (f"team/app@{DIGEST}", f"docker.io/team/app@{DIGEST}"),
        (f"r.test/app@{DIGEST}", f"r.test/app@{DIGEST}"),
        (f"localhost/app@{DIGEST}", f"localhost/app@{DIGEST}"),
        (f"docker-pullable://nginx@{DIGEST}", ""),
        (DIGEST, ""),
        ("nginx:1", ""),
        ("", ""),
    ],
)
def test_repo_digest(image_id: str, wanted: str) -> None:
    assert repo_digest(image_id) == wanted


def test_addresses() -> None:
    made = a_pod()
    made["status"]["podIPs"] = [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]
    assert addresses(made) == ["10.0.0.1", "fd00::1"]
    made["spec"]["hostNetwork"] = True
    assert addresses(made) == []


def test_ignored_pods() -> None:
    of = extraction()
    assert not of.ignored(a_pod())
    assert of.ignored(a_pod(annotations={"opentelemetry.io/k8s-processor/ignore": " True "}))
    assert of.ignored(pod("a", "my-jaeger-agent-x"))


def test_fields_that_nobody_needs_are_not_kept() -> None:
    fields = extraction(["k8s.node.name"]).fields("pod")
    assert "metadata.labels" not in fields and "spec.containers.image" not in fields and "metadata.ownerReferences" not in fields
    assert not any(extraction().needs(kind) for kind in ("replicaset", "deployment", "namespace", "node", "job"))


@pytest.mark.parametrize("rules", ["labels", "annotations"])
@pytest.mark.parametrize(
    "kind, watched",
    [
        ("replicaset", {"replicaset"}),
        ("deployment", {"deployment", "replicaset"}),  # a pod says its replica set only
        ("job", {"job"}),
        ("cronjob", {"cronjob", "job"}),
        ("node", {"node"}),
        ("namespace", {"namespace"}),
        ("pod", set()),
    ],
)
def test_what_is_watched_for_labels_and_annotations(kind: str, watched: set[str], rules: str) -> None:
    of = extraction(["k8s.pod.name"], **{rules: [{"key": "a", "from": kind}]})
    assert {other for other in KINDS if other != "pod" and of.needs(other)} == watched


@pytest.mark.parametrize(
    "options, message",
    [
        ({"extract": {"metadata": ["k8s.pod.nam"]}}, "not a metadata field"),
        ({"extract": {"labels": [{"key": "a", "key_regex": "b"}]}}, "give either key or key_regex"),
        ({"extract": {"labels": [{"key_regex": "("}]}}, "not a regular expression"),
        ({"pod_association": [{"sources": [{"from": "connection"}]}, {"sources": [{"from": "connection"}]}]}, "connection twice"),
        ({"filter": {"fields": [{"key": "a", "op": "exists"}]}}, "equals"),
        ({"exclude": {"pods": [{"name": "("}]}}, "not a regular expression"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config.model_validate(options)


def test_filters_as_selectors() -> None:
    config = Config.model_validate(
        {
            "filter": {
                "node": "n1",
                "fields": [{"key": "status.phase", "value": "Failed", "op": "not-equals"}],
                "labels": [
                    {"key": "a", "value": "b"},
                    {"key": "c", "value": "d", "op": "not-equals"},
                    {"key": "e", "op": "exists"},
                    {"key": "f", "op": "does-not-exist"},
                ],
            }
        }
    )
    assert config.filter.field_selector() == "status.phase!=Failed,spec.nodeName=n1"
    assert config.filter.label_selector() == "a=b,c!=d,e,!f"
