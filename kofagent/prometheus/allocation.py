"""Who scrapes what: every target by exactly one agent, decided by each agent alone from the target's own labels.

- `per-node` (the agent of a node): targets on that node. The node of a target is that of its pod, else of its endpoint, else
  the node that it is (`role: node`). A loopback address without a node is the agent's own host, unless it is what a prober
  asks for or the host of an ingress.
- `without-node` (the agent of the cluster): what has no node: the API server, services, ingresses, static and external
  addresses, probes. Not its own loopback addresses.
- `all`: every target; for an agent that is alone.

`target_limit` counts the targets of a job that this agent scrapes, since no agent knows of all of them.

Nothing is handed over or asked of others, so the targets of an agent that stops are not scraped until it is back: a node without
an agent is not scraped, as with the per-node strategy of the target allocator. A target that moves (an endpoint without a pod, a
pod that is made again elsewhere with its name and address) is scraped by the other agent at the same moment of every interval,
for that follows from its labels: at most one scrape is missed or made twice, when the moment falls between the one agent's
hearing of the change and the other's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Literal

Strategy = Literal["all", "per-node", "without-node"]
Labels = Mapping[str, str]
_NODE_LABELS = (
    "__meta_kubernetes_pod_node_name",
    "__meta_kubernetes_endpointslice_endpoint_node_name",
    "__meta_kubernetes_endpoint_node_name",
    "__meta_kubernetes_node_name",
)
_REFERENCES = (
    ("__meta_kubernetes_endpointslice_address_target_kind", "__meta_kubernetes_endpointslice_address_target_name"),
    ("__meta_kubernetes_endpoint_address_target_kind", "__meta_kubernetes_endpoint_address_target_name"),
)
_INGRESS = "__meta_kubernetes_ingress_host"


def node_of(target: Labels, group: Labels | None = None) -> str:
    """The node of a target as it was discovered, empty when it has none. Labels of the target win over those of its group."""
    for name in _NODE_LABELS:
        node = target.get(name) or (group.get(name) if group else None)
        if node:
            return node
    for kind, name in _REFERENCES:
        if target.get(kind) == "Node":
            return target.get(name, "")
    return ""


def is_loopback(address: str) -> bool:
    """Whether `host:port` (or a host) is this machine for every client."""
    host = address[1:].partition("]")[0] if address.startswith("[") else address.rpartition(":")[0] or address
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Allocation:
    """The part of all targets that one agent scrapes. `node` is the agent's own, used with `per-node`.

    `probes`: the addresses are what a prober asks for, so that a loopback address is not the agent's own host.
    """

    __slots__ = ("node", "probes", "strategy")

    def __init__(self, strategy: Strategy = "all", node: str = "", *, probes: bool = False) -> None:
        if strategy == "per-node" and not node:
            raise ValueError("strategy per-node needs the name of the node")
        self.strategy = strategy
        self.node = node
        self.probes = probes

    def of_probes(self) -> Allocation:
        """The same for targets that are what a prober asks for."""
        return Allocation(self.strategy, self.node, probes=True)

    def mine(self, target: Labels, group: Labels | None = None) -> bool:
        """Whether this agent scrapes a target with these labels before relabelling."""
        if self.strategy == "all":
            return True
        node = node_of(target, group)
        if not node and not self.probes and _INGRESS not in target and is_loopback(target.get("__address__", "")):
            return self.strategy == "per-node"
        return node == self.node if self.strategy == "per-node" else not node

    def takes_node(self, node: str) -> bool:
        """Whether this agent has targets on a node at all."""
        return self.strategy == "all" or (self.strategy == "per-node" and node == self.node)
