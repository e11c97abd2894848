"""Keys of the charts that kofagent stands for: those that KOF's own charts pass to kof-collectors, those of its sub-charts, and none
without effect that the notes do not name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kofagent.component import registry
from kofagent.values import load_values
from tests.conftest import SHARED
from tests.helm.chart import INSTRUMENTATION, MONITORS, ROLES, Release, notes, template

pytestmark = pytest.mark.server("helm")

STORAGE = {"username_key": "username", "password_key": "password", "credentials_secret_name": "storage-vmuser-credentials"}
PASSED: dict[str, dict[str, Any]] = {
    "kof-child-0.2.0": {
        "global": {"clusterName": "child1"},
        "kof": {
            "metrics": {**STORAGE, "endpoint": "https://vmauth.x/vm/insert/0/prometheus/api/v1/write"},
            "logs": {**STORAGE, "endpoint": "https://vmauth.x/vls/insert/opentelemetry/v1/logs"},
            "traces": {"endpoint": "https://jaeger.x/collector"},
        },
        "opencost": {
            "enabled": True,
            "opencost": {
                "prometheus": {
                    "username_key": "username",
                    "password_key": "password",
                    "existingSecretName": "storage-vmuser-credentials",
                    "external": {"url": "https://vmauth.x/vm/select/0/prometheus"},
                },
                "exporter": {"defaultClusterId": "child1"},
            },
        },
    },
    "kof-child-0.3.0": {
        "global": {"clusterName": "child1"},
        "kof": {
            "metrics": {"endpoint": "https://vmauth.x/vm/insert/0/prometheus/api/v1/write"},
            "logs": {"endpoint": "https://vmauth.x/vls/insert/opentelemetry/v1/logs"},
            "traces": {"endpoint": "https://jaeger.x/collector"},
        },
        "opencost": {
            "opencost": {
                "prometheus": {"external": {"url": "https://vmauth.x/vm/select/0/prometheus"}},
                "exporter": {"defaultClusterId": "child1"},
            }
        },
    },
    "kof-regional-0.3.0": {
        "global": {"clusterName": "child1"},
        "opencost": {"opencost": {"exporter": {"defaultClusterId": "child1"}}},
    },
    "kof-istio-0.3.0": {
        "global": {"clusterName": "child1"},
        "kof": {
            "logs": {"endpoint": "http://r-logs:9428/insert/opentelemetry/v1/logs"},
            "metrics": {"endpoint": "http://r-vminsert:8480/insert/0/prometheus/api/v1/write"},
            "traces": {"endpoint": "http://r-jaeger-collector:4318"},
            "basic_auth": False,
        },
        "opencost": {
            "enabled": True,
            "opencost": {
                "prometheus": {"existingSecretName": "", "external": {"url": "http://r-vmselect:8481/select/0/prometheus"}},
                "exporter": {"defaultClusterId": "child1"},
            },
        },
    },
}
"""What the multi-cluster services and profiles of KOF's charts write for kof-collectors, with names filled in."""


def container(release: Release, part: str) -> dict[str, Any]:
    (workload,) = (w for w in release.workloads() if w["metadata"]["name"] == f"kof-collectors-{part}")
    found: dict[str, Any] = workload["spec"]["template"]["spec"]["containers"][0]
    return found


def environment(release: Release) -> dict[str, dict[str, Any]]:
    """OpenCost's environment by name."""
    return {entry["name"]: entry for entry in container(release, "opencost")["env"]}


@pytest.mark.parametrize("name", PASSED)
def test_what_kofs_charts_pass_is_understood(name: str, tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(PASSED[name]))
    assert "has no effect" not in notes(tmp_path, f"--values={file}")
    release = template(file)
    env = environment(release)
    assert env["CLUSTER_ID"]["value"] == "child1"
    given = PASSED[name]["opencost"]["opencost"].get("prometheus", {})
    url = given.get("external", {}).get("url", "https://vmselect-cluster:8481/select/0/prometheus")
    assert env["PROMETHEUS_SERVER_ENDPOINT"]["value"] == url
    assert ("DB_BASIC_AUTH_USERNAME" in env) == (given.get("existingSecretName") != "")
    for role in ROLES:
        for generation in ["0.3.0", "0.1.1"] if name.endswith("0.2.0") else ["0.3.0"]:
            config = load_values([str(file)], role, registry, generation, {}, need_secrets=False)
            endpoint = PASSED[name].get("kof", {}).get("metrics", {}).get("endpoint")
            assert endpoint is None or config.effective["exporters"]["prometheusremotewrite"]["endpoint"] == endpoint


