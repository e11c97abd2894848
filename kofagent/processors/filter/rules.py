"""The rules of a filter: each decides whether a resource, a record, a point or an event is left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from kofagent.memory.memo import Memo
from kofagent.operators.expression import ExpressionError
from kofagent.ottl import Condition, Env, EvaluationError, parse_condition
from kofagent.ottl.compile import Compiled, condition_of
from kofagent.processors.filter.config import Config, MetricMatch
from kofagent.processors.filter.expressions import compile_metric_expressions
from kofagent.telemetry.batch import Metadata
from kofagent.telemetry.signal import Signal
from kofagent.transform.matching import MatchBlock, RecordMatch, compile_attributes
from kofagent.wire import edit
from kofagent.wire.otlp import ResourceView, ScopeView

MESSAGES: dict[Signal, Any] = {Signal.LOGS: LogRecord, Signal.METRICS: Metric, Signal.TRACES: Span}


class NotText(EvaluationError):
    """A message has strings that are not UTF-8, so a condition cannot be evaluated on it."""


class Around:
    """What surrounds a record: resource and scope as bytes, decoded when a condition asks for them."""

    __slots__ = ("_resource", "_resource_entry", "_scope", "_scope_entry", "metadata", "resource", "scope")

    def __init__(self, resource: bytes, metadata: Metadata | None, entry: ResourceView | None = None) -> None:
        self.resource = resource
        self._resource_entry = entry
        self._scope_entry: ScopeView | None = None
        self.scope = b""
        self.metadata = metadata
        self._resource: Any = None
        self._scope: Any = None

    def enter(self, scope: bytes, entry: ScopeView) -> None:
        """What follows belongs to this scope."""
        self.scope = scope
        self._scope_entry = entry
        self._scope = None

    def resource_message(self) -> Any:
        """The Resource message. EvaluationError where it cannot be decoded."""
        if self._resource is None:
            self._resource = decode(Resource, self.resource)
        return self._resource

    def env(self) -> Env:
        """What conditions are evaluated over, without a record. NotText where resource or scope cannot be decoded."""
        env = Env(self.resource_message(), self.scope_message(), self.metadata)
        env.resource_entry, env.scope_entry = self._resource_entry, self._scope_entry
        return env

    def scope_message(self) -> Any:
        """The InstrumentationScope message. EvaluationError where it cannot be decoded."""
        if self._scope is None:
            self._scope = decode(InstrumentationScope, self.scope)
        return self._scope


def decode(message: Any, data: bytes) -> Any:
    """A message of Google's; NotText where it cannot be decoded."""
    try:
        return message.FromString(data)
    except DecodeError:
        raise NotText("the message has a string that is not UTF-8") from None


class ResourceRule(NamedTuple):
    """Leaves out a whole resource."""

    name: str
    skips: Callable[[Around], bool]


class RecordRule(NamedTuple):
    """Leaves out a record; `skips` is given its bytes."""

    name: str
    skips: Callable[[Around, bytes], bool]


class ConditionRule(NamedTuple):
    """An OTTL condition on decoded messages, and its compiled form on bytes if there is one."""

    name: str
    condition: Condition
    error_mode: str
    compiled: Compiled | None


class Rules:
    """All rules of a signal, in order of evaluation."""

    def __init__(self, config: Config, signal: Signal) -> None:
        self.resource_lists: list[ResourceRule] = []
        self.lists: list[RecordRule] = []
        self.resources: list[ConditionRule] = []
        self.scopes: list[ConditionRule] = []
        self.records: list[ConditionRule] = []
        self.parts: list[ConditionRule] = []
        """Of data points or span events."""
        if signal is Signal.METRICS:
            self._metric_lists(config.metrics.include, config.metrics.exclude)
        elif signal is Signal.LOGS:
            include, exclude = (b.block() if b is not None else None for b in (config.logs.include, config.logs.exclude))
            self._lists("logs", include, exclude, signal)
        else:
            self._lists("spans", config.spans.include, config.spans.exclude, signal)
        groups = {"resource": self.resources, "scope": self.scopes, "datapoint": self.parts, "spanevent": self.parts}
        for place, text, context, error_mode in config.conditions(signal):
            groups.get(context, self.records).append(_condition_rule(place, text, context, error_mode))
        self.on_bytes = all(rule.compiled is not None for rule in (*self.records, *self.parts))
        """Whether all conditions of records and their parts are compiled."""

    @property
    def below_resource(self) -> bool:
        """True when a rule looks at more than the resource."""
        return bool(self.lists or self.scopes or self.records or self.parts)

    def __bool__(self) -> bool:
        return bool(self.resource_lists or self.resources or self.below_resource)

    def _lists(self, name: str, include: MatchBlock | None, exclude: MatchBlock | None, signal: Signal) -> None:
        for block, word, skip_on in ((include, "include", False), (exclude, "exclude", True)):
            if block is not None:
                self.lists.append(_record_rule(f"{name}.{word}", RecordMatch(block, signal), skip_on))

    def _metric_lists(self, include: MetricMatch | None, exclude: MetricMatch | None) -> None:
        for block, word, skip_on in ((include, "include", False), (exclude, "exclude", True)):
            if block is None:
                continue
            if block.resource_attributes:
                test = compile_attributes(block.match_type, block.resource_attributes)
                self.resource_lists.append(ResourceRule(f"metrics.{word}.resource_attributes", _remembered(test, skip_on)))
            if block.expressions:
                self.lists.append(_expression_rule(f"metrics.{word}.expressions", block.expressions, skip_on))
            if block.metric_names:
                names = MatchBlock(match_type=block.match_type or "strict", metric_names=block.metric_names)
                self.lists.append(_record_rule(f"metrics.{word}.metric_names", RecordMatch(names, Signal.METRICS), skip_on))


def _condition_rule(name: str, text: str, context: str, error_mode: str) -> ConditionRule:
    condition = parse_condition(text, context)
    return ConditionRule(name, condition, error_mode, condition_of([condition], context))


def _record_rule(name: str, match: RecordMatch, skip_on: bool) -> RecordRule:
    return RecordRule(name, lambda around, record: match.match(around.resource, around.scope, record) is skip_on)


def _expression_rule(name: str, expressions: list[str], skip_on: bool) -> RecordRule:
    matches = compile_metric_expressions(expressions)

    def skips(around: Around, record: bytes) -> bool:
        try:
            return matches(decode(Metric, record)) is skip_on
        except (ExpressionError, NotText):
            return False  # what cannot be asked is kept

    return RecordRule(name, skips)


def _remembered(test: Callable[[Any], bool], skip_on: bool) -> Callable[[Around], bool]:
    known: Memo[bytes, bool] = Memo(
        "filter.resources",
        lambda resource: test(edit.attributes(resource, edit.RESOURCE)) is skip_on,
        entries=8192,
        size=4 << 20,
    )
    return lambda around: known[around.resource]
