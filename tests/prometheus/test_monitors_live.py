"""Monitors, Secrets and agents that come and go: the whole receiver against an API server and real pages."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from kofagent.kubernetes.resources import (
    CONFIGMAPS,
    ENDPOINTSLICES,
    NAMESPACES,
    NODES,
    PODMONITORS,
    PODS,
    PROBES,
    SCRAPECONFIGS,
    SECRETS,
    SERVICEMONITORS,
    SERVICES,
    Resource,
)
from kofagent.prometheus.discovery.kubernetes import discovery
from kofagent.prometheus.monitors import watch
from kofagent.receivers.prometheus import COMPONENT
from kofagent.telemetry.signal import Signal
from tests.prometheus.test_kubernetes_discovery import eventually, piece, pod, put, service
from tests.receivers.test_prometheus import samples, stale
from tests.support.components import FakeHost, Sink, make
from tests.support.fake_kube import FakeKube


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same code with shorter waits."""
    for module in (discovery, watch):
        monkeypatch.setattr(module, "QUICK_S", 0.02)
    monkeypatch.setattr(
        discovery.KubernetesDiscovery.__init__,
        "__kwdefaults__",
        {**(discovery.KubernetesDiscovery.__init__.__kwdefaults__ or {}), "slow": 0.05},
    )
    monkeypatch.setattr(
        watch.Monitors.__init__, "__kwdefaults__", {**(watch.Monitors.__init__.__kwdefaults__ or {}), "slow": 0.05, "retry": 0.2}
    )


