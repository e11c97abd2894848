"""The detector `kubeadm`: the cluster's name, from the ConfigMap that kubeadm leaves, and the cluster's uid.

Upstream: processor/resourcedetectionprocessor/internal/kubeadm.
"""

from __future__ import annotations

from typing import Any

import yaml

from kofagent.kubernetes.client import ApiClient
from kofagent.kubernetes.resources import CONFIGMAPS, NAMESPACES
from kofagent.processors.resourcedetection.blocks import KubeadmBlock
from kofagent.processors.resourcedetection.servers import Unavailable

NAMESPACE, NAME, KEY = "kube-system", "kubeadm-config", "ClusterConfiguration"


async def detect(options: KubeadmBlock, client: ApiClient) -> dict[str, Any]:
    """The attributes that are on. ApiError and Unavailable where the API does not say them."""
    wanted = options.enabled()
    out: dict[str, Any] = {}
    if "k8s.cluster.name" in wanted:
        data = (await client.get_object(CONFIGMAPS, NAME, NAMESPACE)).get("data") or {}
        out["k8s.cluster.name"] = cluster_name(str(data.get(KEY) or ""))
    if "k8s.cluster.uid" in wanted:
        found = await client.get_object(NAMESPACES, NAMESPACE)
        out["k8s.cluster.uid"] = str(found["metadata"]["uid"])
    return out


def cluster_name(text: str) -> str:
    """`clusterName` of a ClusterConfiguration; Unavailable where there is none."""
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        found = None
    name = found.get("clusterName") if isinstance(found, dict) else None
    if not isinstance(name, str) or not name:
        raise Unavailable(f"the ConfigMap {NAMESPACE}/{NAME} has no clusterName in {KEY}")
    return name
