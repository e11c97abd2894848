"""A real node with the chart in it, as a child cluster: `helm template | kubectl apply`, storage in a region, applications."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.cluster import Cluster, images
from tests.cluster.control_plane import NODE_ADDRESS
from tests.helm import monitored
from tests.helm.chart import CLUSTER, MONITORS, NODE, Release, template
from tests.helm.region import PASSWORD, USERNAME, Region
from tests.support.servers import wait_until

SELECT = {"node": f"app.kubernetes.io/name={NODE}", "k8scluster": f"app.kubernetes.io/name={CLUSTER}"}
TRACER = "localhost/telemetrygen:1"
LOGIN = "storage-vmuser-credentials"
TARGETS = {"node": [9090], "k8scluster": [9090, 9091]}
"""Ports of the targets APIs: the cluster's agent has one more, for what its monitors ask for."""
AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts:kof"]}, {"level": "None"}],
}


@dataclass
class World:
    """The cluster, its region, and what was installed."""

    cluster: Cluster
    region: Region
    release: Release
    audit: Path

    def pod(self, role: str) -> dict[str, Any]:
        """The agent's pod of a role."""
        return self.cluster.wait_running("kof", SELECT[role], seconds=180)[0]

    def inside(self, role: str, *command: str) -> str:
        """What a command of busybox, which this image has for the tests, says in an agent's container."""
        return self.cluster.kubectl("-n", "kof", "exec", self.pod(role)["metadata"]["name"], "--", "busybox", *command)

    def said(self, role: str) -> list[str]:
        """The lines an agent printed."""
        return self.cluster.kubectl("-n", "kof", "logs", "-l", SELECT[role], "--tail=-1").splitlines()

    def targets(self, role: str) -> list[dict[str, Any]]:
        """Active targets of an agent, asked for as KOF's UI does: at the pod's address through the API server."""
        path = f"/api/v1/namespaces/kof/pods/{self.pod(role)['metadata']['name']}:%d/proxy/api/v1/targets"
        return [target for port in TARGETS[role] for target in self.cluster.api.get(path % port)["data"]["activeTargets"]]

    def requests(self, account: str) -> list[dict[str, Any]]:
        """What an account has asked the API server for, from its audit log."""
        user = f"system:serviceaccount:kof:{account}"
        return [entry for line in self.audit.read_text().splitlines() if (entry := json.loads(line))["user"]["username"] == user]

    def credentials(self, password: str) -> None:
        """Writes the Secret of the storage's login."""
        self.cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": LOGIN, "namespace": "kof"},
                "stringData": {"username": USERNAME, "password": password},
            }
        )

    def restart(self) -> None:
        """Both agents anew, as after a changed Secret."""
        for workload in (f"daemonset/{NODE}", f"deployment/{CLUSTER}"):
            self.cluster.kubectl("-n", "kof", "rollout", "restart", workload)
        for workload in (f"daemonset/{NODE}", f"deployment/{CLUSTER}"):
            self.cluster.kubectl("-n", "kof", "rollout", "status", workload, "--timeout=120s")
        for select in SELECT.values():
            wait_until(partial(self._alone, select), 60, "the old pod gone")

    def _alone(self, select: str) -> bool:
        return len(self.cluster.pods("kof", select)) == 1


