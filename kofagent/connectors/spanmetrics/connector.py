"""The connector `spanmetrics`."""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Callable
from typing import Any

from kofagent.component.fan_out import all_of
from kofagent.component.offering import Offer
from kofagent.component.polling import Polling
from kofagent.component.protocols import ColumnsConsumer, Connector, Context
from kofagent.connectors.spanmetrics.config import BUCKETS, DELTA, INSTANCE, KIND, SERVICE, SPAN_NAME, STATUS, Config, Dimension
from kofagent.connectors.spanmetrics.series import Counted, Explicit, Exponential, Key, Resource, Series
from kofagent.telemetry.batch import AnyBatch, Batch
from kofagent.telemetry.clock import now_ns
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from kofagent.transform.attribute_keys import keys_of
from kofagent.transform.matching import SPAN_KINDS
from kofagent.transform.sampling import NEVER, TraceState
from kofagent.transform.streams import digest
from kofagent.wire import edit, otlp
from kofagent.wire.attributes import decode_attribute, decode_text, encode_attribute, encode_text
from kofagent.wire.lens import lenses, parse
from kofagent.wire.varint import length_delimited

_lens = lenses(
    "kofagent.spanmetrics",
    {
        "Status": {"code": (3, "int32")},
        "Event": {"attributes": (3, "*bytes")},
        "Span": {
            "trace_id": (1, "bytes"),
            "span_id": (2, "bytes"),
            "trace_state": (3, "bytes"),
            "name": (5, "bytes"),
            "kind": (6, "int32"),
            "start": (7, "fixed64"),
            "end": (8, "fixed64"),
            "attributes": (9, "*bytes"),
            "events": (11, "*Event"),
            "status": (15, "Status"),
        },
        "Scope": {"name": (1, "bytes"), "version": (2, "bytes")},
    },
)
_Span, _Scope = _lens["Span"], _lens["Scope"]
STATUSES = ("STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR")
MOST_WAITING = 16
"""Batches of deltas that wait for the pipelines."""
_DOUBLE = struct.Struct("<d").pack
_SERVICE = encode_text(SERVICE)
_SCOPE = length_delimited(1, length_delimited(1, b"spanmetricsconnector"))

Attributes = dict[bytes, bytes]
"""KeyValue messages by key; of equal keys the first."""


def attributes_of(pairs: Any) -> Attributes:
    """KeyValue messages by key. ValueError."""
    found = list(pairs)
    keys = keys_of(found)
    return dict(zip(reversed(keys), reversed(found), strict=True))


class Dimensions:
    """Attributes that tell series apart."""

    def __init__(self, blocks: list[Dimension]) -> None:
        self._names = [
            (encode_text(block.name), None if block.default is None else encode_attribute(block.name, block.default))
            for block in blocks
            if block.name
        ]
        self._globs = [block.pattern() for block in blocks if block.glob]

    def pairs(self, span: Attributes, resource: Attributes) -> list[bytes]:
        """What a span has of them, with what its resource has, or their defaults."""
        out = [pair for key, default in self._names if (pair := span.get(key) or resource.get(key) or default) is not None]
        if self._globs:
            for key in (*sorted(span), *sorted(resource.keys() - span.keys())):
                text = decode_text(key)
                if any(glob(text) for glob in self._globs):
                    out.append(span.get(key) or resource[key])
        return out


class _All(ColumnsConsumer):
    """The pipelines that get the metrics."""

    def __init__(self, outputs: dict[str, ColumnsConsumer]) -> None:
        self._outputs = list(outputs.values())

    async def consume(self, batch: AnyBatch) -> None:
        await all_of([output.consume(batch) for output in self._outputs])


