"""Options of `k8s_cluster`, in upstream's spelling and with upstream's defaults."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from kofagent.component.metric_options import CatalogueOptions
from kofagent.config.base import Duration, LeaderElectorId
from kofagent.kubernetes.options import ApiOptions
from kofagent.receivers.k8s_cluster.catalog import DEFAULTS, RESOURCE_ATTRIBUTES


class Config(CatalogueOptions, ApiOptions):
    """Options of k8s_cluster."""

    known_metrics = DEFAULTS
    known_attributes = RESOURCE_ATTRIBUTES

    collection_interval: Duration = Field(10.0, gt=0, description="Time between two collections of metrics.")
    metadata_collection_interval: Duration = Field(
        300.0, ge=0, description="Time between two complete sets of entity events; 0: only at the start."
    )
    node_conditions_to_report: list[str] = Field(["Ready"], description="Node conditions sent as k8s.node.condition_<name>.")
    allocatable_types_to_report: list[str] = Field([], description="Allocatable resources sent as k8s.node.allocatable_<name>.")
    distribution: Literal["kubernetes", "openshift"] = Field("kubernetes", description="openshift adds OpenShift's cluster quotas.")
    metadata_exporters: list[str] = Field(
        [], description="Accepted for compatibility; no exporter takes metadata: use the receiver in a logs pipeline."
    )
    namespace: str = Field("", description="Only objects in this namespace (former spelling of namespaces).")
    namespaces: list[str] = Field([], description="Only objects in these namespaces, without nodes and namespaces; default: all.")
    k8s_leader_elector: LeaderElectorId | None = Field(
        None, description="Extension k8s_leader_elector; the receiver collects only while this replica leads."
    )

    def places(self) -> list[str]:
        """The namespaces that are read; [""] for the whole cluster."""
        return list(dict.fromkeys(self.namespaces)) or [self.namespace]
