"""Discovery of a real API server held against a real Prometheus: the same targets with the same labels, for every role and KOF's jobs."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from kofagent.component.protocols import Kubeconfig
from kofagent.prometheus.monitors import watch
from kofagent.receivers.prometheus import COMPONENT
from kofagent.telemetry.signal import Signal
from tests.cluster import Cluster
from tests.cluster.api import ApiError
from tests.receivers.test_prometheus_real import fetch, process
from tests.support.components import FakeHost, Sink, make
from tests.support.servers import free_port

pytestmark = [pytest.mark.server("kube-apiserver"), pytest.mark.server("etcd")]


def meta(name: str, namespace: str = "", **more: Any) -> dict[str, Any]:
    return {"name": name, **({"namespace": namespace} if namespace else {}), **more}


def create(cluster: Cluster, path: str, obj: dict[str, Any]) -> None:
    """Creates an object, then writes its status, which the API server takes by a path of its own only."""
    status = obj.get("status")
    made = cluster.api.call("POST", path, {k: v for k, v in obj.items() if k != "status"})
    if status is not None:
        cluster.api.call("PUT", f"{path}/{made['metadata']['name']}/status", {**made, "status": status})


def pod(
    name: str,
    ip: str,
    node: str,
    containers: list[dict[str, Any]],
    *,
    phase: str = "Running",
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    init: list[dict[str, Any]] | None = None,
    owner: tuple[str, str, str] | None = None,
) -> dict[str, Any]:
    ready = [{"type": "Ready", "status": "True" if phase == "Running" else "False"}]
    status = {"phase": phase, "conditions": ready, **({"podIP": ip, "podIPs": [{"ip": ip}], "hostIP": "10.9.0.1"} if ip else {})}
    owners = (
        [{"apiVersion": owner[0], "kind": owner[1], "name": owner[2], "uid": f"u-{owner[2]}", "controller": True}] if owner else []
    )
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta(name, "shop", labels=labels or {"app": "web"}, annotations=annotations or {}, ownerReferences=owners),
        "spec": {"nodeName": node, "containers": containers, "initContainers": init or []},
        "status": status,
    }


def container(name: str, *ports: tuple[str, int]) -> dict[str, Any]:
    return {
        "name": name,
        "image": f"{name}:1",
        "ports": [{"name": n, "containerPort": p} if n else {"containerPort": p} for n, p in ports],
    }


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An API server with objects of every kind, and no controller that would change them."""
    with Cluster(Path(tmp_path_factory.mktemp("cluster")) / "c", controllers=False, scheduler=False) as cluster:
        for namespace, labels in (("shop", {"team": "x"}), ("other", {})):
            create(cluster, "/api/v1/namespaces", {"metadata": meta(namespace, labels=labels, annotations={"about": namespace})})
            create(cluster, f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": meta("default")})
        for i in (1, 2):
            create(
                cluster,
                "/api/v1/nodes",
                {
                    "metadata": meta(f"n{i}", labels={"zone": f"z{i}", "kubernetes.io/os": "linux"}),
                    "spec": {"providerID": f"kind://n{i}"},
                    "status": {
                        "addresses": [{"type": "InternalIP", "address": f"10.9.0.{i}"}, {"type": "Hostname", "address": f"n{i}"}],
                        "conditions": [{"type": "Ready", "status": "True"}],
                        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
                    },
                },
            )
        pods = "/api/v1/namespaces/shop/pods"
        create(
            cluster,
            pods,
            pod(
                "web-1",
                "10.1.0.1",
                "n1",
                [container("app", ("http", 8080), ("", 9090)), container("side")],
                annotations={"prometheus.io/scrape": "true", "prometheus.io/port": "8080", "prometheus.io/path": "/m"},
                init=[container("init", ("i", 7))],
                owner=("apps/v1", "ReplicaSet", "web-5d"),
            ),
        )
        create(
            cluster,
            pods,
            pod("web-2", "10.1.0.2", "n2", [container("app", ("http-envoy-prom", 15090))], labels={"app": "web", "v": "2"}),
        )
        create(cluster, pods, pod("waiting", "", "n2", [container("app", ("http", 8080))], phase="Pending"))
        create(
            cluster,
            pods,
            pod(
                "done",
                "10.1.0.9",
                "n2",
                [container("app")],
                phase="Succeeded",
                labels={"job": "x"},
                owner=("batch/v1", "Job", "nightly-1"),
            ),
        )
        owned = [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "u-1", "controller": True}]
        template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container("app")], "restartPolicy": "Always"}}
        create(
            cluster,
            "/apis/apps/v1/namespaces/shop/replicasets",
            {
                "metadata": meta("web-5d", ownerReferences=owned),
                "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template},
            },
        )
        owned = [{"apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly", "uid": "u-2", "controller": True}]
        create(
            cluster,
            "/apis/batch/v1/namespaces/shop/jobs",
            {
                "metadata": meta("nightly-1", ownerReferences=owned),
                "spec": {"template": {"spec": {"containers": [container("app")], "restartPolicy": "Never"}}},
            },
        )
        services = "/api/v1/namespaces/shop/services"
        create(
            cluster,
            services,
            {
                "metadata": meta("web", labels={"app": "web"}, annotations={"a/b": "c"}),
                "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "x", "port": 81}]},
            },
        )
        create(
            cluster,
            services,
            {
                "metadata": meta("outside"),
                "spec": {"type": "ExternalName", "externalName": "db.example", "ports": [{"port": 5432}]},
            },
        )
        create(cluster, services, {"metadata": meta("balanced"), "spec": {"type": "LoadBalancer", "ports": [{"port": 443}]}})
        reference = {"kind": "Pod", "namespace": "shop"}
        create(
            cluster,
            "/api/v1/namespaces/shop/endpoints",
            {
                "metadata": meta("web", labels={"app": "web"}),
                "subsets": [
                    {
                        "addresses": [{"ip": "10.1.0.1", "nodeName": "n1", "targetRef": {**reference, "name": "web-1"}}],
                        "notReadyAddresses": [
                            {"ip": "10.1.0.2", "nodeName": "n2", "hostname": "h", "targetRef": {**reference, "name": "web-2"}}
                        ],
                        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
                    }
                ],
            },
        )
        create(
            cluster,
            "/api/v1/namespaces/other/endpoints",
            {
                "metadata": meta("outside"),
                "subsets": [{"addresses": [{"ip": "192.0.2.7"}], "ports": [{"port": 1, "protocol": "UDP"}]}],
            },
        )
        create(
            cluster,
            "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices",
            {
                "metadata": meta("web-x", labels={"kubernetes.io/service-name": "web"}),
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "http"}],
                "endpoints": [
                    {
                        "addresses": ["10.1.0.1"],
                        "nodeName": "n1",
                        "zone": "z1",
                        "conditions": {"ready": True, "serving": True, "terminating": False},
                        "targetRef": {**reference, "name": "web-1"},
                    },
                    {
                        "addresses": ["10.1.0.2"],
                        "nodeName": "n2",
                        "hostname": "h",
                        "conditions": {"ready": False},
                        "targetRef": {**reference, "name": "web-2"},
                    },
                    {"addresses": ["10.9.0.1"], "targetRef": {"kind": "Node", "name": "n1"}},
                ],
            },
        )
        create(
            cluster,
            "/apis/networking.k8s.io/v1/namespaces/shop/ingresses",
            {
                "metadata": meta("front", labels={"i": "1"}),
                "spec": {
                    "ingressClassName": "nginx",
                    "tls": [{"hosts": ["*.example"]}],
                    "rules": [
                        {
                            "host": "a.example",
                            "http": {
                                "paths": [
                                    {
                                        "path": "/x",
                                        "pathType": "Prefix",
                                        "backend": {"service": {"name": "web", "port": {"number": 80}}},
                                    }
                                ]
                            },
                        },
                        {"host": "b.test"},
                    ],
                },
            },
        )
        yield cluster


