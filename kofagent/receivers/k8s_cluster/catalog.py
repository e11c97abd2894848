"""The metrics and resource attributes of `k8s_cluster`: name, unit, kind, attributes and whether they are on by default.

Facts of upstream's metadata (opentelemetry-collector-contrib 0.149, receiver/k8sclusterreceiver), which
`tests/receivers/k8s_cluster/test_catalog.py` holds a second copy of.
"""

from __future__ import annotations

from typing import NamedTuple

from kofagent.transform.otlp_metrics import Metric

SCHEMA_URL = "https://opentelemetry.io/schemas/1.18.0"
SCOPE = "github.com/open-telemetry/opentelemetry-collector-contrib/receiver/k8sclusterreceiver"


class Entry(NamedTuple):
    """One metric of the catalogue; `attributes` are those of its points."""

    metric: Metric
    attributes: tuple[str, ...]
    enabled: bool


def _gauge(name: str, unit: str, description: str, attributes: str = "", *, on: bool = True, double: bool = False) -> Entry:
    return Entry(Metric(name, unit, description, "gauge", double=double), tuple(attributes.split()), on)


def _sum(name: str, unit: str, description: str, attributes: str, *, on: bool) -> Entry:
    return Entry(Metric(name, unit, description, "sum"), tuple(attributes.split()), on)


CATALOG: dict[str, Entry] = {
    entry.metric.name: entry
    for entry in (
        _gauge("k8s.container.cpu_limit", "{cpu}", "CPU limit of the container.", double=True),
        _gauge("k8s.container.cpu_request", "{cpu}", "CPU request of the container.", double=True),
        _gauge("k8s.container.ephemeralstorage_limit", "By", "Ephemeral storage limit of the container."),
        _gauge("k8s.container.ephemeralstorage_request", "By", "Ephemeral storage request of the container."),
        _gauge("k8s.container.memory_limit", "By", "Memory limit of the container."),
        _gauge("k8s.container.memory_request", "By", "Memory request of the container."),
        _gauge("k8s.container.ready", "", "1 when the container is ready, else 0."),
        _gauge("k8s.container.restarts", "{restart}", "Restarts of the container, from its pod's status."),
        _sum(
            "k8s.container.status.reason",
            "{container}",
            "1 for the current reason of the container's state, else 0.",
            "k8s.container.status.reason",
            on=False,
        ),
        _sum(
            "k8s.container.status.state",
            "{container}",
            "1 for the state the container is in, else 0.",
            "k8s.container.status.state",
            on=False,
        ),
        _gauge("k8s.container.storage_limit", "By", "Storage limit of the container."),
        _gauge("k8s.container.storage_request", "By", "Storage request of the container."),
        _gauge("k8s.cronjob.active_jobs", "{job}", "Jobs of the cron job that are running."),
        _gauge("k8s.daemonset.current_scheduled_nodes", "{node}", "Nodes that run the daemon's pod and should."),
        _gauge("k8s.daemonset.desired_scheduled_nodes", "{node}", "Nodes that should run the daemon's pod."),
        _gauge("k8s.daemonset.misscheduled_nodes", "{node}", "Nodes that run the daemon's pod and should not."),
        _gauge("k8s.daemonset.ready_nodes", "{node}", "Nodes where the daemon's pod is ready."),
        _gauge("k8s.deployment.available", "{pod}", "Available pods of the deployment."),
        _gauge("k8s.deployment.desired", "{pod}", "Desired pods of the deployment."),
        _gauge("k8s.hpa.current_replicas", "{pod}", "Current pods of the autoscaler's target."),
        _gauge("k8s.hpa.desired_replicas", "{pod}", "Desired pods of the autoscaler's target."),
        _gauge("k8s.hpa.max_replicas", "{pod}", "Maximum number of pods of the autoscaler."),
        _gauge("k8s.hpa.min_replicas", "{pod}", "Minimum number of pods of the autoscaler."),
        _gauge("k8s.job.active_pods", "{pod}", "Running pods of the job."),
        _gauge("k8s.job.desired_successful_pods", "{pod}", "Pods of the job that must succeed."),
        _gauge("k8s.job.failed_pods", "{pod}", "Failed pods of the job."),
        _gauge("k8s.job.max_parallel_pods", "{pod}", "Maximum number of pods that the job runs at a time."),
        _gauge("k8s.job.successful_pods", "{pod}", "Succeeded pods of the job."),
        _gauge("k8s.namespace.phase", "", "Phase of the namespace: 1 active, 0 terminating, -1 unknown."),
        _gauge("k8s.node.condition", "{condition}", "Condition of the node: 1 true, 0 false, -1 unknown.", "condition", on=False),
        _gauge("k8s.pod.phase", "", "Phase of the pod: 1 pending, 2 running, 3 succeeded, 4 failed, 5 unknown."),
        _gauge(
            "k8s.pod.status_reason",
            "",
            "Reason of the pod's status: 1 Evicted, 2 NodeAffinity, 3 NodeLost, 4 Shutdown, "
            "5 UnexpectedAdmissionError, 6 any other or none.",
            on=False,
        ),
        _gauge("k8s.replicaset.available", "{pod}", "Available pods of the replica set."),
        _gauge("k8s.replicaset.desired", "{pod}", "Desired pods of the replica set."),
        _gauge("k8s.replication_controller.available", "{pod}", "Available pods of the replication controller."),
        _gauge("k8s.replication_controller.desired", "{pod}", "Desired pods of the replication controller."),
        _gauge(
            "k8s.resource_quota.hard_limit", "{resource}", "Limit of the quota; CPU requests and limits in thousandths.", "resource"
        ),
        _gauge(
            "k8s.resource_quota.used",
            "{resource}",
            "Used amount of the quota; CPU requests and limits in thousandths.",
            "resource",
        ),
        _gauge(
            "k8s.service.endpoint.count",
            "{endpoint}",
            "Endpoints of the service by condition, type of address and zone.",
            "k8s.service.endpoint.address_type k8s.service.endpoint.condition k8s.service.endpoint.zone",
            on=False,
        ),
        _gauge("k8s.service.load_balancer.ingress.count", "{ingress}", "Addresses the load balancer gave the service.", on=False),
        _gauge("k8s.statefulset.current_pods", "{pod}", "Pods of the stateful set's current revision."),
        _gauge("k8s.statefulset.desired_pods", "{pod}", "Desired pods of the stateful set."),
        _gauge("k8s.statefulset.ready_pods", "{pod}", "Ready pods of the stateful set."),
        _gauge("k8s.statefulset.updated_pods", "{pod}", "Pods of the stateful set's newest revision."),
        _gauge(
            "openshift.appliedclusterquota.limit",
            "{resource}",
            "Limit of the cluster quota as applied to a namespace.",
            "k8s.namespace.name resource",
        ),
        _gauge(
            "openshift.appliedclusterquota.used",
            "{resource}",
            "Amount of the cluster quota used by a namespace.",
            "k8s.namespace.name resource",
        ),
        _gauge("openshift.clusterquota.limit", "{resource}", "Limit of the cluster quota.", "resource"),
        _gauge("openshift.clusterquota.used", "{resource}", "Used amount of the cluster quota.", "resource"),
    )
}

