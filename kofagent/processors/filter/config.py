"""Options of `filter`, in upstream's spelling."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from kofagent.config.base import ComponentConfig
from kofagent.config.errors import ConfigErrors, Problem, suggest
from kofagent.config.filterset import RegexpOptions, compile_filterset
from kofagent.ottl import OttlError, parse_condition
from kofagent.ottl.options import ErrorMode, in_small_letters, or_strings
from kofagent.processors.filter.contexts import OF_SIGNAL, infer
from kofagent.processors.filter.expressions import compile_metric_expressions
from kofagent.telemetry.signal import Signal
from kofagent.transform.matching import AttributeBlock, MatchBlock, SeverityBlock, compile_attributes, unfit

CONTEXTS = {
    "resource": "resource",
    "metric": "metric",
    "datapoint": "datapoint",
    "log_record": "log",
    "span": "span",
    "spanevent": "spanevent",
}
"""The OTTL context of the conditions under each key."""


class Written(NamedTuple):
    """A condition, its place in the configuration, its context and what happens when it fails."""

    place: str
    text: str
    context: str
    error_mode: str


class MetricMatch(ComponentConfig):
    """`metrics.include` and `metrics.exclude`."""

    match_type: Literal["strict", "regexp", "expr", ""] = Field(
        "", description="strict: equal; regexp: an RE2 expression found anywhere; expr: expressions of the expr language."
    )
    regexp: RegexpOptions | None = Field(None, description="Accepted for compatibility; results are always remembered.")
    metric_names: list[str] = Field([], description="Names of metrics.")
    expressions: list[str] = Field(
        [], description='expr expressions, one of which is true of a data point: MetricName == "a" and HasLabel("b").'
    )
    resource_attributes: list[AttributeBlock] = Field([], description="Attributes that the resource must have, all of them.")

    @model_validator(mode="after")
    def _patterns_compile(self) -> MetricMatch:
        if self.match_type == "expr":
            if self.metric_names:
                raise ValueError("metric_names need match_type strict or regexp; with expr write expressions")
            compile_metric_expressions(self.expressions)
        elif self.expressions:
            raise ValueError("expressions need match_type: expr")
        if self.metric_names:
            compile_filterset(self.match_type, self.metric_names)
        if self.resource_attributes:
            compile_attributes(self.match_type, self.resource_attributes)
        return self


class LogMatch(ComponentConfig):
    """`logs.include` and `logs.exclude`: everything that is given must match."""

    match_type: Literal["strict", "regexp", ""] = Field("", description="strict: equal; regexp: an RE2 expression found anywhere.")
    resource_attributes: list[AttributeBlock] = Field([], description="Attributes that the resource must have, all of them.")
    record_attributes: list[AttributeBlock] = Field([], description="Attributes that the record must have, all of them.")
    severity_texts: list[str] = Field([], description="Severity texts.")
    severity_number: SeverityBlock | None = Field(None, description="Severity numbers.")
    bodies: list[str] = Field([], description="Bodies.")

    def block(self) -> MatchBlock | None:
        """The same as match properties; None when nothing is given, which upstream ignores. ValueError for wrong patterns."""
        if not (self.resource_attributes or self.record_attributes or self.severity_texts or self.severity_number or self.bodies):
            return None
        return MatchBlock(
            match_type=self.match_type,
            resources=self.resource_attributes,
            attributes=self.record_attributes,
            log_severity_texts=self.severity_texts,
            log_severity_number=self.severity_number,
            log_bodies=self.bodies,
        )

    @model_validator(mode="after")
    def _patterns_compile(self) -> LogMatch:
        self.block()
        return self


class _Conditions(ComponentConfig):
    """A signal's options: match lists or OTTL conditions, not both."""

    @field_validator(*CONTEXTS, check_fields=False)
    @classmethod
    def _parse(cls, value: list[str], info: Any) -> list[str]:
        problems = []
        for i, text in enumerate(value):
            try:
                parse_condition(text, CONTEXTS[info.field_name])
            except OttlError as error:
                problems.append(error.problem((i,), text))
        if problems:
            raise ConfigErrors(problems)
        return value

    @model_validator(mode="after")
    def _one_way(self) -> _Conditions:
        lists = [n for n in ("include", "exclude") if getattr(self, n, None) is not None]
        conditions = [n for n in CONTEXTS if getattr(self, n, None)]
        if lists and conditions:
            raise ValueError(
                f"{lists[0]} and the conditions under {conditions[0]} cannot be combined; write the list as a condition as well"
            )
        return self


class MetricFilters(_Conditions):
    """`metrics`."""

    include: MetricMatch | None = Field(None, description="Keep only these metrics.")
    exclude: MetricMatch | None = Field(None, description="Leave out these metrics.")
    regexp: RegexpOptions | None = Field(None, description="Accepted for compatibility; results are always remembered.")
    resource: list[str] = Field([], description="OTTL conditions; one that is true leaves out the whole resource.")
    metric: list[str] = Field([], description="OTTL conditions; one that is true leaves out the metric.")
    datapoint: list[str] = Field([], description="OTTL conditions; one that is true leaves out the data point.")


class LogFilters(_Conditions):
    """`logs`."""

    include: LogMatch | None = Field(None, description="Keep only these records.")
    exclude: LogMatch | None = Field(None, description="Leave out these records.")
    resource: list[str] = Field([], description="OTTL conditions; one that is true leaves out the whole resource.")
    log_record: list[str] = Field([], description="OTTL conditions; one that is true leaves out the record.")


class TraceFilters(_Conditions):
    """`traces`."""

    resource: list[str] = Field([], description="OTTL conditions; one that is true leaves out the whole resource.")
    span: list[str] = Field([], description="OTTL conditions; one that is true leaves out the span.")
    spanevent: list[str] = Field([], description="OTTL conditions; one that is true leaves out the span's event.")


