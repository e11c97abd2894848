"""Rights of the agents: each rule says who needs it, and goes when nobody does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helm.chart import CHECKOUT, CLUSTER, NODE, RECIPES, ROLES, Release, template

pytestmark = pytest.mark.server("helm")
READ = "list,watch"

OF_MONITORS = "monitoring.coreos.com"
TARGETS = {("", r, READ) for r in ("pods", "services", "endpoints", "nodes")} | {("discovery.k8s.io", "endpointslices", READ)}
INGRESSES = {("networking.k8s.io", "ingresses", READ)}
NODE_MONITORS = TARGETS | {(OF_MONITORS, r, READ) for r in ("servicemonitors", "podmonitors", "scrapeconfigs")}
CLUSTER_MONITORS = TARGETS | INGRESSES | {(OF_MONITORS, r, READ) for r in ("servicemonitors", "probes", "scrapeconfigs")}
NODE_DEFAULT = NODE_MONITORS | {("", "nodes/proxy", "get")}
STATE = (
    {("", r, READ) for r in ("namespaces", "nodes", "pods", "replicationcontrollers", "resourcequotas", "services")}
    | {("apps", r, READ) for r in ("daemonsets", "deployments", "replicasets", "statefulsets")}
    | {("batch", r, READ) for r in ("cronjobs", "jobs")}
    | {("autoscaling", "horizontalpodautoscalers", READ)}
)
EVENTS = {("", "events", READ)}
CLUSTER_DEFAULT = CLUSTER_MONITORS | STATE | EVENTS | {("url", "/metrics", "get")}


def test_the_rights_of_the_default_pipelines() -> None:
    release = template()
    assert release.rules("node") == NODE_DEFAULT
    assert release.rules("k8scluster") == CLUSTER_DEFAULT


def test_the_rights_of_0_1_1() -> None:
    release = template(CHECKOUT / "configs" / "child-to-regional.yaml", sets=["kofagent.generation=0.1.1"])
    assert release.rules("node") == NODE_DEFAULT
    assert release.rules("k8scluster") == CLUSTER_MONITORS | STATE | {("events.k8s.io", "events", READ)}


def test_without_a_cluster_there_are_no_rights() -> None:
    release = template(CHECKOUT / "configs" / "no-cluster.yaml")
    assert release.rules("node") == release.rules("k8scluster") == set()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda f: f.stem)
def test_no_agent_writes_and_none_reads_secrets(recipe: Path) -> None:
    release = template(recipe)
    for each in release.objects:
        if each["kind"] not in ("ClusterRole", "Role"):
            continue
        for rule in each["rules"]:
            assert set(rule["verbs"]) <= {"get", "list", "watch"}, each["metadata"]["name"]
            for word in ("*", "secrets"):
                assert word not in rule.get("resources", []) + rule.get("apiGroups", []), each["metadata"]["name"]


@pytest.mark.parametrize("recipe", [None, *RECIPES], ids=lambda f: f.stem if f else "default")
def test_each_rule_names_the_component_that_needs_it(recipe: Path | None) -> None:
    text = template(*([recipe] if recipe else [])).text
    rules = list(re.finditer(r"(?m)^(.*)\n  - (apiGroups|nonResourceURLs):", text))
    assert rules
    for rule in rules:
        assert re.match(
            r"\s+# (prometheus|k8sattributes|k8s_cluster|k8s_events|k8sobjects|kube-state-metrics|opencost)", rule[1]
        ), rule[0]


@pytest.mark.parametrize(
    "role, values, more",
    [
        ("node", {"processors": {"k8sattributes": {"extract": {"metadata": ["k8s.deployment.name"]}}}}, set()),
        (
            "node",
            {"processors": {"k8sattributes": {"extract": {"metadata": ["k8s.deployment.uid", "k8s.cluster.uid"]}}}},
            {("apps", "deployments", READ), ("apps", "replicasets", READ), ("", "namespaces", READ)},
        ),
        (
            "node",
            {"processors": {"k8sattributes": {"extract": {"labels": [{"from": "cronjob", "key": "a"}]}}}},
            {("batch", "cronjobs", READ), ("batch", "jobs", READ)},
        ),
        (
            "node",
            {"receivers": {"prometheus": {"monitors": {"enabled": True, "namespace_selector": {"match_labels": {"a": "b"}}}}}},
            {("", "namespaces", READ)},
        ),
        (
            "k8scluster",
            {"receivers": {"k8s_cluster": {"distribution": "openshift"}}},
            {("quota.openshift.io", "clusterresourcequotas", READ)},
        ),
        ("node", {"processors": {"resourcedetection": {"detectors": ["k8snode"]}}}, set()),
        (
            "node",
            {"processors": {"resourcedetection": {"detectors": ["env", "kubeadm"]}}},
            {("", "configmaps kubeadm-config", "get"), ("", "namespaces kube-system", "get")},
        ),
        ("node", {"receivers": {"kubeletstats": {"auth_type": "serviceAccount"}}}, {("", "nodes/stats", "get")}),
        (
            "node",
            {"receivers": {"kubeletstats": {"extra_metadata_labels": ["k8s.volume.type"]}}},
            {("", r, "get") for r in ("nodes/stats", "nodes/pods", "persistentvolumeclaims", "persistentvolumes")},
        ),
        (
            "k8scluster",
            {"receivers": {"k8sobjects": {"objects": [{"name": "certificates", "group": "cert-manager.io"}]}}},
            {("cert-manager.io", "certificates", READ)},
        ),
    ],
)
def test_what_a_component_adds(role: str, values: dict[str, Any], more: set[tuple[str, str, str]], tmp_path: Path) -> None:
    before = template().rules(role)
    after = template(values={"collectors": {role: values}}, folder=tmp_path).rules(role)
    got = after - before
    assert got - {("", "nodes", "get")} == more
    assert before <= after


OBSERVING = {"receiver_creator": {"watch_observers": ["k8s_observer/a"]}}


@pytest.mark.parametrize(
    "receivers, extensions, rights",
    [
        (OBSERVING, {"k8s_observer/a": {}}, {("", "pods", READ)}),
        (OBSERVING, {"k8s_observer/a": {"observe_pods": False, "observe_nodes": True}}, {("", "nodes", READ)}),
        (
            OBSERVING,
            {"k8s_observer/a": {"observe_services": True}, "k8s_observer": {"observe_pods": False, "observe_ingresses": True}},
            {("", "pods", READ), ("", "services", READ), *INGRESSES},
        ),
        (OBSERVING, {"k8s_observer/a": None}, set()),
        ({}, {"k8s_observer/a": {"observe_nodes": True}}, set()),
    ],
    ids=["pods", "nodes only", "two observers", "deleted", "nobody asks it"],
)
def test_observers_read_what_they_observe(
    receivers: dict[str, Any], extensions: dict[str, Any], rights: set[tuple[str, str, str]], tmp_path: Path
) -> None:
    nobody_else = {"receivers": {"prometheus": None, **receivers}, "processors": {"k8sattributes": None}}
    agent = {**nobody_else, "extensions": extensions}
    assert template(values={"collectors": {"node": agent}}, folder=tmp_path).rules("node") == rights


def test_jobs_at_the_kubelets_need_no_proxy(tmp_path: Path) -> None:
    jobs = [{"job_name": "kubelet", "kubernetes_sd_configs": [{"role": "node"}], "scheme": "https"}]
    receivers = {"prometheus": {"config": {"scrape_configs": jobs}, "monitors": {"enabled": False}}}
    rules = template(values={"collectors": {"node": {"receivers": receivers}}}, folder=tmp_path).rules("node")
    assert ("", "nodes/proxy", "get") not in rules
    assert ("", "nodes/metrics", "get") in rules
    assert ("", "endpoints", READ) not in rules


WITHOUT_CRDS = [
    {
        "job_name": "kubelet",
        "kubernetes_sd_configs": [{"role": "node"}],
        "relabel_configs": [{"target_label": "__metrics_path__", "replacement": "/api/v1/nodes/n/proxy/metrics"}],
    }
]


def monitors(block: dict[str, Any] | None, folder: Path) -> tuple[set[tuple[str, str, str]], Release]:
    """Rules of the node's agent beside those of one job at the kubelets, and the release."""
    prometheus: dict[str, Any] = {"config": {"scrape_configs": WITHOUT_CRDS}, **({} if block is None else {"monitors": block})}
    values = {
        "collectors": {
            "node": {"receivers": {"prometheus": prometheus}, "processors": {"k8sattributes": None}},
            "k8scluster": {"receivers": {"k8s_cluster": None}},
        }
    }
    release = template(values=values, folder=folder)
    return release.rules("node") - {("", "nodes/proxy", "get")}, release


