"""A real node: containerd and a kubelet that joins the control plane, on this machine, as root.

The node's name is node1, its address 10.99.0.1 (an alias of the loopback device), its kubelet listens there on 10250 and, for
plain http, 10255. Pods get addresses of 10.245.0.0/24 on the bridge kofagent0.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.cluster import host
from tests.cluster.certificates import Keys
from tests.cluster.control_plane import NODE_ADDRESS, program

NODE = "node1"
BRIDGE = "kofagent0"
NETWORK = "kofagent-test"
POD_CIDR = "10.245.0.0/24"
DNS_SERVICE = "10.96.0.10"
KUBELET_PORT = 10250
READ_ONLY_PORT = 10255


def obstacles() -> list[str]:
    """Why a node cannot run on this machine; empty when it can."""
    found = []
    if os.geteuid() != 0:
        found.append("a node needs root")
    for name in ("containerd", "runc", "ip", "iptables"):
        if shutil.which(name) is None:
            found.append(f"{name} is not installed: run tests/servers/install.sh containerd")
    if not Path("/usr/lib/cni/bridge").exists():
        found.append("/usr/lib/cni/bridge is not there: run tests/servers/install.sh containerd")
    if not os.access("/proc/sys/vm/overcommit_memory", os.W_OK):
        found.append("/proc/sys is read-only")
    return found


class Node:
    """Commands and configuration files of a node. `folder` holds its data, `runtime` (short: sockets are in it) its state."""

    def __init__(self, folder: Path, runtime: Path, keys: Keys) -> None:
        self.folder = folder / "node"
        self.runtime = runtime
        self.keys = keys

    @property
    def socket(self) -> str:
        """containerd's socket."""
        return f"{self.runtime}/containerd.sock"

    def containerd(self) -> list[str]:
        """containerd with everything of its own: root, state, socket, network."""
        networks = self.folder / "cni"
        networks.mkdir(parents=True, exist_ok=True)
        self.runtime.mkdir(parents=True, exist_ok=True)
        (networks / "10-test.conflist").write_text(
            json.dumps(
                {
                    "cniVersion": "0.4.0",
                    "name": NETWORK,
                    "plugins": [
                        {
                            "type": "bridge",
                            "bridge": BRIDGE,
                            "isGateway": True,
                            "ipMasq": False,
                            "hairpinMode": True,
                            "ipam": {
                                "type": "host-local",
                                "dataDir": str(self.folder / "addresses"),
                                "ranges": [[{"subnet": POD_CIDR}]],
                                "routes": [{"dst": "0.0.0.0/0"}],
                            },
                        },
                        {"type": "portmap", "capabilities": {"portMappings": True}},
                    ],
                }
            )
        )
        config = self.folder / "containerd.toml"
        config.write_text(f"""version = 2
root = "{self.folder}/containerd"
state = "{self.runtime}/containerd"
[grpc]
address = "{self.socket}"
[ttrpc]
address = "{self.socket}.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
path = "{self.folder}/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/pause:1"
restrict_oom_score_adj = true
stream_server_address = "127.0.0.1"
stream_server_port = "0"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{networks}"
""")
        return [program("containerd"), "-c", str(config), "--log-level=warn"]

    def ctr(self, *arguments: str) -> str:
        """containerd's own client, in Kubernetes' namespace."""
        return host.run(program("ctr"), "-a", self.socket, "-n", "k8s.io", *arguments)

    def running(self) -> bool:
        """Whether containerd answers and knows its runtime service."""
        if not Path(self.socket).exists():
            return False
        done = subprocess.run([program("ctr"), "-a", self.socket, "plugins", "ls"], capture_output=True, text=True, check=False)
        return any(
            line.split()[:2] == ["io.containerd.grpc.v1", "cri"] and line.split()[-1] == "ok" for line in done.stdout.splitlines()
        )

    def import_image(self, archive: Path) -> None:
        """Makes a docker-archive known to the kubelet."""
        self.ctr("images", "import", str(archive))

    def make_keys(self, certificate: str) -> None:
        """The kubelet's certificates. `certificate` of its server: signed (by the cluster's CA, with the address),
        no-address (signed, names only), self-signed (as on kind)."""
        self.keys.issue("node-client", f"/O=system:nodes/CN=system:node:{NODE}")
        names = [f"DNS:{NODE}", "DNS:localhost"]
        if certificate == "self-signed":
            self.keys.self_signed("kubelet", f"/CN={NODE}-ca", names)
        else:
            self.keys.issue(
                "kubelet",
                f"/O=system:nodes/CN=system:node:{NODE}",
                names if certificate == "no-address" else [*names, f"IP:{NODE_ADDRESS}", "IP:127.0.0.1"],
            )

    def kubelet(self, kubeconfig: Path, options: dict[str, Any]) -> list[str]:
        """The kubelet; `options` are laid over its configuration."""
        self.folder.mkdir(parents=True, exist_ok=True)
        resolv = self.folder / "resolv.conf"
        resolv.write_text("")
        config = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": NODE_ADDRESS,
            "port": KUBELET_PORT,
            "readOnlyPort": READ_ONLY_PORT,
            "healthzBindAddress": "127.0.0.1",
            "healthzPort": 10248,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True, "cacheTTL": "5s"},
                "x509": {"clientCAFile": self.keys.cert("ca")},
            },
            "authorization": {"mode": "Webhook", "webhook": {"cacheAuthorizedTTL": "5s", "cacheUnauthorizedTTL": "1s"}},
            "tlsCertFile": self.keys.cert("kubelet"),
            "tlsPrivateKeyFile": self.keys.key("kubelet"),
            "containerRuntimeEndpoint": f"unix://{self.socket}",
            "cgroupDriver": "cgroupfs",
            "cgroupsPerQOS": True,
            "enforceNodeAllocatable": [],
            "failSwapOn": False,
            "failCgroupV1": False,
            "makeIPTablesUtilChains": False,
            "containerLogMaxSize": "1Mi",
            "containerLogMaxFiles": 3,
            "containerLogMonitorInterval": "3s",
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "clusterDNS": [DNS_SERVICE],
            "clusterDomain": "cluster.local",
            "resolvConf": str(resolv),
            "volumePluginDir": str(self.folder / "volume-plugins"),
            "nodeStatusUpdateFrequency": "5s",
            "syncFrequency": "10s",
            "serializeImagePulls": False,
            "staticPodPath": str(self.folder / "static"),
            **options,
        }
        (self.folder / "static").mkdir(exist_ok=True)
        path = self.folder / "kubelet.yaml"
        path.write_text(json.dumps(config, indent=1))
        return [
            program("kubelet"),
            f"--config={path}",
            f"--kubeconfig={kubeconfig}",
            f"--hostname-override={NODE}",
            f"--node-ip={NODE_ADDRESS}",
            f"--root-dir={self.folder}/kubelet",
            f"--cert-dir={self.folder}/certs",
            "--register-node=true",
            f"--containerd={self.socket}",
        ]
