"""Options of service discovery: `static_configs`, `file_sd_configs`, `http_sd_configs`, `kubernetes_sd_configs`.

The keys of all other mechanisms of Prometheus are accepted, so that a configuration with them can be read; a job that uses
one discovers nothing with it and logs that at start.
"""

from __future__ import annotations

import re
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from kofagent.config.base import ComponentConfig, Duration
from kofagent.config.redact import without_secrets
from kofagent.prometheus.client_config import HttpClientOptions
from kofagent.prometheus.relabel import Text

OTHER_MECHANISMS = (
    "aws",
    "azure",
    "consul",
    "digitalocean",
    "dns",
    "docker",
    "dockerswarm",
    "ec2",
    "ecs",
    "elasticache",
    "eureka",
    "gce",
    "hetzner",
    "ionos",
    "kuma",
    "lightsail",
    "linode",
    "marathon",
    "msk",
    "nerve",
    "nomad",
    "oci",
    "openstack",
    "outscale",
    "ovhcloud",
    "puppetdb",
    "rds",
    "scaleway",
    "serverset",
    "stackit",
    "triton",
    "uyuni",
    "vultr",
)
"""Mechanisms of Prometheus that kofagent does not have."""
Role = Literal["node", "pod", "service", "endpoints", "endpointslice", "ingress"]
_FILE = re.compile(r"[^*]*(\*[^/]*)?\.(json|yml|yaml|JSON|YML|YAML)\Z")


class StaticConfig(ComponentConfig):
    """A list of targets with common labels."""

    targets: list[Text] = Field([], description="Addresses, host or host:port.")
    labels: dict[str, Text] = Field({}, description="Labels of all these targets.")


class FileSdConfig(ComponentConfig):
    """`file_sd_configs`: targets in files that may change."""

    files: list[Text] = Field(description="JSON or YAML files; the last part of a path may have a *.", min_length=1)
    refresh_interval: Duration = Field(300.0, description="How often the files are read even if they seem unchanged.")

    @model_validator(mode="after")
    def _names(self) -> FileSdConfig:
        for name in self.files:
            if not _FILE.match(name):
                raise ValueError(f"{name!r}: a discovery file ends in .json, .yml or .yaml, and * is only in its last part")
        return self


class HttpSdConfig(HttpClientOptions):
    """`http_sd_configs`: targets as JSON from a URL."""

    url: Text = Field(description="URL of the list.")
    refresh_interval: Duration = Field(60.0, description="How often the list is requested.")

    @model_validator(mode="after")
    def _has_scheme(self) -> HttpSdConfig:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(f"url {without_secrets(self.url)!r} needs http:// or https:// and a host")
        return self


class KubernetesNamespaces(ComponentConfig):
    """`namespaces` of a Kubernetes discovery."""

    own_namespace: bool = Field(False, description="Include the namespace of this pod.")
    names: list[Text] = Field([], description="Namespaces; empty: all.")


class KubernetesSelector(ComponentConfig):
    """Limits what a role lists."""

    role: Role = Field(description="The kind of object.")
    label: Text = Field("", description="Label selector.")
    field: Text = Field("", description="Field selector.")


class KubernetesAttachMetadata(ComponentConfig):
    """`attach_metadata`."""

    node: bool = Field(False, description="Labels and annotations of the node of a target.")
    namespace: bool = Field(False, description="Labels and annotations of the namespace of a target.")
    deployment: bool = Field(False, description="The deployment a pod belongs to.")
    job: bool = Field(False, description="The job a pod belongs to.")
    cronjob: bool = Field(False, description="The cron job a pod belongs to.")


class KubernetesSdConfig(HttpClientOptions):
    """`kubernetes_sd_configs`."""

    role: Role = Field(description="Kind of objects that become targets.")
    api_server: Text = Field("", description="URL of the API server; empty: the one of this cluster.")
    kubeconfig_file: Text = Field("", description="kubeconfig file to use instead of the service account.")
    namespaces: KubernetesNamespaces = Field(KubernetesNamespaces(), description="Namespaces to watch.")
    selectors: list[KubernetesSelector] = Field([], description="Label and field selectors.")
    attach_metadata: KubernetesAttachMetadata = Field(KubernetesAttachMetadata(), description="Additional meta labels.")

    @model_validator(mode="before")
    @classmethod
    def _role_in_any_case(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("role"), str):
            data = {**data, "role": data["role"].lower()}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> KubernetesSdConfig:
        if self.api_server and self.kubeconfig_file:
            raise ValueError("api_server and kubeconfig_file are both set; keep one")
        if (self.api_server or self.kubeconfig_file) and self.namespaces.own_namespace:
            raise ValueError(
                "own_namespace is the namespace of the pod's service account, which is not used with api_server or kubeconfig_file"
            )
        own = [
            name
            for name, field in HttpClientOptions.model_fields.items()
            if getattr(self, name) != field.get_default(call_default_factory=True)
        ]
        if own and not self.api_server:
            raise ValueError(f"{own[0]} is for another API server; set api_server too, or remove it")
        if self.api_server and urlsplit(self.api_server).scheme not in ("http", "https"):
            raise ValueError("api_server needs http:// or https://")
        allowed = {
            "pod": {"pod", "node"},
            "service": {"service"},
            "node": {"node"},
            "ingress": {"ingress"},
            "endpoints": {"pod", "service", "endpoints"},
            "endpointslice": {"pod", "service", "endpointslice"},
        }[self.role]
        if self.role in ("pod", "endpoints", "endpointslice"):
            allowed = allowed | {"node"} if self.attach_metadata.node else allowed
        seen: set[str] = set()
        for selector in self.selectors:
            if selector.role not in allowed:
                raise ValueError(f"role {self.role} takes selectors for {', '.join(sorted(allowed))}, not for {selector.role}")
            if selector.role in seen:
                raise ValueError(f"two selectors for role {selector.role}; join them with a comma")
            seen.add(selector.role)
        return self


class DiscoveryOptions(ComponentConfig):
    """Discovery keys of a scrape job."""

    static_configs: list[StaticConfig] = Field([], description="Targets in the configuration.")
    file_sd_configs: list[FileSdConfig] = Field([], description="Targets in files.")
    http_sd_configs: list[HttpSdConfig] = Field([], description="Targets from a URL.")
    kubernetes_sd_configs: list[KubernetesSdConfig] = Field([], description="Targets from a Kubernetes API.")
    other_sd_configs: dict[str, Any] = Field({}, description="Mechanisms that are accepted without effect.", exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _others(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        if "other_sd_configs" in data:
            raise ValueError("other_sd_configs: unknown key")
        others = {
            k: v
            for k, v in data.items()
            if isinstance(k, str) and k.removesuffix("_sd_configs") in OTHER_MECHANISMS and k.endswith("_sd_configs")
        }
        data = {k: v for k, v in data.items() if k not in others and not (v is None and k.endswith("_configs"))}
        return {**data, "other_sd_configs": others} if others else data
