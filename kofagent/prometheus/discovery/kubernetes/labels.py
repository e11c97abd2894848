"""Meta labels that several roles share: of objects, pods, services, nodes and namespaces (prometheus.io, kubernetes_sd_config).

All functions take objects as the Kubernetes API gives them in JSON, and treat a field that is missing as empty.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from kofagent.memory.memo import Memo

Object = Mapping[str, Any]
"""An object of the API, or the part of it that `fields` keeps."""
Labels = dict[str, str]
META = "__meta_kubernetes_"
NAMESPACE = META + "namespace"
_INVALID = re.compile(r"[^a-zA-Z0-9_]")


class Lookup(Protocol):
    """Objects that others refer to. Every method returns None for what does not exist or is not watched."""

    def pod(self, namespace: str, name: str) -> Object | None: ...
    def service(self, namespace: str, name: str) -> Object | None: ...
    def node(self, name: str) -> Object | None: ...
    def namespace(self, name: str) -> Object | None: ...
    def replicaset(self, namespace: str, name: str) -> Object | None: ...
    def job(self, namespace: str, name: str) -> Object | None: ...


class Attach:
    """`attach_metadata`: which other objects contribute labels. `takes_node` says which nodes' endpoints become targets at all."""

    __slots__ = ("cronjob", "deployment", "job", "namespace", "node", "takes_node")

    def __init__(
        self,
        *,
        node: bool = False,
        namespace: bool = False,
        deployment: bool = False,
        job: bool = False,
        cronjob: bool = False,
        takes_node: Callable[[str], bool] | None = None,
    ) -> None:
        self.takes_node = takes_node
        self.node = node
        self.namespace = namespace
        self.deployment = deployment
        self.job = job
        self.cronjob = cronjob


def _label_names(asked: tuple[str, str, str]) -> tuple[str, str]:
    kind, what, key = asked
    plain = _INVALID.sub("_", key)
    return f"{META}{kind}_{what}_{plain}", f"{META}{kind}_{what}present_{plain}"


_names = Memo("prometheus.meta_labels", _label_names, entries=8192, size=4 << 20)
"""The two labels of a label or annotation of an object: (kind, `label` or `annotation`, its key)."""


def sanitize(name: str) -> str:
    """A name with every character that a label name may not have as an underscore."""
    return _INVALID.sub("_", name)


def metadata(obj: Object) -> Object:
    """`metadata`, empty when missing."""
    return obj.get("metadata") or {}


def identity(obj: Object) -> tuple[str, str]:
    """Namespace (empty where there is none) and name."""
    meta = metadata(obj)
    return meta.get("namespace") or "", meta.get("name") or ""


def join_host_port(host: str, port: int | str) -> str:
    """`host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def annotations_and_labels(meta: Object, kind: str) -> Labels:
    """`<kind>_label_*`, `<kind>_labelpresent_*` and the same of annotations."""
    out: Labels = {}
    for what, entries in (("label", meta.get("labels")), ("annotation", meta.get("annotations"))):
        for key, value in (entries or {}).items():
            name, present = _names[kind, what, key]
            out[name] = value
            out[present] = "true"
    return out


def object_labels(obj: Object, kind: str) -> Labels:
    """`<kind>_name` and the object's labels and annotations."""
    meta = metadata(obj)
    return {f"{META}{kind}_name": meta.get("name") or "", **annotations_and_labels(meta, kind)}


def service_labels(service: Object) -> Labels:
    """Labels every target of a service has."""
    return {NAMESPACE: identity(service)[0], **object_labels(service, "service")}


def attached_node(lookup: Lookup, name: str | None) -> Labels:
    """Labels of `attach_metadata.node`; empty for an unknown node."""
    node = lookup.node(name) if name else None
    return object_labels(node, "node") if node is not None else {}


def attached_namespace(lookup: Lookup, name: str) -> Labels:
    """Labels of `attach_metadata.namespace`: all but the name, which every target has."""
    namespace = lookup.namespace(name)
    return annotations_and_labels(metadata(namespace), "namespace") if namespace is not None else {}


def controller(obj: Object) -> tuple[str, str] | None:
    """Kind and name of the owner that manages the object."""
    for owner in metadata(obj).get("ownerReferences") or ():
        if owner.get("controller"):
            return owner.get("kind") or "", owner.get("name") or ""
    return None


