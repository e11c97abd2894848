"""Attributes of a pod, from objects of the API. No I/O.

Attributes and their precedence are upstream's: processor/k8sattributesprocessor 0.160.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kofagent.config.re2 import compile_search
from kofagent.kubernetes.changes import unix_seconds
from kofagent.kubernetes.image import container_id, split_image
from kofagent.kubernetes.trim import Field
from kofagent.processors.k8sattributes.config import Config, ExtractRule
from kofagent.processors.k8sattributes.images import repo_digest, service_version
from kofagent.processors.k8sattributes.rules import OTEL_ANNOTATIONS, compile_rules

Object = Mapping[str, Any]
IGNORE = "opentelemetry.io/k8s-processor/ignore"
CONFIG_HASH = "kubernetes.io/config.hash"
KINDS = ("pod", "namespace", "node", "deployment", "replicaset", "statefulset", "daemonset", "job", "cronjob")
_OWNERS = {"ReplicaSet": "replicaset", "DaemonSet": "daemonset", "StatefulSet": "statefulset", "Job": "job"}
_OF_CONTAINERS = {
    "k8s.container.name",
    "container.id",
    "container.image.name",
    "container.image.tag",
    "container.image.tags",
    "container.image.repo_digests",
    "service.version",
    "service.instance.id",
}
_OF_OWNERS = {
    f"k8s.{kind}.{what}"
    for kind in ("replicaset", "daemonset", "statefulset", "job", "deployment", "cronjob")
    for what in ("name", "uid")
} | {"service.name"}
_CRONJOB = re.compile(r"(.*)-([0-9]{8})", re.ASCII)
_REPLICASET = re.compile(r"(.*)-[0-9a-zA-Z]+", re.ASCII)
CRONJOB_SKEW_MINUTES = 24 * 60


_LABELS_USED = {
    "service.name": ("app.kubernetes.io/name", "app.kubernetes.io/instance", "pod-template-hash"),
    "service.version": ("app.kubernetes.io/version",),
    "k8s.deployment.name": ("pod-template-hash",),
}


def _keys_of(rules: Iterable[ExtractRule]) -> dict[str, set[str | None]]:
    """The keys that rules read, by kind; None among them: any."""
    out: dict[str, set[str | None]] = {}
    for rule in rules:
        out.setdefault(rule.from_, set()).add(rule.key or None)
    return out


class Extraction:
    """The configuration of what is extracted, and what of the objects is needed for it."""

    def __init__(self, config: Config) -> None:
        extract = config.extract
        self.wanted = extract.wanted()
        self._from_replicaset = extract.deployment_name_from_replicaset
        annotations = [*extract.annotations, *([OTEL_ANNOTATIONS] if extract.otel_annotations else [])]
        self._labels = {kind: compile_rules(extract.labels, "label", kind) for kind in KINDS}
        self._annotations = {kind: compile_rules(annotations, "annotation", kind) for kind in KINDS}
        self._excluded = [compile_search(p.name) for p in config.exclude.pods]
        self.containers = bool(self.wanted & _OF_CONTAINERS)
        self.owners = bool(self.wanted & _OF_OWNERS)
        attributes = {s.attribute for a in config.pod_association for s in a.sources}
        self._container_ids = "container.id" in attributes
        self._addresses = not attributes or bool(attributes & {"", "k8s.pod.ip", "host.name"})
        self._keys = {"labels": _keys_of(extract.labels), "annotations": _keys_of(annotations)}

    def has_rules(self, kind: str) -> bool:
        """Whether labels or annotations of this kind are extracted."""
        return bool(self._labels[kind] or self._annotations[kind])

    def needs(self, kind: str) -> bool:
        """Whether objects of a kind other than pods have to be watched."""
        wanted = self.wanted
        if kind == "replicaset":
            return self.has_rules(kind) or self.has_rules("deployment") or "k8s.deployment.uid" in wanted
        if kind == "job":
            return self.has_rules(kind) or self.has_rules("cronjob") or "k8s.cronjob.uid" in wanted
        if kind == "node":
            return self.has_rules(kind) or "k8s.node.uid" in wanted
        if kind == "namespace":
            return self.has_rules(kind) or "k8s.cluster.uid" in wanted
        return self.has_rules(kind)

    def fields(self, kind: str) -> list[Field]:
        """The fields of objects of this kind that are used."""
        wanted = self.wanted
        out: list[Field] = []
        for what, keys in self._keys.items():
            if None in keys.get(kind, ()):
                out.append(f"metadata.{what}")
            out += [("metadata", what, key) for key in keys.get(kind, ()) if key is not None]
        owner: list[Field] = [f"metadata.ownerReferences.{f}" for f in ("kind", "name", "uid", "controller")]
        if kind in ("replicaset", "job"):
            out += owner
        if kind != "pod":
            return out
        out += [("metadata", "annotations", IGNORE), ("metadata", "annotations", CONFIG_HASH), "spec.nodeName"]
        if self._addresses or "k8s.pod.ip" in wanted:
            out.append("status.podIP")
        if self._addresses:
            out += ["spec.hostNetwork", "status.podIPs", "status.startTime"]
        for name, labels in _LABELS_USED.items():
            if name in wanted:
                out += [("metadata", "labels", label) for label in labels]
        if self.owners or any(self.needs(k) for k in KINDS[3:]):
            out += owner
        if wanted & {"k8s.pod.start_time", "k8s.cronjob.name", "service.name"}:
            out.append("metadata.creationTimestamp")
        if "k8s.pod.hostname" in wanted:
            out.append("spec.hostname")
        if self.containers or self._container_ids:
            for group in ("containers", "initContainers"):
                out += [f"spec.{group}.name", f"spec.{group}.image"]
            for group in ("containerStatuses", "initContainerStatuses"):
                out += [f"status.{group}.{f}" for f in ("name", "containerID", "restartCount", "lastState.terminated.containerID")]
                if "container.image.repo_digests" in wanted:
                    out.append(f"status.{group}.imageID")
        return out

    def ignored(self, pod: Object) -> bool:
        """Whether the pod is excluded, by its annotation or by `exclude`."""
        metadata = pod["metadata"]
        if str((metadata.get("annotations") or {}).get(IGNORE, "")).strip().lower() == "true":
            return True
        return any(search(metadata["name"]) for search in self._excluded)

    def of_object(self, kind: str, obj: Object) -> dict[str, str]:
        """Attributes from labels and annotations of an object that is not a pod."""
        out: dict[str, str] = {}
        self._rules(kind, obj["metadata"], out)
        return out

    def _rules(self, kind: str, metadata: Object, out: dict[str, str]) -> None:
        labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
        for rule in self._labels[kind]:
            rule(labels, out)
        if kind == "pod":
            for key in ("app.kubernetes.io/name", "app.kubernetes.io/instance"):
                if "service.name" in self.wanted and key in labels:
                    out["service.name"] = labels[key]
            if "service.version" in self.wanted and "app.kubernetes.io/version" in labels:
                out["service.version"] = labels["app.kubernetes.io/version"]
        for rule in self._annotations[kind]:
            rule(annotations, out)

    def of_pod(self, pod: Object, find: Callable[[str, str], Object | None]) -> dict[str, str]:
        """Attributes of a pod. `find(kind, uid)` gives owners that are watched."""
        wanted, metadata = self.wanted, pod["metadata"]
        spec, status = pod.get("spec") or {}, pod.get("status") or {}
        namespace = metadata.get("namespace", "")
        out: dict[str, str] = {}
        for key, value in (
            ("k8s.pod.name", metadata["name"]),
            ("service.name", metadata["name"]),
            ("k8s.pod.hostname", spec.get("hostname", "")),
            ("k8s.pod.ip", status.get("podIP", "")),
            ("k8s.namespace.name", namespace),
            ("service.namespace", namespace),
            ("k8s.pod.start_time", metadata.get("creationTimestamp", "")),
            ("k8s.pod.uid", metadata.get("uid", "")),
            ("k8s.node.name", spec.get("nodeName", "")),
        ):
            if key in wanted and value:
                out[key] = value
        for owner in metadata.get("ownerReferences") or ():
            kind = _OWNERS.get(owner.get("kind"))
            if kind is not None:
                self._owner(pod, kind, str(owner.get("name", "")), str(owner.get("uid", "")), find, out)
        self._rules("pod", metadata, out)
        return out

    def _owner(
        self, pod: Object, kind: str, name: str, uid: str, find: Callable[[str, str], Object | None], out: dict[str, str]
    ) -> None:
        wanted = self.wanted

        def put(above: str, name: str, uid: str) -> None:
            for key, value in ((f"k8s.{above}.name", name), (f"k8s.{above}.uid", uid), ("service.name", name)):
                if key in wanted and value:
                    out[key] = value

        put(kind, name, uid)
        if kind == "replicaset":
            seen = find(kind, uid)
            above = controller(seen, "Deployment") if seen is not None else (self._deployment_name(pod, name), "")
            put("deployment", *above)
        elif kind == "job":
            seen = find(kind, uid)
            above = controller(seen, "CronJob") if seen is not None else (_cronjob_name(pod, name), "")
            put("cronjob", *above)

    def _deployment_name(self, pod: Object, replicaset: str) -> str:
        template = (pod["metadata"].get("labels") or {}).get("pod-template-hash")
        if template and replicaset.endswith(f"-{template}"):
            return replicaset[: -len(template) - 1]
        match = _REPLICASET.fullmatch(replicaset) if self._from_replicaset else None
        return match[1] if match is not None else ""

    # -- containers ------------------------------------------------------------------------------------------------------

    def of_container(self, pod: Object, resource: Mapping[str, Any]) -> dict[str, Any]:
        """Attributes of the container that `resource` (attributes there are) names by k8s.container.name or container.id, or of
        the only one of the pod."""
        if not self.containers:
            return {}
        wanted = self.wanted
        name = self._container_name(pod, resource)
        if name is None:
            return {}
        metadata = pod["metadata"]
        out: dict[str, Any] = {}
        image = next((str(c.get("image", "")) for c in _containers(pod) if c.get("name") == name), "")
        parts = split_image(image)
        runs = _runs(pod, name)
        for key, value in (
            ("k8s.container.name", name if runs else ""),
            ("container.image.name", parts[0] if parts else ""),
            ("container.image.tag", parts[1] if parts else ""),
            ("container.image.tags", [parts[1]] if parts else []),
            ("service.version", service_version(image)),
            ("service.instance.id", f"{metadata.get('namespace', '')}.{metadata['name']}.{name}" if runs else ""),
        ):
            if key in wanted and value:
                out[key] = value
        run = _run(runs, resource.get("k8s.container.restart_count"))
        if run is not None:
            digest = repo_digest(run[1])
            if "container.id" in wanted and run[0]:
                out["container.id"] = run[0]
            if "container.image.repo_digests" in wanted and digest:
                out["container.image.repo_digests"] = [digest]
        return out

    def _container_name(self, pod: Object, resource: Mapping[str, Any]) -> str | None:
        names = [str(c.get("name")) for c in (*_containers(pod), *_statuses(pod))]
        name, id = resource.get("k8s.container.name"), resource.get("container.id")
        if isinstance(name, str) and name:
            return name if name in names else None
        if isinstance(id, str) and id:
            return next((str(s["name"]) for s in _statuses(pod) if id in _ids(s)), None)
        only = {str(s.get("name")) for s in _statuses(pod)}
        if len(only) == 1:
            return only.pop()
        return names[0] if len(set(names)) == 1 else None


def container_ids(pod: Object) -> list[str]:
    """Ids of all containers of a pod, and of those they replaced."""
    return [id for status in _statuses(pod) for id in _ids(status)]


def addresses(pod: Object) -> list[str]:
    """The pod's own IP addresses; none where it uses the host's."""
    status = pod.get("status") or {}
    if (pod.get("spec") or {}).get("hostNetwork"):
        return []
    found = [status.get("podIP"), *[ip.get("ip") for ip in status.get("podIPs") or ()]]
    return list(dict.fromkeys([ip for ip in found if ip]))


def owner_uid(obj: Object, kind: str) -> str:
    """The uid of the owner of this kind (`ReplicaSet`); empty without one."""
    return next((str(o.get("uid", "")) for o in obj["metadata"].get("ownerReferences") or () if o.get("kind") == kind), "")


def controller(obj: Object, kind: str) -> tuple[str, str]:
    """Name and uid of the controlling owner of this kind; empty without one."""
    for owner in obj["metadata"].get("ownerReferences") or ():
        if owner.get("kind") == kind and owner.get("controller"):
            return str(owner.get("name", "")), str(owner.get("uid", ""))
    return "", ""


def _cronjob_name(pod: Object, job: str) -> str:
    """The cron job's name in a job's: its last eight digits are the minute of its schedule, close to the pod's creation."""
    match = _CRONJOB.fullmatch(job)
    created = unix_seconds(pod["metadata"].get("creationTimestamp"))
    if match is None or created is None or abs(int(created) // 60 - int(match[2])) > CRONJOB_SKEW_MINUTES:
        return ""
    return match[1]


def _containers(pod: Object) -> list[Any]:
    spec = pod.get("spec") or {}
    return [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]


def _statuses(pod: Object) -> list[Any]:
    status = pod.get("status") or {}
    return [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]


def _plain_id(text: Any) -> str:
    return container_id(str(text or ""))


def _ids(status: Any) -> list[str]:
    found = [_plain_id(status.get("containerID")), _plain_id(_last(status))]
    return [id for id in dict.fromkeys(found) if id]


def _last(status: Any) -> Any:
    return ((status.get("lastState") or {}).get("terminated") or {}).get("containerID")


def _runs(pod: Object, name: str) -> dict[int, tuple[str, str]]:
    """(container id, image id) by restart count: of what runs, and of the run before it where that is known."""
    out: dict[int, tuple[str, str]] = {}
    for status in _statuses(pod):
        if status.get("name") == name:
            count, image = int(status.get("restartCount") or 0), str(status.get("imageID") or "")
            before = _plain_id(_last(status))
            if before and count > 0 and before != _plain_id(status.get("containerID")):
                out[count - 1] = (before, image)
            out[count] = (_plain_id(status.get("containerID")), image)
    return out


def _run(runs: dict[int, tuple[str, str]], count: Any) -> tuple[str, str] | None:
    if count is None:
        return runs[max(runs)] if runs else None
    try:
        return runs.get(int(count))
    except (TypeError, ValueError):
        return None
