"""Pods and their containers."""

from __future__ import annotations

from typing import Any

from kofagent.kubernetes import quantity
from kofagent.kubernetes.image import container_id, image_of
from kofagent.kubernetes.resources import JOBS, PODS, REPLICASETS
from kofagent.kubernetes.trim import Field, Object
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
    number,
    owners,
)

_PHASES = {"Pending": 1, "Running": 2, "Succeeded": 3, "Failed": 4, "Unknown": 5}
_STATUS_REASONS = {"Evicted": 1, "NodeAffinity": 2, "NodeLost": 3, "Shutdown": 4, "UnexpectedAdmissionError": 5}
_STATES = ("running", "waiting", "terminated")
_REASONS = (
    "ContainerCreating",
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "ErrImagePull",
    "ImagePullBackOff",
    "OOMKilled",
    "Completed",
    "Error",
    "ContainerCannotRun",
)
_AMOUNTS = (
    ("cpu", "cpu", quantity.cores),
    ("memory", "memory", quantity.whole),
    ("storage", "storage", quantity.whole),
    ("ephemeral-storage", "ephemeralstorage", quantity.whole),
)


def fields(selection: Selection) -> tuple[Field, ...]:
    """Fields of a pod that metrics need."""
    needed: list[Field] = ["spec.nodeName", "status.phase", "spec.containers.name", "spec.containers.image"]
    needed += [f"status.containerStatuses.{f}" for f in ("name", "image", "containerID", "restartCount", "ready")]
    if selection.on(*(f"k8s.container.{name}_request" for _, name, _ in _AMOUNTS)):
        needed.append("spec.containers.resources.requests")
    if selection.on(*(f"k8s.container.{name}_limit" for _, name, _ in _AMOUNTS)):
        needed.append("spec.containers.resources.limits")
    if selection.on("k8s.pod.status_reason"):
        needed.append("status.reason")
    if "k8s.pod.qos_class" in selection.attributes:
        needed.append("status.qosClass")
    if selection.on("k8s.container.status.state", "k8s.container.status.reason"):
        needed.append("status.containerStatuses.state")
    if "k8s.container.status.last_terminated_reason" in selection.attributes:
        needed.append("status.containerStatuses.lastState.terminated.reason")
    return tuple(needed)


def describe(pod: Object, selection: Selection) -> list[Described]:
    """The pod's resource and one for each of its containers (init containers have none)."""
    name, namespace, uid = metadata_of(pod)
    node = at(pod, "spec", "nodeName") or ""
    where = [("k8s.namespace.name", namespace), ("k8s.node.name", node), ("k8s.pod.name", name), ("k8s.pod.uid", uid)]
    out = selection.described(
        [*where, ("k8s.pod.qos_class", at(pod, "status", "qosClass") or "")],
        selection.points(
            ("k8s.pod.phase", _PHASES.get(at(pod, "status", "phase"), 5)),
            ("k8s.pod.status_reason", _STATUS_REASONS.get(at(pod, "status", "reason"), 6)),
        ),
    )
    statuses = {s.get("name"): s for s in reversed(at(pod, "status", "containerStatuses") or [])}
    for container in at(pod, "spec", "containers") or []:
        out += _container(container, statuses.get(container["name"]), where, selection)
    return out


def _container(
    container: dict[str, Any], status: dict[str, Any] | None, where: list[tuple[str, str]], selection: Selection
) -> list[Described]:
    requests, limits = at(container, "resources", "requests") or {}, at(container, "resources", "limits") or {}
    points: list[Point] = []
    for key, name, read in _AMOUNTS:
        points += selection.points(
            (f"k8s.container.{name}_request", amount(read, requests.get(key))),
            (f"k8s.container.{name}_limit", amount(read, limits.get(key))),
        )
    last_reason = None
    if status is not None:
        points += selection.points(
            ("k8s.container.restarts", number(status, "restartCount")), ("k8s.container.ready", 1 if status.get("ready") else 0)
        )
        points += _state_points(status.get("state") or {}, selection)
        if at(status, "lastState", "terminated") is not None:
            last_reason = at(status, "lastState", "terminated", "reason") or ""
    image = (image_of(status.get("image") or "", container.get("image") or "") if status is not None else None) or (None, None)
    return selection.described(
        [
            ("container.id", container_id((status or {}).get("containerID") or "")),
            ("container.image.name", image[0]),
            ("container.image.tag", image[1]),
            ("k8s.container.name", container["name"]),
            ("k8s.container.status.last_terminated_reason", last_reason),
            *where,
        ],
        tuple(points),
    )


