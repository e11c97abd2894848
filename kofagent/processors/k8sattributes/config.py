"""Options of `k8sattributes`, in upstream's spelling."""

from __future__ import annotations

import os
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from kofagent.config.base import ComponentConfig, Duration
from kofagent.config.re2 import compile_re2
from kofagent.kubernetes.options import ApiOptions

DEFAULT_METADATA = (
    "container.image.name",
    "container.image.tag",
    "k8s.deployment.name",
    "k8s.namespace.name",
    "k8s.node.name",
    "k8s.pod.name",
    "k8s.pod.start_time",
    "k8s.pod.uid",
)
METADATA = (
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.pod.uid",
    "k8s.pod.hostname",
    "k8s.pod.start_time",
    "k8s.pod.ip",
    "k8s.deployment.name",
    "k8s.deployment.uid",
    "k8s.replicaset.name",
    "k8s.replicaset.uid",
    "k8s.daemonset.name",
    "k8s.daemonset.uid",
    "k8s.statefulset.name",
    "k8s.statefulset.uid",
    "k8s.job.name",
    "k8s.job.uid",
    "k8s.cronjob.name",
    "k8s.cronjob.uid",
    "k8s.node.name",
    "k8s.node.uid",
    "k8s.container.name",
    "container.id",
    "container.image.name",
    "container.image.tag",
    "container.image.tags",
    "container.image.repo_digests",
    "k8s.cluster.uid",
    "service.namespace",
    "service.name",
    "service.version",
    "service.instance.id",
)
"""What `extract.metadata` may name."""


class ExtractRule(ComponentConfig):
    """An entry of `extract.labels` or `extract.annotations`."""

    tag_name: str = Field("", description="Attribute to set; default: k8s.<from>.labels.<key>. $1 is a group of key_regex.")
    key: str = Field("", description="Name of the label or annotation.")
    key_regex: str = Field("", description="Regular expression that matches whole names, instead of key.")
    from_: Literal["pod", "namespace", "node", "deployment", "replicaset", "statefulset", "daemonset", "job", "cronjob"] = Field(
        "pod", alias="from", description="Object whose labels or annotations are extracted."
    )

    @field_validator("from_", mode="before")
    @classmethod
    def _empty_is_pod(cls, value: Any) -> Any:
        return value or "pod"

    @model_validator(mode="after")
    def _check(self) -> ExtractRule:
        if bool(self.key) == bool(self.key_regex):
            raise ValueError("give either key or key_regex")
        if self.key_regex:
            compile_re2(f"^(?:{self.key_regex})$")
        return self


class ExtractBlock(ComponentConfig):
    """`extract`."""

    metadata: list[str] | None = Field(None, description="Attributes to add; default: upstream's default set.")
    annotations: list[ExtractRule] = Field([], description="Annotations to add.")
    labels: list[ExtractRule] = Field([], description="Labels to add.")
    otel_annotations: bool = Field(False, description="Add annotations below resource.opentelemetry.io/.")
    deployment_name_from_replicaset: bool = Field(
        False,
        description="Derive the deployment's name from the name of its replica set, even if the pod has no pod-template-hash.",
    )

    @field_validator("metadata")
    @classmethod
    def _known(cls, names: list[str] | None) -> list[str] | None:
        unknown = [name for name in names or () if name not in METADATA]
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: not a metadata field; known: {', '.join(METADATA)}")
        return names

    def wanted(self) -> frozenset[str]:
        """The metadata to add."""
        return frozenset(DEFAULT_METADATA if self.metadata is None else self.metadata)


class FieldFilter(ComponentConfig):
    """An entry of `filter.fields`."""

    key: str = Field(description="Name of the field.")
    value: str = Field("", description="Value to compare with.")
    op: Literal["", "equals", "not-equals"] = Field("", description="Comparison; default: equals.")

    def selector(self) -> str:
        """As a field selector of the API."""
        return f"{self.key}{'!=' if self.op == 'not-equals' else '='}{self.value}"