class SpanLists(ComponentConfig):
    """`spans`: the older match lists of traces."""

    include: MatchBlock | None = Field(None, description="Keep only these spans.")
    exclude: MatchBlock | None = Field(None, description="Leave out these spans.")

    @field_validator("include", "exclude")
    @classmethod
    def _for_spans(cls, value: MatchBlock | None) -> MatchBlock | None:
        wrong = unfit(value, Signal.TRACES) if value is not None else []
        if wrong:
            raise ValueError(f"spans do not have {', '.join(wrong)}")
        return value


class ConditionGroup(ComponentConfig):
    """Conditions of one context."""

    context: str = Field("", description="OTTL context; default: the one that the paths begin with (log.body).")
    conditions: list[str] = Field(min_length=1, description="OTTL conditions; one that is true leaves out the item.")
    error_mode: ErrorMode | None = Field(None, description="error_mode of the group; default: that of the processor.")

    _lower = field_validator("context", "error_mode", mode="before")(in_small_letters)


GROUPS = {Signal.TRACES: "trace_conditions", Signal.METRICS: "metric_conditions", Signal.LOGS: "log_conditions"}
_SIGNALS = {name: signal for signal, name in GROUPS.items()}


class _Strings(ConditionGroup):
    """A list of conditions written as strings, without a group around them."""


class Config(ComponentConfig):
    """Options of filter."""

    error_mode: ErrorMode = Field(
        "ignore",
        description="When a condition fails: ignore logs it and keeps the item, silent keeps it, propagate drops the payload.",
    )
    metrics: MetricFilters = Field(MetricFilters(), description="Filters of metrics.")
    logs: LogFilters = Field(LogFilters(), description="Filters of logs.")
    spans: SpanLists = Field(SpanLists(), description="Match lists of traces.")
    traces: TraceFilters = Field(TraceFilters(), description="Conditions of traces.")
    trace_conditions: list[ConditionGroup] = Field(
        [], description="Conditions of traces, as strings or groups.", json_schema_extra=or_strings
    )
    metric_conditions: list[ConditionGroup] = Field(
        [], description="Conditions of metrics, as strings or groups.", json_schema_extra=or_strings
    )
    log_conditions: list[ConditionGroup] = Field(
        [], description="Conditions of logs, as strings or groups.", json_schema_extra=or_strings
    )

    profiles: dict[str, Any] = Field({}, description="Accepted for compatibility; profiles are not received.")
    profile_conditions: list[Any] = Field([], description="Accepted for compatibility; profiles are not received.")

    _lower = field_validator("error_mode", mode="before")(in_small_letters)

    @field_validator(*GROUPS.values(), mode="before")
    @classmethod
    def _strings_are_one_group(cls, value: Any) -> Any:
        if not isinstance(value, list) or not any(isinstance(item, str) for item in value):
            return value
        if not all(isinstance(item, str) for item in value):
            raise ValueError("conditions as strings and as groups cannot be mixed; write all of them as groups")
        return [_Strings(conditions=value)]

    @field_validator(*GROUPS.values())
    @classmethod
    def _conditions_parse(cls, value: list[ConditionGroup], info: Any) -> list[ConditionGroup]:
        signal = _SIGNALS[info.field_name]
        problems = []
        for i, group in enumerate(value):
            if group.context and group.context not in OF_SIGNAL[signal]:
                message = f"{group.context!r} is not a context of {signal.value}"
                problems.append(Problem((i, "context"), message, suggest(group.context, OF_SIGNAL[signal])))
                continue
            for k, text in enumerate(group.conditions):
                try:
                    parse_condition(text, group.context or infer(text, signal), qualified=not group.context)
                except OttlError as error:
                    problems.append(error.problem((k,) if isinstance(group, _Strings) else (i, "conditions", k), text))
        if problems:
            raise ConfigErrors(problems)
        return value

    def conditions(self, signal: Signal) -> list[Written]:
        """All conditions of a signal, in order of evaluation within their context."""
        name = {Signal.LOGS: "logs", Signal.METRICS: "metrics", Signal.TRACES: "traces"}[signal]
        block = getattr(self, name)
        out = [
            Written(f"{name}.{key}[{i}]", text, context, self.error_mode)
            for key, context in CONTEXTS.items()
            for i, text in enumerate(getattr(block, key, ()))
        ]
        groups: list[ConditionGroup] = getattr(self, GROUPS[signal])
        for i, group in enumerate(groups):
            for j, text in enumerate(group.conditions):
                place = f"{GROUPS[signal]}[{j}]" if len(groups) == 1 else f"{GROUPS[signal]}[{i}].conditions[{j}]"
                out.append(Written(place, text, group.context or infer(text, signal), group.error_mode or self.error_mode))
        return out

    @model_validator(mode="after")
    def _one_way(self) -> Config:
        for signal, name in GROUPS.items():
            block = {Signal.LOGS: self.logs, Signal.METRICS: self.metrics, Signal.TRACES: self.traces}[signal]
            older = [f"{signal.value}.{key}" for key in type(block).model_fields if getattr(block, key, None)]
            if signal is Signal.TRACES:
                older += [f"spans.{key}" for key in ("include", "exclude") if getattr(self.spans, key) is not None]
            if getattr(self, name) and older:
                raise ValueError(f"{name} and {older[0]} cannot be combined; write all of them under {name}")
        if (self.spans.include or self.spans.exclude) and (self.traces.resource or self.traces.span or self.traces.spanevent):
            raise ValueError(
                "spans.include or spans.exclude and conditions under traces cannot be combined; "
                "write the list as a condition as well"
            )
        return self
