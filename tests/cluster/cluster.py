"""A Kubernetes cluster on this machine: a real control plane, kwok's fake nodes and pods, a real node with real containers.

    with Cluster(tmp_path / "cluster", kubelet=True) as cluster:
        cluster.kubectl("get", "nodes")

Leaving the block stops everything and puts the machine back as it was; after a crash `Cluster.sweep()` (done by every start) or
`python -m tests.cluster down` does. What is started and changed is on disk (record.py), so any process can stop any cluster.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.cluster import fakes, host, images
from tests.cluster.api import APPLY_PATCH, Api, ApiError
from tests.cluster.certificates import Keys
from tests.cluster.control_plane import API_SERVICE, NODE_ADDRESS, SERVICE_CIDR, ControlPlane, log_tail, make_keys, program
from tests.cluster.node import NODE, Node, obstacles
from tests.cluster.processes import Processes
from tests.cluster.record import REGISTRY, Record, boot_id, registry_lock, start_time

DEFAULT_FOLDER = REGISTRY / "default"
FAKE_NAMESPACE = "fake"


class Cluster:
    """One cluster with its state in `folder` (made, and removed at the end).

    controllers, scheduler   run kube-controller-manager and kube-scheduler (off: ready a little sooner, pods stay Pending)
    kubelet                  a real node: containerd and a kubelet; needs root, one at a time on a machine
    services                 cluster addresses and DNS for the real node (a small proxy instead of kube-proxy and CoreDNS)
    fake_nodes, fake_pods    kept by kwok; the pods belong to Deployments in the namespace `fake`
    apiserver_flags          more flags, as --min-request-timeout=60
    kubelet_options          laid over the KubeletConfiguration
    kubelet_certificate      signed (with the node's address), no-address (signed, names only), self-signed (as on kind)
    """

    def __init__(
        self,
        folder: Path = DEFAULT_FOLDER,
        *,
        controllers: bool = True,
        scheduler: bool = True,
        kubelet: bool = False,
        services: bool = True,
        fake_nodes: int = 0,
        fake_pods: int = 0,
        apiserver_flags: Sequence[str] = (),
        kubelet_options: dict[str, Any] | None = None,
        kubelet_certificate: str = "signed",
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self.options: dict[str, Any] = {
            "controllers": controllers,
            "scheduler": scheduler,
            "kubelet": kubelet,
            "services": services,
            "fake_nodes": fake_nodes,
            "fake_pods": fake_pods,
            "apiserver_flags": list(apiserver_flags),
            "kubelet_options": kubelet_options or {},
            "kubelet_certificate": kubelet_certificate,
        }
        self._began = time.monotonic()
        self._say = say or (lambda line: print(line, flush=True))
        self._load()

    def _load(self) -> None:
        self._record = Record(self.folder)
        self.options = self._record.data.get("options", self.options)
        self.processes = Processes(self._record)
        self.keys = Keys(self.folder / "keys")
        self.control_plane = ControlPlane(self.folder, self.keys, self._record.data.get("ports", {}))
        self.node = Node(self.folder, Path(f"/run/kofagent-{self._record.id}"), self.keys)
        self._api: Api | None = None
        self.leftovers: list[str] = []  # what `down` could not put back, for people and tests

    # -- starting and stopping ------------------------------------------------------------------------------------------------

    def say(self, message: str) -> None:
        """Progress, with the seconds since the cluster was asked for."""
        self._say(f"{time.monotonic() - self._began:6.1f} s  {message}")

    def __enter__(self) -> Self:
        self.up(owned=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.down(keep_logs=kind is not None)

    def up(self, *, owned: bool = False) -> None:
        """Starts everything and returns when it is ready. `owned`: the cluster is left over when this process has gone."""
        self._began = time.monotonic()
        if self.options["kubelet"] and (reasons := obstacles()):
            raise RuntimeError("no real node here: " + "; ".join(reasons))
        self.sweep(self.say)
        if self._record.exists:
            raise RuntimeError(f"there is a cluster in {self.folder} already: python -m tests.cluster down --folder {self.folder}")
        if self.folder.exists() and any(path.name != "logs" for path in self.folder.iterdir()):
            raise RuntimeError(f"{self.folder} is not empty")
        self._claim(owned)
        try:
            self._start()
        except BaseException:
            self.down(keep_logs=True)
            raise
        self.say(f"ready: KUBECONFIG={self.kubeconfig}")

    def _claim(self, owned: bool, patience: float = 900) -> None:
        """Records the cluster; waits while another one has the machine's node."""
        deadline, told = time.monotonic() + patience, False
        while True:
            with registry_lock():
                holders = (
                    [record for record in Record.all() if record.data["options"]["kubelet"]] if self.options["kubelet"] else []
                )
                if not holders:
                    self._record.data |= {
                        "options": self.options,
                        "boot": boot_id(),
                        "ports": ControlPlane.choose_ports(),
                        "host": host.snapshot() if self.options["kubelet"] else {},
                    }
                    self._record.data["owner"] = {"pid": os.getpid(), "started": start_time(os.getpid())} if owned else None
                    self._record.save()
                    break
            if time.monotonic() > deadline:
                raise RuntimeError(f"the machine's node is in use by the cluster in {holders[0].folder}")
            if not told:
                self.say(f"waiting: the machine's node is in use by the cluster in {holders[0].folder}")
                told = True
            time.sleep(1)
            self.sweep(self.say)
        self._load()

    def _start(self) -> None:
        options = self.options
        self.folder.mkdir(parents=True, exist_ok=True)
        make_keys(self.keys)
        self._write_kubeconfig(self.kubeconfig, "admin")
        self.say("keys made")
        if options["kubelet"]:
            host.add_address(self._record, f"{NODE_ADDRESS}/32")
            self.processes.start("containerd", self.node.containerd(), {"TMPDIR": str(self.folder)})
        self.processes.start("etcd", self.control_plane.etcd())
        self.processes.start(
            "kube-apiserver",
            self.control_plane.apiserver(
                node=options["kubelet"], verify_kubelet=options["kubelet_certificate"] == "signed", flags=options["apiserver_flags"]
            ),
        )
        self._wait("kube-apiserver", self._api_ready)
        self.say("kube-apiserver ready")
        if options["controllers"]:
            self.processes.start("kube-controller-manager", self.control_plane.controllers(self.kubeconfig))
        if options["scheduler"]:
            self.processes.start("kube-scheduler", self.control_plane.scheduler(self.kubeconfig))
        self.namespace("default")
        if options["controllers"]:
            self.say("kube-controller-manager ready")
        if options["scheduler"]:
            self._wait("kube-scheduler", lambda: _healthy(self.control_plane.ports["scheduler"]))
        if options["kubelet"]:
            self._start_node()
        if options["fake_nodes"]:
            self._start_fakes()

    def _start_node(self) -> None:
        self._wait("containerd", self.node.running)
        for archive in (*images.busybox(self.folder), images.hostroot(self.folder)):
            self.import_image(archive)
        self.say("containerd ready, images imported")
        if self.options["services"]:
            host.add_local_range(self._record, SERVICE_CIDR)
            self._start_services()
        self.node.make_keys(self.options["kubelet_certificate"])
        kubeconfig = self.folder / "node.kubeconfig"
        self._write_kubeconfig(kubeconfig, "node-client")
        self.processes.start("kubelet", self.node.kubelet(kubeconfig, self.options["kubelet_options"]))
        self._wait("kubelet", lambda: self._node_ready(NODE), 120)
        self.say(f"node {NODE} Ready at {NODE_ADDRESS}")

    def _start_services(self) -> None:
        """The proxy and name server on the cluster's addresses; also the API server's port on the node's address."""
        self.processes.start(
            "services", [sys.executable, "-m", "tests.cluster.services", str(self.kubeconfig)], {"PYTHONPATH": str(images.CHECKOUT)}
        )
        self._wait("services", lambda: _connects(API_SERVICE, 443))

    def _start_fakes(self) -> None:
        command, _ = fakes.command(self.folder, self.kubeconfig)
        self.processes.start("kwok", command)
        nodes, pods = self.options["fake_nodes"], self.options["fake_pods"]
        self.namespace(FAKE_NAMESPACE)
        fakes.create_nodes(self.api, nodes)
        self._wait("kwok", lambda: self._fake_nodes_ready() >= nodes, 120)
        self.say(f"{nodes} fake nodes Ready")
        if pods:
            fakes.create_pods(self.api, pods, nodes, FAKE_NAMESPACE)
            self._wait("kwok", lambda: fakes.running(self.api, FAKE_NAMESPACE) >= pods, 120 + pods / 10)
            self.say(f"{pods} fake pods Running")

    def down(self, *, keep_logs: bool = False) -> None:
        """Stops everything and puts the machine back. Works on the leftovers of a crash, and does nothing where there is nothing."""
        if not self._record.exists:
            return
        self._load()
        if self._record.this_boot:
            self.processes.stop("kubelet", seconds=5)  # or it would start its containers again
            for name in self.processes.names():
                if name not in ("containerd", "kubelet"):
                    self.processes.stop(name, polite=False)
            if self._record.data["host"]:
                host.kill_containers(self._record, self.node.socket)
            self.processes.stop("containerd", seconds=5)
            if self._record.data["host"]:
                host.kill_containers(self._record, self.node.socket)
                host.unmount(str(self.folder), str(self.node.runtime))
        if keep_logs and self._record.data["host"] and Path("/var/log/pods").is_dir():
            known = self._record.data["host"]["entries"].get("/var/log/pods", [])
            shutil.copytree(
                "/var/log/pods",
                self.folder / "logs" / "pods",
                symlinks=True,
                dirs_exist_ok=True,
                ignore=lambda folder, names: known if folder == "/var/log/pods" else [],
            )
        host.restore(self._record)
        if self._record.data["host"] and self.node.runtime.exists():
            host.remove_tree(self.node.runtime)
        for path in self.folder.iterdir() if self.folder.exists() else []:
            if path.name == "logs" and keep_logs:
                continue
            host.remove_tree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        if not keep_logs and self.folder.exists():
            self.folder.rmdir()
        self.leftovers = host.differences(self._record)  # while nobody else may start a node
        self._record.remove()
        for line in self.leftovers:
            self.say(f"not as before: {line}")
        self.say("stopped and cleaned" + (f"; logs stay in {self.folder}/logs" if keep_logs else ""))

    @classmethod
    def sweep(cls, say: Callable[[str], None] | None = None) -> int:
        """Removes what crashed processes left; how many clusters."""
        count = 0
        with registry_lock():
            for record in Record.all():
                if record.abandoned:
                    if say is not None:
                        say(f"removing what was left of the cluster in {record.folder}")
                    cls(record.folder, say=lambda line: None).down()
                    count += 1
        return count

    # -- what a test does with it ---------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether there is a cluster and its API server runs."""
        return self._record.exists and self.processes.pid("kube-apiserver") is not None

    @property
    def url(self) -> str:
        """The API server, as https://127.0.0.1:port."""
        return self.control_plane.url

    @property
    def ca(self) -> Path:
        """The CA certificate of everything in the cluster."""
        return Path(self.keys.cert("ca"))

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig; it holds all it needs."""
        return self.folder / "kubeconfig"

    @property
    def api(self) -> Api:
        """The API as administrator."""
        if self._api is None:
            self._api = Api(self.kubeconfig)
        return self._api

    def kubectl(self, *arguments: str, text: str | None = None, check: bool = True) -> str:
        """kubectl's output as administrator, with `text` on its input; RuntimeError with its message when it fails."""
        done = subprocess.run(
            [program("kubectl"), *arguments],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
        )
        if check and done.returncode:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout if check else done.stdout + done.stderr

    def apply(self, *objects: dict[str, Any]) -> None:
        """Creates or changes objects."""
        self.kubectl(
            "apply",
            "--server-side",
            "--force-conflicts",
            "-f",
            "-",
            text=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}),
        )

    def namespace(self, name: str) -> str:
        """Makes a namespace that takes pods (its default ServiceAccount exists); its name."""
        status, body = self.api.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        if status not in (201, 409):
            raise ApiError("POST", "/api/v1/namespaces", status, body)
        accounts = f"/api/v1/namespaces/{name}/serviceaccounts"
        if self.options["controllers"]:
            self._wait("kube-controller-manager", lambda: self.api.request("GET", f"{accounts}/default")[0] == 200)
        else:
            self._wait(
                "kube-apiserver", lambda: self.api.request("POST", accounts, {"metadata": {"name": "default"}})[0] in (201, 409)
            )
        return name

    def service_account(self, namespace: str, name: str, rules: Sequence[dict[str, Any]] = ()) -> None:
        """Makes a ServiceAccount that may do `rules` (of a ClusterRole) everywhere."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}"
        self._apply_one(path, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}})
        if not rules:
            return
        full, group = f"{namespace}-{name}", "rbac.authorization.k8s.io"
        base = f"/apis/{group}/v1"
        self._apply_one(
            f"{base}/clusterroles/{full}",
            {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": full}, "rules": list(rules)},
        )
        self._apply_one(
            f"{base}/clusterrolebindings/{full}",
            {
                "apiVersion": f"{group}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": full},
                "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": full},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
            },
        )

    def _apply_one(self, path: str, body: dict[str, Any]) -> None:
        self.api.call("PATCH", f"{path}?fieldManager=tests&force=true", body, content=APPLY_PATCH)

    def token(self, namespace: str, account: str, *, seconds: int = 3600, audiences: Sequence[str] = ()) -> str:
        """A token of a ServiceAccount (at least 600 s); it is void once the account is deleted."""
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds, "audiences": list(audiences)},
        }
        answer = self.api.call("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token", body)
        return str(answer["status"]["token"])

    def kubeconfig_of(self, namespace: str, account: str) -> Path:
        """A kubeconfig with a fresh token of a ServiceAccount."""
        path = self.folder / f"{namespace}-{account}.kubeconfig"
        config = self.keys.kubeconfig(self.url, account, token=self.token(namespace, account), namespace=namespace)
        path.touch(mode=0o600)
        path.write_text(json.dumps(config, indent=1))
        return path

    def mounted_token(self, folder: Path, namespace: str, account: str) -> Path:
        """A folder as /var/run/secrets/kubernetes.io/serviceaccount in a pod: token, ca.crt, namespace."""
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.ca, folder / "ca.crt")
        (folder / "namespace").write_text(namespace)
        part = folder / "token.part"
        part.write_text(self.token(namespace, account))
        part.replace(folder / "token")
        return folder

    def restart(self, name: str) -> None:
        """Restarts a program (kube-apiserver, kubelet, ...) and waits for it."""
        self.stop(name)
        self.resume(name)

    def stop(self, name: str) -> None:
        """Stops a program; `resume` starts it again. An API server with open watches would take a minute: it gets 3 s."""
        self.processes.stop(name, seconds=3 if name == "kube-apiserver" else 20)

    def resume(self, name: str) -> None:
        """Starts a stopped program again and waits for it."""
        self.processes.resume(name)
        self._ready_again(name)

    def _ready_again(self, name: str) -> None:
        if name in ("kube-apiserver", "etcd"):
            self._wait("kube-apiserver", self._api_ready)
        elif name == "kubelet":
            self._wait(name, lambda: _healthy(10248, "http"))
        elif name == "containerd":
            self._wait(name, self.node.running)

    def expire(self) -> int:
        """Makes every older resourceVersion and `continue` token answer 410: compacts etcd and restarts the API server (its watch
        cache would still serve them). The resourceVersion from which on everything is known."""
        revision = int(self.api.get("/api/v1/namespaces?limit=1")["metadata"]["resourceVersion"])
        self.control_plane.compact(revision)
        self.restart("kube-apiserver")
        return revision

    def wait_for(self, what: str, condition: Callable[[], Any], seconds: float = 60) -> Any:
        """Polls until `condition()` is true and returns it; errors of the API count as not yet."""
        return self._wait("kube-apiserver", condition, seconds, what)

    def pods(self, namespace: str, selector: str = "") -> list[dict[str, Any]]:
        """The pods of a namespace."""
        found: list[dict[str, Any]] = self.api.get(f"/api/v1/namespaces/{namespace}/pods?labelSelector={selector}")["items"]
        return found

    def wait_running(self, namespace: str, selector: str = "", *, count: int = 1, seconds: float = 90) -> list[dict[str, Any]]:
        """Waits until `count` pods are Running with all containers ready; the pods."""

        def ready() -> list[dict[str, Any]]:
            found = [
                pod
                for pod in self.pods(namespace, selector)
                if pod["status"].get("phase") == "Running"
                and all(status["ready"] for status in pod["status"].get("containerStatuses", []))
            ]
            return found if len(found) >= count else []

        try:
            done: list[dict[str, Any]] = self.wait_for(f"{count} running pods in {namespace}", ready, seconds)
        except RuntimeError as error:
            detail = self.kubectl("describe", "pods", "-n", namespace, "-l", selector, check=False)
            raise RuntimeError(f"{error}\n{detail[-3000:]}") from None
        return done

    def import_image(self, archive: Path) -> None:
        """Makes a docker-archive (images.py) known to the real node, and removes the file."""
        self.node.import_image(archive)
        archive.unlink()

    def import_agent(self, tag: str = images.AGENT, archive: Path | None = None) -> None:
        """Builds the agent's image from this checkout under this name and makes it known to the real node: some seconds.

        With an archive (`docker save`, `buildah push`), or the path of one in KOFAGENT_CLUSTER_IMAGE, that image instead, plus busybox.
        """
        built = archive or (Path(path) if (path := os.environ.get(images.BUILT, "")) else None)
        self.import_image(images.of_archive(self.folder, tag, built) if built else images.agent(self.folder, tag))
        self.say(f"image {tag} imported" + (f" from {built}" if built else ""))

    def import_program(self, name: str, tag: str) -> None:
        """Makes an image with one program (of install.sh or of PATH) known to the real node under this name."""
        self.import_image(images.of_program(self.folder, tag, Path(program(name))))
        self.say(f"image {tag} imported")

    def status(self) -> list[str]:
        """Lines for people."""
        if not self._record.exists:
            return [f"no cluster in {self.folder}"]
        lines = [f"cluster in {self.folder}" + (" (left over by a process that has gone)" if self._record.abandoned else "")]
        for name in self.processes.names():
            pid = self.processes.pid(name)
            lines.append(f"  {name:24} {f'running, pid {pid}' if pid else 'not running'}   {self.folder}/logs/{name}.log")
        if self.running:
            lines.append(f"  API {self.url}   KUBECONFIG={self.kubeconfig}")
            try:
                nodes = self.api.get("/api/v1/nodes?resourceVersion=0")["items"]
                pods = self.api.get("/api/v1/pods?resourceVersion=0")["items"]
            except (OSError, ApiError) as error:  # starting or stopping
                return [*lines, f"  it does not answer now: {error}"]
            lines.append(
                f"  {sum(map(_is_ready, nodes))} of {len(nodes)} nodes Ready, "
                f"{sum(pod['status'].get('phase') == 'Running' for pod in pods)} of {len(pods)} pods Running"
            )
        return lines

    # -- readiness ------------------------------------------------------------------------------------------------------------

    def _api_ready(self) -> bool:
        return self.api.request("GET", "/readyz")[0] == 200

    def _node_ready(self, name: str) -> bool:
        status, node = self.api.request("GET", f"/api/v1/nodes/{name}")
        return status == 200 and _is_ready(node)

    def _fake_nodes_ready(self) -> int:
        return sum(map(_is_ready, self.api.get("/api/v1/nodes?labelSelector=type%3Dfake&resourceVersion=0")["items"]))

    def _write_kubeconfig(self, path: Path, user: str) -> None:
        path.touch(mode=0o600)
        path.write_text(json.dumps(self.keys.kubeconfig(self.url, user), indent=1))

    def _wait(self, name: str, condition: Callable[[], Any], seconds: float = 60, what: str = "") -> Any:
        """Polls `condition`; RuntimeError with the end of the program's log when it dies or is not ready in time."""
        deadline = time.monotonic() + seconds
        last: object = None
        while True:
            try:
                last = condition()
                if last:
                    return last
            except (OSError, ValueError, KeyError, IndexError, ApiError) as error:
                last = error
            dead = self.processes.pid(name) is None
            if dead or time.monotonic() > deadline:
                reason = (
                    f"{name} has ended" if dead else f"{what or name + ' ready'}: not within {seconds:.0f} s (last: {last!r:.300})"
                )
                if what and not dead:
                    raise RuntimeError(reason)
                raise RuntimeError(f"{reason}; {self.folder}/logs/{name}.log ends with:\n{log_tail(self.processes, name)}")
            time.sleep(0.1)


def _is_ready(node: dict[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", []))


def _healthy(port: int, scheme: str = "https") -> bool:
    import urllib.request

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = (
        False,
        ssl.CERT_NONE,
    )  # a program of ours on loopback with a certificate of its own
    with urllib.request.urlopen(f"{scheme}://127.0.0.1:{port}/healthz", timeout=2, context=context) as answer:
        return bool(answer.status == 200)


def _connects(address: str, port: int) -> bool:
    with socket.create_connection((address, port), 1):
        return True
