"""k8s_cluster: state of the cluster's objects as metrics. Upstream: receiver/k8sclusterreceiver.

This release knows and checks all its options; started, it says that it needs the Kubernetes API.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from kofagent.config.base import Duration
from kofagent.kubernetes.options import ApiOptions, Toggle, needs_cluster
from kofagent.pipeline.component import Receiver
from kofagent.telemetry.signal import Signal


class Config(ApiOptions):
    """Options of k8s_cluster."""

    collection_interval: Duration = Field(10.0, gt=0, description="Time between two sets of metrics.")
    metadata_collection_interval: Duration = Field(300.0, ge=0, description="Time between two sets of entity events; 0: none.")
    node_conditions_to_report: list[str] = Field(["Ready"], description="Node conditions sent as k8s.node.condition_<name>.")
    allocatable_types_to_report: list[str] = Field([], description="Allocatable resources sent as k8s.node.allocatable_<name>.")
    distribution: Literal["kubernetes", "openshift"] = Field("kubernetes", description="Adds OpenShift's quotas.")
    metadata_exporters: list[str] = Field([], description="Exporters that take metadata; none does here.")
    namespace: str = Field("", description="Only objects of this namespace (old spelling of namespaces).")
    namespaces: list[str] = Field([], description="Only objects of these namespaces; empty: all and the cluster's own.")
    k8s_leader_elector: str | None = Field(None, description="Leader elector extension; the chart runs one instance instead.")
    metrics: dict[str, Toggle] = Field({}, description="Metrics switched on or off by name.")
    resource_attributes: dict[str, Toggle] = Field({}, description="Resource attributes switched on or off by name.")


class K8sCluster(Receiver):
    """Checks options only."""

    Config = Config
    signals = frozenset({Signal.METRICS, Signal.LOGS})

    async def start(self) -> None:
        raise needs_cluster("the k8s_cluster receiver")


COMPONENT = K8sCluster