def values(region: Region) -> dict[str, Any]:
    """What a user of a child cluster writes, with the region's private CA from a ConfigMap; OpenCost's image is not here."""
    ca = {
        "volumes": [{"name": "region-ca", "configMap": {"name": "region-ca"}}],
        "volumeMounts": [{"name": "region-ca", "mountPath": "/etc/region-ca", "readOnly": True}],
    }
    login = {
        "credentials_secret_name": LOGIN,
        "username_key": "username",
        "password_key": "password",
        "tls_options": {"ca_file": "/etc/region-ca/ca.crt"},
    }
    kept = {"k8sattributes": {"extract": {"metadata": ["k8s.namespace.name", "k8s.pod.name", "k8s.node.name"]}}}
    return {
        "global": {"clusterName": "child1", "imageRegistry": "localhost"},
        "kof": {
            "metrics": {"endpoint": f"{region.vmauth}/vm/insert/0/prometheus/api/v1/write", **login},
            "logs": {"endpoint": f"{region.vmauth}/vls/insert/opentelemetry/v1/logs", **login},
            "traces": {"endpoint": region.collector, "tls_options": {"ca_pem": region.ca}},
        },
        "collectors": {
            "node": {"processors": kept, "service": {"pipelines": {"traces": {"processors": ["k8sattributes", "batch"]}}}},
            # to see the job of the API server as well
            "k8scluster": {"receivers": {"prometheus": {"api_server": {"enabled": True}}}},
        },
        "kofagent": {
            "image": {"pullPolicy": "Never"},
            "node": ca,
            "k8scluster": ca,
            "secretAccess": [{"namespace": "apps", "names": ["web-login"]}],
        },
        # this machine's root is no shared mount
        "prometheus-node-exporter": {"image": {"pullPolicy": "Never"}, "hostRootFsMount": {"mountPropagation": ""}},
        "kube-state-metrics": {"image": {"pullPolicy": "Never"}},
        "opencost": {"enabled": False},
    }


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """Everything installed; nothing is waited for but the definitions of monitors."""
    policy, audit = folder / "audit.yaml", folder / "audit.log"
    policy.write_text(json.dumps(AUDIT))
    flags = [f"--audit-policy-file={policy}", f"--audit-log-path={audit}"]
    with Cluster(folder / "c", kubelet=True, apiserver_flags=flags) as cluster:
        region = Region(folder / "region", NODE_ADDRESS)
        try:
            cluster.namespace("kof")
            cluster.namespace("apps")
            here = World(cluster, region, template(values=values(region), folder=folder, apis=[MONITORS]), audit)
            cluster.import_agent(here.release.container("node")["image"])
            cluster.import_program("telemetrygen", TRACER)
            for kind, name in (("DaemonSet", "prometheus-node-exporter"), ("Deployment", "kube-state-metrics")):
                workload = here.release.get(kind, f"kof-collectors-{name}")
                cluster.import_program(name, workload["spec"]["template"]["spec"]["containers"][0]["image"])
            here.credentials(PASSWORD)
            cluster.kubectl("-n", "kof", "create", "configmap", "region-ca", f"--from-literal=ca.crt={region.ca}")
            cluster.apply(*monitored.definitions(), *monitored.website(), talker())
            for version, kind in monitored.KINDS:
                path = f"/apis/monitoring.coreos.com/{version}/{kind.lower()}s"
                wait_until(partial(_served, cluster, path), 30, f"{kind} served")
            cluster.apply(*monitored.monitors())
            cluster.kubectl("apply", "-f", "-", text=here.release.text)
            yield here
        finally:
            region.stop()


def _served(cluster: Cluster, path: str) -> bool:
    return cluster.api.request("GET", path)[0] == 200


def talker() -> dict[str, Any]:
    """A pod that writes lines."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "talker", "namespace": "apps"},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "c",
                    "image": images.BUSYBOX,
                    "imagePullPolicy": "Never",
                    "command": ["sh", "-c", "i=0; while true; do echo warning: line $i; i=$((i+1)); sleep 0.2; done"],
                }
            ],
        },
    }


def tracer(name: str, *flags: str) -> dict[str, Any]:
    """A pod that sends five traces of two spans each of the service `name` with its own uid, as KOF's Instrumentation gives it to applications."""
    endpoint = f"{NODE}.kof"
    attributes = '--otlp-attributes=k8s.pod.uid="$(POD_UID)"'
    uid = {"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "apps"},
        "spec": {
            "restartPolicy": "Never",
            "containers": [
                {
                    "name": "c",
                    "image": TRACER,
                    "imagePullPolicy": "Never",
                    "env": [uid],
                    "args": [
                        "traces",
                        "--traces=5",
                        "--rate=0",
                        "--child-spans=1",
                        f"--service={name}",
                        "--otlp-insecure",
                        attributes,
                        *[flag.replace("ENDPOINT", endpoint) for flag in flags],
                    ],
                }
            ],
        },
    }
