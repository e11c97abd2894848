"""Services, ingresses and nodes as endpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple
from urllib.parse import quote

from kofagent.component.observing import Endpoint
from kofagent.kubernetes.resources import INGRESSES, NODES, SERVICES, Resource
from kofagent.kubernetes.trim import Field, Object

_ADDRESSES = {
    "InternalIP": "internal_ip",
    "InternalDNS": "internal_dns",
    "Hostname": "hostname",
    "ExternalIP": "external_ip",
    "ExternalDNS": "external_dns",
}
"""Type of a node's address -> the name it has in expressions; in the order in which one is chosen."""


class Source(NamedTuple):
    """Objects of one resource, and how they become endpoints; `make` gets the observer's name first."""

    resource: Resource
    type: str
    fields: tuple[Field, ...]
    make: Callable[[str, Object, bool], Iterator[Endpoint]]


def described(obj: Object) -> dict[str, object]:
    """What expressions know of every object."""
    metadata = obj["metadata"]
    return {
        "uid": metadata.get("uid") or "",
        "name": metadata["name"],
        "namespace": metadata.get("namespace") or "",
        "labels": dict(metadata.get("labels") or {}),
        "annotations": dict(metadata.get("annotations") or {}),
    }


def _service(observer: str, obj: Object, fresh: bool) -> Iterator[Endpoint]:
    spec, details = obj.get("spec") or {}, described(obj)
    details |= {"cluster_ip": spec.get("clusterIP") or "", "service_type": spec.get("type") or ""}
    target = f"{details['name']}.{details['namespace']}.svc.cluster.local"
    yield Endpoint(f"{observer}/{details['uid']}", "k8s.service", target, details, fresh)


def _node(observer: str, obj: Object, fresh: bool) -> Iterator[Endpoint]:
    status, details = obj.get("status") or {}, described(obj)
    del details["namespace"]
    details |= dict.fromkeys(_ADDRESSES.values(), "")
    for address in status.get("addresses") or ():
        if name := _ADDRESSES.get(address.get("type")):
            details[name] = address.get("address") or ""
    kubelet = (status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}
    details["kubelet_endpoint_port"] = kubelet.get("Port") or 0
    target = next((str(details[name]) for name in _ADDRESSES.values() if details[name]), "")
    yield Endpoint(f"{observer}/{details['name']}-{details['uid']}", "k8s.node", target, details, fresh)


def _ingress(observer: str, obj: Object, fresh: bool) -> Iterator[Endpoint]:
    spec, about = obj.get("spec") or {}, described(obj)
    secure = [host for tls in spec.get("tls") or () for host in tls.get("hosts") or ()]
    for rule in spec.get("rules") or ():
        host = rule.get("host") or ""
        scheme = "https" if any(_covers(pattern, host) for pattern in secure) else "http"
        for each in (rule.get("http") or {}).get("paths") or ():
            path = each.get("path") or ""
            id = f"{observer}/{about['uid']}/{host}{path}"
            details = {**about, "uid": id, "scheme": scheme, "host": host, "path": path}
            yield Endpoint(id, "k8s.ingress", f"{scheme}://{host}{quote(path, safe='/:@!$&*+,;=-._~()')}", details, fresh)


def _covers(pattern: str, host: str) -> bool:
    """Whether a TLS host, which may begin with `*.`, stands for this host."""
    if pattern == host:
        return True
    return pattern.startswith("*.") and "." in host and pattern[2:] == host.split(".", 1)[1]


_ABOUT: tuple[Field, ...] = ("metadata.labels", "metadata.annotations")
SERVICE = Source(SERVICES, "k8s.service", (*_ABOUT, "spec.clusterIP", "spec.type"), _service)
INGRESS = Source(INGRESSES, "k8s.ingress", (*_ABOUT, "spec.tls.hosts", "spec.rules.host", "spec.rules.http.paths.path"), _ingress)
NODE = Source(NODES, "k8s.node", (*_ABOUT, "status.addresses", "status.daemonEndpoints"), _node)
