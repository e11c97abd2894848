"""A pod as endpoints: the pod, its containers, their ports."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from kofagent.component.observing import Endpoint, join_target
from kofagent.extensions.k8s_observer.folders import Folder
from kofagent.extensions.k8s_observer.objects import described
from kofagent.kubernetes.trim import Field, Object

CONFIG_HASH, MIRROR = "kubernetes.io/config.hash", "kubernetes.io/config.mirror"
"""Annotations of the object that stands for a static pod: by the first one its folder of logs is named."""
_UID = re.compile(r"[0-9A-Za-z-]{1,64}")
FIELDS: tuple[Field, ...] = (
    "metadata.labels",
    "metadata.annotations",
    "metadata.creationTimestamp",
    "spec.containers.name",
    "spec.containers.image",
    "spec.containers.ports",
    "spec.initContainers.name",
    "spec.initContainers.image",
    "spec.ephemeralContainers.name",
    "spec.ephemeralContainers.image",
    "status.phase",
    "status.podIP",
    *(
        f"status.{kind}.{what}"
        for kind in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
        for what in ("name", "containerID", "state", "lastState", "restartCount")
    ),
)
_KINDS = (
    ("containers", "containerStatuses"),
    ("initContainers", "initContainerStatuses"),
    ("ephemeralContainers", "ephemeralContainerStatuses"),
)
_ENDED = ("Succeeded", "Failed")


class Rules(NamedTuple):
    """What of a pod becomes endpoints."""

    types: frozenset[str]
    files: bool
    phases: frozenset[str] | None
    """None: all."""
    init: bool
    ttl: float
    """Seconds for which an ended container is told; not of receivers of files, which end by themselves."""


def folder_uid(obj: Object) -> str:
    """The uid that the kubelet names a pod's folder of logs by."""
    metadata = obj["metadata"]
    annotations = metadata.get("annotations") or {}
    said = str(annotations.get(CONFIG_HASH) or annotations[MIRROR]) if MIRROR in annotations else ""
    # whoever may create pods can write this annotation, and paths are made of it
    return said if _UID.fullmatch(said) else str(metadata.get("uid") or "")


def endpoints(observer: str, obj: Object, rules: Rules, fresh: bool, now: float) -> tuple[list[Endpoint], float]:
    """The endpoints of a pod, and the Unix time when these are others without the pod having changed (inf: never)."""
    status, pod = obj.get("status") or {}, described(obj)
    phase = status.get("phase") or ""
    if rules.phases is not None and phase not in rules.phases:
        return [], float("inf")
    address, since = status.get("podIP") or "", _seconds(obj["metadata"].get("creationTimestamp"))
    if rules.files:
        pod["uid"] = folder_uid(obj)
    base = f"{observer}/{pod['uid']}"
    out, until = [], float("inf")
    if "pod" in rules.types:
        out.append(Endpoint(base, "pod", address, pod, fresh, since, phase in _ENDED))
    for kind, name, image, ports, state in _containers(obj):
        if not _wanted(kind, rules):
            continue
        running = "running" in state.get("state", {})
        over = not running and (phase in _ENDED or (kind == "initContainers" and _succeeded(state)))
        if rules.files:
            if not _has_run(state):
                continue
        elif not running:
            ended = _seconds((state["state"].get("terminated") or {}).get("finishedAt")) if state else 0.0
            if not ended or now > ended + rules.ttl:
                continue
            over, until = True, min(until, ended + rules.ttl)
        id = _container_id(state)
        if "pod.container" in rules.types:
            details: dict[str, Any] = {"container_name": name, "container_id": id, "container_image": image, "pod": pod}
            details["is_init_container"] = kind == "initContainers"
            out.append(Endpoint(f"{base}/{name}", "pod.container", address, details, fresh, since, over))
        if "port" in rules.types and running:
            for port in ports:
                details = {"name": port.get("name") or "", "port": port.get("containerPort") or 0, "pod": pod}
                details |= {"transport": _transport(port.get("protocol")), "container_name": name, "container_id": id}
                details["container_image"] = image
                target = join_target(address, details["port"])
                out.append(Endpoint(f"{base}/{details['name']}({details['port']})", "port", target, details, fresh, since))
    return out, until


def on_disk(observer: str, folder: Folder, container: str, since: float, fresh: bool, over: bool) -> Endpoint:
    """The endpoint of a container of which only its folder is known. `over`: the API does not have the pod."""
    about: dict[str, object] = {"uid": folder.uid, "name": folder.name, "namespace": folder.namespace}
    about |= {"labels": {}, "annotations": {}}
    details = {"container_name": container, "container_id": "", "container_image": "", "pod": about, "is_init_container": False}
    return Endpoint(f"{observer}/{folder.uid}/{container}", "pod.container", "", details, fresh, since, over)


def _containers(obj: Object) -> Iterator[tuple[str, str, str, list[Any], dict[str, Any]]]:
    """Kind, name, image, ports and status of every container of a pod."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    for kind, where in _KINDS:
        known = {each.get("name"): each for each in status.get(where) or ()}
        for container in spec.get(kind) or ():
            name = container.get("name") or ""
            state = dict(known.get(name) or {})
            state["state"] = state.get("state") or {}
            yield kind, name, container.get("image") or "", container.get("ports") or [], state


def _wanted(kind: str, rules: Rules) -> bool:
    if kind == "initContainers":
        return rules.init
    return kind == "containers" or rules.files


def _has_run(state: dict[str, Any]) -> bool:
    """Whether there can be a file of it."""
    now = state["state"]
    return bool("running" in now or "terminated" in now or state.get("restartCount") or state.get("lastState"))


def _succeeded(state: dict[str, Any]) -> bool:
    """Whether an init container has done what it was for; one that failed may be run again."""
    ended = state["state"].get("terminated")
    return isinstance(ended, dict) and ended.get("exitCode", 0) == 0


def _container_id(state: dict[str, Any]) -> str:
    """The id without the name of the runtime in front."""
    _, found, id = str(state.get("containerID") or "").partition("://")
    return id if found else ""


def _transport(protocol: Any) -> str:
    return {None: "TCP", "": "TCP", "TCP": "TCP", "UDP": "UDP"}.get(protocol, "Unknown")


def _seconds(text: Any) -> float:
    """Unix time of a timestamp of the API; 0.0 for what is none."""
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return 0.0
