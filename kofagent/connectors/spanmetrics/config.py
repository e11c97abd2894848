"""Options of `spanmetrics`, in upstream's spelling."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from kofagent.config.base import ComponentConfig, Duration
from kofagent.config.re2 import Match, PatternError, compile_search
from kofagent.ottl import EvaluationError
from kofagent.ottl.functions.core import glob_regex

SERVICE, SPAN_NAME, KIND, STATUS, INSTANCE = "service.name", "span.name", "span.kind", "status.code", "collector.instance.id"
BUCKETS = (0.002, 0.004, 0.006, 0.008, 0.01, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.4, 2.0, 5.0, 10.0, 15.0)
"""Bounds of the durations, seconds."""
DELTA = "AGGREGATION_TEMPORALITY_DELTA"


class Dimension(ComponentConfig):
    """An attribute of spans or resources, or several by a pattern."""

    name: str = Field("", description="Attribute of the span, or else of its resource.")
    default: str | None = Field(None, description="Value where neither has it; default: the metric has no such attribute.")
    glob: str = Field("", description="Pattern of names: `*` is a part between dots, `**` any number of them.")

    @model_validator(mode="after")
    def _one_of_them(self) -> Dimension:
        if bool(self.name) == bool(self.glob):
            raise ValueError("a dimension needs either name or glob")
        if self.glob and self.default is not None:
            raise ValueError("a glob cannot have a default")
        if self.glob:
            self.pattern()
        return self

    def pattern(self) -> Callable[[str], Match | None]:
        """Tells whether the glob means a name. ValueError."""
        try:
            return compile_search(rf"\A(?:{glob_regex(self.glob, '.')})\z")
        except (EvaluationError, PatternError) as error:
            raise ValueError(f"{self.glob!r} is no glob: {error}") from None


def _check(dimensions: Iterable[Dimension], what: str) -> None:
    names = {SERVICE, SPAN_NAME, KIND, STATUS, INSTANCE}
    for dimension in dimensions:
        if dimension.name in names:
            raise ValueError(f"{what} names {dimension.name!r} twice, or it is always there")
        if dimension.name:
            names.add(dimension.name)
    for dimension in dimensions:
        if dimension.glob and (met := sorted(filter(dimension.pattern(), names))):
            raise ValueError(f"the glob {dimension.glob!r} of {what} means {met[0]!r}, which is there already")


class Explicit(ComponentConfig):
    """Histograms with bounds."""

    buckets: list[Duration] = Field(list(BUCKETS), description="Bounds of the buckets.")

    @field_validator("buckets")
    @classmethod
    def _growing(cls, value: list[float]) -> list[float]:
        if any(a >= b for a, b in itertools.pairwise(value)):
            raise ValueError("the buckets have to grow")
        return value


class Exponential(ComponentConfig):
    """Exponential histograms."""

    max_size: int = Field(160, ge=0, le=10_000, description="Most buckets; the scale follows from it. 0: 160.")


class Histogram(ComponentConfig):
    """Durations."""

    disable: bool = Field(False, description="No durations.")
    unit: Literal["ms", "s"] = Field("ms", description="Unit of durations.")
    explicit: Explicit | None = Field(None, description="Buckets with bounds, which is the default.")
    exponential: Exponential | None = Field(None, description="Exponential histograms instead.")
    dimensions: list[Dimension] = Field([], description="Further dimensions of durations.")

    @field_validator("unit", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @model_validator(mode="before")
    @classmethod
    def _present(cls, data: Any) -> Any:
        """`exponential:` without options means exponential histograms."""
        if isinstance(data, dict):
            return {k: {} if k in ("explicit", "exponential") and v is None else v for k, v in data.items()}
        return data

    @model_validator(mode="after")
    def _either(self) -> Histogram:
        if self.explicit is not None and self.exponential is not None:
            raise ValueError("use either explicit or exponential")
        return self


class Exemplars(ComponentConfig):
    """Spans as examples of the points that they are counted in."""

    enabled: bool = Field(False, description="Attach exemplars.")
    max_per_data_point: int = Field(5, ge=0, le=1000, description="Most exemplars of a point.")


class Events(ComponentConfig):
    """A metric of span events."""

    enabled: bool = Field(False, description="Count events.")
    dimensions: list[Dimension] = Field([], description="Attributes of events to count by; at least one.")

    @model_validator(mode="after")
    def _has_dimensions(self) -> Events:
        if self.enabled and not self.dimensions:
            raise ValueError("events need dimensions")
        return self


class Config(ComponentConfig):
    """Options of spanmetrics."""

    dimensions: list[Dimension] = Field([], description="Further dimensions of all metrics.")
    calls_dimensions: list[Dimension] = Field([], description="Further dimensions of calls.")
    exclude_dimensions: list[str] = Field(
        [], description="Of service.name, span.name, span.kind, status.code and collector.instance.id, those to leave out."
    )
    dimensions_cache_size: int = Field(0, ge=0, description="Accepted for compatibility; see aggregation_cardinality_limit.")
    resource_metrics_cache_size: int = Field(
        1000, ge=1, description="Resources of which metrics are held; those unused for longest go."
    )
    resource_metrics_key_attributes: list[str] = Field(
        [], description="Resource attributes that tell resources apart; default: all."
    )
    aggregation_temporality: Literal["AGGREGATION_TEMPORALITY_CUMULATIVE", "AGGREGATION_TEMPORALITY_DELTA"] = Field(
        "AGGREGATION_TEMPORALITY_CUMULATIVE", description="Temporality of the metrics."
    )
    histogram: Histogram = Field(Histogram(), description="Durations.")
    metrics_flush_interval: Duration = Field(60.0, gt=0, description="Time between two batches of metrics.")
    metrics_expiration: Duration = Field(0.0, ge=0, description="Time after which a resource without spans is forgotten; 0: never.")
    series_expiration: Duration = Field(0.0, ge=0, description="Time after which a series without spans is forgotten; 0: never.")
    metric_timestamp_cache_size: int = Field(
        1000, ge=1, description="Series of which the time of the last delta is remembered, where the next one then begins."
    )
    namespace: str = Field("traces.span.metrics", description="What the names of the metrics begin with.")
    exemplars: Exemplars = Field(Exemplars(), description="Exemplars.")
    events: Events = Field(Events(), description="Metric of span events.")
    include_instrumentation_scope: list[str] = Field([], description="Scopes whose name and version become dimensions.")
    aggregation_cardinality_limit: int = Field(
        0, ge=0, description="Most series of a metric and resource; what is beyond is counted as overflow. 0: no limit."
    )
    add_resource_attributes: bool = Field(False, description="Accepted for compatibility; resources always have their attributes.")
    enable_metrics_sampling_method: bool = Field(
        False, description="Add sampling.method: extrapolated where tracestate says that spans stand for more, else counted."
    )

    @model_validator(mode="after")
    def _dimensions(self) -> Config:
        _check(self.dimensions, "dimensions")
        _check(self.calls_dimensions, "calls_dimensions")
        _check(self.histogram.dimensions, "histogram.dimensions")
        if self.events.enabled:
            _check(self.events.dimensions, "events.dimensions")
        return self
