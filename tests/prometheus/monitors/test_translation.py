"""Monitors become the jobs that prometheus-operator makes of them; its output is recorded in expected.json."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kofagent.prometheus.config import ScrapeConfig
from kofagent.prometheus.monitors.job import Job, Settings, Unusable, matches, selector_text
from kofagent.prometheus.monitors.podmonitor import pod_monitor_jobs
from kofagent.prometheus.monitors.probe import probe_job
from kofagent.prometheus.monitors.scrapeconfig import scrape_config_job
from kofagent.prometheus.monitors.servicemonitor import service_monitor_jobs

HERE = Path(__file__).parent
OBJECTS = list(yaml.safe_load_all((HERE / "objects.yaml").read_text()))
EXPECTED = {job["job_name"]: job for job in json.loads((HERE / "expected.json").read_text())}
STRICT = {
    "name": "strict",
    "tlsConfig": {"caFile": "/strict/ca"},
    "authorization": {"credentialsFile": "/strict/token"},
    "relabelings": [{"targetLabel": "class", "replacement": "strict"}],
    "metricRelabelings": [{"regex": "secret_.*", "action": "labeldrop"}],
    "attachMetadata": {"node": True},
}
SETTINGS = Settings(scrape_classes=(STRICT,))


def resolve(kind: str, namespace: str, name: str, key: str) -> str:
    for obj in OBJECTS:
        if obj["kind"] == kind and (obj["metadata"]["namespace"], obj["metadata"]["name"]) == (namespace, name):
            return base64.b64decode(obj["data"][key]).decode() if kind == "Secret" else str(obj["data"][key])
    raise Unusable(f"{kind} {namespace}/{name} does not exist")


def jobs_of(obj: dict[str, Any], settings: Settings = SETTINGS) -> list[Job]:
    match obj["kind"]:
        case "ServiceMonitor":
            return [service_monitor_jobs(obj, i, resolve, settings) for i in range(len(obj["spec"]["endpoints"]))]
        case "PodMonitor":
            return [pod_monitor_jobs(obj, i, resolve, settings) for i in range(len(obj["spec"]["podMetricsEndpoints"]))]
        case "Probe":
            return [probe_job(obj, resolve, settings)]
        case _:
            return [scrape_config_job(obj, resolve, settings)]


MADE = {job.data["job_name"]: job for obj in OBJECTS if obj["apiVersion"] != "v1" for job in jobs_of(obj)}


def plain(value: Any) -> Any:
    """A job with its secrets in the open, to be compared."""
    if hasattr(value, "get_secret_value"):
        return value.get_secret_value()
    if hasattr(value, "model_dump"):
        return {name: plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list) else value


def test_every_monitor_has_its_jobs() -> None:
    assert sorted(MADE) == sorted(EXPECTED)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_the_job_is_that_of_the_operator(name: str) -> None:
    made, expected = ScrapeConfig.model_validate(MADE[name].data), ScrapeConfig.model_validate(EXPECTED[name])
    assert plain(made) == plain(expected)


def monitor(kind: str = "ServiceMonitor", **spec: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": "m", "namespace": "shop"}, "spec": spec}


def test_the_role_endpoints_reads_the_labels_of_endpoints() -> None:
    for settings, spec in ((SETTINGS, {"serviceDiscoveryRole": "Endpoints"}), (Settings(role="endpoints"), {})):
        [job] = jobs_of(monitor(endpoints=[{"port": "http"}], **spec), settings)
        text = json.dumps(job.data)
        assert job.data["kubernetes_sd_configs"][0]["role"] == "endpoints"
        assert "__meta_kubernetes_endpoint_port_name" in text and "__meta_kubernetes_endpoint_address_target_kind" in text
        assert "endpointslice" not in text


def test_schemes_in_capitals() -> None:
    assert jobs_of(monitor(endpoints=[{"scheme": "HTTPS"}]))[0].data["scheme"] == "https"


@pytest.mark.parametrize(
    ("obj", "why"),
    [
        (monitor(endpoints=[{"basicAuth": {"username": {"name": "gone", "key": "u"}}}]), "Secret shop/gone does not exist"),
        (monitor(endpoints=[{"basicAuth": {"username": {"name": "creds"}}}]), r"basicAuth\.username needs the name and the key"),
        (monitor(endpoints=[{"tlsConfig": {"ca": {"configMap": {"name": "pki"}}}}]), r"tlsConfig\.ca needs the name and the key"),
        (monitor(endpoints=[{}], selector={"matchExpressions": [{"key": "a", "operator": "Near"}]}), "'Near' is not an operator"),
        (monitor(endpoints=[{}], scrapeClass="other"), "scrapeClass 'other' is not among"),
        (
            monitor("Probe", prober={"url": "http://x/y"}, targets={"staticConfig": {"static": ["a"]}}),
            "prober.url is host or host:port",
        ),
        (monitor("Probe", prober={"url": "x:1"}, targets={}), "staticConfig or ingress"),
        (monitor("ScrapeConfig", consulSDConfigs=[{"server": "x"}]), "consulSDConfigs: not supported"),
        (monitor(endpoints=[{}], nativeHistogramMinBucketFactor="much"), "is not a number"),
    ],
)
def test_what_cannot_be_used_says_why(obj: dict[str, Any], why: str) -> None:
    with pytest.raises(Unusable, match=why):
        jobs_of(obj)


@pytest.mark.parametrize(
    "obj",
    [
        monitor(endpoints=[{"bearerTokenFile": "/etc/shadow"}]),
        monitor(endpoints=[{"tlsConfig": {"caFile": "/etc/shadow"}}]),
        monitor("ScrapeConfig", fileSDConfigs=[{"files": ["/etc/x.yaml"]}]),
        monitor(endpoints=[{"authorization": {"credentialsFile": "/etc/shadow"}}]),
        monitor("ScrapeConfig", authorization={"credentialsFile": "/etc/shadow"}),
        monitor("ScrapeConfig", httpSDConfigs=[{"url": "http://x/", "authorization": {"credentialsFile": "/etc/shadow"}}]),
    ],
)
def test_files_of_the_agent_can_be_forbidden(obj: dict[str, Any]) -> None:
    jobs_of(obj)
    with pytest.raises(Unusable, match="deny_files forbids"):
        jobs_of(obj, Settings(deny_files=True))


SELECTOR = {
    "matchLabels": {"a": "1"},
    "matchExpressions": [
        {"key": "b", "operator": "In", "values": ["z", "y"]},
        {"key": "c", "operator": "NotIn", "values": ["3"]},
        {"key": "d", "operator": "Exists"},
        {"key": "e", "operator": "DoesNotExist"},
    ],
}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"c": "4"}, True),
        ({"a": "2"}, False),
        ({"b": "x"}, False),
        ({"b": None}, False),
        ({"c": "3"}, False),
        ({"d": None}, False),
        ({"e": ""}, False),
    ],
)
def test_selectors(change: dict[str, str | None], expected: bool) -> None:
    labels = {k: v for k, v in {"a": "1", "b": "y", "d": "", **change}.items() if v is not None}
    assert matches(SELECTOR, labels) is expected


def test_selectors_as_text() -> None:
    assert selector_text(SELECTOR) == "a=1,b in (y,z),c notin (3),d,!e"


class OneService:
    """A lookup that knows one service."""

    def service(self, namespace: str, name: str) -> Any:
        return {"metadata": {"labels": {"app": "web"}}} if (namespace, name) == ("shop", "web") else None


LOOKUP: Any = OneService()


def test_objects_that_cannot_match_are_left_out_before_labels_are_made() -> None:
    select = MADE["serviceMonitor/shop/plain/0"].select
    piece = lambda ns, svc: {"metadata": {"namespace": ns, "name": "x", "labels": {"kubernetes.io/service-name": svc}}}  # noqa: E731
    assert select is not None
    assert [select(piece(*at), LOOKUP) for at in (("shop", "web"), ("shop", "db"), ("other", "web"))] == [True, False, False]  # type: ignore[arg-type]
    select = MADE["podMonitor/shop/pods/0"].select
    pod = lambda ns, **labels: {"metadata": {"namespace": ns, "name": "x", "labels": labels}}  # noqa: E731
    assert select is not None
    assert [select(p, LOOKUP) for p in (pod("shop", app="web"), pod("shop", app="db"), pod("a", app="web"))] == [
        True,
        False,
        False,
    ]  # type: ignore[arg-type]
    by_role = MADE["serviceMonitor/shop/by-role/0"].select
    assert by_role is not None and by_role(piece("shop", "unknown"), LOOKUP)  # type: ignore[arg-type]
