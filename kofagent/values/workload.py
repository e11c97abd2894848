"""What opentelemetry-kube-stack writes into an OpenTelemetryCollector besides its configuration: name, environment, volumes."""

from __future__ import annotations

from typing import Any

from kofagent.config.tree import Node, Origin, node_of
from kofagent.values.presets import truthy

_COPIED = (
    "resources",
    "nodeSelector",
    "args",
    "autoscaler",
    "podDisruptionBudget",
    "podSecurityContext",
    "podAnnotations",
    "targetAllocator",
    "ingress",
    "affinity",
    "lifecycle",
    "livenessProbe",
    "observability",
    "updateStrategy",
    "deploymentUpdateStrategy",
    "ports",
    "envFrom",
    "volumeClaimTemplates",
    "tolerations",
    "initContainers",
    "additionalContainers",
    "topologySpreadConstraints",
    "configmaps",
    "serviceAccount",
    "hostNetwork",
    "shareProcessNamespace",
    "priorityClassName",
)
"""Keys of a collector that stand in the object as they are, if they are not empty."""
_FIELDS = {
    "OTEL_K8S_NODE_NAME": {"fieldPath": "spec.nodeName"},
    "OTEL_K8S_NODE_IP": {"fieldPath": "status.hostIP"},
    "OTEL_K8S_NAMESPACE": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
    "OTEL_K8S_POD_NAME": {"apiVersion": "v1", "fieldPath": "metadata.name"},
    "OTEL_K8S_POD_IP": {"apiVersion": "v1", "fieldPath": "status.podIP"},
}
_LONGEST_NAME = 63
_VOLUMES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "varlogpods": ({"hostPath": {"path": "/var/log/pods"}}, {"mountPath": "/var/log/pods", "readOnly": True}),
    "varlibotelcol": (
        {"hostPath": {"path": "/var/lib/otelcol", "type": "DirectoryOrCreate"}},
        {"mountPath": "/var/lib/otelcol"},
    ),
    "varlibdockercontainers": (
        {"hostPath": {"path": "/var/lib/docker/containers"}},
        {"mountPath": "/var/lib/docker/containers", "readOnly": True},
    ),
    "hostfs": (
        {"hostPath": {"path": "/"}},
        {"mountPath": "/hostfs", "readOnly": True, "mountPropagation": "HostToContainer"},
    ),
}


def object_name(stack: Node, collector: Node, release: str) -> str:
    """Name of the object: `<release>-<suffix>`, or an override, or the release's own if it contains the suffix."""
    for holder in (stack, collector):
        override = _text(holder.get("fullnameOverride"))
        if override:
            return _cut(override)
    suffix = _text(collector.get("suffix")) or "opentelemetry-kube-stack"
    return _cut(release if suffix in release else f"{release}-{suffix}")


def _cut(name: str) -> str:
    return name[:_LONGEST_NAME].removesuffix("-")


def _text(node: Node | None) -> str:
    return str(node.value) if node is not None and node.value and not node.is_map and not node.is_list else ""


def environment(stack: Node, collector: Node) -> Node:
    """`env` of the container: fields of the pod, then `extraEnvs` and `env`, first what has a value, both parts by name.

    Values are text: the chart writes them without quotes, which makes a boolean of `"true"`, and none of that is valid in a pod.
    """
    own = collector.nearest(("env",)).origin
    origin = Origin(layer="chart")
    out = [node_of({"name": name, "valueFrom": {"fieldRef": field}}, origin) for name, field in _FIELDS.items()]
    cluster = stack.get("clusterName")
    if cluster is not None and truthy(cluster):
        value = Node(f"k8s.cluster.name={cluster.value}", cluster.origin)
        out.append(Node({"name": Node("OTEL_RESOURCE_ATTRIBUTES", cluster.origin), "value": value}, cluster.origin))
    plain: dict[str, Node] = {}
    sources: dict[str, Node] = {}
    for entries in (stack.get("extraEnvs"), collector.get("env")):
        for entry in entries.value if entries is not None and entries.is_list else ():
            name, value, source = entry.get("name"), entry.get("value"), entry.get("valueFrom")
            if name is None or not isinstance(name.value, str):
                continue
            if truthy(value) or (value is not None and (source is None or source.value is None)):
                kept = value.copy()
                kept.value = _as_text(kept)
                plain[name.value] = Node({"name": name.copy(), "value": kept}, entry.origin)
            else:
                sources[name.value] = Node({"name": name.copy(), "valueFrom": source or Node(None, own)}, entry.origin)
    return Node([*out, *(plain[k] for k in sorted(plain)), *(sources[k] for k in sorted(sources))], own)


def _as_text(node: Node) -> str:
    if isinstance(node.value, str):
        return node.value
    return node.text if node.text is not None else str(node.value)


def fields(collector: Node) -> dict[str, Any]:
    """The object's other fields that are not empty, and `securityContext`, as plain data."""
    out: dict[str, Any] = {"labels": collector.get("labels"), "mode": collector.get("mode")}
    mode = _text(collector.get("mode"))
    if mode != "daemonset" and not truthy(collector.get("autoscaler")):
        out["replicas"] = collector.get("replicas")
    out["image"] = _image(collector)
    for key in _COPIED:
        out[key] = collector.get(key)
    logs = collector.get("presets", "logsCollection") or Node({})
    out["securityContext"] = collector.get("securityContext")
    if not truthy(collector.get("securityContext")) and truthy(logs.get("storeCheckpoints")):
        out["securityContext"] = {"runAsUser": 0, "runAsGroup": 0}
    volumes, mounts = _volumes(collector)
    out["volumes"] = volumes
    out["volumeMounts"] = mounts
    plain = {key: value.plain() if isinstance(value, Node) else value for key, value in out.items()}
    return {key: value for key, value in plain.items() if value or key == "securityContext"}


def _image(collector: Node) -> str:
    image = collector.get("image") or Node({})
    repository, digest, tag = (_text(image.get(key)) for key in ("repository", "digest", "tag"))
    if digest:
        return f"{repository}@{digest}"
    return f"{repository}:{tag}" if tag else ""


def _volumes(collector: Node) -> tuple[list[Any], list[Any]]:
    """Those of presets before the collector's own, which are not looked at: a name can be there twice."""
    logs = collector.get("presets", "logsCollection") or Node({})
    enabled, stored = truthy(logs.get("enabled")), truthy(logs.get("storeCheckpoints"))
    host = truthy(collector.get("presets", "hostMetrics", "enabled"))
    volumes = (["varlogpods"] + ["varlibotelcol"] * stored + ["varlibdockercontainers"]) * enabled + ["hostfs"] * host
    mounts = ["varlogpods", "varlibdockercontainers"] * enabled + ["varlibotelcol"] * stored + ["hostfs"] * host
    out: list[list[Any]] = []
    for index, (names, key) in enumerate(((volumes, "volumes"), (mounts, "volumeMounts"))):
        own = collector.get(key)
        made = [{"name": name, **_VOLUMES[name][index]} for name in names]
        out.append([*made, *(own.plain() if own is not None and own.is_list else ())])
    return out[0], out[1]
