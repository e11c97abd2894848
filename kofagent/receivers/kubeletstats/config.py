"""Options of `kubeletstats`, in upstream's spelling and with upstream's defaults."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator, model_validator

from kofagent.component.metric_options import CatalogueOptions, switched_on
from kofagent.config.base import ComponentConfig, Duration
from kofagent.config.blocks import TlsBlock
from kofagent.kubernetes.options import ApiOptions
from kofagent.receivers.kubeletstats.catalog import DEFAULTS, NODE_RATIOS, RESOURCE_ATTRIBUTES

Group = Literal["container", "pod", "node", "volume"]
Label = Literal["container.id", "k8s.volume.type"]


class AllInterfaces(ComponentConfig):
    """`collect_all_network_interfaces`."""

    pod: bool = Field(False, description="All interfaces of pods instead of the default one.")
    node: bool = Field(False, description="All interfaces of nodes instead of the default one.")


class Dialer(ComponentConfig):
    """`dialer`."""

    timeout: Duration = Field(0.0, ge=0, description="Time to connect; 0: 10 s.")


class Config(CatalogueOptions, TlsBlock):
    """Options of kubeletstats. The TLS options of upstream's configtls are on the same level."""

    known_metrics = DEFAULTS
    known_attributes = RESOURCE_ATTRIBUTES

    collection_interval: Duration = Field(10.0, gt=0, description="Time between two collections.")
    initial_delay: Duration = Field(1.0, ge=0, description="Time to wait before the first collection.")
    timeout: Duration = Field(0.0, ge=0, description="Time limit for one answer of the kubelet; 0: 30 s.")
    auth_type: Literal["tls", "serviceAccount", "none", "kubeConfig"] = Field(
        "tls",
        validate_default=True,
        description="tls: cert_file and key_file; serviceAccount: the pod's token and CA; none: the read-only port; "
        "kubeConfig: through the API server's proxy, endpoint is the node's name.",
    )
    context: str = Field("", description="Context of the kubeconfig; default: its current context.")
    kube_api_qps: float = Field(0.0, ge=0, description="Accepted for compatibility; at most 10 requests are under way.")
    kube_api_burst: int = Field(0, ge=0, description="Accepted for compatibility; see kube_api_qps.")
    endpoint: str = Field(
        "",
        description="host:port or URL; default, also for a host that is left out: $K8S_NODE_NAME or this host, port 10250 "
        "(10255 with auth_type none).",
    )
    dialer: Dialer = Field(Dialer(), description="Options of the connection.")
    insecure_skip_verify: bool = Field(False, description="Do not verify the kubelet's certificate.")
    metric_groups: list[Group] = Field(["container", "pod", "node"], description="Groups of metrics that are collected.")
    extra_metadata_labels: list[Label] = Field([], description="Attributes read from the kubelet's /pods.")
    k8s_api_config: ApiOptions | None = Field(
        None, description="Access to the API server, for persistent volumes and the capacity of the node."
    )
    node: str = Field("", description="Name of the node, for metrics relative to its capacity.")
    collect_all_network_interfaces: AllInterfaces = Field(
        AllInterfaces(), description="Whether all network interfaces are collected."
    )

    @field_validator("auth_type")
    @classmethod
    def _has_a_certificate(cls, value: str, info: ValidationInfo) -> str:
        """`auth_type` stands behind the TLS options, which are in `info` if they are valid."""
        own = [[info.data.get(name, True) for name in (f"{part}_file", f"{part}_pem")] for part in ("cert", "key")]
        if value == "tls" and not all(map(any, own)):
            raise ValueError("auth_type tls needs cert_file and key_file; in a pod write auth_type: serviceAccount")
        return value

    @field_validator("endpoint")
    @classmethod
    def _is_an_endpoint(cls, value: str) -> str:
        """A port without a host is fine: the host is `${env:K8S_NODE_NAME}`, which is not set where this is validated."""
        text = value.strip()
        try:
            parts = urlsplit(text if text.startswith(("http://", "https://")) else f"https://{text}")
            usable = not text or (bool(parts.hostname or parts.port) and parts.port != 0)
        except ValueError:
            usable = False
        if not usable:
            raise ValueError("is not host:port or a URL of the kubelet")
        return value

    @field_validator("extra_metadata_labels")
    @classmethod
    def _no_label_twice(cls, value: list[Label]) -> list[Label]:
        if len(set(value)) != len(value):
            raise ValueError("duplicate label")
        return value

    @model_validator(mode="after")
    def _node_is_named(self) -> Config:
        wanted = sorted(self.on().intersection(NODE_RATIOS))
        if wanted and not self.node:
            raise ValueError(f"{wanted[0]} needs the name of the node; write node: ${{env:K8S_NODE_NAME}}")
        return self

    def on(self) -> frozenset[str]:
        """The names of the metrics that are sent."""
        return switched_on(DEFAULTS, self.metrics)
