"""Options of `tail_sampling`, in upstream's spelling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from kofagent.config.base import ComponentConfig, Duration
from kofagent.config.re2 import compile_re2
from kofagent.ottl import OttlError, parse_condition
from kofagent.ottl.options import ErrorMode, in_small_letters


class Latency(ComponentConfig):
    """latency"""

    threshold_ms: int = Field(0, ge=0, description="The trace takes longer than this, milliseconds.")
    upper_threshold_ms: int = Field(0, ge=0, description="And not longer than this, milliseconds; 0: any time.")


class NumericAttribute(ComponentConfig):
    """numeric_attribute"""

    key: str = Field("", description="Attribute of a span or resource.")
    min_value: int = Field(0, description="Least value; 0: none.")
    max_value: int = Field(0, description="Greatest value; 0: none.")
    invert_match: bool = Field(False, description="Sample traces without such a value.")


class Probabilistic(ComponentConfig):
    """probabilistic"""

    hash_salt: str = Field("", description="Salt of the hash; tiers with different salts sample independently.")
    sampling_percentage: float = Field(0.0, description="Share of the traces, percent.")


class StatusCode(ComponentConfig):
    """status_code"""

    status_codes: list[Literal["OK", "ERROR", "UNSET"]] = Field([], description="Statuses of which a span has one.")


class StringAttribute(ComponentConfig):
    """string_attribute"""

    key: str = Field("", description="Attribute of a span or resource.")
    values: list[str] = Field([], description="Values, or patterns.")
    enabled_regex_matching: bool = Field(False, description="The values are RE2 patterns, found anywhere.")
    cache_max_size: int = Field(0, description="Accepted for compatibility; the memory is bounded.")
    invert_match: bool = Field(False, description="Sample traces without such a value.")


class RateLimiting(ComponentConfig):
    """rate_limiting"""

    spans_per_second: int = Field(0, ge=0, description="Spans that pass each second.")
    burst_capacity: int = Field(0, ge=0, description="Spans that may pass at once; 0: twice spans_per_second.")


class BytesLimiting(ComponentConfig):
    """bytes_limiting"""

    bytes_per_second: int = Field(0, ge=0, description="Bytes that pass each second.")
    burst_capacity: int = Field(0, ge=0, description="Bytes that may pass at once; 0: twice bytes_per_second.")


class SpanCount(ComponentConfig):
    """span_count"""

    min_spans: int = Field(0, ge=0, description="Least number of spans.")
    max_spans: int = Field(0, ge=0, description="Greatest number of spans; 0: any.")


class TraceStateBlock(ComponentConfig):
    """trace_state"""

    key: str = Field("", description="Key in tracestate.")
    values: list[str] = Field([], description="Values of which a span has one.")


class BooleanAttribute(ComponentConfig):
    """boolean_attribute"""

    key: str = Field("", description="Attribute of a span or resource.")
    value: bool = Field(False, description="Its value.")
    invert_match: bool = Field(False, description="Sample traces without this value.")


class OttlCondition(ComponentConfig):
    """ottl_condition"""

    error_mode: ErrorMode = Field("propagate", description="When a condition cannot be evaluated: ignore, silent: it is false.")
    span: list[str] = Field([], description="OTTL conditions of spans, of which one is true.")
    spanevent: list[str] = Field([], description="OTTL conditions of span events, of which one is true.")

    _lower = field_validator("error_mode", mode="before")(in_small_letters)

    @field_validator("span", "spanevent")
    @classmethod
    def _parsed(cls, value: list[str], info: Any) -> list[str]:
        for text in value:
            try:
                parse_condition(text, info.field_name)
            except OttlError as error:
                raise ValueError(f"{text!r}: {error}") from None
        return value


SHARED = Literal[
    "always_sample",
    "latency",
    "numeric_attribute",
    "probabilistic",
    "status_code",
    "string_attribute",
    "rate_limiting",
    "bytes_limiting",
    "span_count",
    "trace_state",
    "boolean_attribute",
    "ottl_condition",
    "trace_flags",
]


class Shared(ComponentConfig):
    """A policy that looks at the trace."""

    name: str = Field(min_length=1, description="Name, for metrics.")
    type: SHARED = Field(description="What the policy does; its options are in the block of this name.")
    latency: Latency = Field(Latency(), description="By duration.")
    numeric_attribute: NumericAttribute = Field(NumericAttribute(), description="By a number.")
    probabilistic: Probabilistic = Field(Probabilistic(), description="By a hash of the trace ID.")
    status_code: StatusCode = Field(StatusCode(), description="By the status of a span.")
    string_attribute: StringAttribute = Field(StringAttribute(), description="By a text.")
    rate_limiting: RateLimiting = Field(RateLimiting(), description="As long as there are not too many spans.")
    bytes_limiting: BytesLimiting = Field(BytesLimiting(), description="As long as there are not too many bytes.")
    span_count: SpanCount = Field(SpanCount(), description="By the number of spans.")
    trace_state: TraceStateBlock = Field(TraceStateBlock(), description="By tracestate.")
    boolean_attribute: BooleanAttribute = Field(BooleanAttribute(), description="By a truth value.")
    ottl_condition: OttlCondition = Field(OttlCondition(), description="By OTTL conditions.")

    @model_validator(mode="after")
    def _complete(self) -> Shared:
        numeric, texts = self.numeric_attribute, self.string_attribute
        if self.type == "numeric_attribute" and not numeric.min_value and not numeric.max_value:
            raise ValueError("numeric_attribute needs min_value or max_value")
        if self.type == "status_code" and not self.status_code.status_codes:
            raise ValueError("status_code needs status_codes")
        if self.type == "ottl_condition" and not self.ottl_condition.span and not self.ottl_condition.spanevent:
            raise ValueError("ottl_condition needs span or spanevent")
        if self.type == "string_attribute" and texts.enabled_regex_matching:
            for value in texts.values:
                compile_re2(value)
        return self

    def parts(self) -> Iterator[Shared]:
        """The policies that this one is made of."""
        return iter(())

    @property
    def stateful(self) -> bool:
        """Whether the policy cannot be asked about a part of a trace."""
        if self.type in ("rate_limiting", "bytes_limiting"):
            return True
        if self.type == "latency" and self.latency.upper_threshold_ms:
            return True
        return bool(self.type == "span_count" and self.span_count.max_spans) or any(each.stateful for each in self.parts())


class NotBlock(ComponentConfig):
    """not"""

    not_sub_policy: Shared | None = Field(None, description="Policy that must not sample.")


class AndSubPolicy(Shared):
    """A policy of `and` or `drop`."""

    type: Literal[SHARED, "not"] = Field(description="What the policy does.")  # type: ignore[assignment]
    not_: NotBlock = Field(NotBlock(), validation_alias="not", description="The opposite of a policy.")

    def parts(self) -> Iterator[Shared]:
        """As `Shared.parts`."""
        if self.type == "not":
            yield _needed(self.not_.not_sub_policy, "not needs not_sub_policy")

    @model_validator(mode="after")
    def _has_parts(self) -> AndSubPolicy:
        list(self.parts())
        return self


def _needed(policy: Shared | None, message: str) -> Shared:
    if policy is None:
        raise ValueError(message)
    return policy


class AndBlock(ComponentConfig):
    """and"""

    and_sub_policy: list[AndSubPolicy] = Field([], description="Policies that all have to sample.")


class DropBlock(ComponentConfig):
    """drop"""

    drop_sub_policy: list[AndSubPolicy] = Field([], description="Policies that all have to sample, for the trace to be dropped.")


class CompositeSubPolicy(Shared):
    """A policy of `composite`."""

    type: Literal[SHARED, "and"] = Field(description="What the policy does.")  # type: ignore[assignment]
    and_: AndBlock = Field(AndBlock(), validation_alias="and", description="Several policies together.")

    def parts(self) -> Iterator[Shared]:
        """As `Shared.parts`."""
        return iter(self.and_.and_sub_policy if self.type == "and" else ())


class RateAllocation(ComponentConfig):
    """The share of one policy."""

    policy: str = Field("", description="Name of the policy.")
    percent: int = Field(0, ge=0, le=100, description="Share of max_total_spans_per_second; 0: an equal share.")


class CompositeBlock(ComponentConfig):
    """composite"""

    max_total_spans_per_second: int = Field(0, ge=0, description="Spans of all policies that pass each second.")
    policy_order: list[str] = Field([], description="Names of the policies in the order they are asked; others follow.")
    composite_sub_policy: list[CompositeSubPolicy] = Field([], description="The policies.")
    rate_allocation: list[RateAllocation] = Field([], description="Shares of the policies.")

    def ordered(self) -> list[CompositeSubPolicy]:
        """The policies in the order they are asked."""
        place = {name: i for i, name in enumerate(self.policy_order)}
        return sorted(self.composite_sub_policy, key=lambda each: place.get(each.name, len(place)))


class Policy(Shared):
    """A policy."""

    type: Literal[SHARED, "composite", "and", "not", "drop"] = Field(description="What the policy does.")  # type: ignore[assignment]
    composite: CompositeBlock = Field(CompositeBlock(), description="Several policies with shares of a rate.")
    and_: AndBlock = Field(AndBlock(), validation_alias="and", description="Several policies together.")
    not_: NotBlock = Field(NotBlock(), validation_alias="not", description="The opposite of a policy.")
    drop: DropBlock = Field(DropBlock(), description="Traces that do not pass, whatever the others say.")

    def parts(self) -> Iterator[Shared]:
        """As `Shared.parts`."""
        if self.type == "not":
            yield _needed(self.not_.not_sub_policy, "not needs not_sub_policy")
        elif self.type == "and":
            yield from self.and_.and_sub_policy
        elif self.type == "drop":
            yield from self.drop.drop_sub_policy
        elif self.type == "composite":
            yield from self.composite.ordered()

    @model_validator(mode="after")
    def _has_parts(self) -> Policy:
        if self.type in ("not", "and", "drop", "composite") and not list(self.parts()):
            raise ValueError(f"{self.type} needs {self.type}_sub_policy")
        return self


class DecisionCache(ComponentConfig):
    """Decisions that are remembered for late spans."""

    sampled_cache_size: int = Field(0, ge=0, description="Sampled traces; 0: num_traces.")
    non_sampled_cache_size: int = Field(0, ge=0, description="Traces that were not sampled; 0: num_traces.")


class Config(ComponentConfig):
    """Options of tail_sampling."""

    policies: list[Policy] = Field(min_length=1, description="Policies; a trace passes if one samples it and none drops it.")
    decision_wait: Duration = Field(30.0, ge=0, description="Time from the first span of a trace to the decision.")
    decision_wait_after_root_received: Duration = Field(
        0.0, ge=0, description="Time from the root span to the decision, if that is earlier; 0: it makes no difference."
    )
    num_traces: int = Field(50_000, ge=1, description="Traces that wait at most; the oldest go for new ones.")
    block_on_overflow: bool = Field(False, description="Refuse spans for now instead, when num_traces is reached.")
    expected_new_traces_per_sec: int = Field(0, ge=0, description="Accepted for compatibility; nothing is allocated in advance.")
    decision_cache: DecisionCache = Field(DecisionCache(), description="Decisions that are remembered.")
    tail_storage: str = Field("", max_length=0, description="Accepted when empty; spans are held in memory.")
    sample_on_first_match: bool = Field(False, description="Ask no further policies once one samples.")
    sampling_strategy: Literal["trace-complete", "span-ingest"] = Field(
        "trace-complete", description="trace-complete: decide on the whole trace; span-ingest: on each part, as it comes."
    )
    drop_pending_traces_on_shutdown: bool = Field(False, description="Drop what waits at the stop instead of deciding on it.")
    maximum_trace_size_bytes: int = Field(0, ge=0, description="Larger traces do not pass; 0: any size.")
    num_shards: int = Field(1, ge=0, le=256, description="Accepted for compatibility; there is one loop.")

    @model_validator(mode="after")
    def _policies_fit(self) -> Config:
        names = [policy.name for policy in self.policies]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"the policy {twice[0]!r} is there twice; names have to differ")
        stateful = [policy.name for policy in self.policies if policy.stateful]
        if self.sampling_strategy == "span-ingest" and stateful:
            raise ValueError(f"the policy {stateful[0]!r} needs whole traces, which span-ingest has not")
        return self
