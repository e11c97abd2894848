"""k8s_events: the cluster's events as log records. Upstream: receiver/k8seventsreceiver.

This release knows and checks all its options; started, it says that it needs the Kubernetes API.
"""

from __future__ import annotations

from pydantic import Field

from kofagent.config.base import Duration
from kofagent.kubernetes.options import ApiOptions, needs_cluster
from kofagent.pipeline.component import Receiver
from kofagent.telemetry.signal import Signal


class Config(ApiOptions):
    """Options of k8s_events."""

    namespaces: list[str] = Field([], description="Only events of these namespaces; empty: all.")
    storage: str | None = Field(None, description="Storage extension that keeps the resource version over a restart.")
    k8s_leader_elector: str | None = Field(None, description="Leader elector extension; the chart runs one instance instead.")
    dedup_interval: Duration = Field(0.0, description="Least time between two updates of one event; negative: no updates.")


class K8sEvents(Receiver):
    """Checks options only."""

    Config = Config
    signals = frozenset({Signal.LOGS})

    async def start(self) -> None:
        raise needs_cluster("the k8s_events receiver")


COMPONENT = K8sEvents
