"""Options of the `k8s_observer` extension."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from kofagent.config.base import Duration
from kofagent.kubernetes.options import ApiOptions


class Config(ApiOptions):
    """Options of upstream's k8s_observer extension."""

    node: str = Field("", description="Only pods of this node, and the node itself; empty: of all nodes.")
    observe_pods: bool = Field(True, description="Endpoints of pods, their containers and ports.")
    observe_nodes: bool = Field(False, description="Endpoints of nodes.")
    observe_services: bool = Field(False, description="Endpoints of services.")
    observe_ingresses: bool = Field(False, description="Endpoints of ingresses, one for each path.")
    namespaces: list[str] = Field([], description="Only these namespaces; empty: all.")
    observe_pod_phases: list[Literal["Pending", "Running", "Succeeded", "Failed", "Unknown"]] | None = Field(
        None, description="Phases of pods that are observed. Not set: Running; for receivers of files all."
    )
    observe_init_containers: bool | None = Field(
        None, description="Endpoints of init containers. Not set: for receivers of files only."
    )
    container_terminated_ttl: Duration = Field(
        900.0, ge=0, description="How long after its end a container is observed; receivers of files read it to its end."
    )
    log_directory: str = Field("/var/log/pods", description="Where the kubelet has the logs of this node's pods.")

    @model_validator(mode="after")
    def _observes(self) -> Config:
        if not (self.observe_pods or self.observe_nodes or self.observe_services or self.observe_ingresses):
            raise ValueError("one of observe_pods, observe_nodes, observe_services and observe_ingresses must be true")
        return self