@pytest.mark.parametrize(
    "kind, node, cluster",
    [
        ("ServiceMonitor", TARGETS, TARGETS),
        ("PodMonitor", {("", "pods", READ)}, None),
        ("Probe", None, INGRESSES),
        ("ScrapeConfig", TARGETS, TARGETS | INGRESSES),
    ],
)
def test_kinds_of_monitors_that_are_not_read_need_nothing(
    kind: str, node: set[tuple[str, str, str]] | None, cluster: set[tuple[str, str, str]] | None, tmp_path: Path
) -> None:
    rules, release = monitors({"enabled": True, "kinds": [kind]}, tmp_path)
    objects = (OF_MONITORS, kind.lower() + "s", READ)
    assert rules == {("", "nodes", READ)} | (set() if node is None else node | {objects})
    apiserver = {("", r, READ) for r in ("endpoints", "services", "pods")} | {("url", "/metrics", "get")}
    events = {("", "events", READ)}
    wanted = set() if cluster is None else cluster | {objects}
    assert release.rules("k8scluster") == wanted | apiserver | events
    pod = yaml.safe_load(release.get("ConfigMap", CLUSTER)["data"]["pod.yaml"])
    assert pod["receivers"]["prometheus/kofagent-nodeless"]["monitors"] == {"enabled": True, "kinds": [kind], "deny_files": True}