def kof_jobs() -> list[dict[str, Any]]:
    """The jobs of KOF 0.3.0 that discover, and the annotations job of its pods."""
    proxied = {"scheme": "https", "tls_config": {"insecure_skip_verify": True}}
    address = {"target_label": "__address__", "replacement": "kubernetes.default.svc.cluster.local:443"}

    def path(suffix: str) -> dict[str, Any]:
        return {
            "source_labels": ["__meta_kubernetes_node_name"],
            "regex": "(.+)",
            "target_label": "__metrics_path__",
            "replacement": f"/api/v1/nodes/${{1}}/proxy/metrics{suffix}",
        }

    node = {"source_labels": ["__meta_kubernetes_node_name"], "target_label": "node"}
    app = {"source_labels": ["__meta_kubernetes_pod_label_app"], "target_label": "app"}
    return [
        {
            "job_name": "apiserver",
            "kubernetes_sd_configs": [{"role": "endpoints"}],
            "relabel_configs": [address, path(""), node],
            **proxied,
        },
        {
            "job_name": "integrations/kubernetes/cadvisor",
            "kubernetes_sd_configs": [{"role": "node"}],
            "honor_labels": True,
            "relabel_configs": [address, path("/cadvisor")],
            **proxied,
        },
        {
            "job_name": "integrations/kubernetes/kubelet",
            "kubernetes_sd_configs": [{"role": "node"}],
            "relabel_configs": [address, path("")],
            **proxied,
        },
        {
            "job_name": "envoy-stats",
            "metrics_path": "/stats/prometheus",
            "kubernetes_sd_configs": [{"role": "pod"}],
            "relabel_configs": [
                app,
                {"source_labels": ["__meta_kubernetes_pod_container_port_name"], "action": "keep", "regex": ".*-envoy-prom"},
            ],
        },
        {
            "job_name": "annotated",
            "kubernetes_sd_configs": [{"role": "pod"}],
            "relabel_configs": [
                {"source_labels": ["__meta_kubernetes_pod_annotation_prometheus_io_scrape"], "action": "keep", "regex": "true"},
                {
                    "source_labels": ["__meta_kubernetes_pod_annotation_prometheus_io_path"],
                    "target_label": "__metrics_path__",
                    "regex": "(.+)",
                },
                {
                    "source_labels": ["__meta_kubernetes_pod_ip", "__meta_kubernetes_pod_annotation_prometheus_io_port"],
                    "separator": ":",
                    "target_label": "__address__",
                    "regex": "(.+:[0-9]+)",
                },
            ],
        },
    ]


