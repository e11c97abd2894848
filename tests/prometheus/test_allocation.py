"""Every target is scraped by exactly one agent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kofagent.prometheus.allocation import Allocation, is_loopback, node_of

M = "__meta_kubernetes_"
NODES = ("n1", "n2", "n3")
NAMES = [
    M + "pod_node_name",
    M + "endpoint_node_name",
    M + "endpointslice_endpoint_node_name",
    M + "node_name",
    M + "endpoint_address_target_kind",
    M + "endpoint_address_target_name",
    M + "endpointslice_address_target_kind",
    M + "endpointslice_address_target_name",
    M + "service_name",
]


@pytest.mark.parametrize(
    ("labels", "node"),
    [
        ({M + "pod_node_name": "n1", M + "endpoint_node_name": "n2"}, "n1"),
        ({M + "endpoint_node_name": "n2"}, "n2"),
        ({M + "endpointslice_endpoint_node_name": "n2"}, "n2"),
        ({M + "node_name": "n3"}, "n3"),
        ({M + "endpointslice_address_target_kind": "Node", M + "endpointslice_address_target_name": "n1"}, "n1"),
        ({M + "endpoint_address_target_kind": "Node", M + "endpoint_address_target_name": "n1"}, "n1"),
        ({M + "endpoint_address_target_kind": "Pod", M + "endpoint_address_target_name": "p"}, ""),
        ({}, ""),
    ],
)
def test_the_node_of_a_target(labels: dict[str, str], node: str) -> None:
    assert node_of(labels) == node


def test_labels_of_the_group_count() -> None:
    assert node_of({"__address__": "a"}, {M + "pod_node_name": "n1"}) == "n1"
    assert Allocation("per-node", "n1").mine({"__address__": "a"}, {M + "pod_node_name": "n1"})


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("localhost:9100", True),
        ("127.0.0.1:80", True),
        ("[::1]:80", True),
        ("localhost", True),
        ("127.3.2.1", True),
        ("::1", False),
        ("10.0.0.1:80", False),
        ("localhost.example:80", False),
        ("", False),
        ("[::2]:1", False),
    ],
)
def test_loopback(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected


@given(
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from([*NODES, "Node", "Pod", ""])),
    st.sampled_from(["10.0.0.1:80", "example:443", "[fd00::1]:1"]),
)
def test_exactly_one_agent_scrapes_a_target(labels: dict[str, str], address: str) -> None:
    target = {**labels, "__address__": address}
    agents = [*(Allocation("per-node", node) for node in (*NODES, "Node", "Pod")), Allocation("without-node")]
    assert sum(agent.mine(target) for agent in agents) == 1
    assert Allocation().mine(target)


def test_a_loopback_address_is_every_nodes_own() -> None:
    target = {"__address__": "localhost:9100"}
    assert Allocation("per-node", "n1").mine(target)
    assert Allocation("per-node", "n2").mine(target)
    assert not Allocation("without-node").mine(target)


@pytest.mark.parametrize(("probes", "labels"), [(True, {}), (False, {M + "ingress_host": "localhost"})])
def test_what_a_prober_asks_for_is_nobodys_own(probes: bool, labels: dict[str, str]) -> None:
    target = {"__address__": "localhost", **labels}
    agents = [Allocation("per-node", "n1"), Allocation("per-node", "n2"), Allocation("without-node")]
    assert [(a.of_probes() if probes else a).mine(target) for a in agents] == [False, False, True]


def test_targets_of_a_node_without_an_agent_are_not_taken_over() -> None:
    target = {"__address__": "10.0.0.9:80", M + "pod_node_name": "gone"}
    assert not any(a.mine(target) for a in (Allocation("per-node", "n1"), Allocation("without-node")))


def test_per_node_needs_a_name() -> None:
    with pytest.raises(ValueError, match="name of the node"):
        Allocation("per-node")


def test_which_nodes_are_read_at_all() -> None:
    assert Allocation("per-node", "n1").takes_node("n1")
    assert not Allocation("per-node", "n1").takes_node("n2")
    assert not Allocation("without-node").takes_node("n1")
    assert Allocation().takes_node("n2")