def _state_points(state: dict[str, Any], selection: Selection) -> list[Point]:
    points: list[Point] = []
    now = next((s for s in ("running", "terminated", "waiting") if s in state), None)
    if now is not None and selection.on("k8s.container.status.state"):
        for one in _STATES:
            points += selection.points(("k8s.container.status.state", int(one == now), (("k8s.container.status.state", one),)))
    if selection.on("k8s.container.status.reason"):
        reason = _reason(state)
        for one in _REASONS:
            points += selection.points(("k8s.container.status.reason", int(one == reason), (("k8s.container.status.reason", one),)))
    return points


def _reason(state: dict[str, Any]) -> str:
    for name in ("terminated", "waiting"):
        if name in state:
            return at(state, name, "reason") or ""
    return ""


def entities(pod: Object, lookup: Lookup, services: list[str]) -> list[Entity]:
    """The pod and its containers. `services` are the names of the services that select the pod; the first is reported."""
    name, namespace, uid = metadata_of(pod)
    node = at(pod, "spec", "nodeName") or ""
    out = labels_of(pod)
    out |= {"pod.creation_timestamp": created(pod), "k8s.pod.phase": at(pod, "status", "phase") or "Unknown"}
    if at(pod, "status", "reason"):
        out["k8s.pod.status_reason"] = at(pod, "status", "reason")
    out["k8s.node.name"] = node
    for owner in owners(pod):
        kind = owner.get("kind", "")
        out[f"k8s.{kind.lower()}.name"] = owner.get("name", "")
        out[f"k8s.{kind.lower()}.uid"] = owner.get("uid", "")
        if kind not in ("ReplicaSet", "Job"):
            out |= {"k8s.workload.kind": kind, "k8s.workload.name": owner.get("name", "")}
    if services:
        out[f"k8s.service.{min(services)}"] = ""
    for kind, resource, above in (("Job", JOBS, "CronJob"), ("ReplicaSet", REPLICASETS, "Deployment")):
        out |= _workload(pod, kind, above, lookup(resource, namespace, _owner_name(pod, kind)))
    out |= {"k8s.namespace.name": namespace, "k8s.pod.name": name}
    return [Entity("k8s.pod", "k8s.pod.uid", uid, out), *_container_entities(pod, name, namespace, uid, node)]


def _owner_name(pod: Object, kind: str) -> str:
    return next((o.get("name", "") for o in owners(pod) if o.get("kind") == kind), "")


def _workload(pod: Object, kind: str, above: str, owner: Object | None) -> dict[str, str]:
    """What the pod's Job or ReplicaSet says: the CronJob or Deployment over it is the workload, else it is itself."""
    if owner is None:
        return {}
    reference = next((o for o in owners(owner) if o.get("kind") == above), None) or next(
        (o for o in owners(pod) if o.get("kind") == kind), {}
    )
    found, name = reference.get("kind", ""), reference.get("name", "")
    return {
        "k8s.workload.kind": found,
        "k8s.workload.name": name,
        f"k8s.{found.lower()}.name": name,
        f"k8s.{found.lower()}.uid": reference.get("uid", ""),
    }


def _container_entities(pod: Object, name: str, namespace: str, uid: str, node: str) -> list[Entity]:
    out = []
    asked = {c.get("name"): c.get("image") or "" for c in at(pod, "spec", "containers") or []}
    for status in at(pod, "status", "containerStatuses") or []:
        identity = container_id(status.get("containerID") or "")
        if not identity:
            continue  # it was not made yet; all such containers would be one entity
        told: dict[str, str] = {}
        image = image_of(status.get("image") or "", asked.get(status.get("name"), ""))
        if image is not None:
            told |= {"container.image.name": image[0], "container.image.tag": image[1]}
        told |= {
            "k8s.container.name": status.get("name", ""),
            "k8s.pod.name": name,
            "k8s.pod.uid": uid,
            "k8s.namespace.name": namespace,
            "k8s.node.name": node,
        }
        state = status.get("state") or {}
        for one in ("running", "terminated", "waiting"):
            if one in state:
                told["container.status"] = one
                if one != "running":
                    told["container.status.reason"] = at(state, one, "reason") or ""
                if one != "waiting" and at(state, one, "startedAt"):
                    told["container.creation_timestamp"] = at(state, one, "startedAt")
        out.append(Entity("container", "container.id", identity, told))
    return out


ENTITY_FIELDS: tuple[Field, ...] = (
    *META_FIELDS,
    "spec.nodeName",
    "status.phase",
    "status.reason",
    "spec.containers.name",
    "spec.containers.image",
    *(f"status.containerStatuses.{f}" for f in ("name", "image", "containerID", "state")),
)

SOURCE = Source(PODS, fields, describe, ENTITY_FIELDS, lambda pod, lookup: entities(pod, lookup, []))