def role_jobs() -> list[dict[str, Any]]:
    """Every role, plain and with all that narrows or widens it."""
    jobs = [
        {"job_name": role, "kubernetes_sd_configs": [{"role": role}]}
        for role in ("node", "pod", "service", "endpoints", "endpointslice", "ingress")
    ]
    more = {
        "pod of a namespace with nodes": {"role": "pod", "namespaces": {"names": ["shop"]}, "attach_metadata": {"node": True}},
        "pod by label": {"role": "pod", "selectors": [{"role": "pod", "label": "v=2"}]},
        "pod by field": {"role": "pod", "selectors": [{"role": "pod", "field": "spec.nodeName=n1"}]},
        "pod with everything": {
            "role": "pod",
            "attach_metadata": {"node": True, "namespace": True, "deployment": True, "job": True, "cronjob": True},
        },
        "service with namespaces": {"role": "service", "attach_metadata": {"namespace": True}},
        "ingress with namespaces": {"role": "ingress", "attach_metadata": {"namespace": True}},
        "endpoints with nodes": {"role": "endpoints", "attach_metadata": {"node": True, "namespace": True}},
        "endpointslice with nodes": {
            "role": "endpointslice",
            "attach_metadata": {"node": True},
            "namespaces": {"names": ["shop", "other"]},
        },
        "endpoints by service": {"role": "endpoints", "selectors": [{"role": "service", "label": "app=other"}]},
        "node by label": {"role": "node", "selectors": [{"role": "node", "label": "zone=z2"}]},
    }
    return jobs + [{"job_name": name, "kubernetes_sd_configs": [options]} for name, options in more.items()]


NEWEST = ("__scrape_native_histograms__", "__always_scrape_classic_histograms__", "__convert_classic_histograms_to_nhcb__")
"""Settings of native histograms, which the newest Prometheus gives every target as labels. There are none here."""
COLLAPSED = ("annotated", "apiserver")
"""Jobs whose targets are equal after relabelling; it is chance whose discovered labels Prometheus shows."""


def shape(discovered: dict[str, str], labels: dict[str, str] | None) -> str:
    return json.dumps([{k: v for k, v in discovered.items() if k not in NEWEST}, labels], sort_keys=True)


