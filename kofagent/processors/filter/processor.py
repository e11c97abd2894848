"""The processor `filter`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any

from kofagent.component.log_limit import LogLimit
from kofagent.component.mapping import Left, Mapper, Unusable
from kofagent.component.protocols import Context, Processor
from kofagent.ottl import Env, EvaluationError
from kofagent.ottl.compile import Slow
from kofagent.ottl.messages import bare_metric
from kofagent.processors.filter.config import Config
from kofagent.processors.filter.rules import MESSAGES, Around, ConditionRule, NotText, Rules, decode
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.signal import Signal
from kofagent.wire import otlp
from kofagent.wire.edit import POINT_ATTRIBUTES
from kofagent.wire.lens import lenses, parse

_Events = lenses("kofagent.filter", {"Span": {"events": (11, "*bytes")}})["Span"]
_SLOTS = {Signal.LOGS: "log", Signal.METRICS: "metric", Signal.TRACES: "span"}
_COUNTED = {Signal.LOGS: "logs", Signal.METRICS: "datapoints", Signal.TRACES: "spans"}


class FilterProcessor(Processor[Config]):
    """One instance per pipeline."""

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._log = LogLimit()

    def explain(self) -> str:
        """The rules by the names they are counted under, in order of evaluation."""
        rules = Rules(self.config, self.signal)
        lists = [f"{name}\n" for name in [*(r.name for r in rules.resource_lists), *(r.name for r in rules.lists)]]
        for rule in (*rules.resources, *rules.scopes, *rules.records, *rules.parts):
            lists.append(f"{rule.name} ({rule.condition.context}): {' '.join(rule.condition.text.split())}\n")
            if rule.compiled is not None and rules.on_bytes:
                lists += [f"    {line}\n" for line in rule.compiled.source.splitlines()]
        return "".join(lists)

    async def start(self) -> None:
        self._rules = Rules(self.config, self.signal)
        counter = self.context.ledger.counter(
            f"otelcol_processor_filter_{_COUNTED[self.signal]}_filtered", "Items left out by the filter.", filter=self.context.id
        )
        self._mapper = Mapper(self, self._changed, counter, by_record=True)

    def consume(self, batch: Batch) -> Coroutine[Any, Any, None]:
        return self._mapper.consume(batch)

    def _changed(self, batch: Batch) -> Batch | Left:
        if not self._rules:
            return batch
        payload, removed = self._filter(batch)
        left = batch.count - removed.total()
        if batch.count and not left:
            return Left(None, removed)
        changed = batch if payload is batch.payload else Batch(batch.signal, payload, left, batch.metadata)
        return Left(changed, removed) if removed else changed

    def _filter(self, batch: Batch) -> tuple[bytes, Counter[str]]:
        """The payload without what the rules leave out, and how many items each rule left out. ValueError, Unusable."""
        # hot: otlp_filter, 8 us a record end to end by two conditions; records stay bytes, copied in C
        rules, removed = self._rules, Counter[str]()
        self._active = {rule.name for rule in rules.records if rule.compiled is None or rule.compiled.wanted(batch.payload)}
        if not (self._active or rules.parts or rules.lists or rules.scopes or rules.resources or rules.resource_lists):
            return batch.payload, removed
        request = otlp.parse_request(batch.payload)
        touched = False
        for i in range(len(request.resources) - 1, -1, -1):
            entry = request.resources[i]
            around = Around(entry.resource, batch.metadata, entry)
            rule = self._resource_rule(around)
            if rule is not None:
                removed[rule] += sum(self._items(record) for scope in entry.scopes for record in scope.records)
                del request.resources[i]
                touched = True
            elif rules.below_resource and self._scopes(entry, around, removed):
                touched = True
                if not entry.scopes:
                    del request.resources[i]
        return (request.SerializeToString() if touched else batch.payload), removed

    def _items(self, record: bytes) -> int:
        return len(otlp.points(record)[1]) if self.signal is Signal.METRICS else 1

    def _resource_rule(self, around: Around) -> str | None:
        for rule in self._rules.resource_lists:
            if rule.skips(around):
                return rule.name
        return self._first_true(self._rules.resources, around)

    def _scopes(self, entry: Any, around: Around, removed: Counter[str]) -> bool:
        touched = False
        for j in range(len(entry.scopes) - 1, -1, -1):
            scope = entry.scopes[j]
            around.enter(scope.scope, scope)
            old = list(scope.records)
            rule = self._first_true(self._rules.scopes, around)
            if rule is not None:
                removed[rule] += sum(map(self._items, old))
                del entry.scopes[j]
                touched = True
                continue
            new = self._on_bytes(old, around, removed)
            if new is None:
                new = [kept for record in old if (kept := self._record(record, around, removed)) is not None]
            if len(new) == len(old) and all(a is b for a, b in zip(new, old, strict=True)):
                continue
            touched = True
            if new:
                otlp.replace(scope.records, new)
            else:
                del entry.scopes[j]
        return touched

    def _on_bytes(self, records: list[bytes], around: Around, removed: Counter[str]) -> list[bytes] | None:
        """What is left of a scope's records by compiled conditions; None where they have to be evaluated on messages."""
        rules = self._rules
        if not rules.on_bytes or not (rules.records or rules.parts):
            return None
        try:
            env = around.env()
            left, counts = records, Counter[str]()
            for listed in rules.lists:
                left = self._without(left, [listed.skips(around, record) for record in left], listed.name, counts)
            for rule in rules.records:
                if rule.name in self._active and rule.compiled is not None:
                    left = self._without(left, rule.compiled.bind(env, partial(self._failed_at, rule))(left), rule.name, counts)
            if rules.parts:
                left = [kept for record in left if (kept := self._points_left(record, env, counts)) is not None]
        except (Slow, NotText):
            return None
        removed.update(counts)
        return left

    def _without(self, records: list[bytes], gone: Sequence[Any], rule: str, counts: Counter[str]) -> list[bytes]:
        if True not in gone:
            return records
        counts[rule] += sum([self._items(record) for record, out in zip(records, gone, strict=True) if out])
        return [record for record, out in zip(records, gone, strict=True) if not out]

    def _points_left(self, record: bytes, env: Env, counts: Counter[str]) -> bytes | None:
        """A metric without the data points that compiled conditions leave out; None without any."""
        metric = otlp.parse_metric(record)
        kind = metric.WhichOneof("data")
        if kind is None:
            return record
        data = getattr(metric, kind)
        old = left = list(data.points)
        for rule in self._rules.parts:
            assert rule.compiled is not None
            if rule.compiled.uses_metric:
                env.metric = bare_metric(record, kind)
            gone: Sequence[Any] = rule.compiled.bind(env, partial(self._failed_at, rule), POINT_ATTRIBUTES[kind])(left)
            if True in gone:
                counts[rule.name] += gone.count(True)
                left = [point for point, out in zip(left, gone, strict=True) if not out]
        if not left:
            return None
        if len(left) == len(old):
            return record
        otlp.replace(data.points, left)
        changed: bytes = metric.SerializeToString()
        return changed

    def _failed_at(self, rule: ConditionRule, number: int, error: EvaluationError) -> None:
        self._failed(rule, error)

    def _record(self, record: bytes, around: Around, removed: Counter[str]) -> bytes | None:
        """The record, or what is left of it; None when it is left out."""
        for rule in self._rules.lists:
            if rule.skips(around, record):
                removed[rule.name] += self._items(record)
                return None
        if not self._rules.records and not self._rules.parts:
            return record
        try:
            message = decode(MESSAGES[self.signal], record)
        except NotText as error:
            self._failed((self._rules.records or self._rules.parts)[0], error)
            return record
        slot = _SLOTS[self.signal]
        name = self._first_true(self._rules.records, around, **{slot: message})
        if name is not None:
            removed[name] += self._items(record)
            return None
        if not self._rules.parts:
            return record
        if self.signal is Signal.METRICS:
            return self._without_points(record, message, around, removed)
        return self._without_events(record, message, around)

    def _without_points(self, record: bytes, message: Any, around: Around, removed: Counter[str]) -> bytes | None:
        kind = message.WhichOneof("data")
        if kind is None:
            return record
        points = getattr(message, kind).data_points
        kept = []
        for i, point in enumerate(points):
            rule = self._first_true(self._rules.parts, around, metric=message, datapoint=point)
            if rule is None:
                kept.append(i)
            else:
                removed[rule] += 1
        if len(kept) == len(points):
            return record if points else None
        if not kept:
            return None
        metric = otlp.parse_metric(record)
        data = getattr(metric, kind)
        old = list(data.points)
        otlp.replace(data.points, [old[i] for i in kept])
        changed: bytes = metric.SerializeToString()
        return changed

    def _without_events(self, record: bytes, message: Any, around: Around) -> bytes:
        kept = [
            i
            for i, event in enumerate(message.events)
            if self._first_true(self._rules.parts, around, span=message, spanevent=event) is None
        ]
        if len(kept) == len(message.events):
            return record
        span = parse(_Events, record)
        old = list(span.events)
        otlp.replace(span.events, [old[i] for i in kept])
        changed: bytes = span.SerializeToString()
        return changed

    def _first_true(self, rules: list[ConditionRule], around: Around, **messages: Any) -> str | None:
        """The name of the first rule that is true; `messages` by the names of their contexts."""
        if not rules:
            return None
        try:
            env = around.env()
        except NotText as error:
            self._failed(rules[0], error)
            return None
        for context, message in messages.items():
            setattr(env, context, message)
        for rule in rules:
            try:
                if rule.condition.test(env):
                    return rule.name
            except EvaluationError as error:
                self._failed(rule, error)
        return None

    def _failed(self, rule: ConditionRule, error: EvaluationError) -> None:
        """What `error_mode` asks for; a string that is not UTF-8 is not an error of the configuration and never drops a payload."""
        if rule.error_mode == "propagate" and not isinstance(error, NotText):
            raise Unusable("condition error", f"{rule.name}: {error}")
        if rule.error_mode != "silent" and self._log.due(rule.name):
            self.context.log.warning(
                "condition %s could not be evaluated, so the item is kept: %s (further cases are not logged)", rule.name, error
            )
