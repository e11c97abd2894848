"""A real Kubernetes on this machine, from the command line.

examples:
  python -m tests.cluster up                                   # etcd, API server, controllers, scheduler: some seconds
  python -m tests.cluster up --fake-nodes 200 --fake-pods 5000 # and kwok
  python -m tests.cluster up --kubelet                         # and a node with real containers (root)
  export KUBECONFIG=$(python -m tests.cluster kubeconfig)
  kubectl get nodes
  python -m tests.cluster down

The programs come from tests/servers/install.sh kubernetes kwok containerd.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tests.cluster import agent, images
from tests.cluster.cluster import DEFAULT_FOLDER, Cluster
from tests.cluster.control_plane import program
from tests.cluster.record import Record


def parser() -> argparse.ArgumentParser:
    """The command line."""
    main = argparse.ArgumentParser(
        prog="python -m tests.cluster", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = main.add_subparsers(dest="command", required=True, metavar="command")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=text, description=text)
        found.add_argument(
            "--folder", type=Path, default=DEFAULT_FOLDER, help="where the cluster's state is (default: %(default)s)"
        )
        return found

    up = add("up", "start a cluster and return when it is ready")
    up.add_argument("--kubelet", action="store_true", help="a real node with containerd; needs root, one per machine")
    up.add_argument("--kubelet-certificate", choices=["signed", "no-address", "self-signed"], default="signed")
    up.add_argument("--fake-nodes", type=int, default=0, metavar="N", help="nodes kept by kwok")
    up.add_argument("--fake-pods", type=int, default=0, metavar="N", help="pods on them")
    up.add_argument("--no-controllers", dest="controllers", action="store_false", help="without kube-controller-manager")
    up.add_argument("--no-scheduler", dest="scheduler", action="store_false", help="without kube-scheduler")
    down = add("down", "stop the cluster and put the machine back; also after a crash")
    down.add_argument("--all", action="store_true", help="every cluster of this machine, and what crashed ones left")
    add("status", "what runs, in every cluster of this machine")
    config = add("kubeconfig", "print the path of a kubeconfig")
    config.add_argument("--service-account", metavar="NAMESPACE/NAME", help="of a ServiceAccount instead of the administrator")
    restart = add("restart", "restart one program")
    restart.add_argument("name", help="kube-apiserver, etcd, kubelet, containerd, kwok, ...")
    add("expire", "make every older resourceVersion answer 410: compact etcd, restart the API server")
    image = add("image", "build the agent's image from this checkout, or one of a program, and import it into the real node")
    image.add_argument(
        "--program", metavar="NAME", help="of this program instead, as kube-state-metrics or prometheus-node-exporter"
    )
    image.add_argument(
        "--archive", type=Path, metavar="FILE", help="of this docker-archive instead (docker save, buildah push), plus busybox"
    )
    image.add_argument("--tag", default=images.AGENT, help="name of the image (default: %(default)s)")
    run = add("agent", "run `kofagent ARGUMENTS` as a DaemonSet pod from this checkout, in the namespace kof")
    run.add_argument("--config", type=Path, help="a file that the pod sees as /conf/<its name>")
    run.add_argument("arguments", nargs=argparse.REMAINDER, help="after --, for example: -- run --config /conf/otel.yaml")
    kubectl = add("kubectl", "run kubectl as administrator")
    kubectl.add_argument("arguments", nargs=argparse.REMAINDER)
    return main


def _rest(options: argparse.Namespace) -> list[str]:
    """The arguments meant for another program."""
    rest: list[str] = options.arguments
    return rest[1:] if rest[:1] == ["--"] else rest


def _up(options: argparse.Namespace) -> None:
    cluster = Cluster(
        options.folder,
        kubelet=options.kubelet,
        kubelet_certificate=options.kubelet_certificate,
        controllers=options.controllers,
        scheduler=options.scheduler,
        fake_nodes=options.fake_nodes,
        fake_pods=options.fake_pods,
    )
    cluster.up()
    print(f"export KUBECONFIG={cluster.kubeconfig}")


def _down(options: argparse.Namespace) -> None:
    Cluster.sweep(print)
    folders = [record.folder for record in Record.all()] if options.all else [options.folder]
    for folder in folders:
        Cluster(folder).down()


def _kubeconfig(cluster: Cluster, account: str | None) -> None:
    if account is None:
        print(cluster.kubeconfig)
        return
    namespace, _, name = account.partition("/")
    print(cluster.kubeconfig_of(namespace, name))


def _agent(cluster: Cluster, options: argparse.Namespace) -> None:
    arguments = _rest(options)
    files = {options.config.name: options.config.read_text()} if options.config else None
    cluster.namespace("kof")
    cluster.apply(*agent.daemon_set("kof", arguments, files=files, rules=agent.NODE_RULES))
    pod = cluster.wait_running("kof", "app=kofagent")[0]
    print(f"running as kof/{pod['metadata']['name']}")


def main() -> int:
    """Runs one command; the exit status."""
    options = parser().parse_args()
    if options.command == "up":
        _up(options)
    elif options.command == "down":
        _down(options)
    elif options.command == "status":
        for folder in [record.folder for record in Record.all()] or [options.folder]:
            print("\n".join(Cluster(folder).status()))
    else:
        cluster = Cluster(options.folder)
        if not cluster.running:
            print(f"no cluster runs in {options.folder}: python -m tests.cluster up", file=sys.stderr)
            return 1
        if options.command == "kubeconfig":
            _kubeconfig(cluster, options.service_account)
        elif options.command == "restart":
            cluster.restart(options.name)
        elif options.command == "expire":
            print(f"resourceVersions before {cluster.expire()} answer 410")
        elif options.command == "image":
            if options.program:
                cluster.import_program(options.program, options.tag)
            else:
                cluster.import_agent(options.tag, options.archive)
        elif options.command == "agent":
            _agent(cluster, options)
        elif options.command == "kubectl":
            os.execve(program("kubectl"), ["kubectl", *_rest(options)], {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)})
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RuntimeError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
