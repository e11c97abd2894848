"""k8sobjects: objects of the cluster, pulled or watched, as log records. Upstream: receiver/k8sobjectsreceiver.

This release knows and checks all its options; started, it says that it needs the Kubernetes API.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from kofagent.config.base import ComponentConfig, Duration
from kofagent.kubernetes.options import ApiOptions, needs_cluster
from kofagent.pipeline.component import Receiver
from kofagent.telemetry.signal import Signal


class ObjectsBlock(ComponentConfig):
    """An entry of `objects`."""

    name: str = Field(min_length=1, description="Plural name of the resource, such as pods.")
    group: str = Field("", description="API group, where the name is in several.")
    mode: Literal["pull", "watch"] = Field("pull", description="List it every interval, or watch it.")
    label_selector: str = Field("", description="Only objects with these labels.")
    field_selector: str = Field("", description="Only objects with these field values.")
    interval: Duration = Field(3600.0, gt=0, description="Time between two pulls.")
    resource_version: str = Field("1", description="Where a watch begins.")
    namespaces: list[str] = Field([], description="Only these namespaces; empty: all.")
    exclude_namespaces: list[str] = Field([], description="Not these namespaces.")
    exclude_watch_type: list[Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]] = Field(
        [], description="Watch events that are left out.")

    @model_validator(mode="after")
    def _check(self) -> ObjectsBlock:
        if self.mode == "pull" and self.exclude_watch_type:
            raise ValueError("exclude_watch_type can only be used with mode: watch")
        return self


class Config(ApiOptions):
    """Options of k8sobjects."""

    objects: list[ObjectsBlock] = Field([], description="What is collected.")
    error_mode: Literal["propagate", "ignore", "silent"] = Field("propagate", description="What an unknown object does.")
    include_initial_state: bool = Field(False, description="Send what exists when a watch begins.")
    storage: str | None = Field(None, description="Storage extension that keeps resource versions over a restart.")
    k8s_leader_elector: str | None = Field(None, description="Leader elector extension; the chart runs one instance instead.")


class K8sObjects(Receiver):
    """Checks options only."""

    Config = Config
    signals = frozenset({Signal.LOGS})

    async def start(self) -> None:
        raise needs_cluster("the k8sobjects receiver")


COMPONENT = K8sObjects
