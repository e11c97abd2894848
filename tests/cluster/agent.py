"""The agent as a pod without an image of its own: HOSTROOT with the host's /usr, the Python environment that runs this and the
checkout mounted read-only. Seconds from an edit to a running pod; an image as the project's is `images.agent`.

    cluster.apply(*agent.daemon_set("kof", ["run", "--config", "/conf/otel.yaml"], files={"otel.yaml": text}, rules=NODE_RULES))
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.cluster import images

# what a node's agent reads, as design and chart state it
NODE_RULES: list[dict[str, Any]] = [
    {"apiGroups": [""], "resources": ["pods", "namespaces", "nodes", "services", "endpoints"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": [""], "resources": ["nodes/metrics", "nodes/stats", "nodes/proxy"], "verbs": ["get"]},
    {
        "apiGroups": ["apps"],
        "resources": ["replicasets", "deployments", "statefulsets", "daemonsets"],
        "verbs": ["get", "list", "watch"],
    },
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]},
    {"nonResourceURLs": ["/metrics"], "verbs": ["get"]},
]
SECURITY = {
    "readOnlyRootFilesystem": True,
    "allowPrivilegeEscalation": False,
    "privileged": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsUser": 0,
    "runAsGroup": 0,
}


def host_folders() -> list[str]:
    """Folders of this machine that the agent's Python needs: /usr, its own prefix and environment, the checkout, CA certificates."""
    wanted = [Path("/usr"), Path(sys.base_prefix), Path(sys.prefix), images.CHECKOUT, Path("/etc/ssl")]
    kept: list[Path] = []
    for path in wanted:
        if path.exists() and not any(path == other or other in path.parents for other in kept):
            kept.append(path)
    return [str(path) for path in kept]


def pod_spec(
    arguments: Sequence[str],
    *,
    files: str | None = None,
    account: str = "default",
    host_network: bool = True,
    memory: str = "128Mi",
    env: Mapping[str, str] | None = None,
    mounts: Mapping[str, str] | None = None,
    writable: Sequence[str] = ("/tmp", "/var/lib/kofagent"),
) -> dict[str, Any]:
    """A pod that runs `kofagent <arguments>` with a memory limit, a read-only root and no capabilities.

    files     name of a ConfigMap mounted at /conf
    mounts    more folders of the host, read-only: {"/var/log/pods": "/var/log/pods"} (path in the pod: path on the host)
    writable  empty folders of the pod's own
    """
    folders = {path: path for path in host_folders()} | {"/var/log": "/var/log"} | dict(mounts or {})
    volumes: list[dict[str, Any]] = []
    places: list[dict[str, Any]] = []
    for number, (inside, outside) in enumerate(folders.items()):
        volumes.append({"name": f"host-{number}", "hostPath": {"path": outside}})
        places.append({"name": f"host-{number}", "mountPath": inside, "readOnly": True})
    for number, inside in enumerate(writable):
        volumes.append({"name": f"own-{number}", "emptyDir": {}})
        places.append({"name": f"own-{number}", "mountPath": inside})
    if files is not None:
        volumes.append({"name": "conf", "configMap": {"name": files}})
        places.append({"name": "conf", "mountPath": "/conf", "readOnly": True})
    fields = {
        "K8S_NODE_NAME": "spec.nodeName",
        "OTEL_K8S_NODE_NAME": "spec.nodeName",
        "K8S_NODE_IP": "status.hostIP",
        "OTEL_K8S_NODE_IP": "status.hostIP",
        "K8S_POD_NAME": "metadata.name",
        "OTEL_K8S_POD_NAME": "metadata.name",
        "OTEL_K8S_NAMESPACE": "metadata.namespace",
        "K8S_POD_IP": "status.podIP",
    }
    environment: list[dict[str, Any]] = [
        {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()
    ]
    plain = {
        "PYTHONPATH": str(images.CHECKOUT),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": "/tmp",
        **(env or {}),
    }
    environment += [{"name": name, "value": value} for name, value in plain.items()]
    return {
        "serviceAccountName": account,
        "hostNetwork": host_network,
        "terminationGracePeriodSeconds": 10,
        "dnsPolicy": "ClusterFirstWithHostNet" if host_network else "ClusterFirst",
        "tolerations": [{"operator": "Exists"}],
        "containers": [
            {
                "name": "kofagent",
                "image": images.HOSTROOT,
                "imagePullPolicy": "Never",
                "command": [os.path.abspath(sys.executable), "-m", "kofagent", *arguments],
                "workingDir": "/tmp",
                "resources": {"requests": {"memory": memory, "cpu": "50m"}, "limits": {"memory": memory}},
                "env": environment,
                "volumeMounts": places,
                "securityContext": SECURITY,
            }
        ],
        "volumes": volumes,
    }


def daemon_set(
    namespace: str,
    arguments: Sequence[str],
    *,
    name: str = "kofagent",
    files: Mapping[str, str] | None = None,
    rules: Sequence[dict[str, Any]] = (),
    fake_nodes: bool = False,
    **spec: Any,
) -> list[dict[str, Any]]:
    """All objects of a DaemonSet of the agent: ServiceAccount, ClusterRole and binding for `rules`, ConfigMap of `files`."""
    group = "rbac.authorization.k8s.io"
    objects: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}
    ]
    if rules:
        full = f"{namespace}-{name}"
        objects += [
            {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": full}, "rules": list(rules)},
            {
                "apiVersion": f"{group}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": full},
                "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": full},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
            },
        ]
    if files:
        objects.append(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": dict(files)}
        )
    pod = pod_spec(arguments, account=name, files=name if files else None, **spec)
    if not fake_nodes:
        pod["affinity"] = {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": "type", "operator": "NotIn", "values": ["fake"]}]}]
                }
            }
        }
    objects.append(
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"selector": {"matchLabels": {"app": name}}, "template": {"metadata": {"labels": {"app": name}}, "spec": pod}},
        }
    )
    return objects
