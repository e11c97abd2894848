"""Options of the detectors of `resourcedetection`: which attributes each knows, which are on by default, and what else it takes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import ClassVar

from pydantic import Field, field_validator

from kofagent.config.base import ComponentConfig, Duration
from kofagent.config.errors import ConfigErrors, Problem, suggest
from kofagent.config.re2 import Regexp, compile_search
from kofagent.kubernetes.options import ApiOptions

HOSTNAME_SOURCES = ("dns", "os", "cname", "lookup")


class AttributeOptions(ComponentConfig):
    """One attribute of a detector."""

    enabled: bool = Field(description="Whether this attribute is detected.")


class DetectorBlock(ComponentConfig):
    """What all detectors with a fixed list of attributes have."""

    detector: ClassVar[str] = ""
    known: ClassVar[dict[str, bool]] = {}
    """The attributes, and whether they are on by default."""

    resource_attributes: dict[str, AttributeOptions] = Field({}, description="Options per attribute.")

    @field_validator("resource_attributes")
    @classmethod
    def _known_attributes(cls, value: dict[str, AttributeOptions]) -> dict[str, AttributeOptions]:
        unknown = [name for name in value if name not in cls.known]
        if unknown:
            message = f"the {cls.detector} detector has no such attribute"
            raise ConfigErrors(Problem((name,), message, suggest(name, cls.known)) for name in unknown)
        return value

    def enabled(self) -> frozenset[str]:
        """The attributes that are detected."""
        chosen = {name: options.enabled for name, options in self.resource_attributes.items()}
        return frozenset(name for name, default in self.known.items() if chosen.get(name, default))


def _table(on: Iterable[str], off: Iterable[str] = ()) -> dict[str, bool]:
    return {**dict.fromkeys(on, True), **dict.fromkeys(off, False)}


def matching(patterns: Collection[str], pairs: dict[str, str], prefix: str) -> dict[str, str]:
    """The pairs whose key is found by one of the patterns, their keys with `prefix`."""
    found = [compile_search(pattern) for pattern in patterns]
    return {prefix + key: value for key, value in pairs.items() if any(search(key) for search in found)}


class EnvBlock(ComponentConfig):
    """`env`."""

    allowlist: list[str] | None = Field(None, description="Only these attributes are added; default: all.")


class SystemBlock(DetectorBlock):
    """`system`."""

    detector = "system"
    known = _table(
        ("host.name", "os.type"),
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
    )

    hostname_sources: list[str] = Field(
        [], description="Sources of host.name; the first that answers is used. Default: dns, then os."
    )

    @field_validator("hostname_sources")
    @classmethod
    def _known_sources(cls, value: list[str]) -> list[str]:
        unknown = [(i, source) for i, source in enumerate(value) if source not in HOSTNAME_SOURCES]
        if unknown:
            message = "unknown source of the host name"
            raise ConfigErrors(Problem((i,), f"{message} {source!r}", suggest(source, HOSTNAME_SOURCES)) for i, source in unknown)
        return value


class K8sBlock(ApiOptions, DetectorBlock):
    """`k8s_api` and `k8snode`."""

    detector = "k8s_api"
    known = _table(("k8s.node.name", "k8s.node.uid", "k8s.cluster.uid"))

    node_from_env_var: str = Field("", description="Environment variable with the node's name; default: K8S_NODE_NAME.")


class KubeadmBlock(ApiOptions, DetectorBlock):
    """`kubeadm`."""

    detector = "kubeadm"
    known = _table(("k8s.cluster.name", "k8s.cluster.uid"))


class DockerBlock(DetectorBlock):
    """`docker`."""

    detector = "docker"
    known = _table(
        ("host.name", "os.type"), ("container.image.id", "container.image.name", "container.image.tags", "container.name")
    )


class _AwsRetries(ComponentConfig):
    """How often AWS is asked."""

    max_attempts: int = Field(3, ge=1, description="Requests to the metadata service before it is given up.")
    max_backoff: Duration = Field(20.0, ge=0, description="Longest pause between two requests.")


class Ec2Block(_AwsRetries, DetectorBlock):
    """`ec2`."""

    detector = "ec2"
    known = _table(
        (
            "cloud.account.id",
            "cloud.availability_zone",
            "cloud.platform",
            "cloud.provider",
            "cloud.region",
            "host.id",
            "host.image.id",
            "host.name",
            "host.type",
        )
    )

    tags: list[Regexp] = Field([], description="Patterns (RE2) of the keys of the instance's tags that are added as `ec2.tag.KEY`.")
    tags_from_imds: bool = Field(
        False, description="Read tags from the metadata service, where the instance allows it; else from the EC2 API."
    )
    fail_on_missing_metadata: bool = Field(False, description="Deprecated: fail to start when the instance is not known.")


class EksBlock(_AwsRetries, DetectorBlock):
    """`eks`."""

    detector = "eks"
    known = _table(
        ("cloud.platform", "cloud.provider"),
        (
            "cloud.account.id",
            "cloud.availability_zone",
            "cloud.region",
            "host.id",
            "host.image.id",
            "host.name",
            "host.type",
            "k8s.cluster.name",
        ),
    )

    node_from_env_var: str = Field(
        "", description="Environment variable with the node's name, for nodes without metadata service; default: K8S_NODE_NAME."
    )


class EcsBlock(DetectorBlock):
    """`ecs`."""

    detector = "ecs"
    known = _table(
        (
            "aws.ecs.cluster.arn",
            "aws.ecs.launchtype",
            "aws.ecs.task.arn",
            "aws.ecs.task.family",
            "aws.ecs.task.id",
            "aws.ecs.task.revision",
            "aws.log.group.arns",
            "aws.log.group.names",
            "aws.log.stream.arns",
            "aws.log.stream.names",
            "cloud.account.id",
            "cloud.availability_zone",
            "cloud.platform",
            "cloud.provider",
            "cloud.region",
        )
    )


class GcpBlock(DetectorBlock):
    """`gcp`."""

    detector = "gcp"
    known = _table(
        (
            "cloud.account.id",
            "cloud.availability_zone",
            "cloud.platform",
            "cloud.provider",
            "cloud.region",
            "faas.instance",
            "faas.name",
            "faas.version",
            "gcp.cloud_run.job.execution",
            "gcp.cloud_run.job.task_index",
            "gcp.gce.instance_group_manager.name",
            "gcp.gce.instance_group_manager.region",
            "gcp.gce.instance_group_manager.zone",
            "host.id",
            "host.name",
            "host.type",
            "k8s.cluster.name",
        ),
        ("gcp.gce.instance.hostname", "gcp.gce.instance.name"),
    )

    labels: list[Regexp] = Field(
        [], description="Patterns (RE2) of the keys of the instance's labels that are added as `gcp.gce.instance.labels.KEY`."
    )


class AzureBlock(DetectorBlock):
    """`azure`."""

    detector = "azure"
    known = _table(
        (
            "azure.resourcegroup.name",
            "azure.vm.name",
            "azure.vm.scaleset.name",
            "azure.vm.size",
            "cloud.account.id",
            "cloud.platform",
            "cloud.provider",
            "cloud.region",
            "host.id",
            "host.name",
        ),
        ("cloud.availability_zone",),
    )

    tags: list[Regexp] = Field(
        [], description="Patterns (RE2) of the keys of the machine's tags that are added as `azure.tag.KEY`."
    )


class AksBlock(DetectorBlock):
    """`aks`."""

    detector = "aks"
    known = _table(("cloud.platform", "cloud.provider"), ("k8s.cluster.name",))
