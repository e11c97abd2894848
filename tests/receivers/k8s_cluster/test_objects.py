"""What is said of each kind of object: values, attributes and resources by upstream's rules."""

from __future__ import annotations

from typing import Any

import pytest

from kofagent.kubernetes.trim import Trimmer
from kofagent.processors.k8sattributes.config import Config as AttributesConfig
from kofagent.processors.k8sattributes.extract import Extraction
from kofagent.receivers.k8s_cluster import nodes, pods, quotas, services, workloads
from kofagent.receivers.k8s_cluster.model import Source
from tests.receivers.k8s_cluster.support import described, meta, no_lookup, on, plain, points, select

WORKLOADS: dict[str, Source] = {source.resource.kind: source for source in workloads.SOURCES}


def a_pod() -> dict[str, Any]:
    return {
        "metadata": meta("web-0", "shop", labels={"app": "web"}),
        "spec": {
            "nodeName": "n1",
            "initContainers": [{"name": "init"}],
            "containers": [
                {
                    "name": "app",
                    "resources": {
                        "requests": {
                            "cpu": "100m",
                            "memory": "64Mi",
                            "storage": "1Gi",
                            "ephemeral-storage": "2G",
                            "nvidia.com/gpu": "1",
                        },
                        "limits": {"cpu": "1500m", "memory": "128Mi", "storage": "2Gi", "ephemeral-storage": "3G"},
                    },
                },
                {"name": "side", "resources": {}},
            ],
        },
        "status": {
            "phase": "Running",
            "qosClass": "Burstable",
            "containerStatuses": [
                {
                    "name": "side",
                    "image": "sidecar@sha256:" + "b" * 64,
                    "containerID": "",
                    "ready": False,
                    "restartCount": 0,
                    "state": {"waiting": {"reason": "ImagePullBackOff"}},
                },
                {
                    "name": "app",
                    "image": "registry.test:5000/team/app:1.2",
                    "containerID": "containerd://abc",
                    "ready": True,
                    "restartCount": 3,
                    "state": {"running": {"startedAt": "2024-05-01T10:00:00Z"}},
                    "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}},
                },
            ],
        },
    }


def test_a_pod_and_its_containers() -> None:
    pod, app, side = described(pods.SOURCE, a_pod(), select())
    where = {"k8s.namespace.name": "shop", "k8s.node.name": "n1", "k8s.pod.name": "web-0", "k8s.pod.uid": "uid-web-0"}
    assert dict(pod.resource) == where
    assert plain(pod) == {"k8s.pod.phase": 2}
    assert dict(app.resource) == {
        **where,
        "container.id": "abc",
        "container.image.name": "registry.test:5000/team/app",
        "container.image.tag": "1.2",
        "k8s.container.name": "app",
    }
    assert plain(app) == {
        "k8s.container.cpu_request": 0.1,
        "k8s.container.memory_request": 64 << 20,
        "k8s.container.storage_request": 1 << 30,
        "k8s.container.ephemeralstorage_request": 2_000_000_000,
        "k8s.container.cpu_limit": 1.5,
        "k8s.container.memory_limit": 128 << 20,
        "k8s.container.storage_limit": 2 << 30,
        "k8s.container.ephemeralstorage_limit": 3_000_000_000,
        "k8s.container.restarts": 3,
        "k8s.container.ready": 1,
    }
    assert dict(side.resource) == {
        **where,
        "container.id": "",
        "container.image.name": "sidecar",
        "container.image.tag": "latest",
        "k8s.container.name": "side",
    }
    assert plain(side) == {"k8s.container.restarts": 0, "k8s.container.ready": 0}


