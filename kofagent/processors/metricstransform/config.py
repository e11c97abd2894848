"""Options of `metricstransform`, in upstream's spelling."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from kofagent.config.base import ComponentConfig
from kofagent.config.re2 import compile_re2

Aggregation = Literal["", "sum", "mean", "min", "max", "count", "median"]


class ValueAction(ComponentConfig):
    """A value of a label and what it becomes."""

    value: str = Field("", description="Present value.")
    new_value: str = Field("", description="New value; `{{version}}` is the version of the agent.")


class Operation(ComponentConfig):
    """One operation on a metric."""

    action: Literal[
        "add_label",
        "update_label",
        "delete_label_value",
        "toggle_scalar_data_type",
        "experimental_scale_value",
        "aggregate_labels",
        "aggregate_label_values",
    ] = Field(description="What is done.")
    label: str = Field("", description="Label that is changed.")
    new_label: str = Field("", description="Label that is added, or new name of the label.")
    label_set: list[str] = Field([], description="Labels that stay (aggregate_labels).")
    aggregation_type: Aggregation = Field("", description="What is made of the values of points that become equal.")
    aggregated_values: list[str] = Field([], description="Values that become new_value (aggregate_label_values).")
    new_value: str = Field("", description="New value; `{{version}}` is the version of the agent.")
    value_actions: list[ValueAction] = Field([], description="New values of the label, by the present ones (update_label).")
    experimental_scale: float = Field(0.0, description="Factor of the values (experimental_scale_value).")
    label_value: str = Field("", description="Points with this value of the label are removed (delete_label_value).")

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Operation:
        needs = {
            "update_label": ("label",),
            "add_label": ("new_label", "new_value"),
            "experimental_scale_value": ("experimental_scale",),
        }
        missing = [name for name in needs.get(self.action, ()) if not getattr(self, name)]
        if missing:
            raise ValueError(f"{self.action} needs {' and '.join(missing)}")
        return self


class Transform(ComponentConfig):
    """What is done to the metrics that match."""

    include: str = Field(min_length=1, description="Name of the metrics, or a pattern of it.")
    match_type: Literal["", "strict", "regexp"] = Field("strict", description="strict: equal; regexp: RE2, found anywhere.")
    experimental_match_labels: dict[str, str] = Field(
        {}, description="Labels that a point must have, matched as the name is; one that lacks a label has it empty."
    )
    action: Literal["update", "insert", "combine", "group"] = Field(
        description="update: in place; insert: to a copy; combine: all matches become one; group: they get a resource of their own."
    )
    new_name: str = Field("", description="New name; of a regexp, $1 and ${name} are groups.")
    group_resource_labels: dict[str, str] | None = Field(None, description="Attributes of the new resource (group).")
    aggregation_type: Aggregation = Field("", description="What is made of the values of points that become equal (combine).")
    submatch_case: Literal["", "lower", "upper"] = Field("", description="Case of label values that are groups (combine).")
    operations: list[Operation] = Field([], description="Operations on the result, in order.")

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Transform:
        if self.match_type == "regexp":
            for pattern in (self.include, *self.experimental_match_labels.values()):
                compile_re2(pattern)
        needs = {"insert": ("new_name",), "combine": ("new_name", "aggregation_type"), "group": ("group_resource_labels",)}
        missing = [name for name in needs.get(self.action, ()) if getattr(self, name) in ("", None)]
        if missing:
            raise ValueError(f"{self.action} needs {' and '.join(missing)}")
        return self


class Config(ComponentConfig):
    """Options of metricstransform."""

    transforms: list[Transform] = Field([], description="Transforms, in order.")