@pytest.mark.server("prometheus3")
async def test_the_same_targets_as_prometheus(cluster: Cluster, tmp_path: Path) -> None:
    jobs = [*role_jobs(), *kof_jobs()]
    for job in jobs:
        job |= {"scrape_interval": "1h", "scrape_timeout": "1s"}
        job["kubernetes_sd_configs"] = [
            {**entry, "kubeconfig_file": str(cluster.kubeconfig)} for entry in job["kubernetes_sd_configs"]
        ]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": jobs}))
    server = free_port()
    receiver, sink = make(COMPONENT, {"config": {"scrape_configs": jobs}}, id="prometheus"), Sink()
    receiver.outputs = {Signal.METRICS: sink}
    arguments = (
        f"--config.file={tmp_path}/prometheus.yml",
        f"--storage.tsdb.path={tmp_path}/data",
        f"--web.listen-address=127.0.0.1:{server}",
    )
    async with process("prometheus3", *arguments):
        await receiver.start()
        try:
            url = f"http://127.0.0.1:{server}/api/v1/targets"
            names = {job["job_name"] for job in jobs}
            answer = json.loads(
                await fetch(url, lambda b: names <= {t["scrapePool"] for t in json.loads(b)["data"]["activeTargets"]})
            )["data"]
            async with asyncio.timeout(20):
                while not all(pool.targets for pool in receiver.pools.values()):
                    await asyncio.sleep(0.05)
            pools = dict(receiver.pools)
            ours = {
                name: sorted(
                    [shape(t.discovered, t.labels) for t in pool.targets] + [shape(t.discovered, None) for t in pool.dropped]
                )
                for name, pool in pools.items()
            }
            urls = {name: sorted(t.url for t in pool.targets) for name, pool in pools.items()}
        finally:
            await receiver.stop()
    for name in sorted(names):
        theirs = sorted(
            [shape(t["discoveredLabels"], t["labels"]) for t in answer["activeTargets"] if t["scrapePool"] == name]
            + [shape(t["discoveredLabels"], None) for t in answer["droppedTargets"] if t["discoveredLabels"]["job"] == name]
        )
        mine, others = [json.loads(t) for t in ours[name]], [json.loads(t) for t in theirs]
        if name in COLLAPSED:
            mine, others = (
                [found for found in side if found[1] is None] + [found[1] for found in side if found[1] is not None]
                for side in (mine, others)
            )
        assert mine == others, name
        assert urls[name] == sorted(t["scrapeUrl"] for t in answer["activeTargets"] if t["scrapePool"] == name), name
    # KOF's job of the API server maps every endpoint to one address: one target is left.
    assert len(urls["apiserver"]) == 1


async def test_targets_stay_while_the_api_server_is_away_and_follow_afterwards(cluster: Cluster) -> None:
    jobs = [
        {
            "job_name": role,
            "scrape_interval": "1h",
            "kubernetes_sd_configs": [{"role": role, "kubeconfig_file": str(cluster.kubeconfig)}],
        }
        for role in ("node", "pod", "endpointslice")
    ]
    receiver = make(COMPONENT, {"config": {"scrape_configs": jobs}}, id="prometheus")
    receiver.outputs = {Signal.METRICS: Sink()}
    await receiver.start()

    def shown() -> dict[str, list[str]]:
        return {name: sorted(t.url for t in pool.targets) for name, pool in receiver.pools.items()}

    async def appears(name: str, address: str) -> None:
        await asyncio.to_thread(
            create, cluster, "/api/v1/namespaces/shop/pods", pod(name, address, "n1", [container("c", ("http", 80))])
        )
        async with asyncio.timeout(60):
            while f"http://{address}:80/metrics" not in shown()["pod"]:
                await asyncio.sleep(0.1)

    try:
        async with asyncio.timeout(20):
            while not all(shown().values()):
                await asyncio.sleep(0.1)
        before = shown()
        await asyncio.to_thread(cluster.stop, "kube-apiserver")
        await asyncio.sleep(3)
        assert shown() == before
        await asyncio.to_thread(cluster.resume, "kube-apiserver")
        await appears("after-restart", "10.1.9.1")
        await asyncio.to_thread(cluster.expire)
        await appears("after-compaction", "10.1.9.2")
        assert {
            name: set(urls) - {"http://10.1.9.1:80/metrics", "http://10.1.9.2:80/metrics"} for name, urls in shown().items()
        } == {name: set(urls) for name, urls in before.items()}
    finally:
        await receiver.stop()
        for name in ("after-restart", "after-compaction"):
            cluster.api.call("DELETE", f"/api/v1/namespaces/shop/pods/{name}?gracePeriodSeconds=0")


KINDS = (("v1", "ServiceMonitor"), ("v1", "PodMonitor"), ("v1", "Probe"), ("v1alpha1", "ScrapeConfig"))
READS = [
    {"apiGroups": [""], "resources": ["pods", "services", "nodes"], "verbs": ["list", "watch"]},
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    {
        "apiGroups": ["monitoring.coreos.com"],
        "resources": ["servicemonitors", "podmonitors", "probes", "scrapeconfigs"],
        "verbs": ["list", "watch"],
    },
]