def test_a_node_agent_that_scrapes_everything_may_read_everything(tmp_path: Path) -> None:
    values = {"collectors": {"node": {"receivers": {"prometheus": {"allocation": {"strategy": "all"}}}}}}
    release = template(values=values, folder=tmp_path)
    assert release.rules("node") == NODE_MONITORS | CLUSTER_MONITORS | {("", "nodes/proxy", "get")}
    assert "kofagent-nodeless" not in release.get("ConfigMap", CLUSTER)["data"]["pod.yaml"]
    assert (OF_MONITORS, "servicemonitors", READ) not in release.rules("k8scluster")


@pytest.mark.parametrize(
    "job, needed",
    [
        ({"kubernetes_sd_configs": [{"role": "endpoints"}]}, False),
        ({"kubernetes_sd_configs": [{"role": "node"}]}, True),
        ({"kubernetes_sd_configs": [{"role": "endpoints", "attach_metadata": {"node": True}}]}, True),
    ],
)
def test_a_path_of_a_nodes_name_needs_the_proxy_where_there_is_such_a_label(
    job: dict[str, Any], needed: bool, tmp_path: Path
) -> None:
    rules = [
        {
            "source_labels": ["__meta_kubernetes_node_name"],
            "regex": "(.+)",
            "target_label": "__metrics_path__",
            "replacement": "/api/v1/nodes/$${1}/proxy/metrics",
        }
    ]
    receivers = {"prometheus": {"config": {"scrape_configs": [{"job_name": "a", "relabel_configs": rules, **job}]}}}
    values = {"collectors": {"k8scluster": {"receivers": receivers}}}
    assert (("", "nodes/proxy", "get") in template(values=values, folder=tmp_path).rules("k8scluster")) == needed


@pytest.mark.parametrize("block", [{"enabled": False}, {}])
def test_without_monitors_nothing_is_needed_for_them(block: dict[str, Any], tmp_path: Path) -> None:
    assert monitors(block, tmp_path)[0] == {("", "nodes", READ)}
    assert monitors(None, tmp_path)[0] == NODE_MONITORS


@pytest.mark.parametrize(
    "what, more",
    [
        ("node", {("", "nodes", READ)}),
        ("namespace", {("", "namespaces", READ)}),
        ("deployment", {("apps", "replicasets", READ)}),
        ("job", set()),
        ("cronjob", {("batch", "jobs", READ)}),
    ],
)
def test_attach_metadata(what: str, more: set[tuple[str, str, str]], tmp_path: Path) -> None:
    jobs = [{"job_name": "a", "kubernetes_sd_configs": [{"role": "pod", "attach_metadata": {what: True, "node": what == "node"}}]}]
    receivers = {"prometheus": {"config": {"scrape_configs": jobs}, "monitors": {"enabled": False}}}
    assert (
        template(values={"collectors": {"node": {"receivers": receivers}}}, folder=tmp_path).rules("node")
        == {("", "pods", READ)} | more
    )


def test_secrets_of_monitors_are_granted_by_name(tmp_path: Path) -> None:
    values = {"kofagent": {"secretAccess": [{"namespace": "apps", "names": ["web-login"]}]}}
    release = template(values=values, folder=tmp_path)
    role = release.get("Role", "kof-kof-collectors-monitor-secrets-0")
    assert role["metadata"]["namespace"] == "apps"
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["web-login"], "verbs": ["get", "list", "watch"]}
    ]
    binding = release.get("RoleBinding", "kof-kof-collectors-monitor-secrets-0")
    assert {s["name"] for s in binding["subjects"]} == {NODE, CLUSTER}