def test_what_is_off_by_default_of_pods() -> None:
    selection = select(
        metrics=on("k8s.pod.status_reason", "k8s.container.status.state", "k8s.container.status.reason"),
        resource_attributes=on("k8s.pod.qos_class", "k8s.container.status.last_terminated_reason"),
    )
    pod, app, side = described(pods.SOURCE, a_pod(), selection)
    assert dict(pod.resource)["k8s.pod.qos_class"] == "Burstable"
    assert plain(pod)["k8s.pod.status_reason"] == 6
    assert dict(app.resource)["k8s.container.status.last_terminated_reason"] == "OOMKilled"
    assert "k8s.container.status.last_terminated_reason" not in dict(side.resource)
    state = "k8s.container.status.state"
    assert {v: points(app)[state, ((state, v),)] for v in ("running", "waiting", "terminated")} == {
        "running": 1,
        "waiting": 0,
        "terminated": 0,
    }
    assert points(side)[state, ((state, "waiting"),)] == 1
    reason = "k8s.container.status.reason"
    told = {attributes[0][1]: value for (name, attributes), value in points(side).items() if name == reason}
    assert told == {
        "ContainerCreating": 0,
        "CrashLoopBackOff": 0,
        "CreateContainerConfigError": 0,
        "ErrImagePull": 0,
        "ImagePullBackOff": 1,
        "OOMKilled": 0,
        "Completed": 0,
        "Error": 0,
        "ContainerCannotRun": 0,
    }
    assert sum(value for (name, _), value in points(app).items() if name == reason) == 0


@pytest.mark.parametrize(
    "phase, value",
    [("Pending", 1), ("Running", 2), ("Succeeded", 3), ("Failed", 4), ("Unknown", 5), ("", 5), (None, 5), ("Odd", 5)],
)
def test_phases_of_pods(phase: str | None, value: int) -> None:
    pod = {"metadata": meta("a", "b"), "spec": {}, "status": {"phase": phase}}
    assert plain(described(pods.SOURCE, pod, select())[0]) == {"k8s.pod.phase": value}


@pytest.mark.parametrize(
    "reason, value",
    [("Evicted", 1), ("NodeAffinity", 2), ("NodeLost", 3), ("Shutdown", 4), ("UnexpectedAdmissionError", 5), ("Other", 6)],
)
def test_status_reasons_of_pods(reason: str, value: int) -> None:
    pod = {"metadata": meta("a", "b"), "spec": {}, "status": {"reason": reason}}
    selection = select(metrics={**on("k8s.pod.status_reason"), "k8s.pod.phase": {"enabled": False}})
    assert plain(described(pods.SOURCE, pod, selection)[0]) == {"k8s.pod.status_reason": value}


def test_a_pending_pod_without_node_and_status() -> None:
    pod = {"metadata": meta("a", "b"), "spec": {"containers": [{"name": "c", "resources": {"limits": {"memory": "nonsense"}}}]}}
    (one,) = described(pods.SOURCE, pod, select())
    assert dict(one.resource)["k8s.node.name"] == ""


@pytest.mark.parametrize("status", ["sha256:" + "3f" * 32, "registry.test/team/app@sha256:" + "3f" * 32])
def test_an_image_that_is_only_a_digest_is_what_the_pod_asks_for(status: str) -> None:
    """contrib#46541; `k8sattributes` says the same."""
    pod = a_pod()
    pod["spec"]["containers"][0]["image"] = "registry.test:5000/team/app:1.2"
    pod["status"]["containerStatuses"][1]["image"] = status
    by_metrics = next(d for d in described(pods.SOURCE, pod, select()) if ("k8s.container.name", "app") in d.resource)
    kept = Trimmer(pods.ENTITY_FIELDS)(pod)
    by_entity = next(e for e in pods.entities(kept, no_lookup, []) if e.id == "abc").attributes
    by_processor = Extraction(AttributesConfig.model_validate({})).of_container(pod, {"k8s.container.name": "app"})
    for told in (dict(by_metrics.resource), by_entity, by_processor):
        assert (told["container.image.name"], told["container.image.tag"]) == ("registry.test:5000/team/app", "1.2")
    del pod["spec"]["containers"][0]["image"]
    app = next(d for d in described(pods.SOURCE, pod, select()) if ("k8s.container.name", "app") in d.resource)
    assert dict(app.resource).get("container.image.tag") in (None, "latest"), "a digest is no tag"


def test_an_image_that_is_no_name_gives_no_image_attributes() -> None:
    pod = a_pod()
    pod["status"]["containerStatuses"][1]["image"] = "Not An Image"
    app = described(pods.SOURCE, pod, select())[1]
    assert not {name for name, _ in app.resource if name.startswith("container.image")}


