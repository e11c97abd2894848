"""Options of `probabilistic_sampler`, in upstream's spelling."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from kofagent.config.base import ComponentConfig
from kofagent.transform.sampling import DIGITS, LEAST_PROBABILITY


class Config(ComponentConfig):
    """Options of probabilistic_sampler."""

    sampling_percentage: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="Share of items that pass, percent; 100 and more: all, 0: none."
    )
    hash_seed: int = Field(0, ge=0, lt=1 << 32, description="Seed of the hash; tiers with different seeds sample independently.")
    mode: Literal["", "hash_seed", "proportional", "equalizing"] = Field(
        "hash_seed",
        description="hash_seed: by a hash; proportional: a share of what comes; equalizing: until the share of all is this.",
    )
    fail_closed: bool = Field(True, description="Do not pass items that cannot be sampled, as those without a trace ID.")
    sampling_precision: int = Field(4, ge=1, le=DIGITS, description="Hexadecimal digits of thresholds that are written.")
    attribute_source: Literal["traceID", "record"] = Field(
        "traceID", description="Logs: whether the trace ID comes before from_attribute."
    )
    from_attribute: str = Field("", description="Logs: attribute that is hashed where there is no trace ID, or instead of it.")
    sampling_priority: str = Field("", description="Logs: attribute with a percentage that counts instead of the option's.")

    @field_validator("sampling_percentage")
    @classmethod
    def _not_too_small(cls, value: float) -> float:
        if 0 < value / 100 < LEAST_PROBABILITY:
            raise ValueError("the percentage is too small; write 0 or more than 1.4e-15")
        return value