def pod_labels(pod: Object, lookup: Lookup, attach: Attach) -> Labels:
    """Labels of every target of a pod, but the namespace's."""
    spec, status, meta = pod.get("spec") or {}, pod.get("status") or {}, metadata(pod)
    out = {
        META + "pod_ip": status.get("podIP") or "",
        META + "pod_ready": _ready(status),
        META + "pod_phase": status.get("phase") or "",
        META + "pod_node_name": spec.get("nodeName") or "",
        META + "pod_host_ip": status.get("hostIP") or "",
        META + "pod_uid": meta.get("uid") or "",
        **object_labels(pod, "pod"),
    }
    owner = controller(pod)
    if owner is not None:
        kind, name = owner
        out[META + "pod_controller_kind"], out[META + "pod_controller_name"] = kind, name
        namespace = meta.get("namespace") or ""
        if kind == "ReplicaSet" and attach.deployment:
            out[META + "pod_deployment_name"] = _owner_of(lookup.replicaset(namespace, name), "Deployment")
        elif kind == "Job":
            if attach.job:
                out[META + "pod_job_name"] = name
            if attach.cronjob:
                out[META + "pod_cronjob_name"] = _owner_of(lookup.job(namespace, name), "CronJob")
    return {key: value for key, value in out.items() if value}


def _owner_of(obj: Object | None, kind: str) -> str:
    owner = controller(obj) if obj is not None else None
    return owner[1] if owner is not None and owner[0] == kind else ""


def _ready(status: Object) -> str:
    for condition in status.get("conditions") or ():
        if condition.get("type") == "Ready":
            return str(condition.get("status") or "").lower()
    return "unknown"


def containers(pod: Object) -> Iterator[tuple[Object, bool]]:
    """Every container and whether it is an init container, in the order targets are made."""
    spec = pod.get("spec") or {}
    for container in spec.get("containers") or ():
        yield container, False
    for container in spec.get("initContainers") or ():
        yield container, True


def container_port_labels(container: Object, init: bool, port: Object, protocol: str | None = None) -> Labels:
    """Labels of one declared port of a container."""
    return {
        META + "pod_container_name": container.get("name") or "",
        META + "pod_container_image": container.get("image") or "",
        META + "pod_container_port_name": port.get("name") or "",
        META + "pod_container_port_number": str(port.get("containerPort") or 0),
        META + "pod_container_port_protocol": (port.get("protocol") or "") if protocol is None else protocol,
        META + "pod_container_init": "true" if init else "false",
    }


class PodPorts:
    """Targets for ports of pods behind a service that no endpoint covers: Prometheus makes those too."""

    def __init__(self, lookup: Lookup, attach: Attach) -> None:
        self._lookup = lookup
        self._attach = attach
        self._seen: dict[tuple[str, str], tuple[Object, set[int | None]]] = {}

    def resolve(self, reference: Object | None) -> Object | None:
        """The pod a `targetRef` names."""
        if not reference or reference.get("kind") != "Pod":
            return None
        return self._lookup.pod(reference.get("namespace") or "", reference.get("name") or "")

    def cover(self, pod: Object, port: int | None, protocol: str | None = None) -> Labels:
        """Remembers that an endpoint has this port; the labels of the pod and of the container that declares it."""
        self._seen.setdefault(identity(pod), (pod, set()))[1].add(port)
        out = pod_labels(pod, self._lookup, self._attach)
        for container, init in containers(pod):
            for declared in container.get("ports") or ():
                if port is not None and declared.get("containerPort") == port:
                    out.update(container_port_labels(container, init, declared, protocol))
                    break
        return out

    def rest(self) -> Iterator[Labels]:
        """Targets for declared ports that no call of `cover` named."""
        for pod, covered in self._seen.values():
            address = (pod.get("status") or {}).get("podIP")
            if not address:
                continue
            left = [
                (container, init, port)
                for container, init in containers(pod)
                for port in container.get("ports") or ()
                if port.get("containerPort") not in covered
            ]
            if left:
                own = pod_labels(pod, self._lookup, self._attach)
                for container, init, port in left:
                    yield {
                        "__address__": join_host_port(address, port.get("containerPort") or 0),
                        **container_port_labels(container, init, port),
                        **own,
                    }