_ON = """container.id container.image.name container.image.tag k8s.container.name k8s.cronjob.name k8s.cronjob.uid
    k8s.daemonset.name k8s.daemonset.uid k8s.deployment.name k8s.deployment.uid k8s.hpa.name k8s.hpa.uid k8s.job.name k8s.job.uid
    k8s.namespace.name k8s.namespace.uid k8s.node.name k8s.node.uid k8s.pod.name k8s.pod.uid k8s.replicaset.name k8s.replicaset.uid
    k8s.replicationcontroller.name k8s.replicationcontroller.uid k8s.resourcequota.name k8s.resourcequota.uid k8s.service.name
    k8s.service.type k8s.service.uid k8s.statefulset.name k8s.statefulset.uid
    openshift.clusterquota.name openshift.clusterquota.uid"""
_OFF = """container.runtime container.runtime.version k8s.container.status.last_terminated_reason k8s.hpa.scaletargetref.apiversion
    k8s.hpa.scaletargetref.kind k8s.hpa.scaletargetref.name k8s.kubelet.version k8s.pod.qos_class
    k8s.service.publish_not_ready_addresses k8s.service.traffic_distribution os.description os.type"""

RESOURCE_ATTRIBUTES: dict[str, bool] = {**dict.fromkeys(_ON.split(), True), **dict.fromkeys(_OFF.split(), False)}
"""Whether an attribute is on by default, by name."""
DEFAULTS: dict[str, bool] = {name: entry.enabled for name, entry in CATALOG.items()}
"""Whether a metric is on by default, by name."""


def snake_case(name: str) -> str:
    """A condition's or resource's name as the end of a metric name: MemoryPressure, ephemeral-storage and hugepages-1Gi become
    memory_pressure, ephemeral_storage and hugepages_1_gi. Rules of the Go library strcase.
    """
    out: list[str] = []
    name = name.strip()
    for i, char in enumerate(name):
        kind, after = _kind(char), _kind(name[i + 1 : i + 2])
        if kind and after and kind != after:
            if kind == "cap" and after == "low" and i > 0 and _kind(name[i - 1]) == "cap":
                out.append("_")
            out.append(char.lower() if kind == "cap" else char)
            if kind in ("low", "num") or after == "num":
                out.append("_")
        elif char in " _-.":
            out.append("_")
        else:
            out.append(char.lower() if kind == "cap" else char)
    return "".join(out)


def _kind(char: str) -> str:
    if "A" <= char <= "Z" and len(char) == 1:
        return "cap"
    if "a" <= char <= "z" and len(char) == 1:
        return "low"
    return "num" if "0" <= char <= "9" and len(char) == 1 else ""


_UNITS = {"cpu": "{cpu}", "memory": "By", "ephemeral-storage": "By", "storage": "By", "pods": "{pod}"}


def condition_metric(condition: str) -> Metric:
    """k8s.node.condition_<name>."""
    return Metric(
        f"k8s.node.condition_{snake_case(condition)}",
        "",
        f"Condition {condition} of the node: 1 true, 0 false, -1 unknown.",
        "gauge",
    )


def allocatable_metric(resource: str) -> Metric:
    """k8s.node.allocatable_<name>."""
    return Metric(
        f"k8s.node.allocatable_{snake_case(resource)}",
        _UNITS.get(resource, f"{{{resource}}}"),
        f"What pods may use of the node's {resource}.",
        "gauge",
        double=resource == "cpu",
    )
