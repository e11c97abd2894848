"""Options of the `k8s_events` receiver."""

from __future__ import annotations

from pydantic import Field

from kofagent.config.base import Duration, LeaderElectorId, StorageId
from kofagent.kubernetes.options import ApiOptions


class Config(ApiOptions):
    """Options of k8s_events."""

    namespaces: list[str] = Field([], description="Only events in these namespaces; default: all.")
    storage: StorageId | None = Field(None, description="Storage extension that keeps the resource version across restarts.")
    k8s_leader_elector: LeaderElectorId | None = Field(
        None, description="Extension k8s_leader_elector; the receiver collects only while this replica leads."
    )
    dedup_interval: Duration = Field(0.0, description="Minimum time between two updates of one event; negative: no updates.")