class LabelFilter(ComponentConfig):
    """An entry of `filter.labels`."""

    key: str = Field(description="Name of the label.")
    value: str = Field("", description="Value to compare with.")
    op: Literal["", "equals", "not-equals", "exists", "does-not-exist"] = Field("", description="Comparison; default: equals.")

    def selector(self) -> str:
        """As a label selector of the API."""
        if self.op in ("exists", "does-not-exist"):
            return f"{'!' if self.op == 'does-not-exist' else ''}{self.key}"
        return f"{self.key}{'!=' if self.op == 'not-equals' else '='}{self.value}"


class FilterBlock(ComponentConfig):
    """`filter`."""

    node: str = Field("", description="Only pods on this node.")
    node_from_env_var: str = Field("", description="Environment variable with the name of the node, instead of node.")
    namespace: str = Field("", description="Only pods in this namespace.")
    fields_: list[FieldFilter] = Field([], alias="fields", description="Only pods with these fields.")
    labels: list[LabelFilter] = Field([], description="Only pods with these labels.")

    def node_name(self) -> str:
        """The node whose pods are watched; empty: all nodes."""
        return os.environ.get(self.node_from_env_var, "") if self.node_from_env_var else self.node

    def field_selector(self) -> str:
        """All field filters, including that of the node."""
        node = self.node_name()
        return ",".join([f.selector() for f in self.fields_] + ([f"spec.nodeName={node}"] if node else []))

    def label_selector(self) -> str:
        """All label filters."""
        return ",".join([f.selector() for f in self.labels])


class Source(ComponentConfig):
    """An entry of `sources`."""

    from_: Literal["resource_attribute", "connection"] = Field(alias="from", description="Where the pod's identity is found.")
    name: str = Field("", description="Name of the resource attribute.")

    @model_validator(mode="after")
    def _check(self) -> Source:
        if self.from_ == "resource_attribute" and not self.name:
            raise ValueError("from: resource_attribute needs name, such as k8s.pod.uid")
        return self

    @property
    def attribute(self) -> str:
        """The attribute's name; empty for the connection."""
        return self.name if self.from_ == "resource_attribute" else ""


class Association(ComponentConfig):
    """An entry of `pod_association`: all sources must agree."""

    sources: list[Source] = Field([], max_length=4, description="Sources that together identify a pod.")


class PodName(ComponentConfig):
    """An entry of `exclude.pods`."""

    name: str = Field(description="Regular expression (RE2) found anywhere in the name of a pod.")

    @field_validator("name")
    @classmethod
    def _compiles(cls, value: str) -> str:
        compile_re2(value)
        return value


class ExcludeBlock(ComponentConfig):
    """`exclude`."""

    pods: list[PodName] = Field(
        [PodName(name="jaeger-agent"), PodName(name="jaeger-collector")], description="Pods whose telemetry is not changed."
    )


class Config(ApiOptions):
    """Options of k8sattributes."""

    passthrough: bool = Field(False, description="Only add the sender's address as k8s.pod.ip.")
    extract: ExtractBlock = Field(ExtractBlock(), description="What is added.")
    filter: FilterBlock = Field(FilterBlock(), description="Pods that are watched.")
    pod_association: list[Association] = Field(
        [], description="How telemetry is matched to a pod; the first rule that finds one is used."
    )
    exclude: ExcludeBlock = Field(ExcludeBlock(), description="Pods whose telemetry is not changed.")
    wait_for_metadata: bool = Field(False, description="Wait at the start until the pods are known.")
    wait_for_metadata_timeout: Duration = Field(10.0, description="Maximum time of that wait.")
    watch_sync_period: Duration = Field(300.0, ge=0, description="Accepted for compatibility; only changes are processed.")
    pod_delete_grace_period: Duration = Field(120.0, ge=0, description="Time for which a deleted pod stays known.")
    wait_for_pod: Duration = Field(
        5.0,
        ge=0,
        description="Maximum time for which telemetry waits for a pod that is not known yet, once per pod; 0: it does not wait.",
    )

    @model_validator(mode="after")
    def _check(self) -> Config:
        seen = set()
        for association in self.pod_association:
            key = tuple(sorted((s.from_, s.attribute) for s in association.sources))
            if key in seen:
                raise ValueError(f"pod_association has {' + '.join(s.attribute or s.from_ for s in association.sources)} twice")
            seen.add(key)
        return self
