"""Resource quotas of namespaces, and OpenShift's of the cluster. Neither of them is an entity."""

from __future__ import annotations

from typing import Any

from kofagent.kubernetes.resources import CLUSTERRESOURCEQUOTAS, RESOURCEQUOTAS
from kofagent.kubernetes.trim import Object
from kofagent.receivers.k8s_cluster.model import Described, Point, Selection, Source, at, metadata_of, quota_value
from kofagent.transform.otlp_metrics import Pairs


def _points(status: Any, prefix: str, limit: str, selection: Selection, more: Pairs = ()) -> list[Point]:
    out: list[Point] = []
    for metric, key in ((f"{prefix}.{limit}", "hard"), (f"{prefix}.used", "used")):
        for name, text in (at(status or {}, key) or {}).items():
            out += selection.points((metric, quota_value(name, text), (*more, ("resource", name))))
    return out


def _quota(obj: Object, selection: Selection) -> list[Described]:
    name, namespace, uid = metadata_of(obj)
    return selection.described(
        [("k8s.resourcequota.uid", uid), ("k8s.resourcequota.name", name), ("k8s.namespace.name", namespace)],
        tuple(_points(obj.get("status"), "k8s.resource_quota", "hard_limit", selection)),
    )


def _cluster_quota(obj: Object, selection: Selection) -> list[Described]:
    name, _, uid = metadata_of(obj)
    points = _points(at(obj, "status", "total"), "openshift.clusterquota", "limit", selection)
    for entry in at(obj, "status", "namespaces") or []:
        points += _points(
            entry.get("status"),
            "openshift.appliedclusterquota",
            "limit",
            selection,
            (("k8s.namespace.name", entry.get("namespace", "")),),
        )
    return selection.described([("openshift.clusterquota.name", name), ("openshift.clusterquota.uid", uid)], tuple(points))


QUOTA = Source(RESOURCEQUOTAS, lambda selection: ("status.hard", "status.used"), _quota, (), None)
CLUSTER_QUOTA = Source(CLUSTERRESOURCEQUOTAS, lambda selection: ("status.total", "status.namespaces"), _cluster_quota, (), None)
