"""Objects of the Kubernetes API in, target groups out: every role and every label."""

from __future__ import annotations

from typing import Any

import pytest

from kofagent.prometheus.discovery.kubernetes.labels import Attach
from kofagent.prometheus.discovery.kubernetes.roles import BUILD

M = "__meta_kubernetes_"


class Store:
    """Objects others refer to."""

    def __init__(self, *objects: dict[str, Any]) -> None:
        self._objects = {(o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"]): o for o in objects}

    def pod(self, namespace: str, name: str) -> Any:
        return self._objects.get(("Pod", namespace, name))

    def service(self, namespace: str, name: str) -> Any:
        return self._objects.get(("Service", namespace, name))

    def node(self, name: str) -> Any:
        return self._objects.get(("Node", "", name))

    def namespace(self, name: str) -> Any:
        return self._objects.get(("Namespace", "", name))

    def replicaset(self, namespace: str, name: str) -> Any:
        return self._objects.get(("ReplicaSet", namespace, name))

    def job(self, namespace: str, name: str) -> Any:
        return self._objects.get(("Job", namespace, name))


def meta(name: str, namespace: str | None = "shop", **more: Any) -> dict[str, Any]:
    return {"name": name, **({"namespace": namespace} if namespace else {}), **more}


NODE = {
    "kind": "Node",
    "metadata": meta("n1", None, labels={"kubernetes.io/os": "linux"}, annotations={"a/b": "c"}),
    "spec": {"providerID": "aws:///i-1"},
    "status": {
        "addresses": [
            {"type": "ExternalIP", "address": "1.2.3.4"},
            {"type": "InternalIP", "address": "10.0.0.1"},
            {"type": "InternalIP", "address": "fd00::1"},
            {"type": "Hostname", "address": "n1.example"},
        ],
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "Unknown"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
    },
}
NAMESPACE = {"kind": "Namespace", "metadata": meta("shop", None, labels={"team": "x"}, annotations={"note": "hi"})}
POD = {
    "kind": "Pod",
    "metadata": meta(
        "web-1",
        uid="u-1",
        labels={"app.kubernetes.io/name": "web"},
        annotations={"prometheus.io/scrape": "true"},
        ownerReferences=[{"kind": "ReplicaSet", "name": "web-5d", "controller": True}],
    ),
    "spec": {
        "nodeName": "n1",
        "containers": [
            {
                "name": "app",
                "image": "web:1",
                "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}, {"containerPort": 9090, "protocol": "UDP"}],
            },
            {"name": "side", "image": "side:2"},
        ],
        "initContainers": [{"name": "init", "image": "init:3", "ports": [{"name": "i", "containerPort": 7, "protocol": "TCP"}]}],
    },
    "status": {
        "podIP": "10.1.0.5",
        "hostIP": "10.0.0.1",
        "phase": "Running",
        "conditions": [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "True"}],
        "containerStatuses": [
            {"name": "app", "containerID": "containerd://aa"},
            {"name": "side", "containerID": "containerd://bb"},
        ],
        "initContainerStatuses": [{"name": "init", "containerID": "containerd://cc"}],
    },
}
SERVICE: dict[str, Any] = {
    "kind": "Service",
    "metadata": meta("web", labels={"app": "web"}, annotations={"x": "y"}),
    "spec": {
        "type": "ClusterIP",
        "clusterIP": "10.96.0.9",
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}],
    },
}

