"""Options of the receiver's `monitors` and `allocation` blocks."""

from __future__ import annotations

import os
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from kofagent.component.protocols import StartError
from kofagent.config.base import ComponentConfig, Duration
from kofagent.net.transport import Denied
from kofagent.prometheus.allocation import Allocation, Strategy
from kofagent.prometheus.monitors.job import Settings

Kind = Literal["ServiceMonitor", "PodMonitor", "Probe", "ScrapeConfig"]
ALL_KINDS: tuple[Kind, ...] = ("ServiceMonitor", "PodMonitor", "Probe", "ScrapeConfig")


class AllocationBlock(ComponentConfig):
    """`allocation`: which part of all targets this agent scrapes."""

    strategy: Strategy = Field("all", description="all; per-node: targets on this node; without-node: targets on no node.")
    node_name: str = Field("", description="This node, for per-node; empty: $K8S_NODE_NAME.")

    def allocation(self) -> Allocation:
        """The allocation; StartError when the node is not known."""
        node = self.node_name or os.environ.get("K8S_NODE_NAME", "")
        if self.strategy == "per-node" and not node:
            raise StartError(
                "allocation.strategy per-node needs the name of the node: set allocation.node_name, or K8S_NODE_NAME "
                "from the pod's spec.nodeName"
            )
        return Allocation(self.strategy, node if self.strategy == "per-node" else "")


class SelectorRequirement(ComponentConfig):
    """One of `match_expressions`."""

    key: str = Field(description="Label.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(description="Operator.")
    values: list[str] = Field([], description="Values for In and NotIn.")


class LabelSelector(ComponentConfig):
    """Selects objects by their labels; empty: all."""

    match_labels: dict[str, str] = Field({}, description="Labels with these values.")
    match_expressions: list[SelectorRequirement] = Field([], description="Further conditions; all must hold.")

    @model_validator(mode="before")
    @classmethod
    def _either_spelling(cls, data: Any) -> Any:
        names = {
            "matchLabels": "match_labels",
            "matchlabels": "match_labels",
            "matchExpressions": "match_expressions",
            "matchexpressions": "match_expressions",
        }
        return {names.get(key, key): value for key, value in data.items()} if isinstance(data, dict) else data

    def plain(self) -> dict[str, Any]:
        """As in an object of the API."""
        return {"matchLabels": self.match_labels, "matchExpressions": [entry.model_dump() for entry in self.match_expressions]}


class MonitorsBlock(ComponentConfig):
    """`monitors`: scrape what ServiceMonitor, PodMonitor, Probe and ScrapeConfig objects select."""

    enabled: bool = Field(False, description="Read the objects.")
    kinds: list[Kind] = Field(list(ALL_KINDS), description="Which kinds.", min_length=1)
    namespaces: list[str] = Field([], description="Namespaces of the objects; empty: all.")
    deny_namespaces: list[str] = Field([], description="Namespaces that are excluded.")
    namespace_selector: LabelSelector = Field(LabelSelector(), description="Namespaces by label.")
    selector: LabelSelector = Field(LabelSelector(), description="Objects of every kind by label.")
    service_monitor_selector: LabelSelector = Field(LabelSelector(), description="ServiceMonitors by label.")
    pod_monitor_selector: LabelSelector = Field(LabelSelector(), description="PodMonitors by label.")
    probe_selector: LabelSelector = Field(LabelSelector(), description="Probes by label.")
    scrape_config_selector: LabelSelector = Field(LabelSelector(), description="ScrapeConfigs by label.")
    scrape_interval: Duration = Field(0.0, ge=0, description="Interval of objects without one; 0: that of config.global.")
    service_discovery_role: Literal["endpointslice", "endpoints"] = Field(
        "endpointslice", description="Kind of objects by which ServiceMonitors find targets."
    )
    scrape_classes: list[dict[str, Any]] = Field([], description="Scrape classes, as in a Prometheus object.")
    deny_files: bool = Field(False, description="Refuse objects that name files of the agent, such as bearerTokenFile.")

    deny_addresses: list[str] = Field(
        ["169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128", "100.100.100.200/32"],
        description="Networks that jobs of objects do not connect to: for targets, discovery, tokens, proxies and redirects, by "
        "address or by name. Default: link-local addresses, at which clouds tell machines their credentials, and metadata services "
        "elsewhere; []: none.",
    )

    @field_validator("deny_addresses")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        Denied(value, "")
        return value

    def denied(self) -> Denied:
        """What jobs of objects must not connect to."""
        return Denied(self.deny_addresses, "monitors.deny_addresses")

    def settings(self) -> Settings:
        """What the translation needs."""
        return Settings(role=self.service_discovery_role, scrape_classes=tuple(self.scrape_classes), deny_files=self.deny_files)

    def selectors(self, kind: Kind) -> list[dict[str, Any]]:
        """The selectors an object of a kind has to match."""
        own = {
            "ServiceMonitor": self.service_monitor_selector,
            "PodMonitor": self.pod_monitor_selector,
            "Probe": self.probe_selector,
            "ScrapeConfig": self.scrape_config_selector,
        }[kind]
        return [self.selector.plain(), own.plain()]