def a_node() -> dict[str, Any]:
    return {
        "metadata": meta("n1", labels={"zone": "a"}),
        "status": {
            "allocatable": {"cpu": "3920m", "memory": "16Gi", "ephemeral-storage": "100Gi", "pods": "110"},
            "conditions": [
                {"type": "Ready", "status": "True"},
                {"type": "MemoryPressure", "status": "False"},
                {"type": "PIDPressure", "status": "Unknown"},
            ],
            "nodeInfo": {
                "kubeletVersion": "v1.34.4",
                "containerRuntimeVersion": "containerd://1.6.20",
                "osImage": "Debian 12",
                "operatingSystem": "linux",
            },
        },
    }


def test_a_node_by_default() -> None:
    (node,) = described(nodes.NODE, a_node(), select())
    assert dict(node.resource) == {"k8s.node.name": "n1", "k8s.node.uid": "uid-n1"}
    assert plain(node) == {"k8s.node.condition_ready": 1}
    assert not node.started


def test_a_node_with_everything() -> None:
    selection = select(
        node_conditions_to_report=["Ready", "MemoryPressure", "PIDPressure", "DiskPressure"],
        allocatable_types_to_report=["cpu", "memory", "ephemeral-storage", "storage", "pods"],
        metrics=on("k8s.node.condition"),
        resource_attributes=on(
            "k8s.kubelet.version", "container.runtime", "container.runtime.version", "os.type", "os.description"
        ),
    )
    node, conditions = described(nodes.NODE, a_node(), selection)
    assert dict(node.resource) == {
        "k8s.node.name": "n1",
        "k8s.node.uid": "uid-n1",
        "k8s.kubelet.version": "v1.34.4",
        "container.runtime": "containerd",
        "container.runtime.version": "1.6.20",
        "os.type": "linux",
        "os.description": "Debian 12",
    }
    assert plain(node) == {
        "k8s.node.condition_ready": 1,
        "k8s.node.condition_memory_pressure": 0,
        "k8s.node.condition_pid_pressure": -1,
        "k8s.node.condition_disk_pressure": -1,
        "k8s.node.allocatable_cpu": 3.92,
        "k8s.node.allocatable_memory": 16 << 30,
        "k8s.node.allocatable_ephemeral_storage": 100 << 30,
        "k8s.node.allocatable_pods": 110,
    }
    assert points(conditions) == {
        ("k8s.node.condition", (("condition", kind),)): value
        for kind, value in (("Ready", 1), ("MemoryPressure", 0), ("PIDPressure", -1))
    }
    assert dict(conditions.resource) == {"k8s.node.name": "n1", "k8s.node.uid": "uid-n1", "k8s.kubelet.version": "v1.34.4"}


@pytest.mark.parametrize("phase, value", [("Active", 1), ("Terminating", 0), ("", -1)])
def test_namespaces(phase: str, value: int) -> None:
    (one,) = described(nodes.NAMESPACE, {"metadata": meta("shop"), "status": {"phase": phase}}, select())
    assert dict(one.resource) == {"k8s.namespace.name": "shop", "k8s.namespace.uid": "uid-shop"}
    assert plain(one) == {"k8s.namespace.phase": value}


