"""Deployments, replica sets, replication controllers, daemon sets, stateful sets, jobs, cron jobs and autoscalers."""

from __future__ import annotations

from kofagent.kubernetes.resources import (
    CRONJOBS,
    DAEMONSETS,
    DEPLOYMENTS,
    HPAS,
    JOBS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    STATEFULSETS,
    Resource,
)
from kofagent.kubernetes.trim import Field, Object
from kofagent.receivers.k8s_cluster.model import (
    META_FIELDS,
    Described,
    Entity,
    Lookup,
    Selection,
    Source,
    at,
    generic_entity,
    metadata_of,
    number,
)
from kofagent.wire.attributes import Value


def _identity(obj: Object, kind: str) -> list[tuple[str, Value]]:
    name, namespace, uid = metadata_of(obj)
    return [("k8s.namespace.name", namespace), (f"k8s.{kind}.name", name), (f"k8s.{kind}.uid", uid)]


def _replicas(kind: str, prefix: str, obj: Object, selection: Selection) -> list[Described]:
    desired = at(obj, "spec", "replicas")
    return selection.described(
        _identity(obj, kind),
        selection.points(
            (f"{prefix}.desired", desired),
            (f"{prefix}.available", None if desired is None else number(obj, "status", "availableReplicas")),
        ),
    )


def _daemonset(obj: Object, selection: Selection) -> list[Described]:
    return selection.described(
        _identity(obj, "daemonset"),
        selection.points(
            ("k8s.daemonset.current_scheduled_nodes", number(obj, "status", "currentNumberScheduled")),
            ("k8s.daemonset.desired_scheduled_nodes", number(obj, "status", "desiredNumberScheduled")),
            ("k8s.daemonset.misscheduled_nodes", number(obj, "status", "numberMisscheduled")),
            ("k8s.daemonset.ready_nodes", number(obj, "status", "numberReady")),
        ),
    )


def _statefulset(obj: Object, selection: Selection) -> list[Described]:
    desired = at(obj, "spec", "replicas")
    if desired is None:
        return []
    return selection.described(
        _identity(obj, "statefulset"),
        selection.points(
            ("k8s.statefulset.desired_pods", desired),
            ("k8s.statefulset.ready_pods", number(obj, "status", "readyReplicas")),
            ("k8s.statefulset.current_pods", number(obj, "status", "currentReplicas")),
            ("k8s.statefulset.updated_pods", number(obj, "status", "updatedReplicas")),
        ),
    )


def _job(obj: Object, selection: Selection) -> list[Described]:
    return selection.described(
        _identity(obj, "job"),
        selection.points(
            ("k8s.job.active_pods", number(obj, "status", "active")),
            ("k8s.job.failed_pods", number(obj, "status", "failed")),
            ("k8s.job.successful_pods", number(obj, "status", "succeeded")),
            ("k8s.job.desired_successful_pods", at(obj, "spec", "completions")),
            ("k8s.job.max_parallel_pods", at(obj, "spec", "parallelism")),
        ),
    )


def _cronjob(obj: Object, selection: Selection) -> list[Described]:
    return selection.described(
        _identity(obj, "cronjob"), selection.points(("k8s.cronjob.active_jobs", len(at(obj, "status", "active") or [])))
    )


def _hpa(obj: Object, selection: Selection) -> list[Described]:
    target = at(obj, "spec", "scaleTargetRef") or {}
    return selection.described(
        [
            *_identity(obj, "hpa"),
            ("k8s.hpa.scaletargetref.apiversion", target.get("apiVersion") or ""),
            ("k8s.hpa.scaletargetref.kind", target.get("kind") or ""),
            ("k8s.hpa.scaletargetref.name", target.get("name") or ""),
        ],
        selection.points(
            ("k8s.hpa.max_replicas", number(obj, "spec", "maxReplicas")),
            ("k8s.hpa.min_replicas", at(obj, "spec", "minReplicas")),
            ("k8s.hpa.current_replicas", number(obj, "status", "currentReplicas")),
            ("k8s.hpa.desired_replicas", number(obj, "status", "desiredReplicas")),
        ),
    )


def _hpa_fields(selection: Selection) -> tuple[Field, ...]:
    needed: tuple[Field, ...] = ("spec.maxReplicas", "spec.minReplicas", "status.currentReplicas", "status.desiredReplicas")
    if any(name.startswith("k8s.hpa.scaletargetref") for name in selection.attributes):
        needed += ("spec.scaleTargetRef",)
    return needed


def _statefulset_entities(obj: Object, lookup: Lookup) -> list[Entity]:
    entity = generic_entity(obj, "StatefulSet")
    entity.attributes["current_revision"] = at(obj, "status", "currentRevision") or ""
    entity.attributes["update_revision"] = at(obj, "status", "updateRevision") or ""
    return [entity]


def _deployment_entities(obj: Object, lookup: Lookup) -> list[Entity]:
    entity = generic_entity(obj, "Deployment")
    entity.attributes["k8s.deployment.name"] = obj["metadata"]["name"]
    return [entity]


def _cronjob_entities(obj: Object, lookup: Lookup) -> list[Entity]:
    entity = generic_entity(obj, "CronJob")
    entity.attributes["schedule"] = at(obj, "spec", "schedule") or ""
    entity.attributes["concurrency_policy"] = at(obj, "spec", "concurrencyPolicy") or ""
    return [entity]


def _replica_source(resource: Resource, kind: str, prefix: str) -> Source:
    return Source(
        resource,
        lambda selection: ("spec.replicas", "status.availableReplicas"),
        lambda obj, selection: _replicas(kind, prefix, obj, selection),
        META_FIELDS,
        _deployment_entities if resource is DEPLOYMENTS else lambda obj, lookup: [generic_entity(obj, resource.kind)],
    )


SOURCES = (
    _replica_source(DEPLOYMENTS, "deployment", "k8s.deployment"),
    _replica_source(REPLICASETS, "replicaset", "k8s.replicaset"),
    _replica_source(REPLICATIONCONTROLLERS, "replicationcontroller", "k8s.replication_controller"),
    Source(
        DAEMONSETS,
        lambda selection: (
            "status.currentNumberScheduled",
            "status.desiredNumberScheduled",
            "status.numberMisscheduled",
            "status.numberReady",
        ),
        _daemonset,
        META_FIELDS,
        lambda obj, lookup: [generic_entity(obj, "DaemonSet")],
    ),
    Source(
        STATEFULSETS,
        lambda selection: ("spec.replicas", "status.readyReplicas", "status.currentReplicas", "status.updatedReplicas"),
        _statefulset,
        (*META_FIELDS, "status.currentRevision", "status.updateRevision"),
        _statefulset_entities,
    ),
    Source(
        JOBS,
        lambda selection: ("spec.completions", "spec.parallelism", "status.active", "status.failed", "status.succeeded"),
        _job,
        META_FIELDS,
        lambda obj, lookup: [generic_entity(obj, "Job")],
    ),
    Source(
        CRONJOBS,
        lambda selection: ("status.active.uid",),
        _cronjob,
        (*META_FIELDS, "spec.schedule", "spec.concurrencyPolicy"),
        _cronjob_entities,
    ),
    Source(HPAS, _hpa_fields, _hpa, META_FIELDS, lambda obj, lookup: [generic_entity(obj, "HPA")]),
)
