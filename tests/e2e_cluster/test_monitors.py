"""Monitors on a real API server: every target scraped by exactly one agent, the targets Prometheus has with the operator's configuration."""

from __future__ import annotations

import base64
import gzip
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from tests.cluster import Cluster
from tests.cluster.certificates import Keys
from tests.e2e_cluster.monitored import (
    CLUSTER_AGENT,
    INTERVAL,
    NAMESPACE,
    NODES,
    RULES,
    SECRET_TEXTS,
    Agent,
    ApiError,
    World,
    agents,
    crd_folder,
    install_crds,
    query,
)
from tests.e2e_cluster.pages import ADDRESSES, Pages, address, obstacle
from tests.support.servers import Server, find, free_port, get, get_json, victoria_metrics, wait_until

pytestmark = [
    pytest.mark.server("kube-apiserver"),
    pytest.mark.server("etcd"),
    pytest.mark.server("victoria-metrics"),
    pytest.mark.skipif(bool(obstacle()), reason=obstacle()),
    pytest.mark.skipif(crd_folder() is None, reason="no CRDs: run tests/servers/install.sh monitoring-crds"),
]
MONITOR_KINDS = ("servicemonitors", "podmonitors", "probes", "scrapeconfigs")
PAGE_SERIES = '{__name__=~"page|probe_success|up",job!="moving"}'
WEB = {10: "n1", 11: "n2", 12: "n3", 13: "n1", 14: "n2", 15: "n3"}
"""Pods of the service `web`: the number of their address, their node."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The API server, the pages, nodes, pods and services; no monitors yet."""
    folder = Path(tmp_path_factory.mktemp("world"))
    keys = Keys(folder / "keys")
    keys.authority()
    names = ["DNS:web.example", *(f"IP:{address(n)}" for n in range(1, ADDRESSES + 1))]
    keys.issue("pages", "/CN=pages", names)
    for client in ("client-one", "client-two"):
        keys.issue(client, f"/CN={client}")
    with Pages(keys) as pages, Cluster(folder / "c", controllers=False, scheduler=False) as cluster:
        world = World(cluster, pages, keys)
        install_crds(cluster, crd_folder() or Path(), MONITOR_KINDS)
        for namespace in (NAMESPACE, "other"):
            cluster.namespace(namespace)
        cluster.service_account(NAMESPACE, "agent", RULES)
        for number in (1, 2, 3):
            world.node(number)
        for number, node in WEB.items():
            world.pod(f"web-{number}", number, node, app="web", version="v1")
        world.service("web", app="web", tier="front")
        web_slice(world)
        world.service("outside", app="outside")
        world.slice("outside", (30, "", ""), (31, "", ""))
        world.pod("far", 20, "n2", "other", app="far")
        world.pod("ended", 21, "n2", "other", app="far")
        world.service("far", "other", app="far")
        world.slice("far", (20, "n2", "far"), namespace="other")
        world.secret("login", user="user", password="word-one", token="bearer-one", client="client-word-one")
        world.secret("tls", cert=Path(keys.cert("client-one")).read_text(), key=Path(keys.key("client-one")).read_text())
        world.config_map("pki", ca=Path(keys.cert("ca")).read_text(), id="id")
        world.allow(NAMESPACE, "login", "tls")
        world.allow(NAMESPACE, "pki", resource="configmaps")
        pages.basic, pages.bearer, pages.client, pages.oauth = (
            ("user", "word-one"),
            "bearer-one",
            ("id", "client-word-one"),
            "oauth-token-one",
        )
        yield world


def web_slice(world: World, **moved: str) -> None:
    """Writes the slice of `web`; `moved` gives endpoints (`w10`) another node."""
    world.slice("web", *((number, moved.get(f"w{number}", node), f"web-{number}") for number, node in WEB.items()))