POD_GROUP = {
    M + "namespace": "shop",
    M + "pod_name": "web-1",
    M + "pod_ip": "10.1.0.5",
    M + "pod_ready": "true",
    M + "pod_phase": "Running",
    M + "pod_node_name": "n1",
    M + "pod_host_ip": "10.0.0.1",
    M + "pod_uid": "u-1",
    M + "pod_controller_kind": "ReplicaSet",
    M + "pod_controller_name": "web-5d",
    M + "pod_label_app_kubernetes_io_name": "web",
    M + "pod_labelpresent_app_kubernetes_io_name": "true",
    M + "pod_annotation_prometheus_io_scrape": "true",
    M + "pod_annotationpresent_prometheus_io_scrape": "true",
}
POD_LABELS = {k: v for k, v in POD_GROUP.items() if k != M + "namespace"}
NODE_META = {
    M + "node_name": "n1",
    M + "node_label_kubernetes_io_os": "linux",
    M + "node_labelpresent_kubernetes_io_os": "true",
    M + "node_annotation_a_b": "c",
    M + "node_annotationpresent_a_b": "true",
}
NAMESPACE_META = {
    M + "namespace_label_team": "x",
    M + "namespace_labelpresent_team": "true",
    M + "namespace_annotation_note": "hi",
    M + "namespace_annotationpresent_note": "true",
}
SERVICE_META = {
    M + "namespace": "shop",
    M + "service_name": "web",
    M + "service_label_app": "web",
    M + "service_labelpresent_app": "true",
    M + "service_annotation_x": "y",
    M + "service_annotationpresent_x": "true",
}
APP = {M + "pod_container_name": "app", M + "pod_container_image": "web:1", M + "pod_container_init": "false"}
APP_HTTP = {
    **APP,
    M + "pod_container_port_name": "http",
    M + "pod_container_port_number": "8080",
    M + "pod_container_port_protocol": "TCP",
}


def built(
    role: str, obj: dict[str, Any], *others: dict[str, Any], **attach: Any
) -> tuple[str, dict[str, str], list[dict[str, str]]]:
    group = BUILD[role](obj, Store(*others), Attach(**attach))
    strip = lambda labels: {k: v for k, v in labels.items() if v}  # noqa: E731 - an empty label is no label
    return group.source, strip(group.labels), [strip(t) for t in group.targets]


def test_node() -> None:
    source, labels, targets = built("node", NODE)
    assert source == "node/n1"
    assert labels == {
        **NODE_META,
        M + "node_provider_id": "aws:///i-1",
        M + "node_condition_ready": "true",
        M + "node_condition_diskpressure": "unknown",
    }
    assert targets == [
        {
            "__address__": "10.0.0.1:10250",
            "instance": "n1",
            M + "node_address_InternalIP": "10.0.0.1",
            M + "node_address_ExternalIP": "1.2.3.4",
            M + "node_address_Hostname": "n1.example",
        }
    ]


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (["Hostname", "ExternalDNS"], "ExternalDNS:0"),
        (["Hostname", "LegacyHostIP"], "LegacyHostIP:0"),
        (["Hostname"], "Hostname:0"),
        (["ExternalIP", "InternalDNS"], "InternalDNS:0"),
        (["Other"], None),
        ([], None),
    ],
)
def test_the_address_of_a_node_is_the_most_internal_one(kinds: list[str], expected: str | None) -> None:
    node = {"metadata": {"name": "n"}, "status": {"addresses": [{"type": k, "address": k} for k in kinds]}}
    _, _, targets = built("node", node)
    assert [t["__address__"] for t in targets] == ([expected] if expected else [])


def test_pod() -> None:
    source, labels, targets = built("pod", POD)
    assert source == "pod/shop/web-1"
    assert labels == POD_GROUP
    assert targets == [
        {"__address__": "10.1.0.5:8080", M + "pod_container_id": "containerd://aa", **APP_HTTP},
        {
            "__address__": "10.1.0.5:9090",
            M + "pod_container_id": "containerd://aa",
            **APP,
            M + "pod_container_port_number": "9090",
            M + "pod_container_port_protocol": "UDP",
        },
        {
            "__address__": "10.1.0.5",
            M + "pod_container_name": "side",
            M + "pod_container_image": "side:2",
            M + "pod_container_id": "containerd://bb",
            M + "pod_container_init": "false",
        },
        {
            "__address__": "10.1.0.5:7",
            M + "pod_container_name": "init",
            M + "pod_container_image": "init:3",
            M + "pod_container_id": "containerd://cc",
            M + "pod_container_init": "true",
            M + "pod_container_port_name": "i",
            M + "pod_container_port_number": "7",
            M + "pod_container_port_protocol": "TCP",
        },
    ]