@pytest.mark.parametrize("version", ["0.1.1", "0.3.0"])
def test_upstreams_default_values_have_no_key_without_effect(version: str, tmp_path: Path) -> None:
    file = SHARED / "values" / f"kof-collectors-{version}.yaml"
    if not file.exists():
        pytest.skip("upstream's values are not here")
    assert "has no effect" not in notes(tmp_path, f"--values={file}", f"--set=kofagent.generation={version}")
    for role in ROLES:
        load_values([str(file)], role, registry, version, {}, need_secrets=False)
    assert template(file, sets=[f"kofagent.generation={version}"]).objects


def test_notes_name_keys_at_any_depth(tmp_path: Path) -> None:
    said = notes(
        tmp_path,
        "--set=opencost.opencost.ui.enabled=true,opencost.opencost.ui.image.tag=1,opencost.fullnameOverride=x",
        "--set=prometheus-node-exporter.prometheus.monitor.basicAuth.username.name=x,kube-state-metrics.autosharding.enabled=false",
    )
    assert "get secret storage-vmuser-credentials" in said
    named = {line.split()[0] for line in said.splitlines() if "has no effect" in line}
    assert named == {
        "opencost.opencost.ui.enabled",
        "opencost.opencost.ui.image",
        "opencost.fullnameOverride",
        "prometheus-node-exporter.prometheus.monitor.basicAuth",
    }


def test_opencost_has_the_environment_of_its_own_chart(tmp_path: Path) -> None:
    env = environment(template())
    assert env["KUBECOST_NAMESPACE"]["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.namespace"}}
    assert {name: entry["value"] for name, entry in env.items() if "value" in entry} == {
        "API_PORT": "9003",
        "CLOUD_COST_ENABLED": "false",
        "CLUSTER_ID": "mothership",
        "EMIT_KSM_V1_METRICS": "false",
        "EMIT_KSM_V1_METRICS_ONLY": "true",
        "LOG_LEVEL": "info",
        "PROMETHEUS_SERVER_ENDPOINT": "https://vmselect-cluster:8481/select/0/prometheus",
    }
    values = {
        "opencost": {
            "loglevel": "debug",
            "opencost": {
                "exporter": {
                    "env": [{"name": "CLUSTER_ID", "valueFrom": {"configMapKeyRef": {"name": "a", "key": "b"}}}],
                    "extraEnv": {"LOG_LEVEL": "warn"},
                    "apiPort": 9004,
                },
                "prometheus": {"password_key": "", "username_key": "", "bearer_token_key": "token"},
                "customPricing": {"enabled": True, "provider": "aws", "costModel": {"CPU": 1.25}},
            },
        }
    }
    release = template(values=values, folder=tmp_path)
    own = environment(release)
    assert own["LOG_LEVEL"]["value"] == "warn"  # what is given last by name wins, as in a container's list
    assert own["CLUSTER_ID"] == {"name": "CLUSTER_ID", "valueFrom": {"configMapKeyRef": {"name": "a", "key": "b"}}}
    assert own["DB_BEARER_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": "storage-vmuser-credentials", "key": "token"}
    assert "DB_BASIC_AUTH_PW" not in own
    assert own["CONFIG_PATH"]["value"] == "/tmp/custom-config"
    assert yaml.safe_load(release.get("ConfigMap", "custom-pricing-model")["data"]["aws.json"]) == {
        "provider": "aws",
        "CPU": "1.25",
    }
    assert release.get("Service", "kof-collectors-opencost")["spec"]["ports"][0] == {
        "name": "http",
        "port": 9004,
        "targetPort": "http",
        "protocol": "TCP",
    }


def test_a_storage_is_needed_and_only_one() -> None:
    for sets, said in ((["external.enabled=false"], "OpenCost needs the URL"), (["internal.enabled=true"], "both enabled")):
        with pytest.raises(AssertionError, match=said):
            template(sets=[f"opencost.opencost.prometheus.{each}" for each in sets])


def test_kube_state_metrics_arguments_and_rights(tmp_path: Path) -> None:
    values = {
        "kube-state-metrics": {
            "collectors": ["pods", "secrets"],
            "metricLabelsAllowlist": ["pods=[app,team]", "nodes=[*]"],
            "metricDenylist": ["kube_pod_tolerations"],
            "namespaces": "a, b",
            "releaseNamespace": True,
            "namespacesDenylist": ["c", "d"],
            "customResourceState": {"enabled": True, "config": {"kind": "CustomResourceStateMetrics"}},
            "rbac": {
                "extraRules": [
                    {"apiGroups": ["k0rdent.mirantis.com"], "resources": ["clusterdeployments"], "verbs": ["list", "watch"]}
                ]
            },
        }
    }
    release = template(values=values, folder=tmp_path)
    flags = container(release, "kube-state-metrics")["args"]
    assert {
        "--resources=pods,secrets",
        "--metric-labels-allowlist=pods=[app,team],nodes=[*]",
        "--metric-denylist=kube_pod_tolerations",
        "--namespaces=a,b,kof",
        "--namespaces-denylist=c,d",
        "--custom-resource-state-config-file=/etc/customresourcestate/config.yaml",
    } <= set(flags)
    rules = release.get("ClusterRole", "kof-kof-collectors-kube-state-metrics")["rules"]
    assert [(rule["resources"], rule["verbs"]) for rule in rules] == [
        ([each], ["list", "watch"]) for each in ("pods", "secrets", "customresourcedefinitions", "clusterdeployments")
    ]
    config = release.get("ConfigMap", "kof-collectors-kube-state-metrics-customresourcestate-config")["data"]["config.yaml"]
    assert yaml.safe_load(config) == {"kind": "CustomResourceStateMetrics"}