def test_a_lease_is_granted_where_an_elector_is_configured_and_nowhere_else(tmp_path: Path) -> None:
    elector = {"lease_name": "events", "lease_namespace": "kof-system"}
    extensions = {"k8s_leader_elector/events": elector, "k8s_leader_elector/off": None}
    release = template(values={"collectors": {"k8scluster": {"extensions": extensions}}}, folder=tmp_path)
    name = f"kof-{CLUSTER}-k8s-leader-elector-events"
    role = release.get("Role", name)
    assert role["metadata"]["namespace"] == "kof-system"
    lease = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"]}
    assert role["rules"] == [{**lease, "resourceNames": ["events"], "verbs": ["get", "update"]}, {**lease, "verbs": ["create"]}]
    assert [s["name"] for s in release.get("RoleBinding", name)["subjects"]] == [CLUSTER]
    write = [
        each["metadata"]["name"] for each in release.objects for rule in each.get("rules", []) if "create" in rule.get("verbs", [])
    ]
    assert write == [name]


def test_accounts_of_one_role_have_only_its_rights() -> None:
    release = template()
    for role, name in ROLES.items():
        binding = release.get("ClusterRoleBinding", f"kof-{name}")
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": name, "namespace": "kof"}]
        assert release.pod(role)["serviceAccountName"] == name
    assert release.get("ServiceAccount", "kof-collectors-prometheus-node-exporter")["automountServiceAccountToken"] is False


def receivers(release: Release, role: str) -> dict[str, Any]:
    """What being in a pod adds to the receivers of a role."""
    config: dict[str, Any] = yaml.safe_load(release.get("ConfigMap", ROLES[role])["data"]["pod.yaml"])["receivers"]
    return config


@pytest.mark.parametrize(
    "values, node, cluster",
    [
        ({}, True, True),
        ({"kofagent": {"denyFiles": False}}, None, None),
        ({"collectors": {"node": {"receivers": {"prometheus": {"monitors": {"enabled": True}}}}}}, True, True),
        ({"collectors": {"node": {"receivers": {"prometheus": {"monitors": {"deny_files": False}}}}}}, None, False),
    ],
)
def test_monitors_may_not_name_files_of_the_agents(
    values: dict[str, Any], node: bool | None, cluster: bool | None, tmp_path: Path
) -> None:
    release = template(values=values, folder=tmp_path)
    assert (receivers(release, "node")["prometheus"].get("monitors") or {}).get("deny_files") is node
    assert receivers(release, "k8scluster")["prometheus/kofagent-nodeless"]["monitors"].get("deny_files") is cluster


def test_other_receivers_of_the_user_neither(tmp_path: Path) -> None:
    mine = {"config": {"scrape_configs": [{"job_name": "a"}]}, "monitors": {"enabled": True}}
    release = template(values={"collectors": {"k8scluster": {"receivers": {"prometheus/mine": mine}}}}, folder=tmp_path)
    assert receivers(release, "k8scluster")["prometheus/mine"] == {"monitors": {"deny_files": True}}


def test_network_policies(tmp_path: Path) -> None:
    assert template().kinds("NetworkPolicy") == {}
    monitoring = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    policy = {"enabled": True, "metricsFrom": [monitoring]}
    release = template(values={"kofagent": {"networkPolicy": policy}}, folder=tmp_path)
    policies = release.kinds("NetworkPolicy")
    pods = {o["metadata"]["name"]: o["spec"]["template"]["metadata"]["labels"] for o in release.workloads()}
    chosen = []
    for each in policies.values():
        selector = each["spec"]["podSelector"]["matchLabels"]
        chosen += [name for name, labels in pods.items() if selector.items() <= labels.items()]
        assert each["spec"]["policyTypes"] == ["Ingress"]
    assert sorted(chosen) == sorted(pods)
    otlp, pages = policies[NODE]["spec"]["ingress"]
    assert "from" not in otlp and {port["port"] for port in otlp["ports"]} == {4317, 4318}
    assert pages["from"] == [{"podSelector": {}}, monitoring] and {port["port"] for port in pages["ports"]} == {8888, 9090}
    narrow = template(values={"kofagent": {"networkPolicy": {**policy, "otlpFrom": [monitoring]}}}, folder=tmp_path)
    assert narrow.kinds("NetworkPolicy")[NODE]["spec"]["ingress"][0]["from"] == [monitoring]
