"""Hundreds of nodes and thousands of pods that exist only in the API, kept alive by kwok."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.cluster.api import Api
from tests.cluster.control_plane import program
from tests.support.servers import ROOT, free_port

POD_CIDR = "10.244.0.0/16"
LABELS = {"type": "fake"}
TAINT = {"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}


def stages() -> str:
    """kwok's rules of life for nodes and pods, which install.sh puts beside the program (they are in its module)."""
    path: Path = ROOT / "bin" / "kwok.stages.yaml"
    if not path.exists():
        raise RuntimeError("kwok's stages are not installed: run tests/servers/install.sh kwok")
    return path.read_text()


def command(folder: Path, kubeconfig: Path) -> tuple[list[str], int]:
    """kwok for the nodes that carry its annotation; with its port."""
    options = {
        "apiVersion": "config.kwok.x-k8s.io/v1alpha1",
        "kind": "KwokConfiguration",
        "options": {
            "podPlayStageParallelism": 16,
            "nodePlayStageParallelism": 8,
            "nodeLeaseParallelism": 4,
            "podsOnNodeSyncParallelism": 4,
            "enablePodsOnNodeSyncListPager": False,
        },
    }
    config = folder / "kwok.yaml"
    config.write_text(stages() + "\n---\n" + json.dumps(options) + "\n")
    port = free_port()
    return [
        program("kwok"),
        f"--kubeconfig={kubeconfig}",
        f"--config={config}",
        "--manage-all-nodes=false",
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        "--node-lease-duration-seconds=40",
        f"--cidr={POD_CIDR}",
        "--node-ip=127.0.0.1",
        f"--server-address=127.0.0.1:{port}",
    ], port


def node_name(number: int) -> str:
    """The name of a fake node."""
    return f"fake-{number:04d}"


def node(number: int) -> dict[str, Any]:
    """A fake node with a zone and a name like a cloud's."""
    name = node_name(number)
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake", "node.alpha.kubernetes.io/ttl": "0"},
            "labels": {
                **LABELS,
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/role": "agent",
                "topology.kubernetes.io/zone": f"zone-{number % 3}",
            },
        },
        "spec": {"taints": [TAINT]},
        "status": {
            "allocatable": {"cpu": "32", "memory": "256Gi", "pods": "110"},
            "capacity": {"cpu": "32", "memory": "256Gi", "pods": "110"},
            "nodeInfo": {
                "architecture": "amd64",
                "operatingSystem": "linux",
                "kubeletVersion": "fake",
                "bootID": "",
                "containerRuntimeVersion": "",
                "kernelVersion": "",
                "kubeProxyVersion": "",
                "machineID": "",
                "osImage": "",
                "systemUUID": "",
            },
        },
    }


def template(app: str, place: str) -> dict[str, Any]:
    """What every fake pod looks like: about the labels, environment and volumes a real one has. Bound to its node at once, which
    spares the scheduler (half of the time 5000 pods take)."""
    return {
        "metadata": {
            "labels": {"app": app, "app.kubernetes.io/name": app, "app.kubernetes.io/version": "1.2.3"},
            "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"},
        },
        "spec": {
            "nodeName": place,
            "tolerations": [{"key": TAINT["key"], "operator": "Exists", "effect": "NoSchedule"}],
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "main",
                    "image": f"registry.test/{app}:1.2.3",
                    "ports": [{"name": "http", "containerPort": 8080}],
                    "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                    "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
                }
            ],
        },
    }


def deployments(pods: int, nodes: int, namespace: str) -> Iterator[dict[str, Any]]:
    """One Deployment per node, with `pods` pods in all."""
    for number in range(min(nodes, pods)):
        app = f"app-{number:03d}"
        replicas = pods // nodes + (number < pods % nodes)
        yield {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": app, "namespace": namespace},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": app}}, "template": template(app, node_name(number))},
        }


def running(api: Api, namespace: str) -> int:
    """How many fake pods run; asked of their Deployments, because thousands of pods take seconds to read."""
    found = api.get(f"/apis/apps/v1/namespaces/{namespace}/deployments?resourceVersion=0")["items"]
    return sum(deployment["status"].get("readyReplicas", 0) for deployment in found)


def create_nodes(api: Api, nodes: int) -> None:
    """Creates the nodes."""
    api.create_all("/api/v1/nodes", (node(n) for n in range(nodes)))


def create_pods(api: Api, pods: int, nodes: int, namespace: str) -> None:
    """Creates Deployments; the real controllers make their pods."""
    api.create_all(f"/apis/apps/v1/namespaces/{namespace}/deployments", deployments(pods, nodes, namespace), threads=4)