def test_kcm_is_scraped_with_a_token_that_opens_nothing_else() -> None:
    assert "kcm" not in {o["metadata"]["name"].split("-")[0] for o in template(apis=[MONITORS]).objects}
    assert not template(sets=["kcm.monitoring=true"]).kinds("PodMonitor")  # no such kind there
    release = template(apis=[MONITORS], sets=["kcm.monitoring=true", "kcm.namespace=kcm"])
    service = release.get("ServiceMonitor", "kcm-controller-manager-metrics-monitor")
    assert (service["metadata"]["namespace"], service["metadata"]["labels"]["control-plane"]) == ("kcm", "kcm-controller-manager")
    assert service["spec"]["selector"] == {"matchLabels": {"control-plane": "kcm-controller-manager"}}
    pods = release.get("PodMonitor", "control-plane-metrics-monitor")
    assert pods["metadata"]["namespace"] == "kof"
    assert pods["spec"]["namespaceSelector"] == {"matchNames": ["kcm"]}
    assert pods["spec"]["selector"] == {"matchExpressions": [{"key": "control-plane", "operator": "Exists"}]}
    (endpoint,) = pods["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["scheme"], endpoint["interval"]) == ("metrics", "https", "30s")
    token = release.get("Secret", endpoint["authorization"]["credentials"]["name"])
    assert token["metadata"]["name"] == "kof-collectors-k8s-cluster-collector-token"
    assert (token["type"], set(token)) == ("kubernetes.io/service-account-token", {"apiVersion", "kind", "metadata", "type"})
    account = token["metadata"]["annotations"]["kubernetes.io/service-account.name"]
    assert release.get("ClusterRole", f"kof-{account}")["rules"] == [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]
    role = release.get("Role", f"{account}-token")
    assert role["rules"][0]["resourceNames"] == [token["metadata"]["name"]]
    assert {s["name"] for s in release.get("RoleBinding", f"{account}-token")["subjects"]} == set(ROLES.values())


def test_secrets_of_registries(tmp_path: Path) -> None:
    values = {
        "global": {"imagePullSecrets": ["a", {"name": "b"}]},
        "kofagent": {"imagePullSecrets": [{"name": "c"}]},
        "opencost": {"imagePullSecrets": [{"name": "d"}]},
    }
    release = template(values=values, folder=tmp_path)
    for part, own in (("prometheus-node-exporter", []), ("kube-state-metrics", []), ("opencost", ["d"])):
        (workload,) = (w for w in release.workloads() if w["metadata"]["name"] == f"kof-collectors-{part}")
        assert [s["name"] for s in workload["spec"]["template"]["spec"]["imagePullSecrets"]] == ["c", "a", "b", *own]


def test_the_instrumentation_is_kofs() -> None:
    memory = {"memory": "128Mi"}
    made = template(apis=[INSTRUMENTATION]).get("Instrumentation", "kof-instrumentation")
    assert made["apiVersion"] == "opentelemetry.io/v1alpha1"
    assert made["metadata"]["namespace"] == "kof"
    assert made["spec"] == {
        "exporter": {"endpoint": "http://kof-collectors-node-exporter-collector:4318"},
        "propagators": ["tracecontext", "baggage"],
        "sampler": {"type": "parentbased_traceidratio", "argument": "1"},
        "go": {
            "image": "ghcr.io/open-telemetry/opentelemetry-go-instrumentation/autoinstrumentation-go:v0.19.0-alpha",
            "resourceRequirements": {"requests": memory, "limits": memory},
        },
    }


def test_images_are_those_of_kof_0_3_0() -> None:
    images = {part: container(template(), part)["image"] for part in ("prometheus-node-exporter", "kube-state-metrics", "opencost")}
    assert images == {
        "prometheus-node-exporter": "quay.io/prometheus/node-exporter:v1.8.2",
        "kube-state-metrics": "registry.k8s.io/kube-state-metrics/kube-state-metrics:v2.13.0",
        "opencost": "ghcr.io/opencost/opencost:1.113.0@sha256:b313d6d320058bbd3841a948fb636182f49b46df2368d91e2ae046ed03c0f83c",
    }
