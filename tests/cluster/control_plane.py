"""etcd, kube-apiserver, kube-controller-manager and kube-scheduler on loopback."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.certificates import Keys
from tests.cluster.processes import Processes
from tests.support.servers import find, free_port

SERVICE_CIDR = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"  # the `kubernetes` Service, always the first address of the range
NODE_ADDRESS = "10.99.0.1"


def program(name: str) -> str:
    """The path of a program; says how to get it when it is absent."""
    path = find(name)
    if path is None:
        kit = {
            "kwok": "kwok",
            "helm": "helm",
            "kube-state-metrics": "kube-state-metrics",
            "containerd": "containerd",
            "ctr": "containerd",
            "runc": "containerd",
            "busybox": "containerd",
        }.get(name, "kubernetes")
        raise RuntimeError(f"{name} is not installed: run tests/servers/install.sh {kit}")
    return path


def make_keys(keys: Keys) -> None:
    """All certificates of the control plane and the administrators' token."""
    keys.authority()
    keys.issue("etcd", "/CN=etcd", ["IP:127.0.0.1", "DNS:localhost"])
    keys.issue("etcd-client", "/CN=etcd-client")
    keys.issue(
        "apiserver",
        "/CN=kube-apiserver",
        [
            "IP:127.0.0.1",
            f"IP:{API_SERVICE}",
            f"IP:{NODE_ADDRESS}",
            "DNS:localhost",
            "DNS:kubernetes",
            "DNS:kubernetes.default",
            "DNS:kubernetes.default.svc",
            "DNS:kubernetes.default.svc.cluster.local",
        ],
    )
    keys.issue("kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client")
    keys.issue("admin", "/O=system:masters/CN=admin")


class ControlPlane:
    """The commands of the four programs for one set of ports. `ports`: etcd, etcd-peer, apiserver, controllers, scheduler."""

    def __init__(self, folder: Path, keys: Keys, ports: dict[str, int]) -> None:
        self.folder = folder
        self.keys = keys
        self.ports = ports

    @staticmethod
    def choose_ports() -> dict[str, int]:
        """Free ports, all different."""
        ports: dict[str, int] = {}
        for name in ("etcd", "etcd-peer", "apiserver", "controllers", "scheduler"):
            port = free_port()
            while port in ports.values():
                port = free_port()
            ports[name] = port
        return ports

    @property
    def url(self) -> str:
        """Where the API server answers."""
        return f"https://127.0.0.1:{self.ports['apiserver']}"

    def etcd(self) -> list[str]:
        """etcd 3.6 without fsync: the data live as long as the cluster."""
        client, peer = f"https://127.0.0.1:{self.ports['etcd']}", f"http://127.0.0.1:{self.ports['etcd-peer']}"
        return [
            program("etcd"),
            "--name=test",
            f"--data-dir={self.folder}/etcd",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=test={peer}",
            f"--cert-file={self.keys.cert('etcd')}",
            f"--key-file={self.keys.key('etcd')}",
            "--client-cert-auth",
            f"--trusted-ca-file={self.keys.cert('ca')}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]

    def apiserver(self, *, node: bool, verify_kubelet: bool, flags: Sequence[str] = ()) -> list[str]:
        """`node`: the `kubernetes` Service gets an endpoint on the node's address. Later flags win over earlier ones."""
        k = self.keys
        command = [
            program("kube-apiserver"),
            f"--etcd-servers=https://127.0.0.1:{self.ports['etcd']}",
            f"--etcd-cafile={k.cert('ca')}",
            f"--etcd-certfile={k.cert('etcd-client')}",
            f"--etcd-keyfile={k.key('etcd-client')}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.ports['apiserver']}",
            f"--tls-cert-file={k.cert('apiserver')}",
            f"--tls-private-key-file={k.key('apiserver')}",
            f"--client-ca-file={k.cert('ca')}",
            f"--service-cluster-ip-range={SERVICE_CIDR}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={k.folder}/sa.pub",
            f"--service-account-signing-key-file={k.key('sa')}",
            "--authorization-mode=Node,RBAC",
            f"--kubelet-client-certificate={k.cert('kubelet-client')}",
            f"--kubelet-client-key={k.key('kubelet-client')}",
            "--kubelet-preferred-address-types=InternalIP,Hostname",
            "--allow-privileged=true",
            f"--cert-dir={self.folder}/apiserver",
            f"--advertise-address={NODE_ADDRESS if node else '127.0.0.1'}",
        ]
        if not node:
            command.append("--endpoint-reconciler-type=none")
        if verify_kubelet:
            command.append(f"--kubelet-certificate-authority={k.cert('ca')}")
        return [*command, *flags]

    def controllers(self, kubeconfig: Path) -> list[str]:
        """The controller manager, with room for thousands of pods a minute."""
        return [
            program("kube-controller-manager"),
            *self._client(kubeconfig, "controllers"),
            "--use-service-account-credentials",
            f"--service-account-private-key-file={self.keys.key('sa')}",
            f"--root-ca-file={self.keys.cert('ca')}",
            "--controllers=*,-nodeipam,-route,-service-lb-controller",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
            f"--flex-volume-plugin-dir={self.folder}/volume-plugins",
            "--concurrent-replicaset-syncs=20",
            "--concurrent-deployment-syncs=20",
        ]

    def scheduler(self, kubeconfig: Path) -> list[str]:
        """The scheduler."""
        return [program("kube-scheduler"), *self._client(kubeconfig, "scheduler"), "--kube-api-qps=500", "--kube-api-burst=1000"]

    def _client(self, kubeconfig: Path, name: str) -> list[str]:
        return [
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.ports[name]}",
            "--leader-elect=false",
            f"--cert-dir={self.folder}/{name}",
        ]

    def compact(self, revision: int) -> None:
        """Makes etcd forget all revisions before this one (its JSON gateway); a no-op where that is done already."""
        context = ssl.create_default_context(cafile=self.keys.cert("ca"))
        context.load_cert_chain(self.keys.cert("etcd-client"), self.keys.key("etcd-client"))
        connection = http.client.HTTPSConnection("127.0.0.1", self.ports["etcd"], context=context, timeout=30)
        try:
            connection.request(
                "POST",
                "/v3/kv/compaction",
                json.dumps({"revision": str(revision), "physical": True}),
                {"Content-Type": "application/json"},
            )
            answer = connection.getresponse()
            body = answer.read().decode()
            if answer.status != 200 and "has been compacted" not in body:
                raise RuntimeError(f"etcd compaction at {revision}: {answer.status} {body[:300]}")
        finally:
            connection.close()


def log_tail(processes: Processes, name: str, lines: int = 15) -> str:
    """The last lines a program printed, for error messages."""
    return "\n".join(processes.output(name).splitlines()[-lines:])