@pytest.mark.parametrize(
    "kind, spec, status, wanted",
    [
        ("Deployment", {"replicas": 5}, {"availableReplicas": 3}, {"k8s.deployment.desired": 5, "k8s.deployment.available": 3}),
        ("Deployment", {"replicas": 0}, {}, {"k8s.deployment.desired": 0, "k8s.deployment.available": 0}),
        ("ReplicaSet", {"replicas": 2}, {"availableReplicas": 1}, {"k8s.replicaset.desired": 2, "k8s.replicaset.available": 1}),
        ("ReplicaSet", {}, {"availableReplicas": 1}, {}),
        (
            "ReplicationController",
            {"replicas": 1},
            {},
            {"k8s.replication_controller.desired": 1, "k8s.replication_controller.available": 0},
        ),
        (
            "DaemonSet",
            {},
            {"currentNumberScheduled": 4, "desiredNumberScheduled": 5, "numberMisscheduled": 1, "numberReady": 3},
            {
                "k8s.daemonset.current_scheduled_nodes": 4,
                "k8s.daemonset.desired_scheduled_nodes": 5,
                "k8s.daemonset.misscheduled_nodes": 1,
                "k8s.daemonset.ready_nodes": 3,
            },
        ),
        (
            "StatefulSet",
            {"replicas": 3},
            {"readyReplicas": 2, "currentReplicas": 1, "updatedReplicas": 2},
            {
                "k8s.statefulset.desired_pods": 3,
                "k8s.statefulset.ready_pods": 2,
                "k8s.statefulset.current_pods": 1,
                "k8s.statefulset.updated_pods": 2,
            },
        ),
        ("StatefulSet", {}, {"readyReplicas": 2}, {}),
        (
            "Job",
            {"completions": 4, "parallelism": 2},
            {"active": 1, "succeeded": 2, "failed": 3},
            {
                "k8s.job.active_pods": 1,
                "k8s.job.failed_pods": 3,
                "k8s.job.successful_pods": 2,
                "k8s.job.desired_successful_pods": 4,
                "k8s.job.max_parallel_pods": 2,
            },
        ),
        ("Job", {}, {}, {"k8s.job.active_pods": 0, "k8s.job.failed_pods": 0, "k8s.job.successful_pods": 0}),
        ("CronJob", {"schedule": "* * * * *"}, {"active": [{"uid": "1"}, {"uid": "2"}]}, {"k8s.cronjob.active_jobs": 2}),
        ("CronJob", {}, {}, {"k8s.cronjob.active_jobs": 0}),
        (
            "HorizontalPodAutoscaler",
            {"maxReplicas": 9, "minReplicas": 2, "scaleTargetRef": {"kind": "Deployment", "name": "web"}},
            {"currentReplicas": 3, "desiredReplicas": 4},
            {"k8s.hpa.max_replicas": 9, "k8s.hpa.min_replicas": 2, "k8s.hpa.current_replicas": 3, "k8s.hpa.desired_replicas": 4},
        ),
    ],
)
def test_workloads(kind: str, spec: dict[str, Any], status: dict[str, Any], wanted: dict[str, int]) -> None:
    obj = {"metadata": meta("web", "shop"), "spec": spec, "status": status}
    found = described(WORKLOADS[kind], obj, select())
    if not wanted:
        assert found == []
        return
    (one,) = found
    short = {"HorizontalPodAutoscaler": "hpa"}.get(kind, kind.lower())
    assert dict(one.resource) == {"k8s.namespace.name": "shop", f"k8s.{short}.name": "web", f"k8s.{short}.uid": "uid-web"}
    assert plain(one) == wanted