class SpanMetricsConnector(Connector[Config]):
    """Counts spans; a timer sends what was counted."""

    signals = frozenset({Signal.TRACES})
    routes = frozenset({(Signal.TRACES, Signal.METRICS)})

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self.outputs = {}
        self._dimensions = Dimensions(config.dimensions)
        self._of_calls = Dimensions(config.calls_dimensions)
        self._of_durations = Dimensions(config.histogram.dimensions)
        self._of_events = Dimensions(config.events.dimensions)
        self._delta = config.aggregation_temporality == DELTA
        self._unit_ns = 1e6 if config.histogram.unit == "ms" else 1e9
        self._excluded = frozenset(config.exclude_dimensions)
        self._scopes = frozenset(map(encode_text, filter(None, config.include_instrumentation_scope)))
        self._instance = encode_attribute(INSTANCE, str(context.host.resource.get("service.instance.id", "")))
        self._identifying = frozenset(map(encode_text, config.resource_metrics_key_attributes))
        self._waiting: list[Batch] = []
        self._polling: Polling | None = None

    async def start(self) -> None:
        """Begins to send."""
        config, context = self.config, self.context
        key = ("spanmetrics", context.id, config.model_dump_json(exclude={"metrics_flush_interval"}))
        self._counted = context.host.kept(key, lambda: self._new_counted(config))
        self._consumed = context.ledger.counter("otelcol_connector_consumed_items", "Items a connector took.", connector=context.id)
        self._offer = Offer(context, _All(self.outputs), Signal.METRICS)
        interval = config.metrics_flush_interval
        self._polling = Polling(context, self._collect, self._send, interval=interval, initial_delay=interval)
        self._polling.start()

    @staticmethod
    def _new_counted(config: Config) -> Counted:
        counted = Counted(config.resource_metrics_cache_size, config.aggregation_cardinality_limit, _histograms(config))
        counted.remember(config.metric_timestamp_cache_size)
        return counted

    async def stop(self) -> None:
        """Sends what was counted since the last batch."""
        polling, self._polling = self._polling, None
        if polling is None:
            return
        await polling.stop()
        last = await self._collect()
        for batch in [*self._waiting, *([last] if last is not None else [])]:
            await self._offer.or_drop(batch)
        self._waiting.clear()

    async def consume(self, batch: Batch) -> None:
        """Counts the spans; they have ended here then. Refused for a payload that cannot be decoded."""
        try:
            resources = [
                (entry.resource, attributes_of(edit.attributes(entry.resource, edit.RESOURCE)), _scopes(entry))
                for entry in otlp.resources(batch.payload)
            ]
        except ValueError:
            self.context.ledger.dropped(self.context.id, batch.signal, "malformed", batch.count)
            raise Refused("malformed", "the batch cannot be decoded", permanent=True) from None
        now, nameless = (now_ns(), time.monotonic()), 0
        counts = _AdjustedCounts()
        for message, attributes, scopes in resources:
            if _SERVICE not in attributes:
                nameless += sum(len(spans) for _, spans in scopes)
                continue
            resource = self._counted.resource(self._key(attributes), message, now[1])
            for scope, spans in scopes:
                for span in spans:
                    self._count(resource, attributes, scope, span, counts.of(span.trace_state), now)
        self._consumed(batch.count - nameless)
        if nameless:
            self.context.ledger.filtered(self.context.id, batch.signal, "no service.name", nameless)

    def _key(self, resource: Attributes) -> bytes:
        """What tells resources apart."""
        return digest(*sorted(pair for key, pair in resource.items() if not self._identifying or key in self._identifying))

    def _count(
        self,
        resource: Resource,
        around: Attributes,
        scope: list[bytes],
        span: Any,
        adjusted: tuple[int, bool],
        now: tuple[int, float],
    ) -> None:
        """Counts one span, with its events."""
        times, extrapolated = adjusted
        own = attributes_of(span.attributes) if span.attributes else {}
        common = self._dimensions.pairs(own, around)
        what = (around[_SERVICE], span.name, bytes([span.kind & 127, span.status.code & 127, extrapolated]))
        duration = (span.end - span.start) / self._unit_ns if span.end > span.start else 0.0

        def one(table: dict[Key, Series], further: list[bytes]) -> Series:
            dimensions = [*common, *further]
            key = (*self._distinct(what), *dimensions, *(scope if scope[0] in self._scopes else ()))
            series, is_own = self._counted.series(
                resource, table, key, lambda: [*self._common(around, span, scope, extrapolated), *_last_of_each(dimensions)], now
            )
            exemplars = self.config.exemplars
            if is_own and exemplars.enabled and any(span.trace_id) and len(series.exemplars) < exemplars.max_per_data_point:
                series.exemplars.append(_exemplar(span.trace_id, span.span_id, duration))
            return series

        one(resource.calls, self._of_calls.pairs(own, around)).count += times
        if not self.config.histogram.disable:
            distribution = one(resource.durations, self._of_durations.pairs(own, around)).distribution
            assert distribution is not None
            distribution.observe(duration, times)
        if self.config.events.enabled:
            for event in span.events:
                wider = {**around, **attributes_of(event.attributes)}
                one(resource.events, self._of_events.pairs(own, wider)).count += times

    def _distinct(self, what: tuple[bytes, bytes, bytes]) -> Key:
        """The part of a key that every series has."""
        service, name, rest = what
        excluded = self._excluded
        kind = b"" if KIND in excluded else rest[:1]
        status = b"" if STATUS in excluded else rest[1:2]
        sampling = rest[2:] if self.config.enable_metrics_sampling_method else b""
        return (b"" if SERVICE in excluded else service, b"" if SPAN_NAME in excluded else name, kind, b"/", status, sampling)

    def _common(self, around: Attributes, span: Any, scope: list[bytes], extrapolated: bool) -> list[bytes]:
        """The attributes that every series has."""
        service = decode_attribute(around[_SERVICE])[1]
        kind, code = span.kind, span.status.code
        found = {
            SERVICE: service if isinstance(service, str) else "",
            SPAN_NAME: decode_text(span.name),
            KIND: SPAN_KINDS[kind] if 0 <= kind < len(SPAN_KINDS) else "",
            STATUS: STATUSES[code] if 0 <= code < len(STATUSES) else "",
        }
        pairs = [encode_attribute(key, value) for key, value in found.items() if key not in self._excluded]
        if INSTANCE not in self._excluded:
            pairs.append(self._instance)
        if scope[0] in self._scopes:
            pairs.append(encode_attribute("span.instrumentation.scope.name", decode_text(scope[0])))
            if scope[1]:
                pairs.append(encode_attribute("span.instrumentation.scope.version", decode_text(scope[1])))
        if self.config.enable_metrics_sampling_method:
            pairs.append(encode_attribute("sampling.method", "extrapolated" if extrapolated else "counted"))
        return pairs

    async def _collect(self) -> Batch | None:
        """All metrics; what was counted begins anew where they are deltas."""
        now = now_ns()
        payload, count = [], 0
        for resource in self._counted.all():
            metrics = []
            for name, table in zip(("calls", "duration", "events"), resource.tables(), strict=True):
                if not table:
                    continue
                points = [
                    series.point(self._start(resource, name, key, series.start, now), now, not self._delta)
                    for key, series in table.items()
                ]
                metrics.append(self._metric(name, points))
                count += len(points)
            if metrics:
                scope = _SCOPE + b"".join([length_delimited(2, metric) for metric in metrics])
                payload.append(length_delimited(1, length_delimited(1, resource.message) + length_delimited(2, scope)))
        config = self.config
        self._counted.flushed(time.monotonic(), self._delta, config.metrics_expiration, config.series_expiration)
        return Batch(Signal.METRICS, b"".join(payload), count) if count else None

    def _start(self, resource: Resource, name: str, key: Key, began: int, now: int) -> int:
        """The start of a point: that of its series, or the time of the delta before."""
        if not self._delta:
            return began
        return self._counted.start_of((digest(resource.message), name, key), began, now)

    def _metric(self, name: str, points: list[bytes]) -> bytes:
        """A Metric message."""
        config = self.config
        full = f"{config.namespace}.{name}" if config.namespace else name
        data = b"".join([length_delimited(1, point) for point in points]) + (b"\x10\x01" if self._delta else b"\x10\x02")
        header = length_delimited(1, encode_text(full))
        if name != "duration":
            return header + length_delimited(otlp.METRIC_KINDS["sum"], data + b"\x18\x01")
        kind = "exponential_histogram" if config.histogram.exponential is not None else "histogram"
        return header + length_delimited(3, config.histogram.unit.encode()) + length_delimited(otlp.METRIC_KINDS[kind], data)

    async def _send(self, batch: Batch) -> None:
        if not self._delta:
            await self._offer.or_drop(batch)  # the next batch has all of it, and more
            return
        self._waiting.append(batch)
        while self._waiting:
            refused = await self._offer.attempt(self._waiting[0])
            if refused is not None:
                self._offer.waits(self._waiting[0], refused)
                break
            del self._waiting[0]
        while len(self._waiting) > MOST_WAITING:
            self._offer.give_up(self._waiting.pop(0), "backlog")


