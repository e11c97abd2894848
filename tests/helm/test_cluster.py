"""The chart on a real node: metrics, logs, events and traces of the cluster arrive in storage behind TLS and a login.

The agents have the chart's accounts, rights, limits and users; nothing is given to them beside it. The tests are one story in
the order of this file: what the later ones change, the earlier ones need.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from tests.cluster.node import NODE as NODE_NAME
from tests.cluster.node import obstacles
from tests.helm import monitored
from tests.helm.chart import NODE, ROLES
from tests.helm.region import PASSWORD, USERNAME
from tests.helm.world import SELECT, World, tracer, world
from tests.support.servers import wait_until

pytestmark = [
    *(
        pytest.mark.server(name)
        for name in (
            "helm",
            "kubelet",
            "kube-apiserver",
            "etcd",
            "kubectl",
            "kube-scheduler",
            "kube-controller-manager",
            "containerd",
            "victoria-metrics",
            "victoria-logs",
            "vmauth",
            "jaeger",
            "nginx",
            "telemetrygen",
            "prometheus-node-exporter",
            "kube-state-metrics",
        )
    ),
    pytest.mark.skipif(bool(obstacles()), reason="; ".join(obstacles())),
]


@pytest.fixture(scope="module")
def here(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One node for all tests. What the agents said is printed where one of them failed."""
    before = request.session.testsfailed
    with world(tmp_path_factory.mktemp("chart")) as here:
        yield here
        if request.session.testsfailed > before:
            print(here.cluster.kubectl("get", "pods", "-A", "-o", "wide"), *here.said("node"), *here.said("k8scluster"), sep="\n")


def eventually_equal(get: Callable[[], Any], expected: Any, seconds: float = 120) -> None:
    """Waits until `get()` gives what is expected; the difference where it never does."""
    with suppress(AssertionError):
        wait_until(lambda: get() == expected, seconds)
    assert get() == expected


