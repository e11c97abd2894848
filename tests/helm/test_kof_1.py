"""The chart with the values of KOF 1.2 and later: one pod per node, or one for each collector."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from kofagent.values.chart_defaults import text
from kofagent.values.versions import versions
from tests.helm.chart import CHART, MONITORS, Release, helm, template
from tests.values.golden import NEWER_NAMES, needs_newer, newer, write_values

needs_helm = pytest.mark.server("helm")
DAEMON, ALLOCATOR = "kof-collectors-daemon-collector", "kof-collectors-ta-daemon-collector"
CLUSTER, K0S = "kof-collectors-cluster-stats-collector", "kof-collectors-controller-k0s-daemon-collector"
SEPARATE = "kofagent.onePerNode=false"


@cache
def default(*sets: str) -> Release:
    return template(sets=["kofagent.generation=1.11.0", *sets], apis=[MONITORS])


def workloads(release: Release) -> dict[str, dict[str, Any]]:
    """Those of collectors, by name."""
    return {w["metadata"]["name"]: w for w in release.workloads() if w["metadata"]["name"].endswith("-collector")}


def container(release: Release, name: str) -> dict[str, Any]:
    found: dict[str, Any] = workloads(release)[name]["spec"]["template"]["spec"]["containers"][0]
    return found


def test_the_defaults_of_the_chart_are_those_of_the_agent() -> None:
    found = (CHART / "kof-1.json").read_text()
    assert found == text(), "run: python -m kofagent.values.chart_defaults > helm/kofagent/kof-1.json"


@needs_helm
def test_one_pod_per_node_is_the_default() -> None:
    release = default()
    assert {n: w["kind"] for n, w in workloads(release).items()} == {CLUSTER: "Deployment", DAEMON: "DaemonSet", K0S: "DaemonSet"}
    agent = container(release, DAEMON)
    assert agent["name"] == "otc-container"
    assert "--collector=daemon,target-allocator" in agent["args"]
    assert agent["resources"]["limits"] == {"memory": "128Mi"}
    ports = {p["name"]: p["containerPort"] for p in agent["ports"]}
    moved = {"otlp-grpc-1": 14317, "otlp-http-1": 14318}
    assert ports == {"metrics": 8888, "api-server": 9090, "otlp-grpc": 4317, "otlp-http": 4318} | moved
    assert not any(name.endswith("node-exporter-collector") for name in workloads(release))


@needs_helm
def test_separate_daemonsets_stay_possible() -> None:
    found = workloads(default(SEPARATE))
    assert set(found) == {CLUSTER, DAEMON, ALLOCATOR, K0S}
    ports = {p["name"]: p["containerPort"] for p in container(default(SEPARATE), ALLOCATOR)["ports"]}
    assert ports == {"metrics": 8888, "api-server": 9090, "otlp-grpc": 4317, "otlp-http": 4318}


@needs_helm
@pytest.mark.parametrize("sets", [(), (SEPARATE,)], ids=["one", "separate"])
def test_services_keep_their_names_and_ports_and_reach_the_pods(sets: tuple[str, ...]) -> None:
    release = default(*sets)
    pods = [w["spec"]["template"] for w in workloads(release).values()]
    for name in (DAEMON, ALLOCATOR, K0S, CLUSTER):
        service = release.get("Service", name)
        chosen = [p for p in pods if service["spec"]["selector"].items() <= p["metadata"]["labels"].items()]
        assert len(chosen) == 1
        there = {p["containerPort"] for p in chosen[0]["spec"]["containers"][0]["ports"]}
        assert {p["targetPort"] for p in service["spec"]["ports"]} <= there
        assert {"metrics", "api-server"} <= {p["name"] for p in service["spec"]["ports"]}
    labels = workloads(release)[DAEMON]["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] == DAEMON
    assert labels["k0rdent.mirantis.com/kof-prometheus-receiver"] == "prometheus"
    assert labels["k0rdent.mirantis.com/kof-collector-metrics"] == "collector"


@needs_helm
@pytest.mark.parametrize("version", versions())
def test_every_version_renders_and_is_told_to_the_agent(version: str) -> None:
    release = template(sets=[f"kofagent.generation={version}"])
    assert f"--generation={version}" in container(release, DAEMON)["args"]


@needs_helm
@needs_newer
@pytest.mark.parametrize("name", NEWER_NAMES)
def test_pods_have_what_the_operators_have(name: str, tmp_path: Path) -> None:
    file = Path(write_values(tmp_path, newer(name)["values"]))
    version = name.split("-", maxsplit=1)[0]
    release = template(file, sets=[SEPARATE, f"kofagent.generation={version}"])
    found = workloads(release)
    rendered = newer(name)["rendered"]
    assert set(found) == {f"{c['name']}-collector" for c in rendered.values()}
    for theirs in rendered.values():
        pod = found[f"{theirs['name']}-collector"]["spec"]["template"]
        agent = pod["spec"]["containers"][0]
        assert theirs.get("labels", {}).items() <= pod["metadata"]["labels"].items()
        assert pod["spec"].get("hostNetwork", False) == theirs.get("hostNetwork", False)
        assert pod["spec"].get("affinity") == theirs.get("affinity")
        for key, ours in (("volumes", pod["spec"]["volumes"]), ("volumeMounts", agent["volumeMounts"]), ("env", agent["env"])):
            names = {each.get("mountPath", each["name"]) for each in ours}
            assert {each.get("mountPath", each["name"]) for each in theirs.get(key, [])} <= names
        have = {(p["name"], p["containerPort"]) for p in agent["ports"]}
        assert {(p["name"], p["port"]) for p in theirs["ports"]} <= have
    one = workloads(template(file, sets=[f"kofagent.generation={version}"]))
    assert (
        "--collector=daemon,target-allocator"
        in next(w for n, w in one.items() if "daemon" in n and "k0s" not in n)["spec"]["template"]["spec"]["containers"][0]["args"]
    )


@needs_helm
def test_a_users_values_reach_agent_and_pod(tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "global": {"clusterName": "c1"},
        "opentelemetry-kube-stack": {
            "clusterName": "c1",
            "defaultCRConfig": {"env": [{"name": "A", "value": True}]},
            "collectors": {
                "daemon": {"tolerations": [{"operator": "Exists"}], "resources": {"limits": {"memory": "200Mi"}}},
                "controller-k0s": {"enabled": False},
            },
        },
    }
    release = template(Path(write_values(tmp_path, values)))
    agent = container(release, DAEMON)
    assert {"name": "A", "value": "true"} in agent["env"]
    assert agent["resources"] == {"limits": {"memory": "200Mi"}}
    assert {"operator": "Exists"} in workloads(release)[DAEMON]["spec"]["template"]["spec"]["tolerations"]
    assert K0S not in workloads(release)
    passed = yaml.safe_load(release.get("ConfigMap", DAEMON)["data"]["collectors-values.yaml"])
    assert passed["opentelemetry-kube-stack"] == values["opentelemetry-kube-stack"]


@needs_helm
def test_variables_with_two_meanings_need_two_pods(tmp_path: Path) -> None:
    daemon = {"collectors": {"daemon": {"env": [{"name": "PKI_PATH", "value": "elsewhere"}]}}}
    file = write_values(tmp_path, {"opentelemetry-kube-stack": daemon})
    done = helm("template", "kof-collectors", str(CHART), f"--values={file}")
    assert done.returncode != 0 and "PKI_PATH" in done.stderr and "onePerNode" in done.stderr
    assert helm("template", "kof-collectors", str(CHART), f"--values={file}", f"--set={SEPARATE}").returncode == 0


@needs_helm
def test_values_of_two_generations_are_refused() -> None:
    done = helm("template", "x", str(CHART), "--set=kofagent.generation=0.3.0,opentelemetry-kube-stack.clusterName=c")
    assert done.returncode != 0 and "KOF 1.2 and later" in done.stderr


@needs_helm
def test_selectors_of_an_older_release_are_of_other_objects() -> None:
    older = {(w["kind"], n) for n, w in workloads(template()).items()}
    assert older.isdisjoint((w["kind"], n) for n, w in workloads(default()).items())
    one, separate = workloads(default()), workloads(default(SEPARATE))
    assert all(one[n]["spec"]["selector"] == separate[n]["spec"]["selector"] for n in one)


@needs_helm
def test_rights_are_those_of_components() -> None:
    rules = {n: r["rules"] for n, r in default(SEPARATE).kinds("ClusterRole").items()}
    assert not [r for n, rs in rules.items() if n.endswith("-collector") for r in rs if "secrets" in r.get("resources", ())]
    of = {n: {r for rule in rs for r in rule.get("resources", ())} for n, rs in rules.items()}
    assert "servicemonitors" in of[f"kof-{ALLOCATOR}"] and "servicemonitors" not in of[f"kof-{DAEMON}"]
    assert "events" in of[f"kof-{CLUSTER}"] and "events" not in of[f"kof-{DAEMON}"]
    assert f"kof-{K0S}" not in {n for n, resources in of.items() if "servicemonitors" in resources}
    both = {r for rule in default().kinds("ClusterRole")[f"kof-{DAEMON}"]["rules"] for r in rule.get("resources", ())}
    assert both == of[f"kof-{DAEMON}"] | of[f"kof-{ALLOCATOR}"]
