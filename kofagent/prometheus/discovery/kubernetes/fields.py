"""What discovery reads of each kind of object: the informers keep no more than this."""

from __future__ import annotations

from kofagent.kubernetes.resources import (
    ENDPOINTS,
    ENDPOINTSLICES,
    INGRESSES,
    JOBS,
    NAMESPACES,
    NODES,
    PODS,
    REPLICASETS,
    SERVICES,
    Resource,
)

_META = ("metadata.labels", "metadata.annotations")
ROLE_RESOURCE: dict[str, Resource] = {
    "node": NODES,
    "pod": PODS,
    "service": SERVICES,
    "endpoints": ENDPOINTS,
    "endpointslice": ENDPOINTSLICES,
    "ingress": INGRESSES,
}
"""The resource of every role."""

FIELDS: dict[Resource, tuple[str, ...]] = {
    NODES: (
        *_META,
        "spec.providerID",
        "status.addresses",
        "status.conditions.type",
        "status.conditions.status",
        "status.daemonEndpoints",
    ),
    PODS: (
        *_META,
        "metadata.ownerReferences",
        "spec.nodeName",
        "status.podIP",
        "status.hostIP",
        "status.phase",
        "status.conditions.type",
        "status.conditions.status",
        *(f"spec.{kind}.{field}" for kind in ("containers", "initContainers") for field in ("name", "image", "ports")),
        *(f"status.{kind}.{field}" for kind in ("containerStatuses", "initContainerStatuses") for field in ("name", "containerID")),
    ),
    SERVICES: (
        *_META,
        "spec.ports",
        "spec.type",
        "spec.clusterIP",
        "spec.externalName",
        "spec.loadBalancerIP",
        "spec.ipFamilies",
        "spec.ipFamilyPolicy",
    ),
    ENDPOINTS: (*_META, "subsets"),
    ENDPOINTSLICES: (*_META, "addressType", "endpoints", "ports"),
    INGRESSES: (*_META, "spec.ingressClassName", "spec.tls.hosts", "spec.rules"),
    NAMESPACES: _META,
    REPLICASETS: ("metadata.ownerReferences",),
    JOBS: ("metadata.ownerReferences",),
}
"""Paths as `kofagent.kubernetes.trim` takes them."""