def monitors(world: World) -> dict[str, dict[str, str]]:
    """Writes monitors of every kind. For each job the pages it asks for (`address/path`) and who is to ask."""
    port = world.pages.port
    web = {"matchLabels": {"app": "web"}}
    basic = {"username": {"name": "login", "key": "user"}, "password": {"name": "login", "key": "password"}}
    tls = {
        "ca": {"configMap": {"name": "pki", "key": "ca"}},
        "cert": {"secret": {"name": "tls", "key": "cert"}},
        "keySecret": {"name": "tls", "key": "key"},
    }
    token = {"name": "login", "key": "token"}
    world.monitor(
        "ServiceMonitor",
        "plain",
        {
            "selector": web,
            "jobLabel": "app",
            "targetLabels": ["tier"],
            "podTargetLabels": ["version"],
            "attachMetadata": {"node": True},
            "endpoints": [
                {
                    "port": "http",
                    "path": "/plain",
                    "relabelings": [{"sourceLabels": ["__meta_kubernetes_node_label_zone"], "targetLabel": "zone"}],
                }
            ],
        },
    )
    secure: list[dict[str, Any]] = [
        {"port": "http", "path": "/basic", "basicAuth": basic},
        {"port": "http", "path": "/bearer", "authorization": {"credentials": token}},
        {"port": "http", "path": "/bearer", "params": {"again": ["1"]}, "bearerTokenSecret": token},
        {"port": "https", "path": "/tls", "scheme": "https", "tlsConfig": {**tls, "serverName": "web.example"}},
        {
            "port": "http",
            "path": "/oauth",
            "oauth2": {
                "clientId": {"configMap": {"name": "pki", "key": "id"}},
                "clientSecret": {"name": "login", "key": "client"},
                "tokenUrl": f"http://{address(40)}:{port}/token",
            },
        },
    ]
    # Endpoints of one port have the same labels unless somebody tells them apart.
    world.monitor(
        "ServiceMonitor",
        "secure",
        {
            "selector": web,
            "endpoints": [
                {**endpoint, "relabelings": [{"targetLabel": "page", "replacement": str(i)}]} for i, endpoint in enumerate(secure)
            ],
        },
    )
    world.monitor(
        "ServiceMonitor",
        "outside",
        {"selector": {"matchLabels": {"app": "outside"}}, "endpoints": [{"port": "http", "path": "/outside"}]},
    )
    world.monitor(
        "ServiceMonitor",
        "role",
        {
            "selector": web,
            "selectorMechanism": "RoleSelector",
            "endpoints": [{"port": "http", "path": "/role", "relabelings": [{"targetLabel": "page", "replacement": "role"}]}],
        },
    )
    world.monitor(
        "PodMonitor",
        "pods",
        {
            "selector": web,
            "podTargetLabels": ["version"],
            "podMetricsEndpoints": [
                {"port": "http", "path": "/pod"},
                {"portNumber": world.pages.tls_port, "path": "/pod-tls", "scheme": "https", "tlsConfig": tls},
            ],
        },
    )
    world.monitor(
        "PodMonitor",
        "across",
        {
            "selector": {"matchLabels": {"app": "far"}},
            "namespaceSelector": {"matchNames": ["other"]},
            "podMetricsEndpoints": [{"port": "http", "path": "/across"}],
        },
    )
    world.monitor(
        "Probe",
        "probe",
        {
            "prober": {"url": f"{address(41)}:{port}", "path": "/probe"},
            "module": "http_2xx",
            "targets": {"staticConfig": {"static": ["https://a.example", "localhost:80"], "labels": {"kind": "static"}}},
        },
    )
    world.create(
        f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/ingresses",
        {
            "metadata": meta_ingress(),
            "spec": {
                "rules": [
                    {
                        "host": "b.example",
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
                    {"host": "localhost"},
                ]
            },
        },
    )
    world.monitor(
        "Probe",
        "ingress",
        {
            "prober": {"url": f"{address(42)}:{port}", "path": "/probe"},
            "targets": {"ingress": {"selector": {"matchLabels": {"i": "1"}}}},
        },
    )
    world.monitor(
        "ScrapeConfig",
        "static",
        {"staticConfigs": [{"targets": [f"{address(43)}:{port}"], "labels": {"a": "b"}}], "metricsPath": "/static"},
    )
    world.pages.sd = [{"targets": [f"{address(44)}:{port}"], "labels": {"from": "sd"}}]
    world.monitor(
        "ScrapeConfig",
        "http",
        {"httpSDConfigs": [{"url": f"http://{address(45)}:{port}/sd", "refreshInterval": "30s"}], "metricsPath": "/http"},
    )
    world.monitor(
        "ScrapeConfig",
        "nodes",
        {
            "kubernetesSDConfigs": [{"role": "Node"}],
            "metricsPath": "/node",
            "relabelings": [{"sourceLabels": ["__meta_kubernetes_node_name"], "targetLabel": "node"}],
        },
    )
    world.monitor(
        "ScrapeConfig",
        "slices",
        {
            "kubernetesSDConfigs": [{"role": "EndpointSlice", "namespaces": {"names": [NAMESPACE]}}],
            "metricsPath": "/slices",
            "relabelings": [{"sourceLabels": ["__meta_kubernetes_endpointslice_port_name"], "regex": "http", "action": "keep"}],
        },
    )
    service = f"serviceMonitor/{NAMESPACE}"
    by_pod = {
        job: {f"{address(n)}{path}": node for n, node in WEB.items()}
        for job, path in (
            (f"{service}/plain/0", "/plain"),
            (f"{service}/secure/0", "/basic"),
            (f"{service}/secure/1", "/bearer"),
            (f"{service}/secure/2", "/bearer?again=1"),
            (f"{service}/secure/3", "/tls"),
            (f"{service}/secure/4", "/oauth"),
            (f"{service}/role/0", "/role"),
            (f"podMonitor/{NAMESPACE}/pods/0", "/pod"),
            (f"podMonitor/{NAMESPACE}/pods/1", "/pod-tls"),
        )
    }
    outside = (30, 31)
    return {
        **by_pod,
        f"{service}/outside/0": {f"{address(n)}/outside": CLUSTER_AGENT for n in outside},
        f"podMonitor/{NAMESPACE}/across/0": {f"{address(20)}/across": "n2", f"{address(21)}/across": "n2"},
        f"probe/{NAMESPACE}/probe": {
            f"{address(41)}/probe?{q}": CLUSTER_AGENT
            for q in ("module=http_2xx&target=https%3A%2F%2Fa.example", "module=http_2xx&target=localhost%3A80")
        },
        f"probe/{NAMESPACE}/ingress": {
            f"{address(42)}/probe?{q}": CLUSTER_AGENT
            for q in ("target=http%3A%2F%2Fb.example%2Fx", "target=http%3A%2F%2Flocalhost%2F")
        },
        f"scrapeConfig/{NAMESPACE}/static": {f"{address(43)}/static": CLUSTER_AGENT},
        f"scrapeConfig/{NAMESPACE}/http": {f"{address(44)}/http": CLUSTER_AGENT},
        f"scrapeConfig/{NAMESPACE}/nodes": {f"{address(n)}/node": f"n{n}" for n in (1, 2, 3)},
        f"scrapeConfig/{NAMESPACE}/slices": {
            **{f"{address(n)}/slices": node for n, node in WEB.items()},
            **{f"{address(n)}/slices": CLUSTER_AGENT for n in outside},
        },
    }


def meta_ingress() -> dict[str, Any]:
    return {"name": "front", "namespace": NAMESPACE, "labels": {"i": "1"}}


@pytest.fixture(scope="module")
def expected(world: World) -> dict[str, dict[str, str]]:
    """The monitors of every kind are there."""
    return monitors(world)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A VictoriaMetrics."""
    server, url = victoria_metrics(Path(tmp_path_factory.mktemp("store")))
    yield url
    server.stop()


@pytest.fixture(scope="module")
def everyone(
    world: World, store: str, expected: dict[str, dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Agent]]:
    """All agents."""
    with agents(world, Path(tmp_path_factory.mktemp("agents")), store) as everyone:
        yield everyone


def seen(world: World, since: float) -> dict[str, list[tuple[float, str, int]]]:
    """Scrapes by `address/path?query`: when, by whom, with what status."""
    found = {page: [(s.time, s.agent, s.status) for s in world.pages.at(page, since)] for page in list(world.pages.by_page)}
    return {page: scrapes for page, scrapes in found.items() if scrapes}


def settle(world: World, wanted: dict[str, str], since: float = 0.0, seconds: float = 120) -> None:
    """Waits until every page was asked for since a moment by the one who is to ask."""
    deadline = time.monotonic() + seconds
    while missing := {page: agent for page, agent in wanted.items() if agent not in {s.agent for s in world.pages.at(page, since)}}:
        assert time.monotonic() < deadline, f"not asked for: {missing}"
        time.sleep(0.2)


def test_every_target_is_scraped_by_exactly_one_agent(
    world: World, store: str, everyone: dict[str, Agent], expected: dict[str, dict[str, str]]
) -> None:
    wanted = {page: agent for pages in expected.values() for page, agent in pages.items()}
    assert len(wanted) == sum(map(len, expected.values()))
    settle(world, wanted)
    began = time.monotonic()
    time.sleep(4 * INTERVAL)
    settle(world, wanted, began)
    scrapes = seen(world, began)
    assert {page: {who for _, who, _ in found} for page, found in scrapes.items()} == {
        page: {agent} for page, agent in wanted.items()
    }
    assert {status for found in scrapes.values() for _, _, status in found} == {200}
    assert max(map(len, scrapes.values())) <= (time.monotonic() - began) / INTERVAL + 1
    # ... and what the store has says the same.
    wait_until(lambda: len(query(store, "up")) == len(wanted), 60, "a series `up` of every target")
    wait_until(lambda: set(query(store, "up").values()) == {1.0}, 60, "every target is up")
    per_target = query(store, "count without (agent) (up)")
    assert len(per_target) == len(wanted) and set(per_target.values()) == {1.0}
    by_agent = Counter(agent for agent in wanted.values())
    assert {json.loads(k)["agent"]: v for k, v in query(store, "count by (agent) (up)").items()} == by_agent
    # What agents say of themselves: no target twice among all of them.
    shown = Counter(
        (t["scrapePool"], t["scrapeUrl"], json.dumps(t["labels"], sort_keys=True)) for a in everyone.values() for t in a.targets()
    )
    assert set(shown.values()) == {1} and len(shown) == len(wanted)


# -- beside the operator and Prometheus ----------------------------------------------------------------------------------------


def operator_config(world: World, folder: Path) -> dict[str, Any]:
    """The configuration prometheus-operator writes for a Prometheus that selects all monitors, made to work outside the cluster."""
    cluster = world.cluster
    install_crds(
        cluster,
        crd_folder() or Path(),
        ("alertmanagers", "alertmanagerconfigs", "prometheuses", "prometheusagents", "prometheusrules", "thanosrulers"),
    )
    everything: dict[str, Any] = {
        f"{kind}{of}": {}
        for kind in ("serviceMonitor", "podMonitor", "probe", "scrapeConfig")
        for of in ("Selector", "NamespaceSelector")
    }
    world.create(
        "/apis/monitoring.coreos.com/v1/namespaces/other/prometheuses",
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "Prometheus",
            "metadata": {"name": "all", "namespace": "other"},
            "spec": {
                **everything,
                "scrapeInterval": f"{INTERVAL}s",
                "scrapeTimeout": f"{INTERVAL}s",
                "serviceDiscoveryRole": "EndpointSlice",
                "version": "v3.5.0",
                "replicas": 1,
            },
        },
    )
    keys = cluster.keys
    port = free_port()
    command = [
        find("prometheus-operator") or "",
        f"--apiserver={cluster.url}",
        f"--ca-file={cluster.ca}",
        f"--cert-file={keys.cert('admin')}",
        f"--key-file={keys.key('admin')}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--kubelet-endpoints=false",
    ]
    secrets = "/api/v1/namespaces/other/secrets"
    operator = Server("prometheus-operator", command, folder, lambda: get(f"http://127.0.0.1:{port}/healthz")[0] == 200)
    try:
        jobs = sum(1 for _ in monitors_jobs(world))

        def written() -> Any:
            status, secret = world.api.request("GET", f"{secrets}/prometheus-all")
            config = (
                yaml.safe_load(gzip.decompress(base64.b64decode(secret["data"]["prometheus.yaml.gz"]))) if status == 200 else {}
            )
            return config if len(config.get("scrape_configs") or ()) == jobs else None

        config: dict[str, Any] = wait_until(written, 60, f"a configuration with {jobs} jobs")
        assets = folder / "assets"
        assets.mkdir()
        for secret in world.api.get(secrets)["items"]:
            if secret["metadata"]["name"].startswith("prometheus-all-tls-assets"):
                for name, text in (secret.get("data") or {}).items():
                    (assets / name).write_bytes(base64.b64decode(text))
    finally:
        operator.stop()
    text = json.dumps(config["scrape_configs"]).replace("/etc/prometheus/certs/", f"{assets}/")
    for job in (jobs_read := json.loads(text)):
        for entry in job.get("kubernetes_sd_configs") or ():
            entry["kubeconfig_file"] = str(cluster.kubeconfig)
        job["relabel_configs"] = [rule for rule in job["relabel_configs"] if "__tmp_hash" not in json.dumps(rule)]
    return {"global": config["global"], "scrape_configs": jobs_read}


def monitors_jobs(world: World) -> Iterator[str]:
    """A name for every job the monitors that are there come to."""
    for kind, field in (
        ("v1/servicemonitors", "endpoints"),
        ("v1/podmonitors", "podMetricsEndpoints"),
        ("v1/probes", ""),
        ("v1alpha1/scrapeconfigs", ""),
    ):
        for item in world.api.get(f"/apis/monitoring.coreos.com/{kind}")["items"]:
            for i in range(len(item["spec"][field]) if field else 1):
                yield f"{kind}/{item['metadata']['name']}/{i}"


def special(world: World) -> int:
    """Writes monitors that use all the other options, most of them so that the scrape fails; how many targets they have."""
    port = world.pages.port
    pods = (48, 49)
    world.service("special", app="special")
    for number in pods:
        world.pod(f"special-{number}", number, "n1", app="special")
    world.slice("special", *((number, "n1", f"special-{number}") for number in pods))
    options: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("many", {"sampleLimit": 50}, {}),
        ("many", {"sampleLimit": 200, "scrapeProtocols": ["PrometheusText0.0.4"]}, {}),
        ("labels", {"labelLimit": 20}, {}),
        ("names", {"labelNameLengthLimit": 50}, {}),
        ("values", {"labelValueLengthLimit": 50}, {}),
        ("large", {"bodySizeLimit": "100KB"}, {}),
        ("large", {"bodySizeLimit": "1MB"}, {}),
        ("one", {"targetLimit": 1}, {}),
        ("all", {"targetLimit": 10, "keepDroppedTargets": 1, "scrapeClassicHistograms": True, "nativeHistogramBucketLimit": 9}, {}),
        ("slow", {}, {"scrapeTimeout": "500ms"}),
        ("honor", {}, {"honorLabels": True}),
        ("honor", {}, {"honorLabels": False}),
        ("times", {}, {"honorTimestamps": True, "trackTimestampsStaleness": True}),
        ("times", {}, {"honorTimestamps": False}),
        ("redirect", {}, {"followRedirects": False}),
        ("redirect", {}, {"followRedirects": True, "enableHttp2": False}),
        ("basic", {}, {}),
        ("nothing", {}, {"filterRunning": False, "interval": "1s", "params": {"a": ["b", "c"]}}),
        ("proxied", {}, {"proxyUrl": f"http://{address(46)}:{port}"}),
        (
            "rules",
            {},
            {"metricRelabelings": [{"sourceLabels": ["__name__"], "regex": "page", "targetLabel": "made", "replacement": "x$0"}]},
        ),
        ("dropped", {}, {"metricRelabelings": [{"sourceLabels": ["__name__"], "regex": "page", "action": "Drop"}]}),
    ]
    for i, (path, spec, endpoint) in enumerate(options):
        world.monitor(
            "ServiceMonitor",
            f"special-{i}",
            {
                "selector": {"matchLabels": {"app": "special"}},
                **spec,
                "endpoints": [
                    {
                        "port": "http",
                        "path": f"/{path}",
                        **endpoint,
                        "relabelings": [{"targetLabel": "page", "replacement": f"special-{i}"}],
                    }
                ],
            },
        )
    world.monitor(
        "ScrapeConfig",
        "special",
        {
            "staticConfigs": [{"targets": [f"{address(47)}:{port}"]}],
            "metricsPath": "/special",
            "jobName": "its-own",
            "scheme": "HTTP",
            "scrapeInterval": "2s",
            "scrapeTimeout": "1s",
            "enableCompression": False,
            "nameValidationScheme": "Legacy",
            "nameEscapingScheme": "Underscores",
            "params": {"x": ["1"]},
            "honorLabels": True,
        },
    )
    return len(options) * len(pods) + len(pods) + 1  # the ScrapeConfig `slices` finds the pods too


@pytest.mark.server("prometheus-operator")
@pytest.mark.server("prometheus3")
def test_the_targets_are_those_of_prometheus_with_the_configuration_of_the_operator(
    world: World, store: str, everyone: dict[str, Agent], expected: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    count = sum(map(len, expected.values())) + special(world)
    config = operator_config(world, tmp_path)
    since = time.time()
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    prometheus = Server(
        "prometheus3",
        [
            find("prometheus3") or "",
            f"--config.file={tmp_path}/prometheus.yml",
            f"--storage.tsdb.path={tmp_path}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        tmp_path,
        lambda: get(url + "/-/ready")[0] == 200,
    )
    shown = ("scrapeUrl", "labels", "health", "scrapeInterval", "scrapeTimeout")

    def active(server: str) -> dict[str, list[str]]:
        """The targets of each job; none while one of them was not scraped yet."""
        out: dict[str, list[str]] = defaultdict(list)
        for target in get_json(server + "/api/v1/targets", state="active")["data"]["activeTargets"]:
            if target["health"] == "unknown":
                return {}
            out[target["scrapePool"]].append(json.dumps({name: target[name] for name in shown}, sort_keys=True))
        return out

    def ours() -> dict[str, list[str]]:
        out: dict[str, list[str]] = defaultdict(list)
        for agent in everyone.values():
            for job, found in active(f"http://127.0.0.1:{agent.port}").items():
                out[job] += found
        return out

    def series(server: str) -> set[str]:
        """The labels of all series of pages and of `up`."""
        match = f"{server}/api/v1/series?match[]={quote(PAGE_SERIES)}&start={since:.0f}&end={time.time() + 5:.0f}"
        return {json.dumps({k: v for k, v in labels.items() if k != "agent"}, sort_keys=True) for labels in get_json(match)["data"]}

    try:
        deadline = time.monotonic() + 60
        while (known := [sum(map(len, targets.values())) for targets in (active(url), ours())]) != [count, count]:
            assert time.monotonic() < deadline, f"targets of Prometheus and ours: {known}, not {count}"
            time.sleep(1)
        time.sleep(INTERVAL)
        theirs = {job: sorted(found) for job, found in active(url).items()}
        assert {job: sorted(found) for job, found in ours().items()} == theirs
        deadline = time.monotonic() + 60
        while differences := series(store) ^ (known_there := series(url)):
            assert time.monotonic() < deadline, (
                f"ours: {sorted(differences - known_there)[:9]}; theirs: {sorted(differences & known_there)[:9]}"
            )
            time.sleep(1)
    finally:
        prometheus.stop()
    assert set(theirs) > set(expected)
    health = Counter(json.loads(target)["health"] for found in theirs.values() for target in found)
    print(f"{len(theirs)} jobs, targets: {dict(health)}")
    assert health["down"] == 2 * 9
    for name in [item["metadata"]["name"] for item in world.api.get("/apis/monitoring.coreos.com/v1/servicemonitors")["items"]]:
        if name.startswith("special-"):
            world.no_monitor("ServiceMonitor", name)
    world.no_monitor("ScrapeConfig", "special")


# -- agents and nodes come and go ----------------------------------------------------------------------------------------------


class Spacing:
    """The time between scrapes of a page, in intervals."""

    def __init__(self, scrapes: list[tuple[float, str, int]]) -> None:
        ordered = sorted(scrapes)
        self.gaps = [(b[0] - a[0]) / INTERVAL for a, b in pairwise(ordered)]
        self.doubles = [
            (round((b[0] - a[0]) / INTERVAL, 2), a[1], b[1]) for a, b in pairwise(ordered) if b[0] - a[0] < INTERVAL / 2
        ]

    @property
    def longest(self) -> float:
        return max(self.gaps)


def moved(world: World, page: str, since: float, to: str) -> bool:
    """Whether a page is asked for by `to` now."""
    return [scrape.agent for scrape in world.pages.at(page, since)[-2:]] == [to, to]


def test_a_target_that_moves_is_scraped_on_without_a_break(
    world: World, store: str, everyone: dict[str, Agent], expected: dict[str, dict[str, str]]
) -> None:
    settle(world, {page: agent for pages in expected.values() for page, agent in pages.items()})
    world.service("moving", app="moving")
    world.monitor(
        "ServiceMonitor",
        "moving",
        {"selector": {"matchLabels": {"app": "moving"}}, "endpoints": [{"port": "http", "path": "/moving"}]},
    )
    numbers = range(50, 58)
    began = time.monotonic()
    for i in range(6):
        # Every second one is a pod that is made again on another node, as those of a StatefulSet; the others have no pod.
        nodes = {number: NODES[(number + i) % 3] for number in numbers}
        for number, node in nodes.items():
            if number % 2:
                if i:
                    world.delete(f"/api/v1/namespaces/{NAMESPACE}/pods/moving-{number}")
                world.pod(f"moving-{number}", number, node, app="moving")
        world.slice("moving", *((number, node, f"moving-{number}" if number % 2 else "") for number, node in nodes.items()))
        for number, node in nodes.items():
            wait_until(partial(moved, world, f"{address(number)}/moving", began, node), 30, f"{number} is scraped by {node}")
        time.sleep(INTERVAL * i / 5)  # another moment of the interval each time
    scrapes = seen(world, began)
    spacings = {number: Spacing(scrapes[f"{address(number)}/moving"]) for number in numbers}
    doubles = [double for spacing in spacings.values() for double in spacing.doubles]
    print(
        f"{5 * len(numbers)} moves: at most {max(s.longest for s in spacings.values()):.2f} intervals between two scrapes, "
        f"{len(doubles)} doubles: {doubles}"
    )
    assert max(spacing.longest for spacing in spacings.values()) < 2.5
    assert all(len(spacing.doubles) <= 5 for spacing in spacings.values())
    # What moves has the same labels and is scraped by everybody at the same moment of the interval.
    assert not [double for double in doubles if double[0] > 0.3]
    # Series that ended have a staleness marker, older than what another agent wrote at that moment.
    series = export(store, 'up{job="moving"}')

    def ended() -> bool:
        return all(
            values[-1][1] is None
            for labels, values in export(store, 'up{job="moving"}')
            if labels["agent"] != nodes[int(labels["instance"].split(":")[0].rpartition(".")[2])]
        )

    wait_until(ended, 6 * INTERVAL, "staleness markers of what moved away")
    series = export(store, 'up{job="moving"}')
    markers = [(labels["instance"], moment) for labels, values in series for moment, value in values if value is None]
    assert len(markers) == 5 * len(numbers)
    for instance, moment in markers:
        near = [
            at - moment
            for labels, values in series
            if labels["instance"] == instance
            for at, value in values
            if value is not None and abs(at - moment) < INTERVAL * 300
        ]
        assert all(0 < after < INTERVAL * 300 for after in near), near


def export(store: str, selector: str) -> list[tuple[dict[str, str], list[tuple[int, float | None]]]]:
    """The samples of each series: milliseconds and value, None for a staleness marker."""
    lines = map(json.loads, get(f"{store}/api/v1/export?match[]={quote(selector)}")[1].decode().splitlines())
    return [(line["metric"], list(zip(line["timestamps"], line["values"], strict=True))) for line in lines]


def of_node(expected: dict[str, dict[str, str]], node: str) -> list[str]:
    """The pages a node's agent asks for."""
    return [page for pages in expected.values() for page, agent in pages.items() if agent == node]


def test_agents_and_nodes_come_and_go(
    world: World, store: str, everyone: dict[str, Agent], expected: dict[str, dict[str, str]]
) -> None:
    settle(world, {page: agent for pages in expected.values() for page, agent in pages.items()})
    own, others = of_node(expected, "n2"), [page for agent in ("n1", CLUSTER_AGENT) for page in of_node(expected, agent)]
    began = time.monotonic()
    everyone["n2"].stop()
    stopped = time.monotonic()
    time.sleep(2.5 * INTERVAL)
    # Nobody takes over what is on a node whose agent is away; nobody else notices.
    assert not [scrape for page in own for scrape in world.pages.at(page, stopped)]
    everyone["n2"].start()
    settle(world, dict.fromkeys(own, "n2"), time.monotonic())
    everyone["n3"].stop(kill=True)
    killed = time.monotonic()
    everyone["n3"].start()
    settle(world, dict.fromkeys(of_node(expected, "n3"), "n3"), killed)
    back = time.monotonic()
    time.sleep(INTERVAL)
    scrapes = seen(world, began)
    steady = [Spacing(scrapes[page]) for page in others]
    after_kill = [Spacing(scrapes[page]) for page in of_node(expected, "n3")]
    print(
        f"others: at most {max(s.longest for s in steady):.2f} intervals between two scrapes; kill -9 and start at once: at most "
        f"{max(s.longest for s in after_kill):.2f}, {back - killed:.1f} s until everything was scraped again"
    )
    assert max(s.longest for s in steady) < 2 and not [s.doubles for s in steady if s.doubles]
    assert not [s.doubles for s in after_kill if s.doubles]
    # An agent that stops may be back at once: it ends no series, as Prometheus does not.
    of_n2 = [values for labels, values in export(store, 'up{agent="n2",page="role"}')]
    assert of_n2 and not [values for values in of_n2 if values[-1][1] is None]
    # A node goes for good, and its agent with it: its pods come to life on another one, with the same names and addresses.
    moving = {number: node for number, node in WEB.items() if node == "n3"}
    everyone["n3"].stop(kill=True)
    gone = time.monotonic()
    world.delete("/api/v1/nodes/n3")
    for number in moving:
        world.delete(f"/api/v1/namespaces/{NAMESPACE}/pods/web-{number}")
        world.pod(f"web-{number}", number, "n1", app="web", version="v1")
    web_slice(world, **dict.fromkeys((f"w{number}" for number in moving), "n1"))
    try:
        pages = [f"{address(number)}{path}" for number in moving for path in ("/role", "/pod", "/slices", "/basic", "/tls")]
        settle(world, dict.fromkeys(pages, "n1"), gone)
        scrapes = seen(world, began)
        longest = max(
            min(t for t, who, _ in scrapes[page] if who == "n1") - max(t for t, who, _ in scrapes[page] if who == "n3")
            for page in pages
        )
        print(f"a node goes: at most {longest / INTERVAL:.2f} intervals from its agent's last scrape to the first of another")
        assert longest / INTERVAL < 2.5
        assert not {who for page in pages for t, who, _ in scrapes[page] if t > gone + INTERVAL} - {"n1"}
    finally:
        world.node(3)
        for number, node in moving.items():
            world.delete(f"/api/v1/namespaces/{NAMESPACE}/pods/web-{number}")
            world.pod(f"web-{number}", number, node, app="web", version="v1")
        web_slice(world)
        everyone["n3"].start()
        settle(world, dict.fromkeys(of_node(expected, "n3"), "n3"), time.monotonic())


def answers(pages: Pages, host: str, path: str, since: float) -> bool:
    """Whether the last scrape of a page was answered."""
    return [scrape.status for scrape in pages.of(host, path, since)[-1:]] == [200]


def says(agent: Agent, *texts: str) -> bool:
    """Whether all of these are in an agent's log."""
    return all(text in agent.log for text in texts)


# -- Secrets -------------------------------------------------------------------------------------------------------------------


def test_secrets_rotate_are_missing_and_are_never_shown(
    world: World, everyone: dict[str, Agent], expected: dict[str, dict[str, str]]
) -> None:
    pages, keys = world.pages, world.keys
    settle(world, {page: agent for found in expected.values() for page, agent in found.items()})
    others = of_node(expected, "n2")
    began = time.monotonic()
    for name in ("word-one", "bearer-one", "client-word-one"):
        assert name in json.dumps([pages.basic, pages.bearer, pages.client])
    # Rotation: the page takes only the new values from now on.
    pages.basic, pages.bearer, pages.client, pages.oauth = (
        ("user", "word-two"),
        "bearer-two",
        ("id", "client-word-two"),
        "oauth-token-two",
    )
    rotated = time.monotonic()
    world.secret("login", user="user", password="word-two", token="bearer-two", client="client-word-two")
    world.secret("tls", cert=Path(keys.cert("client-two")).read_text(), key=Path(keys.key("client-two")).read_text())
    for path in ("/basic", "/bearer", "/oauth"):
        for number in WEB:
            wait_until(partial(answers, pages, address(number), path, rotated), 30, f"{path} answers")
    refused = [s for s in list(pages.scrapes) if s.time > rotated and s.status == 401]
    wait_until(
        lambda: pages.clients.get("client-two", 0) > pages.clients["client-one"] + 2 * INTERVAL, 40, "the new certificate alone"
    )
    print(
        f"rotation: {len(refused)} scrapes were refused, the last {max((s.time for s in refused), default=rotated) - rotated:.1f} s after it"
    )
    assert len(refused) <= 2 * 4 * len(WEB)
    # What cannot be used is named once by each agent, with the monitor; the rest goes on.
    world.secret("forbidden", token="forbidden-token")
    world.allow(NAMESPACE, "login", "tls", "absent")
    token = {"matchLabels": {"app": "web"}}
    world.monitor(
        "PodMonitor",
        "broken",
        {
            "selector": token,
            "podMetricsEndpoints": [
                {"port": "http", "path": "/fine"},
                {"port": "http", "path": "/never", "bearerTokenSecret": {"name": "absent", "key": "token"}},
                {"port": "http", "path": "/never", "bearerTokenSecret": {"name": "login", "key": "nokey"}},
                {"port": "http", "path": "/never", "bearerTokenSecret": {"name": "forbidden", "key": "token"}},
                {"port": "http", "path": "/never", "authorization": {"credentials": {"name": "login", "key": ""}}},
                {
                    "port": "https",
                    "path": "/never",
                    "scheme": "https",
                    "tlsConfig": {"ca": {"configMap": {"name": "pki", "key": "id"}}},
                },
            ],
        },
    )
    settle(world, {f"{address(number)}/fine": node for number, node in WEB.items()})
    job = f"podMonitor/{NAMESPACE}/broken"
    reasons = (
        f"{job}/1 is left out: Secret {NAMESPACE}/absent does not exist",
        f"{job}/2 is left out: Secret {NAMESPACE}/login has no key nokey",
        f"secrets {NAMESPACE}/forbidden: ",
        f"{job}/3 is left out: Secret {NAMESPACE}/forbidden cannot be read",
        f"{job}/4 is left out: authorization.credentials",
    )
    of_nodes = [everyone[node] for node in NODES]  # the cluster's agent does not read PodMonitors
    for agent in of_nodes:
        for reason in reasons:
            wait_until(partial(says, agent, reason), 30, f"{agent.name}: {reason}")
    time.sleep(INTERVAL)
    for agent in of_nodes:
        assert [agent.log.count(reason) for reason in reasons] == [1] * len(reasons), agent.name
    # A CA that is none is the target's trouble.
    wait_until(
        lambda: [
            t
            for t in everyone["n1"].targets()
            if t["scrapePool"] == f"{job}/5" and t["health"] == "down" and "tls_config" in t["lastError"]
        ],
        20,
        "a clear error at the target",
    )
    assert not [s for s in list(pages.scrapes) if s.path == "/never"]
    # Once it may be read, exists, has its key: without restart.
    world.allow(NAMESPACE, "login", "tls", "absent", "forbidden")
    world.secret("absent", token="absent-token")
    wait_until(
        lambda: (
            {s.authorization for s in list(pages.scrapes) if s.path == "/never"}
            == {"Bearer absent-token", "Bearer forbidden-token"}
        ),
        60,
        "both are used",
    )
    texts = (
        *SECRET_TEXTS,
        "word-two",
        "bearer-two",
        "oauth-token-two",
        "forbidden-token",
        "absent-token",
        "BEGIN PRIVATE",
        "BEGIN EC PRIVATE",
    )
    for agent in everyone.values():
        shown = agent.log + agent.shown()
        assert f"serviceMonitor/{NAMESPACE}/secure/0" in shown or agent.name == CLUSTER_AGENT
        assert not [
            text for text in texts for form in (text, base64.b64encode(text.encode()).decode().rstrip("=")) if form in shown
        ], agent.name
    world.no_monitor("PodMonitor", "broken")
    spaced = seen(world, began)
    assert max(Spacing(spaced[page]).longest for page in others) < 2.5


# -- changes and mistakes ------------------------------------------------------------------------------------------------------


def mistakes(wrong: list[str], agent: Agent) -> list[str]:
    """Those an agent learns of."""
    never = "podMonitor/" if agent.name == CLUSTER_AGENT else "probe/"
    return [text for text in wrong if not text.startswith(never)]


def test_monitors_that_change_and_monitors_with_mistakes(
    world: World, everyone: dict[str, Agent], expected: dict[str, dict[str, str]]
) -> None:
    settle(world, {page: agent for found in expected.values() for page, agent in found.items()})
    world.service("quiet", app="quiet", more="yes")
    world.slice("quiet", (59, "n1", ""))
    began = time.monotonic()
    others = [*of_node(expected, "n1"), *of_node(expected, CLUSTER_AGENT)]
    select, endpoint = {"matchLabels": {"app": "quiet"}}, {"port": "http", "path": "/changing"}

    def write(**spec: Any) -> float:
        world.monitor("ServiceMonitor", "changing", {"selector": select, "endpoints": [endpoint], **spec})
        return time.monotonic()

    def target() -> dict[str, Any]:
        found = [t for t in everyone["n1"].targets() if t["scrapePool"].startswith(f"serviceMonitor/{NAMESPACE}/changing/")]
        return found[0] if found else {}

    write()
    wait_until(lambda: target().get("health") == "up", 30, "the monitor is followed")
    write(endpoints=[{**endpoint, "interval": "1s", "scrapeTimeout": "900ms"}])
    wait_until(lambda: target().get("scrapeInterval") == "1s", 20, "another interval")
    at = time.monotonic()
    wait_until(lambda: len(world.pages.of(address(59), "/changing", at)) >= 4, 20, "it is scraped each second")
    write(endpoints=[{**endpoint, "relabelings": [{"targetLabel": "more", "replacement": "label"}]}])
    wait_until(lambda: target().get("labels", {}).get("more") == "label", 20, "other labels")
    write(selector={"matchExpressions": [{"key": "more", "operator": "In", "values": ["no"]}]})
    wait_until(lambda: not target(), 20, "selects nothing")
    write(selector={"matchExpressions": [{"key": "more", "operator": "In", "values": ["yes"]}]})
    wait_until(lambda: target().get("health") == "up", 20, "selects again")
    write(namespaceSelector={"matchNames": ["other"]})
    wait_until(lambda: not target(), 20, "another namespace")
    write(namespaceSelector={"any": True})
    wait_until(lambda: target().get("health") == "up", 20, "any namespace")
    world.no_monitor("ServiceMonitor", "changing")
    wait_until(lambda: not target(), 20, "it is gone")
    after = time.monotonic() + 1
    rules = {
        "bad-regex": [{"sourceLabels": ["a"], "regex": "(", "targetLabel": "x"}],
        "no-target": [{"sourceLabels": ["a"], "action": "replace"}],
        "no-modulus": [{"sourceLabels": ["a"], "action": "hashmod", "targetLabel": "x"}],
        "too-much": [{"action": "labeldrop", "regex": "a", "targetLabel": "b"}],
    }
    for name, relabelings in rules.items():
        world.monitor("PodMonitor", name, {"selector": {}, "podMetricsEndpoints": [{"relabelings": relabelings}]})
        world.monitor("ServiceMonitor", name, {"selector": {}, "endpoints": [{"metricRelabelings": relabelings}]})
    world.monitor("Probe", "bad-url", {"prober": {"url": "http://x/y"}, "targets": {"staticConfig": {"static": ["a"]}}})
    world.monitor("Probe", "no-targets", {"prober": {"url": "x:1"}, "targets": {}})
    world.monitor("ScrapeConfig", "other-discovery", {"consulSDConfigs": [{"server": "consul:8500"}]})
    world.monitor("ServiceMonitor", "long-timeout", {"selector": {}, "endpoints": [{"interval": "1s", "scrapeTimeout": "2s"}]})
    world.monitor("ServiceMonitor", "no-class", {"selector": {}, "scrapeClass": "none", "endpoints": [{}]})
    # Agents of nodes do not read Probes, the cluster's agent no PodMonitors: those targets are never theirs.
    wrong = [
        *(f"{kind}/{NAMESPACE}/{name}/0 is left out" for kind in ("podMonitor", "serviceMonitor") for name in rules),
        *(
            f"{job} is left out"
            for job in (
                f"probe/{NAMESPACE}/bad-url",
                f"probe/{NAMESPACE}/no-targets",
                f"scrapeConfig/{NAMESPACE}/other-discovery",
                f"serviceMonitor/{NAMESPACE}/long-timeout/0",
                f"serviceMonitor/{NAMESPACE}/no-class/0",
            )
        ),
    ]
    for agent in everyone.values():
        wait_until(partial(says, agent, *mistakes(wrong, agent)), 30, f"{agent.name} names every mistake")
    # What the API server itself refuses never comes to an agent.
    with pytest.raises(ApiError, match="action"):
        world.monitor(
            "PodMonitor", "bad-action", {"selector": {}, "podMetricsEndpoints": [{"relabelings": [{"action": "remove"}]}]}
        )
    time.sleep(2 * INTERVAL)
    for agent in everyone.values():
        assert {text: agent.log.count(text) for text in wrong} == {text: int(text in mistakes(wrong, agent)) for text in wrong}, (
            agent.name
        )
    assert not world.pages.of(address(59), "/changing", after + INTERVAL)
    # All the while everything else was scraped.
    scrapes = seen(world, began)
    spacings = [Spacing(scrapes[page]) for page in others]
    print(f"others: at most {max(s.longest for s in spacings):.2f} intervals between two scrapes")
    assert max(s.longest for s in spacings) < 2 and not [s.doubles for s in spacings if s.doubles]
    for name in rules:
        world.no_monitor("PodMonitor", name)
        world.no_monitor("ServiceMonitor", name)
    for kind, name in (
        ("Probe", "bad-url"),
        ("Probe", "no-targets"),
        ("ScrapeConfig", "other-discovery"),
        ("ServiceMonitor", "long-timeout"),
        ("ServiceMonitor", "no-class"),
    ):
        world.no_monitor(kind, name)
