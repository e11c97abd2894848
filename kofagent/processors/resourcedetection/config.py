"""Options of `resourcedetection`, in upstream's spelling."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator

from kofagent.config.base import Duration
from kofagent.config.blocks import HttpClientBlock
from kofagent.config.errors import ConfigErrors, Path, Problem, suggest
from kofagent.processors.resourcedetection.blocks import (
    AksBlock,
    AzureBlock,
    DockerBlock,
    Ec2Block,
    EcsBlock,
    EksBlock,
    EnvBlock,
    GcpBlock,
    K8sBlock,
    KubeadmBlock,
    SystemBlock,
)

DETECTORS = ("env", "system", "k8s_api", "k8snode", "kubeadm", "docker", "ec2", "eks", "ecs", "gcp", "azure", "aks")
FORMER = {"gce": "gcp", "gke": "gcp"}
"""Detectors that upstream has replaced by another."""
LATER = (
    "akamai",
    "alibaba_ecs",
    "azurecontainerapps",
    "consul",
    "digitalocean",
    "dynatrace",
    "elasticbeanstalk",
    "heroku",
    "hetzner",
    "ibmcloud_classic",
    "ibmcloud_vpc",
    "lambda",
    "nova",
    "openshift",
    "oraclecloud",
    "scaleway",
    "tencent_cvm",
    "upcloud",
    "vultr",
)
"""Upstream's detectors that we do not have."""


def later(path: Path, name: str) -> Problem:
    """The problem of a detector that upstream has and we do not have yet."""
    hint = f"leave it out (available: {', '.join(DETECTORS)})"
    return Problem(path, f"the detector {name!r} is not available in this release of kofagent", hint)


class Config(HttpClientBlock):
    """Options of resourcedetection. The HTTP client options are for the APIs of clouds; metadata services are asked directly."""

    detectors: list[str] = Field(["env"], description="Detectors; the first one that knows an attribute sets it.")
    override: bool = Field(True, description="Replace attributes that the data already has.")
    timeout: Duration = Field(5.0, ge=0, description="Time limit for all detectors; 0: no limit.")
    refresh_interval: Duration = Field(0.0, ge=0, description="Interval at which detection is repeated; 0: only at the start.")
    fail_on_missing_metadata: bool = Field(
        False, description="Fail to start when the API server, a cloud or the Docker daemon does not say what was asked for."
    )
    attributes: list[str] | None = Field(None, description="Deprecated: only these detected attributes are added.")
    env: EnvBlock = Field(EnvBlock(), description="The env detector.")
    system: SystemBlock = Field(SystemBlock(), description="The system detector.")
    k8s_api: K8sBlock = Field(K8sBlock(), description="The k8s_api detector.")
    k8snode: K8sBlock = Field(K8sBlock(), description="The k8s_api detector under its former name.")
    kubeadm: KubeadmBlock = Field(KubeadmBlock(), description="The kubeadm detector: a cluster that kubeadm made.")
    docker: DockerBlock = Field(DockerBlock(), description="The docker detector: the host of a container, from the Docker daemon.")
    ec2: Ec2Block = Field(Ec2Block(), description="The ec2 detector: an instance of Amazon EC2.")
    eks: EksBlock = Field(EksBlock(), description="The eks detector: a node of Amazon EKS.")
    ecs: EcsBlock = Field(EcsBlock(), description="The ecs detector: a task of Amazon ECS.")
    gcp: GcpBlock = Field(GcpBlock(), description="The gcp detector: Compute and Kubernetes Engine, Cloud Run, App Engine.")
    azure: AzureBlock = Field(AzureBlock(), description="The azure detector: a virtual machine of Azure.")
    aks: AksBlock = Field(AksBlock(), description="The aks detector: a node of Azure Kubernetes Service.")

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
        names = [FORMER.get(name.strip(), name.strip()) for name in value]
        if not names:
            raise ConfigErrors([Problem((), "names no detector", suggest("", DETECTORS))])
        problems = [
            later((i,), name) if name in LATER else Problem((i,), f"unknown detector {name!r}", suggest(name, DETECTORS))
            for i, name in enumerate(names)
            if name not in DETECTORS
        ]
        if problems:
            raise ConfigErrors(problems)
        return list(dict.fromkeys(names))
