"""Which node of a cluster this machine is, when it is not told: the kubelet reports its machine's ids to the API."""

from __future__ import annotations

from pathlib import Path

from kofagent.kubernetes.client import ApiClient
from kofagent.kubernetes.resources import NODES

_MACHINE_ID = ("/etc/machine-id", "/var/lib/dbus/machine-id")
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


async def own_node(client: ApiClient, name: str = "") -> str | None:
    """The name of the node that runs on this machine, None when none does. With `name` only that node is asked for.

    Both the machine's id and that of its boot must be the node's: containers that are nodes (kind) have their machine's boot but an
    separate id, clones of a virtual machine the other way round. Without a machine id there is no id for its kubelet either.
    ApiError when the nodes cannot be read.
    """
    machine, boot = _first(*_MACHINE_ID), _first(_BOOT_ID)
    if not boot:
        return None  # not Linux
    if name:
        nodes = [await client.get_object(NODES, name)]
        return name if _is(nodes[0], machine, boot) else None
    async for page in client.list_pages(NODES):
        for node in page.items:
            if _is(node, machine, boot):
                return str(node["metadata"]["name"])
    return None


def _is(node: dict[str, object], machine: str, boot: str) -> bool:
    status = node.get("status")
    said = status.get("nodeInfo") if isinstance(status, dict) else None
    return isinstance(said, dict) and said.get("machineID") == machine and said.get("bootID") == boot


def _first(*paths: str) -> str:
    """The content of the first file that exists, stripped; "" without one."""
    for path in paths:
        try:
            return Path(path).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            continue
    return ""