@pytest.fixture
async def kube(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[FakeKube]:
    async with FakeKube() as kube:
        kube.use(monkeypatch, tmp_path)
        yield kube


class Pages:
    """A server of pages that counts who asked for what, with which Authorization."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.authorizations: dict[str, str] = {}
        self.gate = asyncio.Event()
        self.port = 0
        self.leads = ""
        """Where the page `/leads` redirects to."""

    async def __aenter__(self) -> Pages:
        app = web.Application()
        app.router.add_get("/{tail:.*}", self._page)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._runner.cleanup()

    async def _page(self, request: web.Request) -> web.Response:
        self.asked.append((request.path, request.headers.get("X-Prometheus-Scrape-Timeout-Seconds", "")))
        self.authorizations[request.path] = request.headers.get("Authorization", "")
        if request.path == "/leads":
            raise web.HTTPFound(self.leads)
        if request.path == "/gate":
            await self.gate.wait()
        return web.Response(text="a 1\n", content_type="text/plain")


@asynccontextmanager
async def agent(host: FakeHost | None = None, **options: Any) -> AsyncIterator[tuple[Any, Sink]]:
    config = {
        "config": {"global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"}, **options.pop("config", {})},
        "monitors": {"enabled": True, **options.pop("monitors", {})},
        **options,
    }
    receiver, sink = make(COMPONENT, config, id="prometheus", host=host or FakeHost()), Sink()
    receiver.outputs = {Signal.METRICS: sink}
    await receiver.start()
    try:
        yield receiver, sink
    finally:
        await receiver.stop()


def monitor(
    resource: Resource, name: str, namespace: str = "shop", labels: dict[str, str] | None = None, **spec: Any
) -> tuple[Resource, Any]:
    return resource, {"metadata": {"name": name, "namespace": namespace, "labels": labels or {}}, "spec": spec}


def secret(name: str, namespace: str = "shop", **data: str) -> tuple[Resource, Any]:
    return SECRETS, {
        "metadata": {"name": name, "namespace": namespace},
        "data": {k: base64.b64encode(v.encode()).decode() for k, v in data.items()},
    }


def web_pod(kube: FakeKube, port: int, name: str = "web-1", node: str = "n1", address: str = "127.0.0.1") -> None:
    """A pod of the service `web` whose page is at `port`."""
    obj = pod(name, address, node=node, app="web")
    obj["spec"]["containers"][0]["ports"] = [{"name": "http", "containerPort": port, "protocol": "TCP"}]
    kube.put(PODS, obj)


def web_service(kube: FakeKube, port: int, *pods: tuple[str, str, str]) -> None:
    slices = piece("web", *pods or (("web-1", "127.0.0.1", "n1"),))
    slices["ports"][0]["port"] = port
    put(kube, (SERVICES, service("web", app="web")), (ENDPOINTSLICES, slices))


def up(sink: Sink) -> list[dict[str, str]]:
    return [labels for labels, value, _ in samples(sink) if labels["__name__"] == "up" and value == 1.0]


async def test_service_and_pod_monitors_come_change_and_go(kube: FakeKube) -> None:
    async with Pages() as pages, agent() as (receiver, sink):
        web_pod(kube, pages.port)
        web_service(kube, pages.port)
        put(
            kube,
            monitor(SERVICEMONITORS, "s", selector={"matchLabels": {"app": "web"}}, endpoints=[{"port": "http", "path": "/s"}]),
        )
        await sink.wait_for(up)
        assert up(sink)[0] == {
            "__name__": "up",
            "job": "web",
            "instance": f"127.0.0.1:{pages.port}",
            "namespace": "shop",
            "service": "web",
            "pod": "web-1",
            "container": "c",
            "endpoint": "http",
        }
        put(
            kube,
            monitor(
                PODMONITORS, "p", selector={"matchLabels": {"app": "web"}}, podMetricsEndpoints=[{"port": "http", "path": "/p"}]
            ),
        )
        await sink.wait_for(lambda s: any(labels["job"] == "shop/p" for labels in up(s)))
        # A changed monitor is another job from now on; what the old one wrote is ended.
        put(
            kube,
            monitor(
                SERVICEMONITORS,
                "s",
                selector={"matchLabels": {"app": "web"}},
                endpoints=[{"port": "http", "path": "/s2", "relabelings": [{"targetLabel": "extra", "replacement": "1"}]}],
            ),
        )
        await sink.wait_for(lambda s: any(labels.get("extra") for labels in up(s)))
        await sink.wait_for(
            lambda s: any(stale(v) and labels["job"] == "web" and "extra" not in labels for labels, v, _ in samples(s))
        )
        kube.delete(SERVICEMONITORS, "s", "shop")
        await eventually(lambda: list(receiver.pools) == ["podMonitor/shop/p/0"])
        await sink.wait_for(lambda s: any(stale(v) and labels.get("extra") for labels, v, _ in samples(s)))
        kube.delete(PODMONITORS, "p", "shop")
        await eventually(lambda: not receiver.pools)


async def test_a_change_that_keeps_the_labels_ends_nothing(kube: FakeKube) -> None:
    async with Pages() as pages, agent() as (_, sink):
        web_pod(kube, pages.port)
        put(kube, monitor(PODMONITORS, "p", selector={}, podMetricsEndpoints=[{"port": "http", "path": "/a"}]))
        await sink.wait_for(lambda s: len(up(s)) > 1)
        put(kube, monitor(PODMONITORS, "p", selector={}, podMetricsEndpoints=[{"port": "http", "path": "/b"}]))
        await eventually(lambda: ("/b", "0.2") in pages.asked)
        seen = len(up(sink))
        await sink.wait_for(lambda s: len(up(s)) > seen + 6)
        assert not any(stale(v) for _, v, _ in samples(sink))


@pytest.mark.parametrize("change", ["monitor", "target"])
async def test_a_scrape_under_way_is_not_lost_to_a_change(kube: FakeKube, change: str) -> None:
    async with Pages() as pages, agent() as (receiver, sink):
        web_pod(kube, pages.port)
        endpoint = {"port": "http", "path": "/gate", "interval": "3s", "scrapeTimeout": "3s"}
        put(kube, monitor(PODMONITORS, "p", selector={}, podMetricsEndpoints=[endpoint]))
        await eventually(lambda: pages.asked)
        [before] = receiver.pools.values()
        if change == "monitor":
            put(
                kube,
                monitor(
                    PODMONITORS,
                    "p",
                    selector={},
                    podMetricsEndpoints=[{**endpoint, "metricRelabelings": [{"action": "labeldrop", "regex": "x"}]}],
                ),
            )
            await eventually(lambda: before not in receiver.pools.values() and receiver.pools)
        else:
            kube.delete(PODS, "web-1", "shop")
            await eventually(lambda: not before.targets)
        pages.gate.set()
        await sink.wait_for(up)
        assert len(pages.asked) == 1


@pytest.mark.slow
async def test_markers_are_older_than_what_another_agent_writes_at_that_moment(kube: FakeKube) -> None:
    async with Pages() as pages, agent() as (receiver, sink):
        web_pod(kube, pages.port)
        put(kube, monitor(PODMONITORS, "p", selector={}, podMetricsEndpoints=[{"port": "http", "interval": "1s"}]))
        await sink.wait_for(up)
        [target] = receiver.pools["podMonitor/shop/p/0"].targets
        kube.delete(PODS, "web-1", "shop")
        await sink.wait_for(lambda s: any(stale(v) for _, v, _ in samples(s)))
        [marker] = {moment for _, value, moment in samples(sink) if stale(value)}
        # An agent of another node scrapes a target with the same labels at the same moment of the interval.
        assert (marker - target.hash / 2**64 * 1000) % 1000 == pytest.approx(990, abs=2)


async def test_probes_and_scrape_configs(kube: FakeKube) -> None:
    async with Pages() as pages, agent() as (_, sink):
        put(
            kube,
            monitor(
                PROBES,
                "p",
                prober={"url": f"127.0.0.1:{pages.port}", "path": "/probe"},
                module="http_2xx",
                targets={"staticConfig": {"static": ["https://a.example"]}},
            ),
            monitor(SCRAPECONFIGS, "c", staticConfigs=[{"targets": [f"127.0.0.1:{pages.port}"]}], metricsPath="/c", jobName="mine"),
        )
        await sink.wait_for(lambda s: {"probe/shop/p", "mine"} <= {labels["job"] for labels in up(s)})
        probed = next(labels for labels in up(sink) if labels["job"] == "probe/shop/p")
        assert (probed["instance"], probed["namespace"]) == ("https://a.example", "shop")


async def test_secrets_are_used_watched_and_never_shown(kube: FakeKube, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    options: dict[str, Any] = {"api_server": {"enabled": True, "server_config": {"endpoint": "127.0.0.1:0"}}}
    async with Pages() as pages, agent(**options) as (receiver, sink):
        web_pod(kube, pages.port)
        put(
            kube,
            secret("creds", user="hidden-user", password="hidden-word"),
            (CONFIGMAPS, {"metadata": {"name": "pki", "namespace": "shop"}, "data": {"x": "hidden-thing"}}),
        )
        basic = {"username": {"name": "creds", "key": "user"}, "password": {"name": "creds", "key": "password"}}
        put(kube, monitor(PODMONITORS, "p", selector={}, podMetricsEndpoints=[{"port": "http", "path": "/p", "basicAuth": basic}]))
        await sink.wait_for(up)
        assert base64.b64decode(pages.authorizations["/p"].removeprefix("Basic ")) == b"hidden-user:hidden-word"
        put(kube, secret("creds", user="hidden-user", password="hidden-other"))
        await eventually(lambda: base64.b64decode(pages.authorizations["/p"].removeprefix("Basic ")) == b"hidden-user:hidden-other")
        shown = []
        async with aiohttp.ClientSession() as session:
            for path in ("targets", "status/config", "scrape_pools", "targets/metadata"):
                async with session.get(f"http://127.0.0.1:{receiver._api.port}/api/v1/{path}") as answer:
                    shown.append(await answer.text())
        assert "podMonitor/shop/p/0" in shown[0]
        assert not any("hidden" in text for text in [*shown, caplog.text])
        # Secrets are asked for by name only.
        assert {q.get("fieldSelector") for _, path, q in kube.requests if path.endswith("/secrets")} == {"metadata.name=creds"}
        assert not any(path.endswith("/configmaps") for _, path, _ in kube.requests)
        kube.delete(PODMONITORS, "p", "shop")
        await eventually(lambda: not kube.watches("secrets"))


def missing(verb: str) -> str:
    """What is said of the Secret creds that may not be read."""
    return (
        f"system:serviceaccount:kof:agent may not {verb} secrets 'creds' in namespace shop (403); add to its Role the rule "
        '{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["creds"], "verbs": ["list", "watch"]}'
    )


async def test_a_secret_that_may_not_be_read_is_one_clear_error(kube: FakeKube, caplog: pytest.LogCaptureFixture) -> None:
    host = FakeHost()
    kube.forbidden = {("list", "secrets")}
    async with Pages() as pages, agent(host) as (receiver, sink):
        web_pod(kube, pages.port)
        token = {"bearerTokenSecret": {"name": "creds", "key": "token"}}
        put(
            kube,
            secret("creds", token="t"),
            monitor(
                PODMONITORS,
                "p",
                selector={},
                podMetricsEndpoints=[{"port": "http", "path": "/secret", **token}, {"port": "http", "path": "/open"}],
            ),
        )
        await sink.wait_for(up)
        await eventually(lambda: "creds" in str(host.statuses["receivers/prometheus"]))
        tries = len(asked_for_secrets(kube))
        await eventually(lambda: len(asked_for_secrets(kube)) >= tries + 3)  # which must not be told again
        [error] = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
        assert error == f"secrets shop/creds: {missing('list')}"
        assert list(receiver.pools) == ["podMonitor/shop/p/1"] and pages.authorizations.keys() == {"/open"}
        kube.forbidden = set()
        await eventually(lambda: pages.authorizations.get("/secret") == "Bearer t")
        await eventually(lambda: host.statuses["receivers/prometheus"] is None)


def asked_for_secrets(kube: FakeKube) -> list[str]:
    return [path for _, path, _ in kube.requests if path.endswith("/secrets")]


@pytest.mark.slow
async def test_a_rule_that_is_taken_away_later_names_the_secret(kube: FakeKube, caplog: pytest.LogCaptureFixture) -> None:
    host = FakeHost()
    async with Pages() as pages, agent(host) as (_, sink):
        web_pod(kube, pages.port)
        put(
            kube,
            secret("creds", token="t"),
            monitor(
                PODMONITORS,
                "p",
                selector={},
                podMetricsEndpoints=[{"port": "http", "path": "/secret", "bearerTokenSecret": {"name": "creds", "key": "token"}}],
            ),
        )
        await sink.wait_for(up)
        await eventually(lambda: kube.watches("secrets"))
        kube.forbidden = {("list", "secrets"), ("watch", "secrets")}
        kube.end_watches()  # a rule is asked for when a watch begins, so this is when the agent learns of it
        await eventually(lambda: host.statuses["receivers/prometheus"] is not None)
        assert host.statuses["receivers/prometheus"] == f"Secret shop/creds: {missing('watch')}"
        [error] = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
        assert error == f"secrets shop/creds: {missing('watch')}"
        seen = len(up(sink))
        await sink.wait_for(lambda s: len(up(s)) > seen + 2)  # with the value that was read before
        kube.forbidden = set()
        await eventually(lambda: host.statuses["receivers/prometheus"] is None)


async def test_secrets_that_do_not_exist_yet_and_keys_that_are_missing(kube: FakeKube, caplog: pytest.LogCaptureFixture) -> None:
    async with Pages() as pages, agent() as (receiver, sink):
        web_pod(kube, pages.port)
        put(
            kube,
            monitor(
                PODMONITORS,
                "p",
                selector={},
                podMetricsEndpoints=[{"port": "http", "bearerTokenSecret": {"name": "later", "key": "token"}}],
            ),
        )
        await eventually(lambda: "podMonitor/shop/p/0 is left out: Secret shop/later does not exist" in caplog.text)
        put(kube, secret("later", other="x"))
        await eventually(lambda: "Secret shop/later has no key token" in caplog.text)
        put(kube, secret("later", token="x"))
        await sink.wait_for(up)
        kube.delete(SECRETS, "later", "shop")
        await eventually(lambda: not receiver.pools)


async def test_a_monitor_with_a_mistake_does_not_stop_the_others(kube: FakeKube, caplog: pytest.LogCaptureFixture) -> None:
    async with Pages() as pages, agent() as (receiver, _):
        web_pod(kube, pages.port)
        put(
            kube,
            monitor(PODMONITORS, "bad", selector={}, podMetricsEndpoints=[{"interval": "5s", "scrapeTimeout": "10s"}]),
            monitor(PODMONITORS, "worse", selector={}, podMetricsEndpoints=[{"relabelings": [{"regex": "(", "targetLabel": "x"}]}]),
            monitor(PODMONITORS, "worst", selector="x", podMetricsEndpoints=[{}]),
            monitor(PODMONITORS, "good", selector={}, podMetricsEndpoints=[{"port": "http"}]),
        )
        await eventually(lambda: list(receiver.pools) == ["podMonitor/shop/good/0"])
        await eventually(lambda: "podMonitor/shop/bad/0 is left out" in caplog.text)
        assert "is greater than scrape_interval" in caplog.text
        assert 'podMonitor/shop/worse/0 is left out: relabel_configs, rule {"target_label": "x", "regex": "("}: ' in caplog.text
        assert "podMonitor/shop/worst/0 is left out: its spec does not match its CRD" in caplog.text


async def test_fields_without_effect_are_named_once(kube: FakeKube, caplog: pytest.LogCaptureFixture) -> None:
    async with Pages() as pages, agent() as (receiver, _):
        web_pod(kube, pages.port)
        endpoint = {"port": "http", "portNumber": 1, "shiny": 1, "tlsConfig": {"curves": "x", "insecureSkipVerify": True}}
        for extra in ("1", "2"):
            put(
                kube,
                monitor(
                    PODMONITORS,
                    "new",
                    selector={},
                    newer={"a": 1},
                    scrapeClassicHistograms=True,
                    podMetricsEndpoints=[{**endpoint, "path": f"/{extra}"}, {"params": {"a": [extra]}}],
                ),
            )
            await eventually(lambda extra=extra: {path for path, _ in pages.asked} >= {f"/{extra}"})
        put(
            kube,
            monitor(PODMONITORS, "more", selector={}, convertClassicHistogramsToNHCB=True, podMetricsEndpoints=[{"port": "http"}]),
        )
        await eventually(lambda: "podMonitor/shop/more/0" in receiver.pools)
    warnings = [
        r.getMessage()
        for r in caplog.records
        if r.levelno == logging.WARNING and "podMonitor" in r.getMessage() and ": http" not in r.getMessage()
    ]
    assert warnings == [
        "podMonitor/shop/new/0: unknown fields or fields without effect: spec.newer, spec.podMetricsEndpoints[0].portNumber, "
        "spec.podMetricsEndpoints[0].shiny, spec.podMetricsEndpoints[0].tlsConfig.curves, always_scrape_classic_histograms",
        "podMonitor/shop/more/0: unknown fields or fields without effect: convert_classic_histograms_to_nhcb",
    ]


async def test_many_mistakes_at_once_are_all_told(kube: FakeKube, caplog: pytest.LogCaptureFixture) -> None:
    for i in range(15):
        put(
            kube,
            monitor(
                PODMONITORS, f"bad-{i}", selector={}, podMetricsEndpoints=[{"relabelings": [{"regex": "%s(", "targetLabel": "x"}]}]
            ),
        )
    async with agent():
        await eventually(lambda: caplog.text.count("is left out") == 15)
    # The log's sampling takes records of one template for repetitions of one message.
    assert len({record.msg for record in caplog.records if "is left out" in record.getMessage()}) == 15


async def test_which_monitors_are_read(kube: FakeKube) -> None:
    put(kube, (NAMESPACES, {"metadata": {"name": "shop", "labels": {"team": "x"}}}), (NAMESPACES, {"metadata": {"name": "other"}}))
    for namespace in ("shop", "other", "denied"):
        put(
            kube,
            monitor(PODMONITORS, "yes", namespace, {"release": "kof"}, selector={}, podMetricsEndpoints=[{}]),
            monitor(PODMONITORS, "no", namespace, selector={}, podMetricsEndpoints=[{}]),
            monitor(SERVICEMONITORS, "s", namespace, {"release": "kof"}, selector={}, endpoints=[{}]),
        )
    everything = {f"podMonitor/{ns}/{name}/0" for ns in ("shop", "other", "denied") for name in ("yes", "no")}
    services = {f"serviceMonitor/{ns}/s/0" for ns in ("shop", "other", "denied")}
    for options, expected in (
        ({}, everything | services),
        ({"kinds": ["PodMonitor"]}, everything),
        (
            {"kinds": ["PodMonitor"], "selector": {"matchLabels": {"release": "kof"}}},
            {f"podMonitor/{ns}/yes/0" for ns in ("shop", "other", "denied")},
        ),
        ({"pod_monitor_selector": {"match_labels": {"release": "none"}}}, services),
        (
            {"kinds": ["ServiceMonitor"], "namespaces": ["shop", "denied"], "deny_namespaces": ["denied"]},
            {"serviceMonitor/shop/s/0"},
        ),
        ({"kinds": ["ServiceMonitor"], "namespace_selector": {"match_labels": {"team": "x"}}}, {"serviceMonitor/shop/s/0"}),
    ):
        async with agent(monitors=options) as (receiver, _):
            await eventually(lambda receiver=receiver: receiver.pools)
            assert set(receiver.pools) == expected, options


async def test_crds_may_be_installed_later(kube: FakeKube, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    kube.absent = {"servicemonitors", "podmonitors", "probes", "scrapeconfigs"}
    host = FakeHost()
    async with Pages() as pages, agent(host) as (_, sink):
        web_pod(kube, pages.port)
        put(kube, monitor(PODMONITORS, "p", selector={}, podMetricsEndpoints=[{"port": "http"}]))
        await eventually(lambda: "the CRD of PodMonitor is not installed" in caplog.text)
        assert host.statuses["receivers/prometheus"] is None
        kube.absent = set()
        await sink.wait_for(up)


async def test_without_a_cluster_the_status_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    host = FakeHost()
    async with agent(host):
        await eventually(lambda: "not in a Kubernetes cluster" in str(host.statuses.get("receivers/prometheus")))


async def test_jobs_of_the_api_server_work_from_outside_the_cluster(kube: FakeKube) -> None:
    """KOF's cAdvisor job, whose address, token and CA are those of a pod, on a laptop with a kubeconfig."""
    pages: list[str] = []

    async def cadvisor(request: web.Request) -> web.Response:
        pages.append(request.headers["Authorization"])
        return web.Response(text="container_memory_rss 1\n")

    kube.routes["/api/v1/nodes/n1/proxy/metrics/cadvisor"] = cadvisor
    kube.put(NODES, {"metadata": {"name": "n1"}, "status": {"addresses": [{"type": "InternalIP", "address": "10.9.0.1"}]}})
    folder = "/var/run/secrets/kubernetes.io/serviceaccount"
    jobs = {
        "scrape_configs": [
            {
                "job_name": "cadvisor",
                "kubernetes_sd_configs": [{"role": "node"}],
                "scheme": "https",
                "bearer_token_file": f"{folder}/token",
                "tls_config": {"ca_file": f"{folder}/ca.crt", "server_name": "kubernetes"},
                "relabel_configs": [
                    {"target_label": "__address__", "replacement": "kubernetes.default.svc.cluster.local:443"},
                    {
                        "source_labels": ["__meta_kubernetes_node_name"],
                        "regex": "(.+)",
                        "target_label": "__metrics_path__",
                        "replacement": "/api/v1/nodes/$${1}/proxy/metrics/cadvisor",
                    },
                ],
            }
        ]
    }
    async with agent(config=jobs, monitors={"enabled": False}) as (receiver, sink):
        await sink.wait_for(up)
        assert any(labels["__name__"] == "container_memory_rss" for labels, _, _ in samples(sink))
        assert set(pages) == {"Bearer secret-token"}
        kube.tokens = {"other"}
        await sink.wait_for(lambda s: any(value == 0.0 for labels, value, _ in samples(s) if labels["__name__"] == "up"))
        [target] = receiver.pools["cadvisor"].targets
        assert "401" in target.last_error


async def test_nothing_else_gets_what_the_kubeconfig_allows(kube: FakeKube) -> None:
    """Not another port, not without TLS, not a job that does not show the account's token, and never a job of a monitor."""
    asked: list[str] = []

    async def vault(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(text="a 1\n")

    kube.routes["/metrics"] = vault
    token = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    api = "kubernetes.default.svc"
    jobs = [
        {"job_name": "port", "scheme": "https", "bearer_token_file": token, "static_configs": [{"targets": [f"{api}:12345"]}]},
        {"job_name": "plain", "bearer_token_file": token, "static_configs": [{"targets": [f"{api}:443"]}]},
        {"job_name": "no token", "scheme": "https", "static_configs": [{"targets": [f"{api}:443"]}]},
    ]
    async with agent(config={"scrape_configs": jobs}) as (receiver, _):
        spec: Any = {"scheme": "HTTPS", "authorization": {"credentialsFile": token}}
        put(kube, monitor(SCRAPECONFIGS, "c", staticConfigs=[{"targets": [f"{api}:443"]}], jobName="mine", **spec))
        await eventually(lambda: len(receiver.pools) == 4)
        await eventually(lambda: all(t.last_error for pool in receiver.pools.values() for t in pool.targets), seconds=30)
        assert {len(pool.targets) for pool in receiver.pools.values()} == {1}
    assert asked == []


async def test_jobs_of_monitors_do_not_connect_where_it_is_forbidden(kube: FakeKube) -> None:
    """By address, by name, after a redirect, through a proxy and for discovery; jobs of the configuration may."""
    async with Pages() as pages:
        there = f"127.0.0.2:{pages.port}"
        config = {"scrape_configs": [{"job_name": "own", "static_configs": [{"targets": [there]}]}]}
        async with agent(config=config, monitors={"deny_addresses": ["127.0.0.2/31"]}) as (receiver, _):
            pages.leads = f"http://{there}/"
            put(
                kube,
                monitor(SCRAPECONFIGS, "address", staticConfigs=[{"targets": [there]}]),
                monitor(SCRAPECONFIGS, "mapped", staticConfigs=[{"targets": [f"[::ffff:127.0.0.2]:{pages.port}"]}]),
                monitor(SCRAPECONFIGS, "proxy", staticConfigs=[{"targets": ["a.example:80"]}], proxyUrl=f"http://{there}"),
                monitor(SCRAPECONFIGS, "redirect", staticConfigs=[{"targets": [f"127.0.0.1:{pages.port}"]}], metricsPath="/leads"),
            )
            await eventually(lambda: len(receiver.pools) == 5)
            says = "monitors.deny_addresses forbids 127.0.0.2"
            for pool in receiver.pools.values():
                await eventually(lambda pool=pool: [t for t in pool.targets if t.last_error], seconds=30)
                [target] = pool.targets
                assert (says in target.last_error) == (pool.name != "own"), target.last_error


class Fleet:
    """The agents of nodes and that of the cluster, and who scraped which path."""

    def __init__(self, options: Callable[[], dict[str, Any]]) -> None:
        self._options = options
        self._stack: dict[str, AsyncExitStack] = {}
        self.sinks: dict[str, Sink] = {}

    async def join(self, node: str) -> None:
        allocation = {"strategy": "per-node", "node_name": node} if node else {"strategy": "without-node"}
        stack = self._stack[node] = AsyncExitStack()
        _, self.sinks[node] = await stack.enter_async_context(agent(allocation=allocation, **self._options()))

    async def leave(self, node: str) -> None:
        await self._stack.pop(node).aclose()

    async def aclose(self) -> None:
        for node in list(self._stack):
            await self.leave(node)

    def scraped(self) -> dict[tuple[str, str], set[str]]:
        """Agents by (job, pod or instance)."""
        out: dict[tuple[str, str], set[str]] = {}
        for node, sink in self.sinks.items():
            for labels in up(sink):
                out.setdefault((labels["job"], labels.get("pod") or labels["instance"]), set()).add(node)
        return out


async def test_each_target_is_scraped_by_exactly_one_agent_while_agents_come_and_go(kube: FakeKube) -> None:
    async with Pages() as pages:
        address = f"127.0.0.1:{pages.port}"
        for i, node in enumerate(("n1", "n1", "n2", "n3")):
            web_pod(kube, pages.port, f"web-{i}", node)
        web_service(kube, pages.port, *((f"web-{i}", "127.0.0.1", node) for i, node in enumerate(("n1", "n1", "n2", "n3"))))
        put(
            kube,
            monitor(SERVICEMONITORS, "s", selector={}, endpoints=[{"port": "http"}]),
            monitor(PODMONITORS, "p", selector={}, podMetricsEndpoints=[{"port": "http"}]),
            monitor(PROBES, "b", prober={"url": address, "path": "/probe"}, targets={"staticConfig": {"static": ["x.example"]}}),
        )
        jobs = {
            "scrape_configs": [
                {
                    "job_name": "outside",
                    "static_configs": [{"targets": ["name.example:1"]}],
                    "relabel_configs": [
                        {"target_label": "__address__", "replacement": address},
                        {"target_label": "instance", "replacement": "outside"},
                    ],
                }
            ]
        }
        fleet = Fleet(lambda: {"config": jobs})
        try:
            for node in ("", "n1", "n2"):
                await fleet.join(node)
            expected = {("probe/shop/b", "x.example"): {""}, ("outside", "outside"): {""}}
            for i, node in enumerate(("n1", "n1", "n2")):
                expected |= {("web", f"web-{i}"): {node}, ("shop/p", f"web-{i}"): {node}}
            await eventually(lambda: expected.items() <= fleet.scraped().items())
            assert not any("web-3" in key for key in fleet.scraped())
            await fleet.join("n3")
            expected |= {("web", "web-3"): {"n3"}, ("shop/p", "web-3"): {"n3"}}
            await eventually(lambda: expected.items() <= fleet.scraped().items())
            # A node goes with its agent; its pod comes back on another node.
            await fleet.leave("n2")
            kube.delete(PODS, "web-2", "shop")
            web_pod(kube, pages.port, "web-9", "n3")
            web_service(
                kube, pages.port, *((f"web-{i}", "127.0.0.1", node) for i, node in ((0, "n1"), (1, "n1"), (3, "n3"), (9, "n3")))
            )
            expected |= {("web", "web-9"): {"n3"}, ("shop/p", "web-9"): {"n3"}}
            await eventually(lambda: expected.items() <= fleet.scraped().items())
            assert all(len(agents) == 1 for agents in fleet.scraped().values())
            # one watch each: probes by the cluster's agent, pods' monitors by those of the nodes
            await eventually(
                lambda: (kube.watches("probes"), kube.watches("podmonitors"), kube.watches("servicemonitors")) == (1, 2, 3)
            )
        finally:
            await fleet.aclose()
