"""k8sattributes: adds what the cluster knows of a pod to its telemetry. Upstream: processor/k8sattributesprocessor.

This release knows and checks all its options; started, it says that it needs the Kubernetes API.
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from kofagent.config.base import ComponentConfig, Duration
from kofagent.kubernetes.options import ApiOptions, needs_cluster
from kofagent.pipeline.component import Processor
from kofagent.telemetry.batch import AnyBatch

METADATA = (
    "k8s.namespace.name", "k8s.pod.name", "k8s.pod.uid", "k8s.pod.hostname", "k8s.pod.start_time", "k8s.pod.ip", "k8s.deployment.name",
    "k8s.deployment.uid", "k8s.replicaset.name", "k8s.replicaset.uid", "k8s.daemonset.name", "k8s.daemonset.uid",
    "k8s.statefulset.name", "k8s.statefulset.uid", "k8s.job.name", "k8s.job.uid", "k8s.cronjob.name", "k8s.cronjob.uid",
    "k8s.node.name", "k8s.node.uid", "k8s.container.name", "container.id", "container.image.name", "container.image.tag",
    "container.image.tags", "container.image.repo_digests", "k8s.cluster.uid", "service.namespace", "service.name", "service.version",
    "service.instance.id",
)
"""What `extract.metadata` may name."""


class ExtractRule(ComponentConfig):
    """An entry of `extract.labels` or `extract.annotations`."""

    tag_name: str = Field("", description="Attribute to set; empty: k8s.<from>.labels.<key>. $1 is a group of key_regex.")
    key: str = Field("", description="Name of the label or annotation.")
    key_regex: str = Field("", description="The same as a regular expression.")
    from_: Literal["pod", "namespace", "node", "deployment", "statefulset", "daemonset", "job"] = Field(
        "pod", alias="from", description="Whose labels or annotations.")

    @model_validator(mode="after")
    def _check(self) -> ExtractRule:
        if bool(self.key) == bool(self.key_regex):
            raise ValueError("give either key or key_regex")
        try:
            re.compile(self.key_regex)
        except re.error as error:
            raise ValueError(f"key_regex is not a regular expression: {error}") from None
        return self


class ExtractBlock(ComponentConfig):
    """`extract`."""

    metadata: list[str] | None = Field(None, description="Attributes to add; absent: upstream's default set.")
    annotations: list[ExtractRule] = Field([], description="Annotations to add.")
    labels: list[ExtractRule] = Field([], description="Labels to add.")
    otel_annotations: bool = Field(False, description="Add annotations below resource.opentelemetry.io/.")
    deployment_name_from_replicaset: bool = Field(False, description="Take the deployment's name from its replica set's.")

    @field_validator("metadata")
    @classmethod
    def _known(cls, names: list[str] | None) -> list[str] | None:
        unknown = [name for name in names or () if name not in METADATA]
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: not a metadata field; known: {', '.join(METADATA)}")
        return names


class FieldFilter(ComponentConfig):
    """An entry of `filter.fields` or `filter.labels`."""

    key: str = Field(description="Name of the field or label.")
    value: str = Field("", description="Value it is compared with.")
    op: Literal["", "equals", "not-equals", "exists", "does-not-exist"] = Field("", description="Comparison; empty: equals.")


class FilterBlock(ComponentConfig):
    """`filter`."""

    node: str = Field("", description="Only pods of this node.")
    node_from_env_var: str = Field("", description="The same, from an environment variable.")
    namespace: str = Field("", description="Only pods of this namespace.")
    fields_: list[FieldFilter] = Field([], alias="fields", description="Only pods with these fields.")
    labels: list[FieldFilter] = Field([], description="Only pods with these labels.")


class Source(ComponentConfig):
    """An entry of `sources`."""

    from_: Literal["resource_attribute", "connection"] = Field(alias="from", description="Where the pod's identity is found.")
    name: str = Field("", description="Name of the resource attribute.")

    @model_validator(mode="after")
    def _check(self) -> Source:
        if self.from_ == "resource_attribute" and not self.name:
            raise ValueError("from: resource_attribute needs name, such as k8s.pod.uid")
        return self


class Association(ComponentConfig):
    """An entry of `pod_association`: all sources must agree."""

    sources: list[Source] = Field([], max_length=4, description="What together names a pod.")


class PodName(ComponentConfig):
    """An entry of `exclude.pods`."""

    name: str = Field(description="Regular expression of pod names.")


class ExcludeBlock(ComponentConfig):
    """`exclude`."""

    pods: list[PodName] = Field([PodName(name="jaeger-agent"), PodName(name="jaeger-collector")], description="Pods left alone.")


class Config(ApiOptions):
    """Options of k8sattributes."""

    passthrough: bool = Field(False, description="Only note the sender's address as k8s.pod.ip.")
    extract: ExtractBlock = Field(ExtractBlock(), description="What is added.")
    filter: FilterBlock = Field(FilterBlock(), description="Which pods are known.")
    pod_association: list[Association] = Field([], description="How telemetry is matched to a pod, first match wins.")
    exclude: ExcludeBlock = Field(ExcludeBlock(), description="Pods left alone.")
    wait_for_metadata: bool = Field(False, description="Start only when the pods are known.")
    wait_for_metadata_timeout: Duration = Field(10.0, description="Longest wait for that.")


class K8sAttributes(Processor):
    """Checks options only."""

    Config = Config

    async def start(self) -> None:
        raise needs_cluster("the k8sattributes processor")

    async def consume(self, batch: AnyBatch) -> None:
        """Never called: `start` fails."""
        raise AssertionError("not started")


COMPONENT = K8sAttributes
