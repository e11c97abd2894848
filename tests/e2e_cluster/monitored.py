"""A cluster with monitors of every kind and pages behind them, and agents that scrape them into a VictoriaMetrics.

Nodes n1 to n3 exist in the API only and no controller runs, so pods and EndpointSlices stay as they are written here.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import Cluster
from tests.cluster.api import ApiError
from tests.cluster.certificates import Keys
from tests.e2e_cluster.pages import Pages, address
from tests.support.servers import ROOT, free_port, get, get_json, wait_until

NAMESPACE = "shop"
INTERVAL = 3
NODES = ("n1", "n2", "n3")
CLUSTER_AGENT = "cluster"
SECRET_TEXTS = ("word-one", "bearer-one", "client-word-one", "oauth-token-one", "BEGIN PRIVATE KEY")
GROUP = "/apis/monitoring.coreos.com"
PLURALS = {
    "ServiceMonitor": "v1/{}servicemonitors",
    "PodMonitor": "v1/{}podmonitors",
    "Probe": "v1/{}probes",
    "ScrapeConfig": "v1alpha1/{}scrapeconfigs",
}
RULES = [
    {"apiGroups": [""], "resources": ["pods", "services", "nodes"], "verbs": ["list", "watch"]},
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    {"apiGroups": ["networking.k8s.io"], "resources": ["ingresses"], "verbs": ["list", "watch"]},
    {
        "apiGroups": ["monitoring.coreos.com"],
        "resources": ["servicemonitors", "podmonitors", "probes", "scrapeconfigs"],
        "verbs": ["list", "watch"],
    },
]
"""What an agent needs for monitors, Secrets aside: those are allowed by name where they are."""


def meta(name: str, namespace: str = "", **more: Any) -> dict[str, Any]:
    return {"name": name, **({"namespace": namespace} if namespace else {}), **more}


class World:
    """The objects and how they are changed."""

    def __init__(self, cluster: Cluster, pages: Pages, keys: Keys) -> None:
        self.cluster = cluster
        self.keys = keys
        self.api = cluster.api
        self.pages = pages

    # objects

    def create(self, path: str, obj: dict[str, Any]) -> None:
        """Creates an object and writes its status, which the API server takes by a path of its own only."""
        made = self.api.call("POST", path, {k: v for k, v in obj.items() if k != "status"})
        if "status" in obj:
            self.api.call("PUT", f"{path}/{made['metadata']['name']}/status", {**made, "status": obj["status"]})

    def node(self, number: int) -> None:
        self.create(
            "/api/v1/nodes",
            {
                "metadata": meta(f"n{number}", labels={"zone": f"z{number}"}),
                "status": {
                    "addresses": [{"type": "InternalIP", "address": address(number)}],
                    "daemonEndpoints": {"kubeletEndpoint": {"Port": self.pages.port}},
                },
            },
        )

    def pod(self, name: str, number: int, node: str, namespace: str = NAMESPACE, **labels: str) -> None:
        ports = [{"name": "http", "containerPort": self.pages.port}, {"name": "https", "containerPort": self.pages.tls_port}]
        where = address(number)
        self.create(
            f"/api/v1/namespaces/{namespace}/pods",
            {
                "metadata": meta(name, namespace, labels=labels),
                "spec": {"nodeName": node, "containers": [{"name": "main", "image": "x:1", "ports": ports}]},
                "status": {
                    "phase": "Running",
                    "podIP": where,
                    "podIPs": [{"ip": where}],
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            },
        )

    def delete(self, path: str) -> None:
        self.api.call("DELETE", path, {"gracePeriodSeconds": 0})

    def service(self, name: str, namespace: str = NAMESPACE, **labels: str) -> None:
        self.create(
            f"/api/v1/namespaces/{namespace}/services",
            {
                "metadata": meta(name, namespace, labels=labels),
                "spec": {"clusterIP": "None", "ports": [{"name": "http", "port": 80}]},
            },
        )

    def slice(self, service: str, *endpoints: tuple[int, str, str], namespace: str = NAMESPACE) -> None:
        """Writes a service's only slice: address number, node (or empty) and pod (or empty) of each endpoint."""
        reference = {"kind": "Pod", "namespace": namespace}
        entries = [
            {
                "addresses": [address(number)],
                "conditions": {"ready": True},
                **({"nodeName": node} if node else {}),
                **({"targetRef": {**reference, "name": pod}} if pod else {}),
            }
            for number, node, pod in endpoints
        ]
        body = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "addressType": "IPv4",
            "endpoints": entries,
            "metadata": meta(f"{service}-s", namespace, labels={"kubernetes.io/service-name": service, "app": service}),
            "ports": [{"name": "http", "port": self.pages.port}, {"name": "https", "port": self.pages.tls_port}],
        }
        path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        status, _ = self.api.request("PUT", f"{path}/{service}-s", body)
        if status == 404:
            self.api.call("POST", path, body)

    def secret(self, name: str, namespace: str = NAMESPACE, **data: str) -> None:
        self._put(
            f"/api/v1/namespaces/{namespace}/secrets",
            name,
            {"metadata": meta(name, namespace), "data": {k: base64.b64encode(v.encode()).decode() for k, v in data.items()}},
        )

    def config_map(self, name: str, namespace: str = NAMESPACE, **data: str) -> None:
        self._put(f"/api/v1/namespaces/{namespace}/configmaps", name, {"metadata": meta(name, namespace), "data": data})

    def monitor(self, kind: str, name: str, spec: dict[str, Any], namespace: str = NAMESPACE) -> None:
        """Creates or replaces a monitor."""
        path = f"{GROUP}/{PLURALS[kind].format(f'namespaces/{namespace}/')}"
        version = PLURALS[kind].partition("/")[0]
        self._put(
            path,
            name,
            {"apiVersion": f"monitoring.coreos.com/{version}", "kind": kind, "metadata": meta(name, namespace), "spec": spec},
        )

    def no_monitor(self, kind: str, name: str, namespace: str = NAMESPACE) -> None:
        self.delete(f"{GROUP}/{PLURALS[kind].format(f'namespaces/{namespace}/')}/{name}")

    def _put(self, path: str, name: str, body: dict[str, Any]) -> None:
        status, found = self.api.request("GET", f"{path}/{name}")
        if status == 404:
            self.api.call("POST", path, body)
        else:
            version = found["metadata"]["resourceVersion"]
            self.api.call("PUT", f"{path}/{name}", {**body, "metadata": {**body["metadata"], "resourceVersion": version}})

    def allow(self, namespace: str, *names: str, resource: str = "secrets") -> None:
        """Lets the agents read Secrets or ConfigMaps of a namespace by name."""
        base, name = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}", f"agents-{resource}"
        self._put(
            f"{base}/roles",
            name,
            {
                "metadata": meta(name, namespace),
                "rules": [{"apiGroups": [""], "resources": [resource], "resourceNames": list(names), "verbs": ["list", "watch"]}],
            },
        )
        if self.api.request("GET", f"{base}/rolebindings/{name}")[0] == 404:
            self.create(
                f"{base}/rolebindings",
                {
                    "metadata": meta(name, namespace),
                    "subjects": [{"kind": "ServiceAccount", "name": "agent", "namespace": NAMESPACE}],
                    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
                },
            )


