"""The policies of `tail_sampling`: functions of a trace that say whether it is to be sampled."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from kofagent.config.filterset import compile_filterset
from kofagent.ottl import EvaluationError, parse_condition
from kofagent.ottl.messages import read
from kofagent.processors.tail_sampling.config import (
    AndSubPolicy,
    CompositeBlock,
    CompositeSubPolicy,
    Policy,
    Shared,
)
from kofagent.transform.attribute_keys import keys_of
from kofagent.transform.sampling import members
from kofagent.wire import edit, otlp
from kofagent.wire.attributes import decode_attribute, decode_text, encode_text
from kofagent.wire.lens import lenses, parse

_lens = lenses(
    "kofagent.tail_sampling",
    {
        "Status": {"code": (3, "int32")},
        "Span": {
            "trace_state": (3, "bytes"),
            "start": (7, "fixed64"),
            "end": (8, "fixed64"),
            "attributes": (9, "*bytes"),
            "status": (15, "Status"),
            "flags": (16, "fixed32"),
        },
    },
)
_Span = _lens["Span"]
_STATUS = {"UNSET": 0, "OK": 1, "ERROR": 2}
_SALT = "default-hash-seed"

Decide = Callable[["Trace"], bool]
"""Whether a policy samples a trace. EvaluationError."""


class Found(NamedTuple):
    """One span of a trace, with what is around it."""

    span: Any
    record: bytes
    scope: bytes
    resource: bytes


class Trace:
    """A trace that is decided on, looked into as far as policies ask."""

    __slots__ = ("_resources", "_spans", "count", "id", "payload")

    def __init__(self, id: bytes, payload: bytes, count: int) -> None:
        self.id, self.payload, self.count = id, payload, count
        self._spans: list[Found] | None = None
        self._resources: list[list[bytes]] | None = None

    @property
    def spans(self) -> list[Found]:
        """The spans, in the order they came."""
        if self._spans is None:
            self._spans = [
                Found(parse(_Span, record), record, scope.scope, entry.resource)
                for entry in otlp.resources(self.payload)
                for scope in entry.scopes
                for record in scope.records
            ]
        return self._spans

    def values(self, key: bytes) -> Iterator[Any]:
        """The values of an attribute, of the resources and the spans."""
        if self._resources is None:
            self._resources = [edit.attributes(entry.resource, edit.RESOURCE) for entry in otlp.resources(self.payload)]
        for pairs in (*self._resources, *(list(found.span.attributes) for found in self.spans)):
            for name, pair in zip(keys_of(pairs), pairs, strict=True):
                if name == key:
                    yield decode_attribute(pair)[1]
                    break


def compile_policy(block: Shared) -> Decide:
    """The function of a policy; of `drop`, whether the trace is dropped."""
    if isinstance(block, Policy) and block.type == "composite":
        return _composite(block.composite)
    if block.type in ("and", "drop"):
        parts = [compile_policy(each) for each in block.parts()]
        return lambda trace: all(part(trace) for part in parts)
    if isinstance(block, Policy | AndSubPolicy) and block.type == "not":
        (inner,) = [compile_policy(each) for each in block.parts()]
        return lambda trace: not inner(trace)
    return _SHARED[block.type](block)


def _latency(block: Shared) -> Decide:
    low, high = block.latency.threshold_ms, block.latency.upper_threshold_ms

    def decide(trace: Trace) -> bool:
        start = end = 0
        for found in trace.spans:
            start = found.span.start if not start else min(start, found.span.start)
            end = max(end, found.span.end)
            # Go's division is towards zero
            took = (end - start) // 1_000_000 if end >= start else -((start - end) // 1_000_000)
            if took > low and (not high or took <= high):
                return True
        return False

    return decide


def _with_value(key: str, fits: Callable[[Any], bool], invert: bool) -> Decide:
    wanted = encode_text(key)
    return lambda trace: any(map(fits, trace.values(wanted))) is not invert


def _numeric(block: Shared) -> Decide:
    low, high = block.numeric_attribute.min_value, block.numeric_attribute.max_value

    def fits(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return (not low or value >= low) and (not high or value <= high)

    return _with_value(block.numeric_attribute.key, fits, block.numeric_attribute.invert_match)


def _string(block: Shared) -> Decide:
    texts = block.string_attribute
    if texts.enabled_regex_matching:
        test = compile_filterset("regexp", texts.values)
    else:
        test = frozenset(filter(None, texts.values)).__contains__
    return _with_value(texts.key, lambda value: isinstance(value, str) and test(value), texts.invert_match)


def _boolean(block: Shared) -> Decide:
    wanted = block.boolean_attribute.value
    return _with_value(block.boolean_attribute.key, lambda value: value is wanted, block.boolean_attribute.invert_match)


def fnv64(data: bytes) -> int:
    """FNV-1a of 64 bits."""
    found = 14695981039346656037
    for byte in data:
        found = (found ^ byte) * 1099511628211 & 0xFFFFFFFFFFFFFFFF
    return found


def _probabilistic(block: Shared) -> Decide:
    salt = (block.probabilistic.hash_salt or _SALT).encode()
    threshold = int(min(max(block.probabilistic.sampling_percentage / 100, 0.0), 1.0) * float((1 << 64) - 1))
    return lambda trace: fnv64(salt + trace.id) <= threshold


def _status(block: Shared) -> Decide:
    codes = frozenset(_STATUS[name] for name in block.status_code.status_codes)
    return lambda trace: any(found.span.status.code in codes for found in trace.spans)


class Bucket:
    """Tokens that come at a rate, up to a number; it begins full."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._tokens, self._at = burst, clock()

    def take(self, tokens: float) -> bool:
        """Takes tokens; False where there are not so many."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if tokens > self._tokens:
            return False
        self._tokens -= tokens
        return True


def _rate(block: Shared) -> Decide:
    limits = block.rate_limiting
    bucket = Bucket(limits.spans_per_second, limits.burst_capacity or 2 * limits.spans_per_second)
    return lambda trace: bucket.take(trace.count)


def _bytes(block: Shared) -> Decide:
    limits = block.bytes_limiting
    bucket = Bucket(limits.bytes_per_second, limits.burst_capacity or 2 * limits.bytes_per_second)
    return lambda trace: bucket.take(len(trace.payload))


def _span_count(block: Shared) -> Decide:
    low, high = block.span_count.min_spans, block.span_count.max_spans
    return lambda trace: trace.count >= low and (not high or trace.count <= high)


def _trace_state(block: Shared) -> Decide:
    key = block.trace_state.key
    wanted = {value for value in block.trace_state.values if value and len(key) + len(value) < 256}

    def decide(trace: Trace) -> bool:
        for found in trace.spans:
            try:
                if any(name == key and value in wanted for name, value in members(decode_text(found.span.trace_state))):
                    return True
            except ValueError:
                continue
        return False

    return decide


def _ottl(block: Shared) -> Decide:
    options = block.ottl_condition
    conditions = [(parse_condition(text, "span"), False) for text in options.span]
    conditions += [(parse_condition(text, "spanevent"), True) for text in options.spanevent]

    def decide(trace: Trace) -> bool:
        for found in trace.spans:
            resource, scope, span = read("resource", found.resource), read("scope", found.scope), read("span", found.record)
            for condition, of_event in conditions:
                for record in span.events if of_event else (span,):
                    try:
                        if condition.matches(resource, scope, record, span=span):
                            return True
                    except EvaluationError:
                        if options.error_mode == "propagate":
                            raise
        return False

    return decide


_SHARED: dict[str, Callable[[Shared], Decide]] = {
    "always_sample": lambda block: lambda trace: True,
    "latency": _latency,
    "numeric_attribute": _numeric,
    "probabilistic": _probabilistic,
    "status_code": _status,
    "string_attribute": _string,
    "rate_limiting": _rate,
    "bytes_limiting": _bytes,
    "span_count": _span_count,
    "trace_state": _trace_state,
    "boolean_attribute": _boolean,
    "ottl_condition": _ottl,
    "trace_flags": lambda block: lambda trace: any(found.span.flags & 1 for found in trace.spans),
}


def _composite(block: CompositeBlock, clock: Callable[[], float] = time.monotonic) -> Decide:
    """The first policy that samples decides, within its share of the spans of this second."""
    policies: list[CompositeSubPolicy] = block.ordered()
    total = block.max_total_spans_per_second
    percents = {each.policy: each.percent for each in block.rate_allocation}
    shares = [int(total * (percents.get(each.name, 0) / 100 or 1 / len(policies))) for each in policies]
    parts = [compile_policy(each) for each in policies]
    sampled = [0] * len(parts)
    second = int(clock())

    def decide(trace: Trace) -> bool:
        nonlocal second
        if int(clock()) != second:
            second = int(clock())
            sampled[:] = [0] * len(parts)
        for i, part in enumerate(parts):
            if part(trace):
                if sampled[i] + trace.count <= min(shares[i], total):
                    sampled[i] += trace.count
                    return True
                return False
        return False

    return decide
