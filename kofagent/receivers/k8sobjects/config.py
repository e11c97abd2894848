"""Options of `k8sobjects`, in upstream's spelling."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from kofagent.config.base import ComponentConfig, Duration, LeaderElectorId, StorageId
from kofagent.config.re2 import compile_re2
from kofagent.kubernetes.options import ApiOptions

DEFAULT_INTERVAL = 3600.0


class NamespaceFilter(ComponentConfig):
    """An entry of `exclude_namespaces`; a bare string means `strict`."""

    strict: str = Field("", description="The namespace's name.")
    regexp: str = Field("", description="RE2 expression found anywhere in the name.")

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        return {"strict": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> NamespaceFilter:
        if bool(self.strict) == bool(self.regexp):
            raise ValueError("give either strict or regexp")
        if self.regexp:
            compile_re2(self.regexp)
        return self


class ObjectsBlock(ComponentConfig):
    """An entry of `objects`."""

    name: str = Field(min_length=1, description="Plural name of the resource, such as pods.")
    group: str = Field("", description="API group, if the name exists in several.")
    mode: Literal["pull", "watch"] = Field("pull", description="pull: list the objects every interval; watch: watch them.")
    label_selector: str = Field("", description="Only objects with these labels.")
    field_selector: str = Field("", description="Only objects with these field values.")
    interval: Duration = Field(0.0, ge=0, description="Time between two pulls; 0: the receiver's interval.")
    initial_delay: Duration = Field(0.0, ge=0, description="Time before the first pull.")
    resource_version: str = Field(
        "",
        description="Resource version at which the first watch begins; default: now. A version kept in storage takes precedence.",
    )
    persist_resource_version: bool = Field(True, description="Keep the resource version of this object if storage is set.")
    namespaces: list[str] = Field([], description="Only these namespaces; default: all.")
    exclude_namespaces: list[NamespaceFilter] = Field([], description="Namespaces that are left out.")
    exclude_watch_type: list[Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]] = Field(
        [], description="Watch events that are left out."
    )

    @model_validator(mode="after")
    def _check(self) -> ObjectsBlock:
        if self.mode == "pull" and self.exclude_watch_type:
            raise ValueError("exclude_watch_type can only be used with mode: watch")
        if self.mode == "watch" and self.initial_delay:
            raise ValueError("initial_delay can only be used with mode: pull")
        if self.namespaces and self.exclude_namespaces:
            raise ValueError("namespaces and exclude_namespaces cannot both be given")
        return self


class Config(ApiOptions):
    """Options of k8sobjects."""

    interval: Duration = Field(0.0, ge=0, description="Time between two pulls of objects without their own interval; 0: 1h.")
    objects: list[ObjectsBlock] = Field([], description="Objects that are collected.")
    error_mode: Literal["propagate", "ignore", "silent"] = Field("propagate", description="What happens if an object is unknown.")
    include_initial_state: bool = Field(False, description="Send all existing objects when a watch begins.")
    storage: StorageId | None = Field(None, description="Storage extension that keeps resource versions across restarts.")
    k8s_leader_elector: LeaderElectorId | None = Field(
        None, description="Extension k8s_leader_elector; the receiver collects only while this replica leads."
    )

    @model_validator(mode="after")
    def _check(self) -> Config:
        for i, block in enumerate(self.objects):
            if self.include_initial_state and block.mode == "pull":
                raise ValueError(f"objects.{i}: include_initial_state can only be used with mode: watch")
            if block.initial_delay and block.initial_delay >= self.interval_of(block):
                raise ValueError(f"objects.{i}: initial_delay must be less than interval")
        return self

    def interval_of(self, block: ObjectsBlock) -> float:
        """Seconds between two pulls of a block."""
        return block.interval or self.interval or DEFAULT_INTERVAL
