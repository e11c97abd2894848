"""The keys of a `collectors-values.yaml` that kofagent reads, and those that it knows to belong to other charts."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from kofagent.config.base import ComponentConfig

ROLES = ("node", "k8scluster")
CONFIG_SECTIONS = ("receivers", "processors", "exporters", "connectors", "extensions", "service")
"""Keys of `collectors.<role>` that are collector configuration."""

STACK_PARTS = (
    "prometheus-node-exporter",
    "kube-state-metrics",
    "kubernetesServiceMonitors",
    "kubeApiServer",
    "kubelet",
    "kubeControllerManager",
    "coreDns",
    "kubeDns",
    "kubeEtcd",
    "kubeScheduler",
    "kubeProxy",
    "kubeStateMetrics",
    "nodeExporter",
)
"""Other parts of the stack, at the top of older values and below `opentelemetry-kube-stack` in newer ones."""
OTHERS = (*STACK_PARTS, "opencost", "kcm", "tags", "nameOverride", "fullnameOverride", "kofagent")
"""Top-level keys that belong to other parts of the chart; what is below them is not checked."""


class Endpoint(ComponentConfig):
    """`kof.metrics` and `kof.logs`."""

    endpoint: str = Field("", description="Full URL of the storage; empty: no exporter is generated.")
    credentials_secret_name: str = Field("", description="Secret with user name and password.")
    username_key: str = Field("username", description="Key of the user name in the Secret.")
    password_key: str = Field("password", description="Key of the password in the Secret.")
    tls_options: dict[str, Any] = Field({}, description="The exporter's tls block, for an https endpoint.")


class TracesEndpoint(ComponentConfig):
    """`kof.traces`."""

    endpoint: str = Field("", description="Base URL of the storage, /v1/traces is appended; empty: no exporter is generated.")
    tls_options: dict[str, Any] = Field({}, description="The exporter's tls block, for an https endpoint.")


class Instrumentation(ComponentConfig):
    """`kof.instrumentation`: auto-instrumentation by the OpenTelemetry operator."""

    enabled: bool = Field(True, description="Create an Instrumentation object.")
    resources: dict[str, Any] = Field({}, description="Resources of its sidecars.")


class Kof(ComponentConfig):
    """`kof`."""

    basic_auth: bool = Field(True, description="Log in to the storage of metrics and logs.")
    metrics: Endpoint = Field(Endpoint(), description="Where metrics go.")
    logs: Endpoint = Field(Endpoint(), description="Where logs go.")
    traces: TracesEndpoint = Field(TracesEndpoint(), description="Where traces go.")
    instrumentation: Instrumentation = Field(Instrumentation(), description="Auto-instrumentation.")


class Global(ComponentConfig):
    """`global`: sub-charts read it as well, so other keys are allowed."""

    model_config = ConfigDict(extra="allow")

    clusterLabel: str = Field("clusterName", description="Label with the name of the cluster, added to every series.")  # noqa: N815
    clusterName: str = Field("mothership", description="Name of the cluster.")  # noqa: N815
    lint: bool = Field(False, description="Accepted for compatibility; it has a meaning for upstream's own checks only.")


class KeyRef(ComponentConfig):
    """`valueFrom.secretKeyRef`."""

    name: str = Field(description="Name of the Secret.")
    key: str = Field(description="Key in it.")
    optional: bool = Field(False, description="Leave the variable unset if the key is missing.")


class ValueFrom(ComponentConfig):
    """`valueFrom` of an environment entry."""

    secretKeyRef: KeyRef | None = Field(None, description="A key of a Secret.")  # noqa: N815
    configMapKeyRef: KeyRef | None = Field(None, description="A key of a ConfigMap; available in the pod only.")  # noqa: N815
    fieldRef: dict[str, Any] | None = Field(None, description="A field of the pod; available in the pod only.")  # noqa: N815
    resourceFieldRef: dict[str, Any] | None = Field(None, description="A resource of the pod; available in the pod only.")  # noqa: N815


class EnvEntry(ComponentConfig):
    """An entry of `collectors.<role>.env`, as Kubernetes has it."""

    name: str = Field(description="Name of the variable.")
    value: str | None = Field(None, description="Value of the variable.")
    valueFrom: ValueFrom | None = Field(None, description="Source of the value.")  # noqa: N815


class Role(ComponentConfig):
    """`collectors.node` or `collectors.k8scluster`: environment and collector configuration."""

    run_as_root: bool = Field(False, description="Run the container as user 0.")
    env: list[EnvEntry] = Field([], description="Environment of the container.")
    receivers: dict[str, Any] | None = Field(
        None, description="Receivers, as in a collector configuration; merged over the defaults."
    )
    processors: dict[str, Any] | None = Field(None, description="Processors, likewise.")
    exporters: dict[str, Any] | None = Field(None, description="Exporters, likewise.")
    connectors: dict[str, Any] | None = Field(None, description="Connectors, likewise.")
    extensions: dict[str, Any] | None = Field(None, description="Extensions, likewise.")
    service: dict[str, Any] | None = Field(None, description="Extensions to start, pipelines and own telemetry, likewise.")


class Collectors(ComponentConfig):
    """`collectors` of 0.3.0."""

    enabled: bool = Field(True, description="Run the collectors.")
    node: Role = Field(Role(), description="The agent of every node.")
    k8scluster: Role = Field(Role(), description="The agent of the cluster.")


RoleName = Literal["node", "k8scluster"]
