"""Options of `cumulativetodelta`, in upstream's spelling."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from kofagent.config.base import ComponentConfig, Duration
from kofagent.config.filterset import FilterSetBlock, compile_filterset

KINDS = {"sum": "sum", "histogram": "histogram", "exponentialhistogram": "exponential_histogram"}
"""Upstream's names of types, and those of the data model."""


class MatchMetrics(FilterSetBlock):
    """Which metrics: all that have one of the names and one of the types."""

    metrics: list[str] = Field([], description="Names, or patterns of them; needs match_type.")
    metric_types: list[str] = Field([], description="sum, histogram or exponentialhistogram.")

    @field_validator("metric_types")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        lowered = [each.lower() for each in value]
        for each in lowered:
            if each not in KINDS:
                raise ValueError(f"{each!r} is not one of {', '.join(KINDS)}")
        return lowered

    @model_validator(mode="after")
    def _pair(self) -> MatchMetrics:
        if self.metrics and not self.match_type:
            raise ValueError("metrics need match_type; write strict or regexp")
        if self.match_type and not self.metrics:
            raise ValueError("match_type needs metrics")
        if self.metrics:
            compile_filterset(self.match_type, self.metrics)
        return self


class Config(ComponentConfig):
    """Options of cumulativetodelta."""

    max_staleness: Duration = Field(3600.0, ge=0, description="Time after which a stream without points is forgotten; 0: never.")
    initial_value: Literal["auto", "keep", "drop"] = Field(
        "auto",
        description="The first point of a stream: keep passes it on, drop does not, auto does if the stream began after the agent.",
    )
    include: MatchMetrics = Field(MatchMetrics(), description="Metrics that are converted; default: all.")
    exclude: MatchMetrics = Field(MatchMetrics(), description="Metrics that are not converted, even if included.")
