"""Options of kubernetes_sd_configs that do not fit together say so."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from kofagent.component.protocols import StartError
from kofagent.prometheus.discovery.config import KubernetesSdConfig
from kofagent.prometheus.monitors.options import AllocationBlock, MonitorsBlock


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "role"),
        ({"role": "pods"}, "role"),
        ({"role": "pod", "api_server": "https://a", "kubeconfig_file": "/k"}, "keep one"),
        ({"role": "pod", "api_server": "a:6443"}, "needs http:// or https://"),
        ({"role": "pod", "kubeconfig_file": "/k", "namespaces": {"own_namespace": True}}, "own_namespace"),
        ({"role": "pod", "bearer_token_file": "/t"}, "set api_server too"),
        ({"role": "pod", "kubeconfig_file": "/k", "basic_auth": {"username": "u"}}, "basic_auth is for another API server"),
        ({"role": "pod", "tls_config": {"insecure_skip_verify": True}}, "tls_config"),
        ({"role": "service", "selectors": [{"role": "pod"}]}, "not for pod"),
        ({"role": "pod", "selectors": [{"role": "pod", "label": "a"}, {"role": "pod", "label": "b"}]}, "two selectors"),
    ],
)
def test_what_does_not_fit(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        KubernetesSdConfig.model_validate(options)


@pytest.mark.parametrize(
    "options",
    [
        {"role": "Pod"},
        {"role": "pod", "selectors": [{"role": "node", "label": "a"}, {"role": "pod", "field": "spec.nodeName=x"}]},
        {"role": "endpoints", "namespaces": {"own_namespace": True, "names": ["a"]}},
        {
            "role": "node",
            "api_server": "https://a:6443",
            "authorization": {"credentials": "x"},
            "tls_config": {"insecure_skip_verify": True},
        },
    ],
)
def test_what_fits(options: dict[str, Any]) -> None:
    KubernetesSdConfig.model_validate(options)


def test_the_node_of_an_agent_comes_from_the_options_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K8S_NODE_NAME", "n7")
    assert AllocationBlock(strategy="per-node").allocation().node == "n7"
    assert AllocationBlock(strategy="per-node", node_name="n8").allocation().node == "n8"
    monkeypatch.delenv("K8S_NODE_NAME")
    assert AllocationBlock().allocation().strategy == "all"
    with pytest.raises(StartError, match="K8S_NODE_NAME"):
        AllocationBlock(strategy="per-node").allocation()


def test_selectors_in_either_spelling() -> None:
    block = MonitorsBlock.model_validate(
        {"selector": {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "k", "operator": "Exists"}]}}
    )
    assert block.selectors("Probe")[0] == {
        "matchLabels": {"a": "b"},
        "matchExpressions": [{"key": "k", "operator": "Exists", "values": []}],
    }
    with pytest.raises(ValidationError, match="Near"):
        MonitorsBlock.model_validate({"selector": {"matchExpressions": [{"key": "k", "operator": "Near"}]}})