def test_the_agents_come_up_as_the_chart_says(here: World) -> None:
    for role in SELECT:
        pod = here.pod(role)
        assert pod["spec"]["containers"][0]["resources"]["limits"]["memory"] == {"node": "128Mi", "k8scluster": "256Mi"}[role]
        fields = dict(line.split(":\t", 1) for line in here.inside(role, "cat", "/proc/1/status").splitlines() if ":\t" in line)
        assert fields["Uid"].split()[0] == "65532"
        assert fields["Gid"].split()[0] == {"node": "0", "k8scluster": "65532"}[role]
        assert {int(fields[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
        assert fields["Seccomp"] == "2"
        with pytest.raises(RuntimeError, match="Read-only file system"):
            here.inside(role, "touch", "/x")
        here.inside(role, "touch", "/var/lib/otelcol/file_storage/x", "/tmp/x")


def test_the_storage_asks_for_the_login(here: World) -> None:
    assert here.region.get("/vm/select/0/prometheus/api/v1/query", None, query="up")[0] == 401
    assert here.region.get("/vm/select/0/prometheus/api/v1/query", (USERNAME, "wrong"), query="up")[0] == 401
    assert here.region.get("/vm/select/0/prometheus/api/v1/query", query="up")[0] == 200


def test_metrics_arrive_with_kofs_labels(here: World) -> None:
    query = here.region.query
    for job in (
        "integrations/kubernetes/kubelet",
        "integrations/kubernetes/cadvisor",
        "node-exporter",
        "kube-state-metrics",
        "apiserver",
    ):
        wait_until(partial(query, f'up{{job="{job}"}} == 1'), 120, f"up of {job}")
    assert {r["clusterName"] for r in query('up{job="node-exporter"}')} == {"child1"}
    assert [r["nodename"] for r in query('node_load1{job="node-exporter"}')] == [NODE_NAME]
    assert wait_until(partial(query, 'container_memory_working_set_bytes{pod="talker",namespace="apps",container="c"}'), 120)
    assert wait_until(partial(query, 'apiserver_request_total{job="apiserver"}'), 60)
    assert wait_until(partial(query, f'kube_pod_info{{pod="talker",node="{NODE_NAME}"}}'), 60)
    assert wait_until(partial(query, "k8s_pod_phase"), 60, "k8s_cluster's metrics")


def test_logs_of_pods_arrive_with_metadata(here: World) -> None:
    records = wait_until(partial(here.region.records, '"warning: line"'), 120, "logs of the pod")
    assert {(r["k8s.pod.name"], r["k8s.namespace.name"], r["k8s.container.name"], r["k8s.node.name"]) for r in records} == {
        ("talker", "apps", "c", NODE_NAME)
    }


@pytest.mark.parametrize(
    "name, flags",
    [("shop-http", ["--otlp-http", "--otlp-endpoint=ENDPOINT:4318"]), ("shop-grpc", ["--otlp-endpoint=ENDPOINT:4317"])],
)
def test_traces_of_an_application_arrive_with_its_pod(here: World, name: str, flags: list[str]) -> None:
    here.cluster.apply(tracer(name, *flags))

    def sent() -> bool:
        [pod] = [pod for pod in here.cluster.pods("apps") if pod["metadata"]["name"] == name]
        assert pod["status"]["phase"] != "Failed", here.cluster.kubectl("-n", "apps", "logs", name)
        return bool(pod["status"]["phase"] == "Succeeded")

    wait_until(sent, 60, "spans sent")
    spans = wait_until(lambda: len(found := here.region.spans(name)) >= 10 and found, 60, "spans in Jaeger")
    assert len(spans) == 10
    assert {(s["k8s.pod.name"], s["k8s.namespace.name"], s["k8s.node.name"]) for s in spans} == {(name, "apps", NODE_NAME)}


def test_each_target_is_scraped_by_one_agent(here: World) -> None:
    def pools() -> dict[str, dict[str, int]]:
        found: dict[str, Counter[str]] = {}
        for role in SELECT:
            for target in here.targets(role):
                if target["health"] == "up":
                    found.setdefault(target["scrapePool"], Counter())[role] += 1
        return {name: dict(roles) for name, roles in found.items()}

    parts = {
        f"serviceMonitor/kof/{name}/{index}": {"node": 1}
        for name, monitor in here.release.kinds("ServiceMonitor").items()
        for index in range(len(monitor["spec"]["endpoints"]))
    }
    assert len(parts) >= 2
    eventually_equal(pools, monitored.POOLS | parts)
    assert all(target["health"] == "up" for role in SELECT for target in here.targets(role))


def test_monitors_with_a_login_are_scraped(here: World) -> None:
    def visits(job: str) -> list[dict[str, str]]:
        found = here.region.query(f'site_visits_total{{job="{job}"}} == 7')
        return found if len(found) == 2 else []

    of_services = wait_until(partial(visits, "web"), 60, "pages of the ServiceMonitor")
    assert {r["hostname"] for r in of_services} == {NODE_NAME}
    wait_until(partial(visits, "apps/web"), 60, "pages of the PodMonitor")
    assert wait_until(
        partial(here.region.query, 'probe_success{job="probe/apps/site",ingress="site",instance="http://site.test/"} == 1'), 60
    )
    assert {r.get("found") for r in wait_until(partial(here.region.query, 'up{job="scrapeConfig/apps/own"} == 1'), 60)} >= {
        "by-name"
    }
    assert wait_until(partial(here.region.query, 'up{service="outside",namespace="apps"} == 1'), 60)


def test_a_secret_that_is_not_granted_is_one_clear_error_and_its_rule_is_enough(here: World) -> None:
    said = [line for role in SELECT for line in here.said(role) if "403" in line or "forbidden" in line.lower()]
    assert len(said) == 1, said  # of the node's agent: pods are not the cluster agent's targets
    assert f"{NODE} may not list secrets 'other-login' in namespace apps" in said[0]
    rule = json.loads(said[0].partition("add to its Role the rule ")[2])
    assert rule == {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["other-login"], "verbs": ["list", "watch"]}
    group, where = "rbac.authorization.k8s.io", {"name": "other-login", "namespace": "apps"}
    here.cluster.apply(
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": where, "rules": [rule]},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": where,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "other-login"},
            "subjects": [{"kind": "ServiceAccount", "name": NODE, "namespace": "kof"}],
        },
    )
    pool = "podMonitor/apps/other/0"
    wait_until(
        lambda: [t["health"] for t in here.targets("node") if t["scrapePool"] == pool] == ["up", "up"], 90, "the PodMonitor scraped"
    )


def test_events_arrive(here: World) -> None:
    here.cluster.kubectl("-n", "apps", "delete", "pod", "talker", "--wait=false")
    [record] = wait_until(partial(here.region.records, '"Stopping container c"'), 120, "the event of a stopped container")
    assert record["k8s.cluster.name"] == "child1"


def test_every_right_was_used_and_none_was_missing(here: World) -> None:
    for role, account in ROLES.items():
        requests = here.requests(account)
        refused = {
            (r["verb"], r.get("objectRef", {}).get("resource"), r.get("objectRef", {}).get("namespace"))
            for r in requests
            if r.get("responseStatus", {}).get("code") == 403
        }
        # other-login, before it was granted
        assert refused == ({("list", "secrets", "apps")} if role == "node" else set())
        used = set()
        for request in requests:
            if "objectRef" not in request:
                used.add(("url", request["requestURI"].partition("?")[0]))
            elif request["objectRef"].get("resource") != "secrets":
                what = request["objectRef"]
                used.add((what.get("apiGroup", ""), "/".join(filter(None, (what["resource"], what.get("subresource"))))))
        # which groups there are may be asked by everybody
        used = {(group, what) for group, what in used if group != "url" or not what.startswith("/apis/")}
        assert used == {(group, resource) for group, resource, _ in here.release.rules(role)}


def test_nothing_was_restarted_and_no_secret_was_told(here: World) -> None:
    for pod in here.cluster.pods("kof"):
        assert [status["restartCount"] for status in pod["status"]["containerStatuses"]] == [0], pod["metadata"]["name"]
    shown = {
        "rendered": here.release.text,
        "objects": here.cluster.kubectl(
            "get", "configmaps,pods,daemonsets,deployments,services,events,serviceaccounts", "-n", "kof", "-o", "json"
        ),
    }
    shown |= {
        pod["metadata"]["name"]: here.cluster.kubectl("-n", "kof", "logs", pod["metadata"]["name"])
        for pod in here.cluster.pods("kof")
    }
    shown["targets"] = json.dumps([here.targets(role) for role in SELECT])
    for secret in (PASSWORD, monitored.WORD):
        told = [secret, base64.b64encode(secret.encode()).decode(), base64.b64encode(f"{USERNAME}:{secret}".encode()).decode()]
        for place, text in shown.items():
            assert not any(word in text for word in told), place


def refused_by_the_storage(here: World, role: str) -> bool:
    """Whether the agent's metrics and logs both got a 401."""
    lines = [line for line in here.said(role) if "401" in line]
    return all(any(f"exporter.{name}" in line for line in lines) for name in ("prometheusremotewrite", "otlphttp"))


def test_a_wrong_password_delivers_nothing_and_the_right_one_does_after_a_rollout(here: World) -> None:
    here.credentials("wrong")
    here.restart()
    before = here.region.taken()
    for role in SELECT:
        wait_until(partial(refused_by_the_storage, here, role), 90, f"{role} refused")
    assert here.region.taken() == before
    here.credentials(PASSWORD)
    here.restart()
    wait_until(lambda: all(now > before[what] for what, now in here.region.taken().items()), 90, "delivery")