def crd(version: str, kind: str) -> dict[str, Any]:
    plural = f"{kind.lower()}s"
    schema = {"type": "object", "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.monitoring.coreos.com",
            "annotations": {"api-approved.kubernetes.io": "https://github.com/prometheus-operator/prometheus-operator"},
        },
        "spec": {
            "group": "monitoring.coreos.com",
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural},
            "versions": [{"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }


async def test_monitors_with_exactly_the_rules_they_need(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen: dict[str, str] = {}

    async def page(request: web.Request) -> web.Response:
        seen[request.path] = request.headers.get("Authorization", "")
        return web.Response(text="a 1\n")

    app = web.Application()
    app.router.add_get("/{tail:.*}", page)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    api = cluster.api
    create(
        cluster,
        "/api/v1/namespaces/other/pods",
        {
            "metadata": meta("real", labels={"app": "real"}),
            "spec": {"nodeName": "n1", "containers": [container("c", ("http", port))]},
            "status": {"phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]},
        },
    )
    for name in ("allowed", "denied"):
        create(
            cluster,
            "/api/v1/namespaces/other/secrets",
            {"metadata": meta(name), "data": {"token": base64.b64encode(name.encode()).decode()}},
        )
    cluster.service_account("other", "agent", READS)
    create(
        cluster,
        "/apis/rbac.authorization.k8s.io/v1/namespaces/other/roles",
        {
            "metadata": meta("secret"),
            "rules": [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["allowed"], "verbs": ["list", "watch"]}],
        },
    )
    create(
        cluster,
        "/apis/rbac.authorization.k8s.io/v1/namespaces/other/rolebindings",
        {
            "metadata": meta("secret"),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "secret"},
            "subjects": [{"kind": "ServiceAccount", "name": "agent", "namespace": "other"}],
        },
    )
    monkeypatch.setattr(FakeHost, "kubeconfig", Kubeconfig(str(cluster.kubeconfig_of("other", "agent"))))
    monkeypatch.setattr(watch.Monitors.__init__, "__kwdefaults__", {"slow": 0.1, "retry": 0.5})
    receiver = make(
        COMPONENT,
        {
            "config": {"global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"}},
            "monitors": {"enabled": True},
            "allocation": {"strategy": "per-node", "node_name": "n1"},
        },
        id="prometheus",
    )
    receiver.outputs = {Signal.METRICS: Sink()}
    await receiver.start()
    try:
        # The CRDs are installed while the agent runs.
        for version, kind in KINDS:
            api.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd(version, kind))
        path = "/apis/monitoring.coreos.com/v1/namespaces/other/podmonitors"
        body = {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PodMonitor",
            "metadata": meta("m"),
            "spec": {
                "selector": {"matchLabels": {"app": "real"}},
                "podMetricsEndpoints": [
                    {"port": "http", "path": f"/{name}", "bearerTokenSecret": {"name": name, "key": "token"}}
                    for name in ("allowed", "denied")
                ],
            },
        }
        async with asyncio.timeout(30):
            while True:
                try:
                    await asyncio.to_thread(api.call, "POST", path, body)
                    break
                except ApiError:
                    await asyncio.sleep(0.2)  # the API server does not serve the new kind yet
            while seen.get("/allowed") != "Bearer allowed" or "secrets other/denied" not in caplog.text:
                await asyncio.sleep(0.05)
            api.call(
                "PATCH",
                "/api/v1/namespaces/other/secrets/allowed",
                {"data": {"token": base64.b64encode(b"new").decode()}},
                content="application/merge-patch+json",
            )
            while seen.get("/allowed") != "Bearer new":
                await asyncio.sleep(0.05)
        assert "/denied" not in seen
        [error] = {r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR and "secrets" in r.getMessage()}
        assert '"resourceNames": ["denied"]' in error
        role = api.get("/apis/rbac.authorization.k8s.io/v1/namespaces/other/roles/secret")
        role["rules"][0]["resourceNames"].append("denied")
        api.call("PUT", "/apis/rbac.authorization.k8s.io/v1/namespaces/other/roles/secret", role)
        async with asyncio.timeout(30):
            while seen.get("/denied") != "Bearer denied":
                await asyncio.sleep(0.05)
    finally:
        await receiver.stop()
        await runner.cleanup()