def install_crds(cluster: Cluster, folder: Path, kinds: tuple[str, ...]) -> None:
    """Installs the operator's own CRDs and waits until they are served. `folder` holds them (`crd_folder`)."""
    cluster.kubectl("create", *(f"--filename={folder}/monitoring.coreos.com_{kind}.yaml" for kind in kinds))
    versions = {
        kind: "v1alpha1" if kind in ("scrapeconfigs", "prometheusagents", "alertmanagerconfigs") else "v1" for kind in kinds
    }
    cluster.wait_for(
        "the kinds are served",
        lambda: all(cluster.api.request("GET", f"{GROUP}/{version}/{kind}")[0] == 200 for kind, version in versions.items()),
    )


def crd_folder() -> Path | None:
    """The CRDs of prometheus-operator, if tests/servers/install.sh monitoring-crds was run."""
    folder = ROOT / "monitoring-crds"
    return folder if (folder / "version").exists() else None


class Agent:
    """One agent as a process. `node` empty: the agent of the cluster."""

    def __init__(self, world: World, folder: Path, node: str, store: str) -> None:
        self.name = node or CLUSTER_AGENT
        self._node = node
        self._folder = folder / self.name
        self._folder.mkdir()
        self.port = free_port()
        strategy = {"strategy": "per-node"} if node else {"strategy": "without-node"}
        server = {"enabled": True, "server_config": {"endpoint": f"127.0.0.1:{self.port}"}}
        self.config = self._folder / "config.yaml"
        self.config.write_text(
            yaml.safe_dump(
                {
                    "receivers": {
                        "prometheus": {
                            "config": {
                                "global": {
                                    "scrape_interval": f"{INTERVAL}s",
                                    "scrape_timeout": f"{INTERVAL}s",
                                    "external_labels": {"agent": self.name},
                                }
                            },
                            "monitors": {"enabled": True},
                            "allocation": strategy,
                            "api_server": server,
                        }
                    },
                    "exporters": {"prometheusremotewrite": {"endpoint": f"{store}/api/v1/write", "tls": {"insecure": True}}},
                    "service": {
                        "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "debug"}},
                        "pipelines": {"metrics": {"receivers": ["prometheus"], "exporters": ["prometheusremotewrite"]}},
                    },
                }
            )
        )
        self._kubeconfig = world.cluster.kubeconfig_of(NAMESPACE, "agent")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Agent:
        """Starts it and returns at once."""
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
        environment.pop("K8S_NODE_NAME", None)
        if self._node:
            environment["K8S_NODE_NAME"] = self._node
        with (self._folder / "log").open("ab") as log:
            # The agent as it is, but for its version, which tells the pages who asks.
            program = f"import kofagent; kofagent.__version__ += '+{self.name}'; from kofagent.cli.main import main; raise SystemExit(main())"
            self.process = subprocess.Popen(
                [sys.executable, "-c", program, "run", "--config", str(self.config), "--kubeconfig", str(self._kubeconfig)],
                stdout=log,
                stderr=log,
                env=environment,
            )
        return self

    def stop(self, *, kill: bool = False) -> None:
        """SIGTERM, or kill -9; returns when it is gone."""
        if self.process is not None:
            self.process.kill() if kill else self.process.terminate()
            self.process.wait(30)
            self.process = None

    @property
    def log(self) -> str:
        """What it has printed."""
        return (self._folder / "log").read_text()

    def targets(self) -> list[dict[str, Any]]:
        """Its active targets as its API shows them."""
        found: list[dict[str, Any]] = get_json(f"http://127.0.0.1:{self.port}/api/v1/targets", state="active")["data"][
            "activeTargets"
        ]
        return found

    def shown(self) -> str:
        """Everything it shows to people: its API and `kofagent explain`."""
        paths = ("targets", "targets/metadata", "scrape_pools", "status/config", "status/runtimeinfo")
        texts = [get(f"http://127.0.0.1:{self.port}/api/v1/{path}")[1].decode() for path in paths]
        done = subprocess.run(
            [sys.executable, "-m", "kofagent", "explain", "metrics", "--config", str(self.config)],
            text=True,
            capture_output=True,
            check=False,
            cwd=Path(__file__).parents[2],
        )
        return "\n".join([*texts, done.stdout, done.stderr])


@contextmanager
def agents(world: World, folder: Path, store: str) -> Iterator[dict[str, Agent]]:
    """An agent for every node and one for the cluster, running."""
    everyone = {agent.name: agent for agent in (Agent(world, folder, node, store) for node in (*NODES, ""))}
    try:
        for agent in everyone.values():
            agent.start()
        yield everyone
    finally:
        for agent in everyone.values():
            agent.stop()


def query(store: str, text: str) -> dict[str, float]:
    """An instant query: values by the series' labels as JSON."""
    found = get_json(f"{store}/api/v1/query", query=text, nocache="1")["data"]["result"]
    return {json.dumps(entry["metric"], sort_keys=True): float(entry["value"][1]) for entry in found}


__all__ = ["ApiError", "wait_until"]