def test_a_pod_without_an_address_is_an_empty_group() -> None:
    assert built("pod", {**POD, "status": {"phase": "Pending"}}) == ("pod/shop/web-1", {}, [])


def test_a_pod_with_an_ipv6_address() -> None:
    pod = {**POD, "status": {"podIP": "fd00::5"}}
    _, labels, targets = built("pod", pod)
    assert targets[0]["__address__"] == "[fd00::5]:8080"
    assert targets[2]["__address__"] == "fd00::5"
    assert labels[M + "pod_ready"] == "unknown"


def test_pod_with_attached_metadata() -> None:
    replicaset = {
        "kind": "ReplicaSet",
        "metadata": meta("web-5d", ownerReferences=[{"kind": "Deployment", "name": "web", "controller": True}]),
    }
    _, labels, _ = built(
        "pod", POD, NODE, NAMESPACE, replicaset, node=True, namespace=True, deployment=True, job=True, cronjob=True
    )
    assert labels == {**POD_GROUP, **NODE_META, **NAMESPACE_META, M + "pod_deployment_name": "web"}


def test_pod_of_a_job_with_attached_metadata() -> None:
    pod = {**POD, "metadata": meta("j-1", ownerReferences=[{"kind": "Job", "name": "j", "controller": True}])}
    job = {"kind": "Job", "metadata": meta("j", ownerReferences=[{"kind": "CronJob", "name": "nightly", "controller": True}])}
    _, labels, _ = built("pod", pod, job, job=True, cronjob=True)
    assert (labels[M + "pod_job_name"], labels[M + "pod_cronjob_name"]) == ("j", "nightly")
    _, labels, _ = built("pod", pod, job)
    assert M + "pod_job_name" not in labels


def test_pods_of_nodes_that_selectors_left_out_are_no_targets() -> None:
    assert built("pod", POD, node=True)[2] == []


def test_service() -> None:
    source, labels, targets = built("service", SERVICE, NAMESPACE, namespace=True)
    assert source == "service/shop/web"
    assert labels == {**SERVICE_META, **NAMESPACE_META}
    common = {M + "service_type": "ClusterIP", M + "service_cluster_ip": "10.96.0.9"}
    assert targets == [
        {
            "__address__": "web.shop.svc:80",
            M + "service_port_name": "http",
            M + "service_port_number": "80",
            M + "service_port_protocol": "TCP",
            **common,
        },
        {
            "__address__": "web.shop.svc:53",
            M + "service_port_name": "dns",
            M + "service_port_number": "53",
            M + "service_port_protocol": "UDP",
            **common,
        },
    ]


def test_services_of_other_types() -> None:
    spec = {"ports": [{"port": 1, "protocol": "TCP"}], "clusterIP": "10.96.0.1"}
    external = built("service", {**SERVICE, "spec": {**spec, "type": "ExternalName", "externalName": "db.example"}})[2][0]
    assert external[M + "service_external_name"] == "db.example"
    assert M + "service_cluster_ip" not in external
    balanced = built("service", {**SERVICE, "spec": {**spec, "type": "LoadBalancer", "loadBalancerIP": "9.9.9.9"}})[2][0]
    assert balanced[M + "service_loadbalancer_ip"] == "9.9.9.9"
    assert balanced[M + "service_cluster_ip"] == "10.96.0.1"


def endpoints(**subset: Any) -> dict[str, Any]:
    return {"kind": "Endpoints", "metadata": meta("web", labels={"e": "1"}), "subsets": [subset]}


POD_REF = {"kind": "Pod", "namespace": "shop", "name": "web-1"}
HTTP = {"name": "http", "port": 8080, "protocol": "TCP"}


