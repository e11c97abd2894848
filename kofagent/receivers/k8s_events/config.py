"""Options of the `k8s_events` receiver."""

from __future__ import annotations

from pydantic import Field

from kofagent.config.base import Duration, StorageId
from kofagent.kubernetes.options import ApiOptions


class Config(ApiOptions):
    """Options of k8s_events."""

    namespaces: list[str] = Field([], description="Only events in these namespaces; default: all.")
    storage: StorageId | None = Field(None, description="Storage extension that keeps the resource version across restarts.")
    k8s_leader_elector: str | None = Field(
        None, description="Accepted for compatibility; run one instance of this receiver per cluster."
    )
    dedup_interval: Duration = Field(0.0, description="Minimum time between two updates of one event; negative: no updates.")
