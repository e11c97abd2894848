"""A real API server takes every object that the chart renders, and lets the agents do what their rules say and no more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.cluster import Cluster
from tests.helm.chart import CLUSTER, INSTRUMENTATION, MONITORS, NODE, RECIPES, Release, template
from tests.helm.monitored import definition, definitions
from tests.support.servers import wait_until
from tests.values.golden import NEWER_NAMES, needs_newer, newer, write_values

pytestmark = [pytest.mark.server(name) for name in ("helm", "etcd", "kube-apiserver", "kubectl")]


def is_served(cluster: Cluster, version: str) -> bool:
    return version in cluster.kubectl("api-versions").split()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An API server with the CRDs, and the release's accounts and rights in it."""
    with Cluster(Path(tmp_path_factory.mktemp("helm")) / "c", controllers=False, scheduler=False) as cluster:
        for name in ("kof", "kcm-system", "apps"):
            cluster.kubectl("create", "namespace", name)
        cluster.apply(*definitions(), definition("opentelemetry.io", "v1alpha1", "Instrumentation"))
        for api in (MONITORS, INSTRUMENTATION):
            group, version, _ = api.split("/")
            wait_until(partial(is_served, cluster, f"{group}/{version}"), what=f"{api} served")
        release = template(sets=["kcm.monitoring=true"], apis=[MONITORS])
        cluster.apply(*[o for o in release.objects if "Role" in o["kind"] or o["kind"] == "ServiceAccount"])
        yield cluster


def accepted(cluster: Cluster, release: Release) -> None:
    """Every object, and every pod that a workload would make, passes schema, defaulting and admission."""
    pods = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": w["metadata"]["name"], "namespace": "kof", **w["spec"]["template"]["metadata"]},
            "spec": w["spec"]["template"]["spec"],
        }
        for w in release.workloads()
    ]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": [*release.objects, *pods]})
    said = cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", text=text)
    assert said.count("(server dry run)") == len(release.objects) + len(pods), said
    assert "Warning" not in said


@pytest.mark.parametrize("monitors", ["auto", "jobs"])
@pytest.mark.parametrize("recipe", [None, *RECIPES], ids=lambda f: f.stem if f else "default")
def test_the_api_server_takes_every_object(cluster: Cluster, recipe: Path | None, monitors: str) -> None:
    accepted(
        cluster, template(*([recipe] if recipe else []), apis=[MONITORS, INSTRUMENTATION], sets=[f"kofagent.monitors={monitors}"])
    )


@needs_newer
@pytest.mark.parametrize("name, separate", [*((n, False) for n in NEWER_NAMES), *((n, True) for n in NEWER_NAMES[::4])])
def test_the_api_server_takes_every_object_of_newer_values(cluster: Cluster, name: str, separate: bool, tmp_path: Path) -> None:
    sets = [f"kofagent.generation={name.split('-', maxsplit=1)[0]}", *(["kofagent.onePerNode=false"] if separate else [])]
    release = template(Path(write_values(tmp_path, newer(name)["values"])), apis=[MONITORS, INSTRUMENTATION], sets=sets)
    cluster.apply(*[o for o in release.objects if o["kind"] == "ServiceAccount"])  # no pod is admitted without its account
    accepted(cluster, release)


def test_the_api_server_takes_every_option(cluster: Cluster, tmp_path: Path) -> None:
    workload = {
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]
                }
            }
        },
        "podLabels": {"a": "b"},
        "podAnnotations": {"a": "b"},
        "serviceAccountAnnotations": {"a": "b"},
        "hostNetwork": True,
        "podSecurityContext": {"seLinuxOptions": {"type": "spc_t"}},
        "state": {"hostPath": {"path": "/var/lib/kofagent"}},
        "volumes": [{"name": "more", "emptyDir": {}}],
        "volumeMounts": [{"name": "more", "mountPath": "/more"}],
        "tolerations": [{"operator": "Exists"}],
        "probes": {"startupProbe": None},
    }
    monitor = {
        "interval": "1m",
        "scrapeTimeout": "20s",
        "additionalLabels": {"a": "b"},
        "jobLabel": "a",
        "sampleLimit": 9,
        "relabelings": [{"action": "labeldrop", "regex": "x"}],
        "metricRelabelings": [{"action": "drop", "regex": "x"}],
    }
    pods = {
        "priorityClassName": "system-cluster-critical",
        "podLabels": {"a": "b"},
        "podAnnotations": {"a": "b"},
        "imagePullSecrets": [{"name": "pull"}],
        "serviceAccount": {"annotations": {"a": "b"}},
        "service": {"labels": {"a": "b"}, "annotations": {"a": "b"}},
    }
    part = {
        **pods,
        "affinity": {"podAntiAffinity": {}},
        "tolerations": [{"operator": "Exists"}],
        "extraArgs": ["--log.level=debug"],
        "prometheus": {"monitor": monitor},
    }
    exporter = {
        **part,
        "env": {"A": "1"},
        "extraHostVolumeMounts": [{"name": "text", "hostPath": "/var/lib/text", "mountPath": "/text"}],
    }
    state = {
        **part,
        "metricLabelsAllowlist": ["pods=[*]"],
        "metricDenylist": ["kube_x"],
        "namespaces": ["a", "b"],
        "namespacesDenylist": "c",
        "releaseNamespace": True,
        "customResourceState": {"enabled": True, "config": {"spec": {}}},
        "rbac": {"extraRules": [{"apiGroups": ["a.test"], "resources": ["b"], "verbs": ["list", "watch"]}]},
    }
    cost = {
        **pods,
        "extraVolumes": [{"name": "more", "emptyDir": {}}],
        "opencost": {
            "prometheus": {
                "external": {"enabled": False},
                "internal": {"enabled": True, "serviceName": "a", "namespaceName": "b", "port": 80},
                "password_key": "",
                "bearer_token_key": "token",
            },
            "exporter": {
                "env": [{"name": "EMIT_KSM_V1_METRICS", "value": "true"}],
                "extraArgs": ["log-format=json"],
                "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
            },
            "customPricing": {"enabled": True, "costModel": {"CPU": 1.25}},
            "cloudIntegrationSecret": "cloud",
            "cloudCost": {"enabled": True},
        },
    }
    env = [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}}]
    role = {"env": env, "receivers": {"hostmetrics": {"root_path": "/hostfs", "scrapers": {"cpu": {}}}}, "run_as_root": True}
    values = {
        "kofagent": {
            "node": workload,
            "k8scluster": workload,
            "imagePullSecrets": [{"name": "x"}],
            "secretAccess": [{"namespace": "apps", "names": ["a"], "configMaps": ["b"]}],
        },
        "collectors": {"node": role, "k8scluster": {"env": env}},
        "kcm": {"monitoring": True},
        "prometheus-node-exporter": exporter,
        "kube-state-metrics": state,
        "opencost": cost,
        "global": {"imageRegistry": "registry.test:5000"},
    }
    accepted(cluster, template(values=values, folder=tmp_path, apis=[MONITORS, INSTRUMENTATION]))


