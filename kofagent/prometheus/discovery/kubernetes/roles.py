"""One function per role: an object of the Kubernetes API in, its target group out (prometheus.io, kubernetes_sd_config).

No I/O. A group without targets means that the object has none now; its `source` is unique over all roles.
"""

from __future__ import annotations

from collections.abc import Callable
from sys import intern

from kofagent.prometheus.discovery.group import Group
from kofagent.prometheus.discovery.kubernetes.labels import (
    META,
    NAMESPACE,
    Attach,
    Labels,
    Lookup,
    Object,
    PodPorts,
    attached_namespace,
    attached_node,
    container_port_labels,
    containers,
    identity,
    join_host_port,
    metadata,
    object_labels,
    pod_labels,
    sanitize,
    service_labels,
)

Build = Callable[[Object, Lookup, Attach], Group]
SERVICE_NAME = "kubernetes.io/service-name"
"""Label of an EndpointSlice that names its service."""
_ADDRESS_ORDER = ("InternalIP", "InternalDNS", "ExternalIP", "ExternalDNS", "LegacyHostIP", "Hostname")


def source(role: str, namespace: str, name: str) -> str:
    """The name of an object's group."""
    return f"{role}/{namespace}/{name}" if namespace else f"{role}/{name}"


def _group(role: str, obj: Object, targets: list[Labels], labels: Labels) -> Group:
    return Group(source(role, *identity(obj)), [_shared(target) for target in targets], _shared(labels) if targets else None)


def _shared(labels: Labels) -> Labels:
    """Thousands of targets have the same names and mostly the same values: each is kept once."""
    return {intern(name): intern(value) for name, value in labels.items()}


def build_node(node: Object, lookup: Lookup, attach: Attach) -> Group:
    """Role `node`: the kubelet's address; no target without an address."""
    spec, status = node.get("spec") or {}, node.get("status") or {}
    addresses: dict[str, str] = {}
    for entry in status.get("addresses") or ():
        addresses.setdefault(entry.get("type") or "", entry.get("address") or "")
    host = next((addresses[kind] for kind in _ADDRESS_ORDER if kind in addresses), None)
    if host is None:
        return _group("node", node, [], {})
    port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port") or 0
    labels = {META + "node_provider_id": spec.get("providerID") or "", **object_labels(node, "node")}
    for condition in status.get("conditions") or ():
        name = sanitize(str(condition.get("type") or "").lower())
        labels[f"{META}node_condition_{name}"] = str(condition.get("status") or "").lower()
    target = {"__address__": join_host_port(host, port), "instance": identity(node)[1]}
    for kind, address in addresses.items():
        target[sanitize(f"{META}node_address_{kind}")] = address
    return _group("node", node, [target], labels)


def build_pod(pod: Object, lookup: Lookup, attach: Attach) -> Group:
    """Role `pod`: one target per declared port, one per container without; none before the pod has an address."""
    status = pod.get("status") or {}
    address = status.get("podIP")
    node = (pod.get("spec") or {}).get("nodeName") or ""
    if not address or (attach.node and lookup.node(node) is None):
        return _group("pod", pod, [], {})
    namespace = identity(pod)[0]
    labels = {**pod_labels(pod, lookup, attach), NAMESPACE: namespace}
    if attach.node:
        labels.update(attached_node(lookup, node))
    if attach.namespace:
        labels.update(attached_namespace(lookup, namespace))
    ids = {
        (init, entry.get("name")): entry.get("containerID") or ""
        for init, key in ((False, "containerStatuses"), (True, "initContainerStatuses"))
        for entry in reversed(status.get(key) or ())
    }
    targets: list[Labels] = []
    for container, init in containers(pod):
        own = {META + "pod_container_id": ids.get((init, container.get("name")), "")}
        for port in container.get("ports") or ():
            targets.append(
                {
                    "__address__": join_host_port(address, port.get("containerPort") or 0),
                    **own,
                    **container_port_labels(container, init, port),
                }
            )
        if not container.get("ports"):
            targets.append(
                {
                    "__address__": address,
                    **own,
                    META + "pod_container_name": container.get("name") or "",
                    META + "pod_container_image": container.get("image") or "",
                    META + "pod_container_init": "true" if init else "false",
                }
            )
    return _group("pod", pod, targets, labels)