def test_endpoints_of_a_pod() -> None:
    obj = endpoints(addresses=[{"ip": "10.1.0.5", "nodeName": "n1", "hostname": "h", "targetRef": POD_REF}], ports=[HTTP])
    source, labels, targets = built("endpoints", obj, POD, SERVICE, NODE, NAMESPACE, node=True, namespace=True)
    assert source == "endpoints/shop/web"
    assert labels == {
        **SERVICE_META,
        **NAMESPACE_META,
        M + "endpoints_name": "web",
        M + "endpoints_label_e": "1",
        M + "endpoints_labelpresent_e": "true",
    }
    assert targets[0] == {
        "__address__": "10.1.0.5:8080",
        M + "endpoint_port_name": "http",
        M + "endpoint_port_protocol": "TCP",
        M + "endpoint_ready": "true",
        M + "endpoint_address_target_kind": "Pod",
        M + "endpoint_address_target_name": "web-1",
        M + "endpoint_node_name": "n1",
        M + "endpoint_hostname": "h",
        **NODE_META,
        **POD_LABELS,
        **APP_HTTP,
    }
    # Ports of the pod that the service does not have follow, without the endpoint's labels.
    assert [t["__address__"] for t in targets[1:]] == ["10.1.0.5:9090", "10.1.0.5:7"]
    assert targets[1] == {
        "__address__": "10.1.0.5:9090",
        **POD_LABELS,
        **APP,
        M + "pod_container_port_number": "9090",
        M + "pod_container_port_protocol": "UDP",
    }


def test_endpoints_that_are_not_ready_or_no_pods() -> None:
    obj = endpoints(
        notReadyAddresses=[{"ip": "10.1.0.9", "targetRef": {"kind": "Node", "name": "n1"}}],
        addresses=[{"ip": "fd00::7"}],
        ports=[{"port": 443, "protocol": "TCP"}],
    )
    _, labels, targets = built("endpoints", obj, NODE, node=True)
    assert labels == {
        M + "namespace": "shop",
        M + "endpoints_name": "web",
        M + "endpoints_label_e": "1",
        M + "endpoints_labelpresent_e": "true",
    }
    assert targets == [
        {"__address__": "[fd00::7]:443", M + "endpoint_port_protocol": "TCP", M + "endpoint_ready": "true"},
        {
            "__address__": "10.1.0.9:443",
            M + "endpoint_port_protocol": "TCP",
            M + "endpoint_ready": "false",
            M + "endpoint_address_target_kind": "Node",
            M + "endpoint_address_target_name": "n1",
            **NODE_META,
        },
    ]


def test_endpoints_without_addresses_are_an_empty_group() -> None:
    assert built("endpoints", {"metadata": meta("web")}) == ("endpoints/shop/web", {}, [])


def piece(*entries: dict[str, Any], ports: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "kind": "EndpointSlice",
        "metadata": meta("web-abc", labels={"kubernetes.io/service-name": "web"}),
        "addressType": "IPv4",
        "endpoints": list(entries),
        "ports": [{**HTTP, "appProtocol": "http"}] if ports is None else ports,
        **more,
    }


def test_endpointslice_of_a_pod() -> None:
    entry = {
        "addresses": ["10.1.0.5"],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "hostname": "h",
        "nodeName": "n1",
        "zone": "z1",
        "targetRef": POD_REF,
        "deprecatedTopology": {"topology.kubernetes.io/region": "r"},
    }
    source, labels, targets = built("endpointslice", piece(entry), POD, SERVICE, NAMESPACE, NODE, node=True, namespace=True)
    assert source == "endpointslice/shop/web-abc"
    assert labels == {
        **SERVICE_META,
        **NAMESPACE_META,
        M + "endpointslice_name": "web-abc",
        M + "endpointslice_address_type": "IPv4",
        M + "endpointslice_label_kubernetes_io_service_name": "web",
        M + "endpointslice_labelpresent_kubernetes_io_service_name": "true",
    }
    e = M + "endpointslice_"
    assert targets[0] == {
        "__address__": "10.1.0.5:8080",
        e + "port": "8080",
        e + "port_name": "http",
        e + "port_protocol": "TCP",
        e + "port_app_protocol": "http",
        e + "endpoint_conditions_ready": "true",
        e + "endpoint_conditions_serving": "true",
        e + "endpoint_conditions_terminating": "false",
        e + "endpoint_hostname": "h",
        e + "endpoint_node_name": "n1",
        e + "endpoint_zone": "z1",
        e + "address_target_kind": "Pod",
        e + "address_target_name": "web-1",
        e + "endpoint_topology_topology_kubernetes_io_region": "r",
        e + "endpoint_topology_present_topology_kubernetes_io_region": "true",
        **NODE_META,
        **POD_LABELS,
        **APP_HTTP,
    }
    assert [t["__address__"] for t in targets[1:]] == ["10.1.0.5:9090", "10.1.0.5:7"]