def _histograms(config: Config) -> Callable[[], Explicit | Exponential]:
    """How histograms begin. It does not hold the connector."""
    histogram = config.histogram
    if histogram.exponential is not None:
        most = histogram.exponential.max_size or 160
        return lambda: Exponential(most)
    seconds = histogram.explicit.buckets if histogram.explicit is not None else BUCKETS
    factor = 1e3 if histogram.unit == "ms" else 1.0
    bounds = tuple([round(bound * factor, 9) for bound in seconds])
    return lambda: Explicit(bounds)


def _scopes(entry: Any) -> list[tuple[list[bytes], list[Any]]]:
    """Name and version of each scope, and its spans. ValueError."""
    found = []
    for scope in entry.scopes:
        about = parse(_Scope, scope.scope)
        found.append(([about.name, about.version], [parse(_Span, record) for record in scope.records]))
    return found


def _last_of_each(pairs: list[bytes]) -> list[bytes]:
    """Of attributes with equal keys the last."""
    return list(dict(zip(keys_of(pairs), pairs, strict=True)).values())


def _exemplar(trace_id: bytes, span_id: bytes, value: float) -> bytes:
    """An Exemplar message without its time."""
    return b"\x19" + _DOUBLE(value) + length_delimited(4, span_id) + length_delimited(5, trace_id)


class _AdjustedCounts:
    """How many spans one stands for, by its tracestate; the last one is remembered, as spans of a trace come together."""

    def __init__(self) -> None:
        self._text, self._found = b"", (1, False)

    def of(self, text: bytes) -> tuple[int, bool]:
        """The number, rounded by chance where it is no whole one, and whether the tracestate says it."""
        if text != self._text:
            self._text, self._found = text, self._read(text)
        return self._found

    @staticmethod
    def _read(text: bytes) -> tuple[int, bool]:
        if b"ot=" not in text:
            return 1, False
        try:
            threshold = TraceState(decode_text(text)).threshold
        except ValueError:
            return 1, False
        if threshold is None or threshold >= NEVER:
            return 1, False
        whole, rest = divmod(NEVER, NEVER - threshold)
        return whole + (random.randrange(NEVER - threshold) < rest), True