def build_service(service: Object, lookup: Lookup, attach: Attach) -> Group:
    """Role `service`: the service's name and each of its ports."""
    spec = service.get("spec") or {}
    namespace, name = identity(service)
    kind = spec.get("type") or ""
    labels = service_labels(service)
    if attach.namespace:
        labels.update(attached_namespace(lookup, namespace))
    targets = []
    for port in spec.get("ports") or ():
        number = str(port.get("port") or 0)
        target = {
            "__address__": f"{name}.{namespace}.svc:{number}",
            META + "service_port_name": port.get("name") or "",
            META + "service_port_number": number,
            META + "service_port_protocol": port.get("protocol") or "",
            META + "service_type": kind,
        }
        if kind == "ExternalName":
            target[META + "service_external_name"] = spec.get("externalName") or ""
        else:
            target[META + "service_cluster_ip"] = spec.get("clusterIP") or ""
        if kind == "LoadBalancer":
            target[META + "service_loadbalancer_ip"] = spec.get("loadBalancerIP") or ""
        targets.append(target)
    return _group("service", service, targets, labels)


def build_endpoints(endpoints: Object, lookup: Lookup, attach: Attach) -> Group:
    """Role `endpoints`: every address with every port, and ports of the pods behind them that the service does not have."""
    namespace, name = identity(endpoints)
    service = lookup.service(namespace, name)
    labels = {
        NAMESPACE: namespace,
        **(service_labels(service) if service is not None else {}),
        **object_labels(endpoints, "endpoints"),
    }
    if attach.namespace:
        labels.update(attached_namespace(lookup, namespace))
    pods = PodPorts(lookup, attach)
    targets: list[Labels] = []
    for subset in endpoints.get("subsets") or ():
        for port in subset.get("ports") or ():
            for ready, key in (("true", "addresses"), ("false", "notReadyAddresses")):
                targets += [
                    _endpoint(entry, port, ready, pods, lookup, attach) for entry in subset.get(key) or () if _wanted(entry, attach)
                ]
    targets += pods.rest()
    return _group("endpoints", endpoints, targets, labels)


def _wanted(entry: Object, attach: Attach) -> bool:
    """Endpoints of nodes that other agents scrape are left out before any label is made."""
    node = entry.get("nodeName")
    return not node or attach.takes_node is None or attach.takes_node(node)


def _endpoint(entry: Object, port: Object, ready: str, pods: PodPorts, lookup: Lookup, attach: Attach) -> Labels:
    number = port.get("port") or 0
    reference = entry.get("targetRef")
    target = {
        "__address__": join_host_port(entry.get("ip") or "", number),
        META + "endpoint_port_name": port.get("name") or "",
        META + "endpoint_port_protocol": port.get("protocol") or "",
        META + "endpoint_ready": ready,
    }
    if reference:
        target[META + "endpoint_address_target_kind"] = reference.get("kind") or ""
        target[META + "endpoint_address_target_name"] = reference.get("name") or ""
    if entry.get("nodeName"):
        target[META + "endpoint_node_name"] = entry["nodeName"]
    if entry.get("hostname"):
        target[META + "endpoint_hostname"] = entry["hostname"]
    if attach.node:
        at = reference.get("name") if reference and reference.get("kind") == "Node" else None
        target.update(attached_node(lookup, entry.get("nodeName") or at))
    pod = pods.resolve(reference)
    return {**target, **pods.cover(pod, number, port.get("protocol") or "")} if pod is not None else target


def build_endpointslice(piece: Object, lookup: Lookup, attach: Attach) -> Group:
    """Role `endpointslice`: as `endpoints`, from the newer kind of object."""
    namespace, _ = identity(piece)
    kind = piece.get("addressType") or ""
    labels = {NAMESPACE: namespace, META + "endpointslice_address_type": kind, **object_labels(piece, "endpointslice")}
    name = (metadata(piece).get("labels") or {}).get(SERVICE_NAME)
    service = lookup.service(namespace, name) if name is not None else None
    if service is not None:
        labels.update(service_labels(service))
    if attach.namespace:
        labels.update(attached_namespace(lookup, namespace))
    if service is not None and _secondary_family(service, kind):
        return _group("endpointslice", piece, [], {})
    pods = PodPorts(lookup, attach)
    targets = [
        _slice_endpoint(address, entry, port, pods, lookup, attach)
        for entry in piece.get("endpoints") or ()
        if _wanted(entry, attach)
        for port in piece.get("ports") or ()
        for address in entry.get("addresses") or ()
    ]
    targets += pods.rest()
    return _group("endpointslice", piece, targets, labels)


