"""Monitors on a real API server: every target scraped by exactly one agent, the targets Prometheus has with the operator's configuration."""

from __future__ import annotations

import base64
import gzip
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
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
    Agent,
    World,
    agents,
    crd_folder,
    install_crds,
    query,
)
from tests.e2e_cluster.pages import ADDRESSES, Pages, address, obstacle
from tests.support.servers import Server, find, free_port, get, get_json, victoria_metrics, wait_until

pytestmark = [pytest.mark.server("kube-apiserver"), pytest.mark.server("etcd"), pytest.mark.server("victoria-metrics"),
              pytest.mark.skipif(bool(obstacle()), reason=obstacle()),
              pytest.mark.skipif(crd_folder() is None, reason="no CRDs: run tests/servers/install.sh monitoring-crds")]
MONITOR_KINDS = ("servicemonitors", "podmonitors", "probes", "scrapeconfigs")
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
        world = World(cluster, pages)
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
        pages.basic, pages.bearer, pages.client, pages.oauth = ("user", "word-one"), "bearer-one", ("id", "client-word-one"), "oauth-token-one"
        yield world


def web_slice(world: World, **moved: str) -> None:
    """Writes the slice of `web`; `moved` gives endpoints (`w10`) another node."""
    world.slice("web", *((number, moved.get(f"w{number}", node), f"web-{number}") for number, node in WEB.items()))


