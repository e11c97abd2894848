"""Names, units, kinds, attributes and defaults against upstream's metadata (a second, independent table of the facts)."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from kofagent.receivers.k8s_cluster.catalog import (
    CATALOG,
    RESOURCE_ATTRIBUTES,
    SCHEMA_URL,
    SCOPE,
    allocatable_metric,
    condition_metric,
    snake_case,
)
from kofagent.receivers.k8s_cluster.config import Config

# name | unit (- none) | kind (g gauge, s sum, m monotonic sum) and value (i, d) | on by default | attributes
UPSTREAM = """
k8s.container.cpu_limit {cpu} gd on
k8s.container.cpu_request {cpu} gd on
k8s.container.ephemeralstorage_limit By gi on
k8s.container.ephemeralstorage_request By gi on
k8s.container.memory_limit By gi on
k8s.container.memory_request By gi on
k8s.container.ready - gi on
k8s.container.restarts {restart} gi on
k8s.container.status.reason {container} si off k8s.container.status.reason
k8s.container.status.state {container} si off k8s.container.status.state
k8s.container.storage_limit By gi on
k8s.container.storage_request By gi on
k8s.cronjob.active_jobs {job} gi on
k8s.daemonset.current_scheduled_nodes {node} gi on
k8s.daemonset.desired_scheduled_nodes {node} gi on
k8s.daemonset.misscheduled_nodes {node} gi on
k8s.daemonset.ready_nodes {node} gi on
k8s.deployment.available {pod} gi on
k8s.deployment.desired {pod} gi on
k8s.hpa.current_replicas {pod} gi on
k8s.hpa.desired_replicas {pod} gi on
k8s.hpa.max_replicas {pod} gi on
k8s.hpa.min_replicas {pod} gi on
k8s.job.active_pods {pod} gi on
k8s.job.desired_successful_pods {pod} gi on
k8s.job.failed_pods {pod} gi on
k8s.job.max_parallel_pods {pod} gi on
k8s.job.successful_pods {pod} gi on
k8s.namespace.phase - gi on
k8s.node.condition {condition} gi off condition
k8s.pod.phase - gi on
k8s.pod.status_reason - gi off
k8s.replicaset.available {pod} gi on
k8s.replicaset.desired {pod} gi on
k8s.replication_controller.available {pod} gi on
k8s.replication_controller.desired {pod} gi on
k8s.resource_quota.hard_limit {resource} gi on resource
k8s.resource_quota.used {resource} gi on resource
k8s.service.endpoint.count {endpoint} gi off k8s.service.endpoint.address_type,k8s.service.endpoint.condition,k8s.service.endpoint.zone
k8s.service.load_balancer.ingress.count {ingress} gi off
k8s.statefulset.current_pods {pod} gi on
k8s.statefulset.desired_pods {pod} gi on
k8s.statefulset.ready_pods {pod} gi on
k8s.statefulset.updated_pods {pod} gi on
openshift.appliedclusterquota.limit {resource} gi on k8s.namespace.name,resource
openshift.appliedclusterquota.used {resource} gi on k8s.namespace.name,resource
openshift.clusterquota.limit {resource} gi on resource
openshift.clusterquota.used {resource} gi on resource
"""
OFF = """container.runtime container.runtime.version k8s.container.status.last_terminated_reason k8s.hpa.scaletargetref.apiversion
k8s.hpa.scaletargetref.kind k8s.hpa.scaletargetref.name k8s.kubelet.version k8s.pod.qos_class k8s.service.publish_not_ready_addresses
k8s.service.traffic_distribution os.description os.type"""


def test_the_catalogue_is_upstreams() -> None:
    rows = [line.split() for line in UPSTREAM.strip().splitlines()]
    assert len(rows) == 48
    assert {row[0] for row in rows} == set(CATALOG)
    for name, unit, kind, on, *attributes in rows:
        entry = CATALOG[name]
        metric = entry.metric
        assert (metric.name, metric.unit) == (name, "" if unit == "-" else unit)
        assert kind == ("g" if metric.kind == "gauge" else "m" if metric.monotonic else "s") + ("d" if metric.double else "i"), name
        assert entry.enabled == (on == "on"), name
        assert entry.attributes == tuple(attributes[0].split(",") if attributes else ()), name
        assert metric.description


def test_resource_attributes() -> None:
    assert len(RESOURCE_ATTRIBUTES) == 45
    assert {name for name, on in RESOURCE_ATTRIBUTES.items() if not on} == set(OFF.split())


def test_scope_and_schema() -> None:
    assert SCOPE.endswith("/receiver/k8sclusterreceiver")
    assert SCHEMA_URL == "https://opentelemetry.io/schemas/1.18.0"


@pytest.mark.parametrize(
    "name, wanted",
    [
        ("Ready", "ready"),
        ("MemoryPressure", "memory_pressure"),
        ("PIDPressure", "pid_pressure"),
        ("DiskPressure", "disk_pressure"),
        ("NetworkUnavailable", "network_unavailable"),
        ("ephemeral-storage", "ephemeral_storage"),
        ("hugepages-1Gi", "hugepages_1_gi"),
        ("cpu", "cpu"),
        ("nvidia.com/gpu", "nvidia_com/gpu"),
        ("JSONData", "json_data"),
        ("KernelDeadlock", "kernel_deadlock"),
        ("ABC", "abc"),
        ("a1B", "a_1_b"),
        ("A1", "a_1"),
        ("", ""),
        (" Ready ", "ready"),
    ],
)
def test_snake_case(name: str, wanted: str) -> None:
    assert snake_case(name) == wanted


def test_metrics_named_by_options() -> None:
    condition = condition_metric("PIDPressure")
    assert (condition.name, condition.unit, condition.double) == ("k8s.node.condition_pid_pressure", "", False)
    units = {
        name: (allocatable_metric(name).name, allocatable_metric(name).unit, allocatable_metric(name).double)
        for name in ("cpu", "memory", "ephemeral-storage", "storage", "pods", "nvidia.com/gpu")
    }
    assert units == {
        "cpu": ("k8s.node.allocatable_cpu", "{cpu}", True),
        "memory": ("k8s.node.allocatable_memory", "By", False),
        "ephemeral-storage": ("k8s.node.allocatable_ephemeral_storage", "By", False),
        "storage": ("k8s.node.allocatable_storage", "By", False),
        "pods": ("k8s.node.allocatable_pods", "{pod}", False),
        "nvidia.com/gpu": ("k8s.node.allocatable_nvidia_com/gpu", "{nvidia.com/gpu}", False),
    }


@pytest.mark.parametrize(
    "options, said",
    [
        ({"metrics": {"k8s.pod.fase": {"enabled": True}}}, "did you mean 'k8s.pod.phase'"),
        ({"resource_attributes": {"k8s.pod.uuid": {}}}, "did you mean 'k8s.pod.uid'"),
        ({"resource_attributes": {"k8s.pod.uid": {"metrics_include": [{}]}}}, "either strict or regexp"),
        ({"resource_attributes": {"k8s.pod.uid": {"metrics_include": [{"regexp": "("}]}}}, "regular expression"),
        ({"collection_interval": 10}, "did you mean 10s"),
        ({"distribution": "k3s"}, "openshift"),
        ({"auth_type": "magic"}, "kubeConfig"),
    ],
)
def test_wrong_options_are_explained(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError) as error:
        Config.model_validate(options)
    assert said in str(error.value)