def _secondary_family(service: Object, kind: str) -> bool:
    """The second slice of a dual-stack service would give every target twice."""
    spec = service.get("spec") or {}
    families = list(spec.get("ipFamilies") or ())
    return spec.get("ipFamilyPolicy") in ("PreferDualStack", "RequireDualStack") and bool(families) and kind != families[0]


def _slice_endpoint(address: str, entry: Object, port: Object, pods: PodPorts, lookup: Lookup, attach: Attach) -> Labels:
    prefix = META + "endpointslice_"
    number = port.get("port")
    reference = entry.get("targetRef")
    conditions = entry.get("conditions") or {}
    target = {
        "__address__": address if number is None else join_host_port(address, number),
        prefix + "port_name": port.get("name") or "",
        prefix + "port_protocol": port.get("protocol") or "",
        prefix + "port": "" if number is None else str(number),
        prefix + "port_app_protocol": port.get("appProtocol") or "",
        prefix + "endpoint_hostname": entry.get("hostname") or "",
        prefix + "endpoint_node_name": entry.get("nodeName") or "",
        prefix + "endpoint_zone": entry.get("zone") or "",
    }
    for condition in ("ready", "serving", "terminating"):
        if conditions.get(condition) is not None:
            target[f"{prefix}endpoint_conditions_{condition}"] = "true" if conditions[condition] else "false"
    for key, value in (entry.get("deprecatedTopology") or {}).items():
        target[f"{prefix}endpoint_topology_{sanitize(key)}"] = value
        target[f"{prefix}endpoint_topology_present_{sanitize(key)}"] = "true"
    if reference:
        target[prefix + "address_target_kind"] = reference.get("kind") or ""
        target[prefix + "address_target_name"] = reference.get("name") or ""
    if attach.node:
        at = reference.get("name") if reference and reference.get("kind") == "Node" else entry.get("nodeName")
        target.update(attached_node(lookup, at))
    pod = pods.resolve(reference)
    return {**target, **pods.cover(pod, number)} if pod is not None else target


def build_ingress(ingress: Object, lookup: Lookup, attach: Attach) -> Group:
    """Role `ingress`: the host and every path of each rule."""
    spec = ingress.get("spec") or {}
    namespace, _ = identity(ingress)
    labels = {
        NAMESPACE: namespace,
        META + "ingress_class_name": spec.get("ingressClassName") or "",
        **object_labels(ingress, "ingress"),
    }
    if attach.namespace:
        labels.update(attached_namespace(lookup, namespace))
    patterns = [host for tls in spec.get("tls") or () for host in tls.get("hosts") or ()]
    targets = []
    for rule in spec.get("rules") or ():
        host = rule.get("host") or ""
        scheme = "https" if any(_matches_host(pattern, host) for pattern in patterns) else "http"
        http = rule.get("http")
        paths = [path.get("path") or "/" for path in http.get("paths") or ()] if http is not None else ["/"]
        targets += [
            {"__address__": host, META + "ingress_scheme": scheme, META + "ingress_host": host, META + "ingress_path": path}
            for path in paths
        ]
    return _group("ingress", ingress, targets, labels)


def _matches_host(pattern: str, host: str) -> bool:
    if pattern == host:
        return True
    wanted = pattern.split(".")
    given = host.split(".")
    return wanted[0] == "*" and len(wanted) == len(given) and wanted[1:] == given[1:]


BUILD: dict[str, Build] = {
    "node": build_node,
    "pod": build_pod,
    "service": build_service,
    "endpoints": build_endpoints,
    "endpointslice": build_endpointslice,
    "ingress": build_ingress,
}
"""The function of every role."""