def test_a_typing_error_would_be_found(cluster: Cluster) -> None:
    release = template()
    release.text = release.text.replace("readOnlyRootFilesystem", "readOnlyRootFileSystem", 1)
    with pytest.raises((AssertionError, RuntimeError), match="readOnlyRootFileSystem"):
        accepted(cluster, release)


@pytest.mark.parametrize(
    "account, verb, resource, allowed",
    [
        (NODE, "list", "pods", True),
        (NODE, "watch", "nodes", True),
        (NODE, "get", "nodes/proxy", True),
        (NODE, "list", "servicemonitors.monitoring.coreos.com", True),
        (NODE, "list", "endpointslices.discovery.k8s.io", True),
        (CLUSTER, "get", "nodes/proxy", False),
        (CLUSTER, "list", "podmonitors.monitoring.coreos.com", False),
        (CLUSTER, "list", "probes.monitoring.coreos.com", True),
        (NODE, "list", "probes.monitoring.coreos.com", False),
        (CLUSTER, "list", "ingresses.networking.k8s.io", True),
        (NODE, "list", "ingresses.networking.k8s.io", False),
        (NODE, "create", "nodes/proxy", False),
        (NODE, "list", "events", False),
        (NODE, "list", "deployments.apps", False),
        (NODE, "get", "secrets", False),
        (NODE, "list", "configmaps", False),
        (NODE, "delete", "pods", False),
        (CLUSTER, "watch", "events", True),
        (CLUSTER, "list", "deployments.apps", True),
        (CLUSTER, "get", "/metrics", True),
        (CLUSTER, "get", "secrets", False),
        (CLUSTER, "patch", "nodes", False),
        (CLUSTER, "get", "pods/log", False),
        ("kof-collectors-kube-state-metrics", "list", "secrets", False),
        ("kof-collectors-kube-state-metrics", "list", "configmaps", True),
        ("kof-collectors-prometheus-node-exporter", "list", "pods", False),
        ("kof-collectors-opencost", "list", "configmaps", False),
        ("kof-collectors-kube-state-metrics", "get", "pods", False),
        ("kof-collectors-opencost", "watch", "nodes", True),
        ("kof-collectors-opencost", "get", "secrets", False),
        ("kof-collectors-kcm-metrics", "get", "/metrics", True),
        ("kof-collectors-kcm-metrics", "list", "pods", False),
        (NODE, "list", "secrets", False),
    ],
)
def test_rights(cluster: Cluster, account: str, verb: str, resource: str, allowed: bool) -> None:
    # kubectl takes `pods/log` for a pod called log, but `/metrics` for a path
    what, _, part = resource.rpartition("/") if not resource.startswith("/") and "/" in resource else (resource, "", "")
    said = cluster.kubectl(
        "auth",
        "can-i",
        verb,
        what,
        *([f"--subresource={part}"] if part else []),
        "--all-namespaces",
        f"--as=system:serviceaccount:kof:{account}",
        check=False,
    )
    assert said.strip().splitlines()[-1] == ("yes" if allowed else "no")


@pytest.mark.parametrize("account", [NODE, CLUSTER])
def test_agents_read_the_token_for_kcm_and_no_other_secret(cluster: Cluster, account: str) -> None:
    for name, allowed in (("kof-collectors-k8s-cluster-collector-token", "yes"), ("storage-vmuser-credentials", "no")):
        said = cluster.kubectl(
            "auth", "can-i", "get", f"secrets/{name}", "-n", "kof", f"--as=system:serviceaccount:kof:{account}", check=False
        )
        assert said.strip().splitlines()[-1] == allowed, name
