"""A website that wants a login, and objects of every kind that ask for it to be scraped."""

from __future__ import annotations

from typing import Any

from tests.cluster import images
from tests.cluster.control_plane import NODE_ADDRESS
from tests.cluster.node import READ_ONLY_PORT

Object = dict[str, Any]
WORD = "s3cret-of-the-website"
KINDS = [("v1", "ServiceMonitor"), ("v1", "PodMonitor"), ("v1", "Probe"), ("v1alpha1", "ScrapeConfig")]
POOLS = {  # scrape pool: how many targets which agent has
    "serviceMonitor/apps/web/0": {"node": 2},
    "serviceMonitor/apps/by-endpoints/0": {"node": 2},
    "podMonitor/apps/web/0": {"node": 2},
    "serviceMonitor/apps/outside/0": {"k8scluster": 1},
    "probe/apps/site": {"k8scluster": 1},
    "scrapeConfig/apps/own": {"node": 1, "k8scluster": 1},
    "integrations/kubernetes/kubelet": {"node": 1},
    "integrations/kubernetes/cadvisor": {"node": 1},
    "apiserver": {"k8scluster": 1},
}


def definition(group: str, version: str, kind: str) -> Object:
    """A CRD with any content."""
    plural = kind.lower() + "s"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [{"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }


def definitions() -> list[Object]:
    """The CRDs of prometheus-operator that the agents read."""
    return [definition("monitoring.coreos.com", version, kind) for version, kind in KINDS]


def website() -> list[Object]:
    """Two pods with pages below /open and, for who has the login, below /private; its login is in two Secrets."""
    files = {"httpd.conf": f"/private:reader:{WORD}\n", "visits.txt": "site_visits_total 7\n", "probe.txt": "probe_success 1\n"}
    paths = {"httpd.conf": "httpd.conf", "visits.txt": "www/private/visits.txt", "probe.txt": "www/open/probe.txt"}
    command = ["httpd", "-f", "-v", "-p", "8080", "-h", "/site/www", "-c", "/site/httpd.conf", "-r", "site"]
    pod = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "volumes": [
                {"name": "site", "configMap": {"name": "site", "items": [{"key": k, "path": v} for k, v in paths.items()]}}
            ],
            "containers": [
                {
                    "name": "web",
                    "image": images.BUSYBOX,
                    "imagePullPolicy": "Never",
                    "command": command,
                    "ports": [{"name": "http", "containerPort": 8080}],
                    "volumeMounts": [{"name": "site", "mountPath": "/site"}],
                }
            ],
        },
    }
    return [
        _object("v1", "ConfigMap", "site", data=files),
        *[_object("v1", "Secret", name, stringData={"user": "reader", "word": WORD}) for name in ("web-login", "other-login")],
        _object("apps/v1", "Deployment", "web", spec={"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": pod}),
        _object(
            "v1", "Service", "web", {"app": "web"}, spec={"selector": {"app": "web"}, "ports": [{"name": "http", "port": 8080}]}
        ),
        _object(
            "networking.k8s.io/v1",
            "Ingress",
            "site",
            {"app": "web"},
            spec={
                "rules": [
                    {
                        "host": "site.test",
                        "http": {
                            "paths": [
                                {
                                    "path": "/",
                                    "pathType": "Prefix",
                                    "backend": {"service": {"name": "web", "port": {"name": "http"}}},
                                }
                            ]
                        },
                    }
                ]
            },
        ),
        # something outside of the cluster under a name inside
        _object("v1", "Service", "outside", {"app": "outside"}, spec={"ports": [{"name": "http", "port": READ_ONLY_PORT}]}),
        _object(
            "discovery.k8s.io/v1",
            "EndpointSlice",
            "outside",
            {"kubernetes.io/service-name": "outside"},
            addressType="IPv4",
            endpoints=[{"addresses": [NODE_ADDRESS]}],
            ports=[{"name": "http", "port": READ_ONLY_PORT}],
        ),
    ]


def monitors() -> list[Object]:
    """Objects that ask for every right the agents have for monitors; the PodMonitor `other` asks for a Secret that is not granted."""
    group, web = "monitoring.coreos.com", {"matchLabels": {"app": "web"}}
    address = f"{NODE_ADDRESS}:{READ_ONLY_PORT}"

    def login(secret: str) -> Object:
        return {"username": {"name": secret, "key": "user"}, "password": {"name": secret, "key": "word"}}

    private = {"port": "http", "path": "/private/visits.txt", "interval": "5s"}
    host = [{"sourceLabels": ["__meta_kubernetes_node_label_kubernetes_io_hostname"], "targetLabel": "hostname"}]
    return [
        _object(
            f"{group}/v1",
            "ServiceMonitor",
            "web",
            spec={
                "selector": web,
                "attachMetadata": {"node": True},
                "endpoints": [{**private, "basicAuth": login("web-login"), "relabelings": host}],
            },
        ),
        _object(
            f"{group}/v1",
            "ServiceMonitor",
            "by-endpoints",
            spec={"selector": web, "serviceDiscoveryRole": "Endpoints", "endpoints": [{"port": "http", "path": "/open/probe.txt"}]},
        ),
        _object(
            f"{group}/v1",
            "ServiceMonitor",
            "outside",
            spec={"selector": {"matchLabels": {"app": "outside"}}, "endpoints": [{"port": "http"}]},
        ),
        *[
            _object(
                f"{group}/v1",
                "PodMonitor",
                name,
                spec={"selector": web, "podMetricsEndpoints": [{**private, "basicAuth": login(f"{name}-login")}]},
            )
            for name in ("web", "other")
        ],
        _object(
            f"{group}/v1",
            "Probe",
            "site",
            spec={"prober": {"url": "web.apps.svc:8080", "path": "/open/probe.txt"}, "targets": {"ingress": {"selector": web}}},
        ),
        _object(
            f"{group}/v1alpha1",
            "ScrapeConfig",
            "own",
            spec={
                "staticConfigs": [{"targets": [address], "labels": {"found": "by-name"}}],
                "kubernetesSDConfigs": [{"role": "Node"}],
                "relabelings": [{"targetLabel": "__address__", "replacement": address}],
            },
        ),
    ]


def _object(version: str, kind: str, name: str, labels: dict[str, str] | None = None, **fields: Any) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "apps", "labels": labels or {}}, **fields}