def test_endpointslice_without_a_port_or_a_service() -> None:
    obj = piece({"addresses": ["10.1.0.5", "10.1.0.6"]}, ports=[{"name": "any"}])
    _, labels, targets = built("endpointslice", obj)
    assert M + "service_name" not in labels
    assert targets == [{"__address__": a, M + "endpointslice_port_name": "any"} for a in ("10.1.0.5", "10.1.0.6")]


def test_the_second_family_of_a_dual_stack_service_is_left_out() -> None:
    service = {**SERVICE, "spec": {**SERVICE["spec"], "ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6", "IPv4"]}}
    entry = {"addresses": ["10.1.0.5"]}
    assert built("endpointslice", piece(entry), service)[2] == []
    assert len(built("endpointslice", piece(entry, addressType="IPv6"), service)[2]) == 1
    assert len(built("endpointslice", piece(entry), SERVICE)[2]) == 1


@pytest.mark.parametrize("role", ["endpoints", "endpointslice"])
def test_endpoints_of_other_nodes_are_left_out(role: str) -> None:
    here, there, nowhere = ({"nodeName": "n1"}, {"nodeName": "n2"}, {})
    obj = (
        endpoints(addresses=[{"ip": "1", **here}, {"ip": "2", **there}, {"ip": "3", **nowhere}], ports=[HTTP])
        if role == "endpoints"
        else piece({"addresses": ["1"], **here}, {"addresses": ["2"], **there}, {"addresses": ["3"], **nowhere})
    )
    assert [t["__address__"] for t in built(role, obj, takes_node="n1".__eq__)[2]] == ["1:8080", "3:8080"]


def test_ingress() -> None:
    obj = {
        "kind": "Ingress",
        "metadata": meta("front", labels={"i": "1"}),
        "spec": {
            "ingressClassName": "nginx",
            "tls": [{"hosts": ["a.example"]}, {"hosts": ["*.b.example"]}],
            "rules": [
                {"host": "a.example", "http": {"paths": [{"path": "/x"}, {}]}},
                {"host": "c.b.example"},
                {"host": "x.c.b.example", "http": {"paths": [{"path": "/"}]}},
                {"http": {"paths": []}},
            ],
        },
    }
    source, labels, targets = built("ingress", obj, NAMESPACE, namespace=True)
    assert source == "ingress/shop/front"
    assert labels == {
        M + "namespace": "shop",
        M + "ingress_name": "front",
        M + "ingress_class_name": "nginx",
        M + "ingress_label_i": "1",
        M + "ingress_labelpresent_i": "true",
        **NAMESPACE_META,
    }
    assert [(t[M + "ingress_scheme"], t["__address__"], t[M + "ingress_path"]) for t in targets] == [
        ("https", "a.example", "/x"),
        ("https", "a.example", "/"),
        ("https", "c.b.example", "/"),
        ("http", "x.c.b.example", "/"),
    ]


@pytest.mark.parametrize("role", sorted(BUILD))
def test_an_object_that_is_nearly_empty_makes_no_trouble(role: str) -> None:
    assert BUILD[role]({"metadata": {"name": "x", "namespace": "y"}}, Store(), Attach(node=True, namespace=True)).targets == []
