"""Splits a payload by one condition into what matches and the rest. Only what the condition looks at is decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from kofagent.memory.memo import Memo
from kofagent.ottl import Condition, Env, EvaluationError
from kofagent.ottl.compile import Compiled, Slow, condition_of
from kofagent.ottl.messages import read
from kofagent.ottl.paths import points
from kofagent.telemetry.batch import Metadata
from kofagent.wire import otlp
from kofagent.wire.otlp import ResourceView, ScopeView
from kofagent.wire.varint import length_delimited
from kofagent.wire.walk import fields

Test = Callable[[Callable[[], bool]], bool]
"""Runs a test on the data and returns its result, also when the test fails (`error_mode`)."""


class Splitter:
    """One condition applied to payloads of one signal."""

    def __init__(self, parsed: tuple[Condition | None, str], test: Test) -> None:
        condition, context = parsed
        self._condition = condition
        self._compiled: Compiled | None = None
        if condition is not None and context in ("log", "span", "metric"):
            self._compiled = condition_of([condition], context)
        self._context = context
        self._test = test
        # Resources repeat; a condition that asks for the time or the sender may change its answer.
        fixed = condition is None or not any(word in condition.text for word in ("Now", "UUID", "otelcol", "schema_url"))
        self._known: Memo[bytes, bool] | None = Memo("routing.resources", entries=8192, size=4 << 20) if fixed else None

    def split(self, signal: str, payload: bytes, metadata: Metadata | None) -> tuple[bytes, bytes]:
        """(matching, rest); one of them is `payload` itself where everything goes one way. ValueError where it is malformed."""
        condition = self._condition
        if condition is None:
            return payload, b""
        if self._context in ("request", "otelcol"):
            return (payload, b"") if self._test(lambda: condition.matches(None, metadata=metadata)) else (b"", payload)
        if self._context == "resource":
            return self._by_resource(payload, partial(condition.matches, metadata=metadata))
        if self._context == "datapoint":
            return self._by_point(payload, partial(condition.matches, metadata=metadata))
        return self._by_record(payload, partial(condition.matches, metadata=metadata), metadata)

    def _by_resource(self, payload: bytes, matches: Callable[..., bool]) -> tuple[bytes, bytes]:
        # hot: otlp_routing, 1.8 us a span end to end: its resource's bytes are the key, entries are sliced, not encoded
        entries = [payload[start:end] for number, kind, start, end in fields(payload) if number == 1 and kind == 2]
        yes: list[bytes] = []
        no: list[bytes] = []
        for entry, view in zip(entries, otlp.resources(payload), strict=True):
            (yes if self._resource_matches(view, matches) else no).append(entry)
        if not no:
            return payload, b""
        if not yes:
            return b"", payload
        return b"".join([length_delimited(1, e) for e in yes]), b"".join([length_delimited(1, e) for e in no])

    def _resource_matches(self, view: ResourceView, matches: Callable[..., bool]) -> bool:
        data = view.resource
        known = self._known
        if known is None:
            return self._test(lambda: matches(read("resource", data), entries=(view, None)))
        known.counts.lookups += 1
        answer = known.find(data)
        if answer is None:
            answer = known[data] = self._test(lambda: matches(read("resource", data)))
        return answer

    @staticmethod
    def _bound(compiled: Compiled, entry: ResourceView, scope: ScopeView, identity: _Identity, metadata: Metadata | None) -> Any:
        env = Env(*identity.of(entry, scope), metadata)
        env.resource_entry, env.scope_entry = entry, scope
        try:
            return compiled.bind(env, _raise)
        except Slow:
            return None

    def _by_record(self, payload: bytes, matches: Callable[..., bool], metadata: Metadata | None) -> tuple[bytes, bytes]:
        compiled = self._compiled
        if compiled is not None and not compiled.wanted(payload):
            return b"", payload
        identity = _Identity()
        decisions: list[bool] = []
        at: list[Any] = [None, None]
        """The scope that the compiled condition is bound to, and the condition; None where it cannot be."""

        def test(record: bytes, scope: ScopeView, entry: ResourceView) -> bool:
            run = at[1]
            if run is not None:
                return bool(run((record,))[0])
            return matches(*identity.of(entry, scope), read(self._context, record), entries=(entry, scope))

        def decide(record: bytes, scope: ScopeView, entry: ResourceView) -> bytes | None:
            if scope is not at[0]:
                at[:] = scope, None if compiled is None else self._bound(compiled, entry, scope, identity, metadata)
            answer = self._test(lambda: test(record, scope, entry))
            decisions.append(answer)
            return record if answer else None

        yes = otlp.map_records(payload, decide)
        if all(decisions):
            return payload, b""
        if not any(decisions):
            return b"", payload
        again: Iterator[bool] = iter(decisions)
        return yes, otlp.map_records(payload, lambda record, scope, entry: None if next(again) else record)

    def _by_point(self, payload: bytes, matches: Callable[..., bool]) -> tuple[bytes, bytes]:
        identity = _Identity()
        rest: list[bytes | None] = []
        matched = 0

        def decide(record: bytes, scope: ScopeView, entry: ResourceView) -> bytes | None:
            nonlocal matched
            metric = read("metric", record)
            who = identity.of(entry, scope)
            answers = [self._test(partial(matches, *who, point, metric, entries=(entry, scope))) for point in points(metric)]
            matched += sum(answers)
            if all(answers) and answers:
                rest.append(None)
                return record
            rest.append(record if not any(answers) else _part(record, [not a for a in answers]))
            return _part(record, answers) if any(answers) else None

        yes = otlp.map_records(payload, decide)
        if not matched:
            return b"", payload
        if not any(rest):
            return payload, b""
        again = iter(rest)
        return yes, otlp.map_records(payload, lambda record, scope, entry: next(again))


class _Identity:
    """The decoded resource and scope of the record at hand, decoded once for all their records."""

    def __init__(self) -> None:
        self._resource: tuple[bytes, Any] | None = None
        self._scope: tuple[bytes, Any] | None = None

    def of(self, entry: ResourceView, scope: ScopeView) -> tuple[Any, Any]:
        resource_data, scope_data = entry.resource, scope.scope
        if self._resource is None or self._resource[0] != resource_data:
            self._resource = resource_data, read("resource", resource_data)
        if self._scope is None or self._scope[0] != scope_data:
            self._scope = scope_data, read("scope", scope_data)
        return self._resource[1], self._scope[1]


def _raise(number: int, error: EvaluationError) -> None:
    raise error


def _part(record: bytes, keep: list[bool]) -> bytes:
    """The metric with some of its points."""
    metric = otlp.parse_metric(record)
    data = getattr(metric, metric.WhichOneof("data"))
    otlp.replace(data.points, [p for p, wanted in zip(data.points, keep, strict=True) if wanted])
    return metric.SerializeToString()  # type: ignore[no-any-return]
