"""Nodes and namespaces."""

from __future__ import annotations

from kofagent.kubernetes import quantity
from kofagent.kubernetes.resources import NAMESPACES, NODES
from kofagent.kubernetes.trim import Field, Object
from kofagent.receivers.k8s_cluster.catalog import snake_case
from kofagent.receivers.k8s_cluster.model import (
    META_FIELDS,
    Described,
    Entity,
    Lookup,
    Point,
    Selection,
    Source,
    amount,
    at,
    created,
    labels_of,
    metadata_of,
)

_STATUSES = {"True": 1, "False": 0, "Unknown": -1}
_KUBELETS_CONDITIONS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")


def node_fields(selection: Selection) -> tuple[Field, ...]:
    """Fields of a node that metrics need."""
    needed: list[Field] = ["status.conditions.type", "status.conditions.status"]
    needed += [("status", "allocatable", name) for name, _ in selection.allocatable]
    for attribute, field in (
        ("k8s.kubelet.version", "kubeletVersion"),
        ("container.runtime", "containerRuntimeVersion"),
        ("container.runtime.version", "containerRuntimeVersion"),
        ("os.description", "osImage"),
        ("os.type", "operatingSystem"),
    ):
        if attribute in selection.attributes:
            needed.append(f"status.nodeInfo.{field}")
    return tuple(needed)


def describe_node(node: Object, selection: Selection) -> list[Described]:
    """The conditions and allocatable resources asked for, and k8s.node.condition where it is on."""
    name, _, uid = metadata_of(node)
    info = at(node, "status", "nodeInfo") or {}
    conditions = {c.get("type"): _STATUSES.get(c.get("status"), 0) for c in reversed(at(node, "status", "conditions") or [])}
    points: list[Point] = [(metric, conditions.get(c, -1), ()) for c, metric in selection.conditions]
    allocatable = at(node, "status", "allocatable") or {}
    for resource, metric in selection.allocatable:
        value = amount(quantity.cores if resource == "cpu" else quantity.whole, allocatable.get(resource))
        if value is not None:
            points.append((metric, value, ()))
    runtime, _, version = (info.get("containerRuntimeVersion") or "").partition("://")
    if not version or "://" in version:
        runtime = version = ""
    basic = [("k8s.node.uid", uid), ("k8s.node.name", name), ("k8s.kubelet.version", info.get("kubeletVersion") or "")]
    out = selection.described(
        [
            *basic,
            ("os.type", info.get("operatingSystem") or ""),
            ("container.runtime", runtime or None),
            ("container.runtime.version", version or None),
            ("os.description", info.get("osImage") or ""),
        ],
        tuple(points),
        started=False,
    )
    if selection.on("k8s.node.condition"):
        out += selection.described(
            basic,
            selection.points(
                *(("k8s.node.condition", value, (("condition", kind),)) for kind, value in reversed(conditions.items()))
            ),
        )
    return out


def node_entities(node: Object, lookup: Lookup) -> list[Entity]:
    """The node; of its conditions those that the kubelet sets."""
    name, _, uid = metadata_of(node)
    out = labels_of(node)
    out |= {"k8s.node.name": name, "node.creation_timestamp": created(node)}
    for condition in at(node, "status", "conditions") or []:
        if condition.get("type") in _KUBELETS_CONDITIONS:
            out[f"k8s.node.condition_{snake_case(condition['type'])}"] = (condition.get("status") or "").lower()
    return [Entity("k8s.node", "k8s.node.uid", uid, out)]


def describe_namespace(namespace: Object, selection: Selection) -> list[Described]:
    """The phase."""
    name, _, uid = metadata_of(namespace)
    phase = at(namespace, "status", "phase") or ""
    value = {"Active": 1, "Terminating": 0, "": -1}.get(phase, 0)
    return selection.described(
        [("k8s.namespace.uid", uid), ("k8s.namespace.name", name)], selection.points(("k8s.namespace.phase", value))
    )


def namespace_entities(namespace: Object, lookup: Lookup) -> list[Entity]:
    """The namespace."""
    name, _, uid = metadata_of(namespace)
    phase = (at(namespace, "status", "phase") or "unknown").lower()
    return [
        Entity(
            "k8s.namespace",
            "k8s.namespace.uid",
            uid,
            {"k8s.namespace.name": name, "k8s.namespace.phase": phase, "k8s.namespace.creation_timestamp": created(namespace)},
        )
    ]


NODE = Source(
    NODES, node_fields, describe_node, (*META_FIELDS, "status.conditions.type", "status.conditions.status"), node_entities
)
NAMESPACE = Source(
    NAMESPACES,
    lambda selection: ("status.phase",),
    describe_namespace,
    ("metadata.creationTimestamp", "status.phase"),
    namespace_entities,
)
