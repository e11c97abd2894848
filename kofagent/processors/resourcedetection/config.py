"""Options of `resourcedetection`, in upstream's spelling."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from pydantic import Field, field_validator, model_validator

from kofagent.config.base import ComponentConfig, Duration
from kofagent.config.blocks import HttpClientBlock
from kofagent.config.errors import ConfigErrors, Path, Problem, suggest
from kofagent.kubernetes.options import ApiOptions

DETECTORS = ("env", "system", "k8s_api", "k8snode")
LATER = (
    "akamai",
    "aks",
    "alibaba_ecs",
    "azure",
    "azurecontainerapps",
    "consul",
    "digitalocean",
    "docker",
    "dynatrace",
    "ec2",
    "ecs",
    "eks",
    "elasticbeanstalk",
    "gcp",
    "gce",
    "gke",
    "heroku",
    "hetzner",
    "ibmcloud_classic",
    "ibmcloud_vpc",
    "kubeadm",
    "lambda",
    "nova",
    "openshift",
    "oraclecloud",
    "scaleway",
    "tencent_cvm",
    "upcloud",
    "vultr",
)
"""Upstream's detectors that ask a cloud."""
SYSTEM_ATTRIBUTES = {
    "host.name": True,
    "os.type": True,
    **dict.fromkeys(
        (
            "host.arch",
            "host.cpu.cache.l2.size",
            "host.cpu.family",
            "host.cpu.model.id",
            "host.cpu.model.name",
            "host.cpu.stepping",
            "host.cpu.vendor.id",
            "host.id",
            "host.interface",
            "host.ip",
            "host.mac",
            "os.build.id",
            "os.description",
            "os.name",
            "os.version",
        ),
        False,
    ),
}
"""Attributes of the system detector and whether they are on by default."""
K8S_ATTRIBUTES = ("k8s.node.name", "k8s.node.uid", "k8s.cluster.uid")
"""Attributes of the k8s_api detector, all on by default."""
HOSTNAME_SOURCES = ("dns", "os", "cname", "lookup")


def later(path: Path, name: str) -> Problem:
    """The problem of a detector that upstream has and we do not have yet."""
    hint = f"leave it out (available: {', '.join(DETECTORS)})"
    return Problem(path, f"the detector {name!r} is not available in this release of kofagent", hint)


def _known(detector: str, names: Iterable[str], known: Collection[str]) -> None:
    """ConfigErrors with the attributes that a detector does not have."""
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigErrors(Problem((n,), f"the {detector} detector has no such attribute", suggest(n, known)) for n in unknown)


class AttributeOptions(ComponentConfig):
    """One attribute of a detector."""

    enabled: bool = Field(description="Whether this attribute is detected.")


class EnvBlock(ComponentConfig):
    """`env`."""

    allowlist: list[str] | None = Field(None, description="Only these attributes are added; default: all.")


class SystemBlock(ComponentConfig):
    """`system`."""

    hostname_sources: list[str] = Field(
        [], description="Sources of host.name; the first that answers is used. Default: dns, then os."
    )
    resource_attributes: dict[str, AttributeOptions] = Field({}, description="Options per attribute.")

    @field_validator("hostname_sources")
    @classmethod
    def _known_sources(cls, value: list[str]) -> list[str]:
        unknown = [(i, source) for i, source in enumerate(value) if source not in HOSTNAME_SOURCES]
        if unknown:
            message = "unknown source of the host name"
            raise ConfigErrors(Problem((i,), f"{message} {source!r}", suggest(source, HOSTNAME_SOURCES)) for i, source in unknown)
        return value

    @field_validator("resource_attributes")
    @classmethod
    def _known_attributes(cls, value: dict[str, AttributeOptions]) -> dict[str, AttributeOptions]:
        _known("system", value, SYSTEM_ATTRIBUTES)
        return value

    def enabled(self) -> frozenset[str]:
        """The attributes that are detected."""
        chosen = {name: options.enabled for name, options in self.resource_attributes.items()}
        return frozenset(name for name, default in SYSTEM_ATTRIBUTES.items() if chosen.get(name, default))


class K8sBlock(ApiOptions):
    """`k8s_api` and `k8snode`."""

    node_from_env_var: str = Field("", description="Environment variable with the node's name; default: K8S_NODE_NAME.")
    resource_attributes: dict[str, AttributeOptions] = Field({}, description="Options per attribute.")

    @field_validator("resource_attributes")
    @classmethod
    def _known_attributes(cls, value: dict[str, AttributeOptions]) -> dict[str, AttributeOptions]:
        _known("k8s_api", value, K8S_ATTRIBUTES)
        return value

    def enabled(self) -> frozenset[str]:
        """The attributes that are detected."""
        return frozenset(n for n in K8S_ATTRIBUTES if n not in self.resource_attributes or self.resource_attributes[n].enabled)


class Config(HttpClientBlock):
    """Options of resourcedetection. The HTTP client options are for detectors that query a metadata service."""

    detectors: list[str] = Field(["env"], description="Detectors; the first one that knows an attribute sets it.")
    override: bool = Field(True, description="Replace attributes that the data already has.")
    timeout: Duration = Field(5.0, ge=0, description="Time limit for all detectors; 0: no limit.")
    refresh_interval: Duration = Field(0.0, ge=0, description="Interval at which detection is repeated; 0: only at the start.")
    fail_on_missing_metadata: bool = Field(False, description="Fail to start when the API server cannot be read.")
    attributes: list[str] | None = Field(None, description="Deprecated: only these detected attributes are added.")
    env: EnvBlock = Field(EnvBlock(), description="The env detector.")
    system: SystemBlock = Field(SystemBlock(), description="The system detector.")
    k8s_api: K8sBlock = Field(K8sBlock(), description="The k8s_api detector.")
    k8snode: K8sBlock = Field(K8sBlock(), description="The k8s_api detector under its former name.")

    @model_validator(mode="before")
    @classmethod
    def _not_yet(cls, value: Any) -> Any:
        if isinstance(value, dict):
            problems = [later((str(name),), str(name)) for name in value if name in LATER]
            if problems:
                raise ConfigErrors(problems)
        return value

    @field_validator("detectors")
    @classmethod
    def _known_detectors(cls, value: list[str]) -> list[str]:
        names = [name.strip() for name in value]
        if not names:
            raise ConfigErrors([Problem((), "names no detector", suggest("", DETECTORS))])
        problems = [
            later((i,), name) if name in LATER else Problem((i,), f"unknown detector {name!r}", suggest(name, DETECTORS))
            for i, name in enumerate(names)
            if name not in DETECTORS
        ]
        if problems:
            raise ConfigErrors(problems)
        return names