def test_the_target_of_an_autoscaler() -> None:
    obj = {
        "metadata": meta("web", "shop"),
        "spec": {"maxReplicas": 1, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
    }
    selection = select(resource_attributes=on(*(f"k8s.hpa.scaletargetref.{n}" for n in ("apiversion", "kind", "name"))))
    (one,) = described(WORKLOADS["HorizontalPodAutoscaler"], obj, selection)
    assert {k: v for k, v in one.resource if "scaletarget" in k} == {
        "k8s.hpa.scaletargetref.apiversion": "apps/v1",
        "k8s.hpa.scaletargetref.kind": "Deployment",
        "k8s.hpa.scaletargetref.name": "web",
    }


def test_quotas() -> None:
    status = {"hard": {"requests.cpu": "2", "cpu": "1500m", "pods": "10", "limits.memory": "1Gi"}, "used": {"requests.cpu": "150m"}}
    (one,) = described(quotas.QUOTA, {"metadata": meta("q", "shop"), "status": status}, select())
    assert dict(one.resource) == {"k8s.resourcequota.name": "q", "k8s.resourcequota.uid": "uid-q", "k8s.namespace.name": "shop"}
    hard = "k8s.resource_quota.hard_limit"
    assert points(one) == {
        (hard, (("resource", "requests.cpu"),)): 2000,
        (hard, (("resource", "cpu"),)): 2,
        (hard, (("resource", "pods"),)): 10,
        (hard, (("resource", "limits.memory"),)): 1 << 30,
        ("k8s.resource_quota.used", (("resource", "requests.cpu"),)): 150,
    }


def test_openshifts_quotas() -> None:
    obj = {
        "metadata": meta("crq"),
        "status": {
            "total": {"hard": {"requests.cpu": "10"}, "used": {"requests.cpu": "6"}},
            "namespaces": [{"namespace": "ns1", "status": {"hard": {"requests.cpu": "5"}, "used": {"requests.cpu": "3"}}}],
        },
    }
    (one,) = described(quotas.CLUSTER_QUOTA, obj, select(distribution="openshift"))
    assert dict(one.resource) == {"openshift.clusterquota.name": "crq", "openshift.clusterquota.uid": "uid-crq"}
    cpu = (("resource", "requests.cpu"),)
    applied = (("k8s.namespace.name", "ns1"), *cpu)
    assert points(one) == {
        ("openshift.clusterquota.limit", cpu): 10000,
        ("openshift.clusterquota.used", cpu): 6000,
        ("openshift.appliedclusterquota.limit", applied): 5000,
        ("openshift.appliedclusterquota.used", applied): 3000,
    }


def test_services() -> None:
    service = {
        "metadata": meta("web", "shop"),
        "spec": {"type": "LoadBalancer", "publishNotReadyAddresses": True},
        "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}, {"hostname": "x"}]}},
    }
    assert described(services.SOURCE, service, select()) == []
    selection = select(
        metrics=on("k8s.service.load_balancer.ingress.count"),
        resource_attributes=on("k8s.service.publish_not_ready_addresses", "k8s.service.traffic_distribution"),
    )
    (one,) = described(services.SOURCE, service, selection)
    assert plain(one) == {"k8s.service.load_balancer.ingress.count": 2}
    assert dict(one.resource) == {
        "k8s.service.name": "web",
        "k8s.service.uid": "uid-web",
        "k8s.namespace.name": "shop",
        "k8s.service.type": "LoadBalancer",
        "k8s.service.publish_not_ready_addresses": True,
    }


def test_endpoints_are_counted() -> None:
    counts = services.count_slice(
        {
            "addressType": "IPv4",
            "endpoints": [
                {"zone": "a", "conditions": {"ready": True, "serving": True, "terminating": False}},
                {"zone": "a", "conditions": {"ready": False, "serving": True, "terminating": True}},
                {"zone": "a", "conditions": {}},
                {},
            ],
        }
    )
    assert {k: v for k, v in counts.items() if k[1] == "a"} == {
        ("IPv4", "a", "ready"): 2,
        ("IPv4", "a", "serving"): 3,
        ("IPv4", "a", "terminating"): 1,
    }
    assert counts["IPv4", "", "ready"] == 1
    service = {"metadata": meta("web", "shop"), "spec": {"type": "ClusterIP"}}
    (one,) = services.describe(service, select(metrics=on("k8s.service.endpoint.count")), counts)
    names = ("k8s.service.endpoint.address_type", "k8s.service.endpoint.condition", "k8s.service.endpoint.zone")
    assert points(one)["k8s.service.endpoint.count", tuple(zip(names, ("IPv4", "terminating", ""), strict=True))] == 0
    assert len(one.points) == 6


def test_metrics_and_attributes_are_switched() -> None:
    selection = select(
        metrics={"k8s.pod.phase": {"enabled": False}, "k8s.container.ready": {}},
        resource_attributes={"k8s.pod.uid": {"enabled": False}},
    )
    found = described(pods.SOURCE, a_pod(), selection)
    assert [dict(one.resource)["k8s.container.name"] for one in found] == ["app", "side"]
    assert "k8s.pod.uid" not in dict(found[0].resource)
    assert plain(found[1])["k8s.container.ready"] == 0


def test_filters_of_resource_attributes() -> None:
    def kept(**filters: Any) -> list[str]:
        selection = select(resource_attributes={"k8s.container.name": filters})
        return [dict(one.resource).get("k8s.container.name", "the pod") for one in described(pods.SOURCE, a_pod(), selection)]

    assert kept(metrics_include=[{"strict": "app"}]) == ["the pod", "app"]
    assert kept(metrics_exclude=[{"regexp": "^s"}]) == ["the pod", "app"]
    assert kept(metrics_include=[{"strict": "app"}, {"regexp": "ide"}], metrics_exclude=[{"strict": "app"}]) == ["the pod", "side"]
