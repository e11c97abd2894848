"""Services, with the endpoints their slices count."""

from __future__ import annotations

from collections import Counter

from kofagent.kubernetes.resources import ENDPOINTSLICES, SERVICES
from kofagent.kubernetes.trim import Field, Object
from kofagent.receivers.k8s_cluster.model import (
    META_FIELDS,
    Described,
    Entity,
    Lookup,
    Point,
    Selection,
    Source,
    at,
    created,
    metadata_of,
)

_SERVICE_LABEL = "kubernetes.io/service-name"
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_CONDITIONS = ("ready", "serving", "terminating")
SLICE_FIELDS: tuple[Field, ...] = (("metadata", "labels", _SERVICE_LABEL), "addressType", "endpoints.zone", "endpoints.conditions")
Counts = Counter[tuple[str, str, str]]
"""Endpoints by (type of address, zone, condition)."""


def slice_service(obj: Object) -> str | None:
    """`namespace/name` of the service a slice belongs to."""
    service = (obj["metadata"].get("labels") or {}).get(_SERVICE_LABEL)
    return None if service is None else f"{obj['metadata'].get('namespace', '')}/{service}"


def count_slice(obj: Object) -> Counts:
    """The endpoints of one slice. A missing ready counts as true, a missing serving as the value of ready."""
    out: Counts = Counter()
    kind = obj.get("addressType") or ""
    for endpoint in obj.get("endpoints") or []:
        conditions, zone = endpoint.get("conditions") or {}, endpoint.get("zone") or ""
        ready = conditions.get("ready") is not False
        serving = conditions.get("serving")
        for name, is_so in (
            ("ready", ready),
            ("serving", ready if serving is None else serving),
            ("terminating", bool(conditions.get("terminating"))),
        ):
            out[kind, zone, name] += int(bool(is_so))
    return out


def fields(selection: Selection) -> tuple[Field, ...]:
    """Fields of a service that metrics need."""
    needed: list[Field] = ["spec.type"]
    if selection.on("k8s.service.load_balancer.ingress.count"):
        needed.append("status.loadBalancer.ingress")
    if "k8s.service.publish_not_ready_addresses" in selection.attributes:
        needed.append("spec.publishNotReadyAddresses")
    if "k8s.service.traffic_distribution" in selection.attributes:
        needed.append("spec.trafficDistribution")
    return tuple(needed)


def describe(service: Object, selection: Selection, counts: Counts | None = None) -> list[Described]:
    """The addresses of its load balancer and the endpoints counted for it."""
    name, namespace, uid = metadata_of(service)
    points: list[Point] = []
    counts = counts or Counter()
    for kind, zone in dict.fromkeys((kind, zone) for kind, zone, _ in counts):
        if kind in ("IPv4", "IPv6", "FQDN"):
            points += selection.points(
                *(
                    (
                        "k8s.service.endpoint.count",
                        counts[kind, zone, condition],
                        (
                            ("k8s.service.endpoint.address_type", kind),
                            ("k8s.service.endpoint.condition", condition),
                            ("k8s.service.endpoint.zone", zone),
                        ),
                    )
                    for condition in _CONDITIONS
                )
            )
    type_ = at(service, "spec", "type") or ""
    if type_ == "LoadBalancer":
        ingress = at(service, "status", "loadBalancer", "ingress") or []
        points += selection.points(("k8s.service.load_balancer.ingress.count", len(ingress)))
    return selection.described(
        [
            ("k8s.service.name", name),
            ("k8s.service.uid", uid),
            ("k8s.namespace.name", namespace),
            ("k8s.service.type", type_),
            ("k8s.service.traffic_distribution", at(service, "spec", "trafficDistribution")),
            ("k8s.service.publish_not_ready_addresses", bool(at(service, "spec", "publishNotReadyAddresses"))),
        ],
        tuple(points),
    )


def entities(service: Object, lookup: Lookup) -> list[Entity]:
    """The service with its selector, labels and annotations."""
    name, namespace, uid = metadata_of(service)
    out = {"k8s.namespace.name": namespace, "k8s.service.name": name, "k8s.service.creation_timestamp": created(service)}
    out |= {f"k8s.service.selector.{k}": v for k, v in (at(service, "spec", "selector") or {}).items()}
    out |= {f"k8s.service.label.{k}": v for k, v in (service["metadata"].get("labels") or {}).items()}
    out |= {
        f"k8s.service.annotation.{k}": v
        for k, v in (service["metadata"].get("annotations") or {}).items()
        if not k.startswith(_LAST_APPLIED)
    }
    return [Entity("k8s.service", "k8s.service.uid", uid, out)]


def selects(service: Object, labels: dict[str, str]) -> bool:
    """Whether the service selects a pod with these labels. A service without a selector selects none."""
    selector = at(service, "spec", "selector")
    return bool(selector) and all(labels.get(k) == v for k, v in selector.items())


SOURCE = Source(SERVICES, fields, describe, (*META_FIELDS, "metadata.annotations", "spec.selector"), entities)
SLICES = ENDPOINTSLICES
