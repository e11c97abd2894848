"""The processor `probabilistic_sampler`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Coroutine
from typing import Any

from kofagent.component.mapping import Left, Mapper
from kofagent.component.protocols import Context, Processor
from kofagent.processors.probabilistic_sampler.config import Config
from kofagent.processors.probabilistic_sampler.sampler import ALWAYS_RANDOM, Sampler
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.signal import Signal
from kofagent.transform.anyvalue import as_string
from kofagent.transform.attribute_keys import keys_of
from kofagent.transform.sampling import (
    NEVER,
    TraceState,
    randomness_text,
    read_randomness,
    read_threshold,
    threshold_of,
    threshold_text,
)
from kofagent.wire import otlp
from kofagent.wire.attributes import decode_attribute, decode_text, encode_attribute, encode_text
from kofagent.wire.lens import lenses, parse
from kofagent.wire.otlp import ResourceView, ScopeView

_lens = lenses(
    "kofagent.probabilistic_sampler",
    {
        "Span": {"trace_id": (1, "bytes"), "trace_state": (3, "bytes"), "attributes": (9, "*bytes")},
        "Log": {"attributes": (6, "*bytes"), "trace_id": (9, "bytes")},
    },
)
_Span, _Log = _lens["Span"], _lens["Log"]
_PRIORITY = b"sampling.priority"
_THRESHOLD, _RANDOMNESS = "sampling.threshold", "sampling.randomness"


class _LogCarrier:
    """A log record says how it was sampled in two attributes. ValueError where they are wrong."""

    def __init__(self, pairs: list[bytes]) -> None:
        found = _texts(pairs, (_THRESHOLD, _RANDOMNESS))
        self.threshold = read_threshold(found[_THRESHOLD]) if found.get(_THRESHOLD) else None
        self.randomness = read_randomness(found[_RANDOMNESS]) if found.get(_RANDOMNESS) else None
        self.new: dict[str, str] = {}

    def set_randomness(self, randomness: int) -> None:
        """As `Carrier.set_randomness`."""
        self.randomness = randomness
        self.new[_RANDOMNESS] = randomness_text(randomness)

    def write(self, pairs: list[bytes]) -> list[bytes]:
        """The attributes with what is said now."""
        if self.threshold is not None:
            self.new[_THRESHOLD] = threshold_text(self.threshold)
        gone = {encode_text(key) for key in self.new} | ({encode_text(_THRESHOLD)} if self.threshold is None else set())
        kept = [pair for key, pair in zip(keys_of(pairs), pairs, strict=True) if key not in gone]
        return [*kept, *(encode_attribute(key, text) for key, text in self.new.items())]


def _value(pairs: list[bytes], key: str) -> Any:
    """The value of an attribute; None without it."""
    wanted = encode_text(key)
    for name, pair in zip(keys_of(pairs), pairs, strict=True):
        if name == wanted:
            return decode_attribute(pair)[1]
    return None


def _texts(pairs: list[bytes], keys: tuple[str, ...]) -> dict[str, str]:
    return {key: value for key in keys if isinstance(value := _value(pairs, key), str)}


class ProbabilisticSamplerProcessor(Processor[Config]):
    """One instance per pipeline."""

    signals = frozenset({Signal.TRACES, Signal.LOGS})

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._sampler = Sampler(config)
        self._removed: Counter[str] = Counter()
        self._seen: Counter[tuple[str, bool]] = Counter()

    async def start(self) -> None:
        self._change = self._span if self.signal is Signal.TRACES else self._log
        self._mapper = Mapper(self, self._changed, by_record=True)

    def consume(self, batch: Batch) -> Coroutine[Any, Any, None]:
        return self._mapper.consume(batch)

    def _changed(self, batch: Batch) -> Batch | Left:
        self._removed, self._seen = Counter(), Counter()
        payload = otlp.map_records(batch.payload, self._change)
        self._count()
        removed = self._removed
        left = batch.count - removed.total()
        if batch.count and left <= 0:
            return Left(None, removed)
        changed = batch if payload is batch.payload else Batch(batch.signal, payload, left, batch.metadata)
        return Left(changed, removed) if removed else changed

    def _count(self) -> None:
        name = "traces" if self.signal is Signal.TRACES else "logs"
        for (policy, sampled), items in self._seen.items():
            self.context.ledger.counter(
                f"otelcol_processor_probabilistic_sampler_count_{name}_sampled",
                "Items that were sampled or not.",
                processor=self.context.id,
                policy=policy,
                sampled=str(sampled).lower(),
            )(items)

    def _span(self, record: bytes, scope: ScopeView, entry: ResourceView) -> bytes | None:
        span = parse(_Span, record)
        try:
            state: TraceState | None = TraceState(decode_text(span.trace_state))
        except ValueError:
            state = None
        sampler, trace_id = self._sampler, span.trace_id
        seen = sampler.look(state, trace_id, ("trace_id_hash", trace_id) if sampler.hashes and any(trace_id) else None)
        threshold, failed = sampler.threshold(seen)
        policy = seen.policy
        if _PRIORITY in record:  # a look at the bytes, before anything is decoded
            priority = _priority(_value(list(span.attributes), "sampling.priority"))
            if priority is not None:
                threshold, failed, policy = (0 if priority else NEVER), False, "sampling_priority"
        if not self._passes(threshold, seen.randomness, policy, failed):
            return None
        if seen.carrier is None or state is None:
            return record
        state.threshold = max(threshold, state.threshold or 0)
        if state.randomness is None and sampler.hashes:
            state.set_randomness(ALWAYS_RANDOM)
        span.trace_state = str(state).encode()
        changed: bytes = span.SerializeToString()
        return changed

    def _log(self, record: bytes, scope: ScopeView, entry: ResourceView) -> bytes | None:
        log = parse(_Log, record)
        pairs = list(log.attributes)
        try:
            carrier: _LogCarrier | None = _LogCarrier(pairs)
        except ValueError:
            carrier = None
        sampler = self._sampler
        seen = sampler.look(carrier, log.trace_id, self._hashed(log.trace_id, pairs) if sampler.hashes else None)
        threshold, failed = sampler.threshold(seen)
        policy = seen.policy
        if self.config.sampling_priority:
            other = self._percentage(_value(pairs, self.config.sampling_priority))
            if other is not None:
                threshold, failed, policy = other, False, "sampling_priority"
        if not self._passes(threshold, seen.randomness, policy, failed):
            return None
        if seen.carrier is None or carrier is None:
            return record
        carrier.threshold = max(threshold, carrier.threshold or 0)
        new = carrier.write(pairs)
        otlp.replace(log.attributes, new)
        changed: bytes = log.SerializeToString()
        return changed

    def _hashed(self, trace_id: bytes, pairs: list[bytes]) -> tuple[str, bytes] | None:
        """What is hashed of a log record, with the name of the policy."""
        if self.config.attribute_source == "traceID" and any(trace_id):
            return "trace_id_hash", trace_id
        name = self.config.from_attribute
        value = _value(pairs, name) if name else None
        data = value if isinstance(value, bytes) else encode_text(as_string(value))
        return (name, data) if data else None

    def _percentage(self, value: Any) -> int | None:
        """The threshold that a log record's priority asks for; None without one."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            return None if isinstance(value, bool) or value != 0 else NEVER
        try:
            return threshold_of(min(value / 100, 1.0), self.config.sampling_precision)
        except ValueError:
            return NEVER

    def _passes(self, threshold: int, randomness: int | None, policy: str, failed: bool) -> bool:
        sampled = threshold <= (ALWAYS_RANDOM if randomness is None else randomness)
        self._seen[policy, sampled] += 1
        if not sampled:
            self._removed["fail_closed" if failed else "not sampled"] += 1
        return sampled


def _priority(value: Any) -> bool | None:
    """True: must be sampled, False: must not, None: says nothing."""
    if isinstance(value, str):
        try:
            value = float(value) if value.strip() == value and "_" not in value else None
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return True if value > 0 else False if value == 0 else None