def monitors(world: World) -> dict[str, dict[str, str]]:
    """Writes monitors of every kind. For each job the pages it asks for (`address/path`) and who is to ask."""
    port = world.pages.port
    web = {"matchLabels": {"app": "web"}}
    basic = {"username": {"name": "login", "key": "user"}, "password": {"name": "login", "key": "password"}}
    tls = {"ca": {"configMap": {"name": "pki", "key": "ca"}}, "cert": {"secret": {"name": "tls", "key": "cert"}},
           "keySecret": {"name": "tls", "key": "key"}}
    token = {"name": "login", "key": "token"}
    world.monitor("ServiceMonitor", "plain", {
        "selector": web, "jobLabel": "app", "targetLabels": ["tier"], "podTargetLabels": ["version"], "attachMetadata": {"node": True},
        "endpoints": [{"port": "http", "path": "/plain", "relabelings": [
            {"sourceLabels": ["__meta_kubernetes_node_label_zone"], "targetLabel": "zone"}]}]})
    secure: list[dict[str, Any]] = [
        {"port": "http", "path": "/basic", "basicAuth": basic},
        {"port": "http", "path": "/bearer", "authorization": {"credentials": token}},
        {"port": "http", "path": "/bearer", "params": {"again": ["1"]}, "bearerTokenSecret": token},
        {"port": "https", "path": "/tls", "scheme": "https", "tlsConfig": {**tls, "serverName": "web.example"}},
        {"port": "http", "path": "/oauth", "oauth2": {
            "clientId": {"configMap": {"name": "pki", "key": "id"}}, "clientSecret": {"name": "login", "key": "client"},
            "tokenUrl": f"http://{address(40)}:{port}/token"}}]
    # Endpoints of one port have the same labels unless somebody tells them apart.
    world.monitor("ServiceMonitor", "secure", {"selector": web, "endpoints": [
        {**endpoint, "relabelings": [{"targetLabel": "page", "replacement": str(i)}]} for i, endpoint in enumerate(secure)]})
    world.monitor("ServiceMonitor", "outside", {"selector": {"matchLabels": {"app": "outside"}}, "endpoints": [{"port": "http", "path": "/outside"}]})
    world.monitor("ServiceMonitor", "role", {"selector": web, "selectorMechanism": "RoleSelector", "endpoints": [
        {"port": "http", "path": "/role", "relabelings": [{"targetLabel": "page", "replacement": "role"}]}]})
    world.monitor("PodMonitor", "pods", {"selector": web, "podTargetLabels": ["version"], "podMetricsEndpoints": [
        {"port": "http", "path": "/pod"}, {"portNumber": world.pages.tls_port, "path": "/pod-tls", "scheme": "https", "tlsConfig": tls}]})
    world.monitor("PodMonitor", "across", {"selector": {"matchLabels": {"app": "far"}}, "namespaceSelector": {"matchNames": ["other"]},
                                           "podMetricsEndpoints": [{"port": "http", "path": "/across"}]})
    world.monitor("Probe", "probe", {"prober": {"url": f"{address(41)}:{port}", "path": "/probe"}, "module": "http_2xx", "targets": {
        "staticConfig": {"static": ["https://a.example", "localhost:80"], "labels": {"kind": "static"}}}})
    world.create(f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/ingresses", {
        "metadata": meta_ingress(), "spec": {"rules": [{"host": "b.example", "http": {"paths": [
            {"path": "/x", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}}, {"host": "localhost"}]}})
    world.monitor("Probe", "ingress", {"prober": {"url": f"{address(42)}:{port}", "path": "/probe"}, "targets": {
        "ingress": {"selector": {"matchLabels": {"i": "1"}}}}})
    world.monitor("ScrapeConfig", "static", {"staticConfigs": [{"targets": [f"{address(43)}:{port}"], "labels": {"a": "b"}}],
                                             "metricsPath": "/static"})
    world.pages.sd = [{"targets": [f"{address(44)}:{port}"], "labels": {"from": "sd"}}]
    world.monitor("ScrapeConfig", "http", {"httpSDConfigs": [{"url": f"http://{address(45)}:{port}/sd", "refreshInterval": "30s"}],
                                           "metricsPath": "/http"})
    world.monitor("ScrapeConfig", "nodes", {"kubernetesSDConfigs": [{"role": "Node"}], "metricsPath": "/node", "relabelings": [
        {"sourceLabels": ["__meta_kubernetes_node_name"], "targetLabel": "node"}]})
    world.monitor("ScrapeConfig", "slices", {"kubernetesSDConfigs": [{"role": "EndpointSlice", "namespaces": {"names": [NAMESPACE]}}],
                                             "metricsPath": "/slices", "relabelings": [
        {"sourceLabels": ["__meta_kubernetes_endpointslice_port_name"], "regex": "http", "action": "keep"}]})
    service = f"serviceMonitor/{NAMESPACE}"
    by_pod = {job: {f"{address(n)}{path}": node for n, node in WEB.items()} for job, path in (
        (f"{service}/plain/0", "/plain"), (f"{service}/secure/0", "/basic"), (f"{service}/secure/1", "/bearer"),
        (f"{service}/secure/2", "/bearer?again=1"), (f"{service}/secure/3", "/tls"), (f"{service}/secure/4", "/oauth"),
        (f"{service}/role/0", "/role"), (f"podMonitor/{NAMESPACE}/pods/0", "/pod"), (f"podMonitor/{NAMESPACE}/pods/1", "/pod-tls"))}
    outside = (30, 31)
    return {**by_pod,
            f"{service}/outside/0": {f"{address(n)}/outside": CLUSTER_AGENT for n in outside},
            f"podMonitor/{NAMESPACE}/across/0": {f"{address(20)}/across": "n2", f"{address(21)}/across": "n2"},
            f"probe/{NAMESPACE}/probe": {f"{address(41)}/probe?{q}": CLUSTER_AGENT for q in (
                "module=http_2xx&target=https%3A%2F%2Fa.example", "module=http_2xx&target=localhost%3A80")},
            f"probe/{NAMESPACE}/ingress": {f"{address(42)}/probe?{q}": CLUSTER_AGENT for q in (
                "target=http%3A%2F%2Fb.example%2Fx", "target=http%3A%2F%2Flocalhost%2F")},
            f"scrapeConfig/{NAMESPACE}/static": {f"{address(43)}/static": CLUSTER_AGENT},
            f"scrapeConfig/{NAMESPACE}/http": {f"{address(44)}/http": CLUSTER_AGENT},
            f"scrapeConfig/{NAMESPACE}/nodes": {f"{address(n)}/node": f"n{n}" for n in (1, 2, 3)},
            f"scrapeConfig/{NAMESPACE}/slices": {**{f"{address(n)}/slices": node for n, node in WEB.items()},
                                                 **{f"{address(n)}/slices": CLUSTER_AGENT for n in outside}}}


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
def everyone(world: World, store: str, expected: dict[str, dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Agent]]:
    """All agents."""
    with agents(world, Path(tmp_path_factory.mktemp("agents")), store) as everyone:
        yield everyone


def seen(world: World, since: float, until: float = float("inf")) -> dict[str, list[tuple[float, str, int]]]:
    """Scrapes by `address/path?query`: when, by whom, with what status."""
    out: dict[str, list[tuple[float, str, int]]] = defaultdict(list)
    for scrape in list(world.pages.scrapes):
        if since <= scrape.time < until:
            out[f"{scrape.address}{scrape.path}{'?' + scrape.query if scrape.query else ''}"].append((scrape.time, scrape.agent, scrape.status))
    return out


def settle(world: World, wanted: dict[str, str], seconds: float = 60) -> None:
    """Waits until every page was asked for by the one who is to ask."""
    deadline = time.monotonic() + seconds
    while missing := {page: agent for page, agent in wanted.items() if not any(who == agent for _, who, _ in seen(world, 0).get(page, ()))}:
        assert time.monotonic() < deadline, f"not asked for: {missing}"
        time.sleep(0.2)


def watch(seconds: float) -> float:
    """Lets time pass; when it began."""
    began = time.monotonic()
    time.sleep(seconds)
    return began


def test_every_target_is_scraped_by_exactly_one_agent(world: World, store: str, everyone: dict[str, Agent],
                                                      expected: dict[str, dict[str, str]]) -> None:
    wanted = {page: agent for pages in expected.values() for page, agent in pages.items()}
    assert len(wanted) == sum(map(len, expected.values()))
    settle(world, wanted)
    began = watch(4 * INTERVAL)
    scrapes = seen(world, began)
    assert {page: {who for _, who, _ in found} for page, found in scrapes.items()} == {page: {agent} for page, agent in wanted.items()}
    assert {status for found in scrapes.values() for _, _, status in found} == {200}
    assert {len(found) for found in scrapes.values()} <= {3, 4, 5}
    # ... and what the store has says the same.
    wait_until(lambda: len(query(store, "up")) == len(wanted), 20, "a series `up` of every target")
    assert set(query(store, "up").values()) == {1.0}
    per_target = query(store, 'count without (agent) (up)')
    assert len(per_target) == len(wanted) and set(per_target.values()) == {1.0}
    by_agent = Counter(agent for agent in wanted.values())
    assert {json.loads(k)["agent"]: v for k, v in query(store, "count by (agent) (up)").items()} == by_agent
    # What agents say of themselves: no target twice among all of them.
    shown = Counter((t["scrapePool"], t["scrapeUrl"], json.dumps(t["labels"], sort_keys=True)) for a in everyone.values() for t in a.targets())
    assert set(shown.values()) == {1} and len(shown) == len(wanted)


# -- beside the operator and Prometheus ----------------------------------------------------------------------------------------


def operator_config(world: World, folder: Path) -> dict[str, Any]:
    """The configuration prometheus-operator writes for a Prometheus that selects all monitors, made to work outside the cluster."""
    cluster = world.cluster
    install_crds(cluster, crd_folder() or Path(), ("alertmanagers", "alertmanagerconfigs", "prometheuses", "prometheusagents",
                                                   "prometheusrules", "thanosrulers"))
    everything: dict[str, Any] = {f"{kind}{of}": {} for kind in ("serviceMonitor", "podMonitor", "probe", "scrapeConfig") for of in ("Selector", "NamespaceSelector")}
    world.create("/apis/monitoring.coreos.com/v1/namespaces/other/prometheuses", {
        "apiVersion": "monitoring.coreos.com/v1", "kind": "Prometheus", "metadata": {"name": "all", "namespace": "other"}, "spec": {
        **everything, "scrapeInterval": f"{INTERVAL}s", "scrapeTimeout": "2s", "serviceDiscoveryRole": "EndpointSlice", "version": "v3.5.0",
        "replicas": 1}})
    keys = cluster.keys
    port = free_port()
    command = [find("prometheus-operator") or "", f"--apiserver={cluster.url}", f"--ca-file={cluster.ca}", f"--cert-file={keys.cert('admin')}",
               f"--key-file={keys.key('admin')}", f"--web.listen-address=127.0.0.1:{port}", "--kubelet-endpoints=false"]
    secrets = "/api/v1/namespaces/other/secrets"
    operator = Server("prometheus-operator", command, folder, lambda: get(f"http://127.0.0.1:{port}/healthz")[0] == 200)
    try:
        jobs = sum(1 for _ in monitors_jobs(world))

        def written() -> Any:
            status, secret = world.api.request("GET", f"{secrets}/prometheus-all")
            config = yaml.safe_load(gzip.decompress(base64.b64decode(secret["data"]["prometheus.yaml.gz"]))) if status == 200 else {}
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
    for kind, field in (("v1/servicemonitors", "endpoints"), ("v1/podmonitors", "podMetricsEndpoints"), ("v1/probes", ""), ("v1alpha1/scrapeconfigs", "")):
        for item in world.api.get(f"/apis/monitoring.coreos.com/{kind}")["items"]:
            for i in range(len(item["spec"][field]) if field else 1):
                yield f"{kind}/{item['metadata']['name']}/{i}"


@pytest.mark.server("prometheus-operator")
@pytest.mark.server("prometheus3")
def test_the_targets_are_those_of_prometheus_with_the_configuration_of_the_operator(
        world: World, everyone: dict[str, Agent], expected: dict[str, dict[str, str]], tmp_path: Path) -> None:
    config = operator_config(world, tmp_path)
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    prometheus = Server("prometheus3", [find("prometheus3") or "", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data",
                                        f"--web.listen-address=127.0.0.1:{port}"], tmp_path, lambda: get(url + "/-/ready")[0] == 200)
    count = sum(map(len, expected.values()))

    def shape(targets: list[dict[str, Any]]) -> dict[str, list[str]]:
        out: dict[str, list[str]] = defaultdict(list)
        for t in targets:
            out[t["scrapePool"]].append(json.dumps([t["scrapeUrl"], t["labels"], t["health"], t["scrapeInterval"], t["scrapeTimeout"]], sort_keys=True))
        return {pool: sorted(found) for pool, found in out.items()}

    def active() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = get_json(url + "/api/v1/targets", state="active")["data"]["activeTargets"]
        return found

    try:
        deadline = time.monotonic() + 60
        while len(found := active()) < count or {t["health"] for t in found} != {"up"}:
            assert time.monotonic() < deadline, f"{len(found)} of {count}: {[(t['scrapeUrl'], t['lastError']) for t in found if t['health'] != 'up']}"
            time.sleep(0.5)
        theirs = shape(found)
    finally:
        prometheus.stop()
    assert shape([t for agent in everyone.values() for t in agent.targets()]) == theirs
    assert set(theirs) == set(expected)


# -- agents and nodes come and go ----------------------------------------------------------------------------------------------


class Spacing:
    """The time between scrapes of a page, in intervals."""

    def __init__(self, scrapes: list[tuple[float, str, int]]) -> None:
        ordered = sorted(scrapes)
        self.gaps = [(b[0] - a[0]) / INTERVAL for a, b in zip(ordered, ordered[1:], strict=False)]
        self.doubles = [(round(gap, 2), a[1], b[1]) for gap, a, b in zip(self.gaps, ordered, ordered[1:], strict=False) if gap < 0.5]

    @property
    def longest(self) -> float:
        return max(self.gaps)


def moved(world: World, page: str, since: float, to: str) -> bool:
    """Whether a page is asked for by `to` now."""
    found = seen(world, since).get(page, [])
    return len([who for _, who, _ in found[-2:] if who == to]) == 2


def test_a_target_that_moves_is_scraped_on_without_a_break(world: World, store: str, everyone: dict[str, Agent],
                                                            expected: dict[str, dict[str, str]]) -> None:
    settle(world, {page: agent for pages in expected.values() for page, agent in pages.items()})
    world.service("moving", app="moving")
    world.monitor("ServiceMonitor", "moving", {"selector": {"matchLabels": {"app": "moving"}}, "endpoints": [{"port": "http", "path": "/moving"}]})
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
            wait_until(lambda n=number, to=node: moved(world, f"{address(n)}/moving", began, to), 30, f"{number} is scraped by {node}")
        time.sleep(INTERVAL * i / 5)  # another moment of the interval each time
    scrapes = seen(world, began)
    spacings = {number: Spacing(scrapes[f"{address(number)}/moving"]) for number in numbers}
    doubles = [double for spacing in spacings.values() for double in spacing.doubles]
    print(f"{5 * len(numbers)} moves: at most {max(s.longest for s in spacings.values()):.2f} intervals between two scrapes, "
          f"{len(doubles)} doubles: {doubles}")
    assert max(spacing.longest for spacing in spacings.values()) < 2.5
    assert all(len(spacing.doubles) <= 5 for spacing in spacings.values())
    # What moves has the same labels and is scraped by everybody at the same moment of the interval.
    assert not [double for double in doubles if double[0] > 0.3]
    # Series that ended have a staleness marker, older than what another agent wrote at that moment.
    series = export(store, 'up{job="moving"}')

    def ended() -> bool:
        return all(values[-1][1] is None for labels, values in export(store, 'up{job="moving"}')
                   if labels["agent"] != nodes[int(labels["instance"].split(":")[0].rpartition(".")[2])])

    wait_until(ended, 6 * INTERVAL, "staleness markers of what moved away")
    series = export(store, 'up{job="moving"}')
    markers = [(labels["instance"], moment) for labels, values in series for moment, value in values if value is None]
    assert len(markers) == 5 * len(numbers)
    for instance, moment in markers:
        near = [at - moment for labels, values in series if labels["instance"] == instance for at, value in values
                if value is not None and abs(at - moment) < INTERVAL * 300]
        assert all(0 < after < INTERVAL * 300 for after in near), near


def export(store: str, selector: str) -> list[tuple[dict[str, str], list[tuple[int, float | None]]]]:
    """The samples of each series: milliseconds and value, None for a staleness marker."""
    lines = map(json.loads, get(f"{store}/api/v1/export?match[]={quote(selector)}")[1].decode().splitlines())
    return [(line["metric"], list(zip(line["timestamps"], line["values"], strict=True))) for line in lines]
