"""Made-up endpoints of every type, to check options with before there is a real one."""

from __future__ import annotations

from typing import Any

from kofagent.component.observing import Endpoint

_POD: dict[str, Any] = {
    "name": "web-0",
    "namespace": "default",
    "uid": "0e1f2a3b-0000-4000-8000-000000000000",
    "labels": {},
    "annotations": {},
}
_CONTAINER = {"container_name": "web", "container_id": "0123456789abcdef", "container_image": "example.org/web:1"}
_NODE = dict.fromkeys(("hostname", "external_ip", "internal_ip", "external_dns", "internal_dns"), "10.0.0.1")
_ABOUT: dict[str, tuple[str, dict[str, Any]]] = {
    "pod": ("10.0.0.1", _POD),
    "port": ("10.0.0.1:8080", {"name": "http", "port": 8080, "transport": "TCP", "pod": _POD, **_CONTAINER}),
    "pod.container": ("10.0.0.1", {**_CONTAINER, "is_init_container": False, "pod": _POD}),
    "hostport": (
        "127.0.0.1:8080",
        {"process_name": "web", "command": "web", "is_ipv6": False, "port": 8080, "transport": "TCP"},
    ),
    "container": (
        "10.0.0.1:8080",
        {
            "name": "web",
            "image": "example.org/web",
            "tag": "1",
            "port": 8080,
            "alternate_port": 0,
            "command": "web",
            "container_id": _CONTAINER["container_id"],
            "host": "10.0.0.1",
            "transport": "TCP",
            "labels": {},
        },
    ),
    "k8s.service": ("web.default.svc.cluster.local", {**_POD, "cluster_ip": "10.0.0.1", "service_type": "ClusterIP"}),
    "k8s.ingress": ("https://example.org/", {**_POD, "scheme": "https", "host": "example.org", "path": "/"}),
    "k8s.node": (
        "10.0.0.1",
        {"name": "node-1", "uid": _POD["uid"], "labels": {}, "annotations": {}, **_NODE, "kubelet_endpoint_port": 10250},
    ),
    "kafka.topics": ("topic", {}),
}


def plausible(type: str) -> Endpoint:
    """An endpoint of this type."""
    target, details = _ABOUT[type]
    return Endpoint(f"observer/{type}", type, target, details)
