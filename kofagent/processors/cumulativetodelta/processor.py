"""The processor `cumulativetodelta`."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from kofagent.component.mapping import Left, Mapper
from kofagent.component.protocols import Context, Processor
from kofagent.config.filterset import compile_filterset
from kofagent.processors.cumulativetodelta import deltas
from kofagent.processors.cumulativetodelta.config import KINDS, Config, MatchMetrics
from kofagent.processors.cumulativetodelta.deltas import Exponential, Gone, Histogram
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.clock import now_ns
from kofagent.telemetry.signal import Signal
from kofagent.transform.otlp_metrics import wrap64
from kofagent.transform.points import CUMULATIVE, DELTA, NO_RECORDED_VALUE, POINTS
from kofagent.transform.streams import Returned, Streams, map_points, stream_of
from kofagent.wire.attributes import decode_text
from kofagent.wire.lens import parse

_GAUGE = "otelcol_cumulativetodelta_streams_tracked"
_ENTRIES, _SIZE = 1_000_000, 64 << 20
_FILTERED = {"initial": "initial_value", "no value": "no recorded value"}
"""Why a point is left out by the configuration or since it says nothing: the rule it is counted under."""
_UPSTREAM = {"initial": "initial", "counter reset": "reset", "changed buckets": "bucket_mismatch"}
"""What upstream's metric calls the reasons."""


def _cost(values: Any) -> int:
    if isinstance(values, Histogram):
        return 200 + 8 * (len(values.bounds) + len(values.counts)) + 32 * len(values.counts)
    if isinstance(values, Exponential):
        return 400 + 40 * (len(values.positive[1]) + len(values.negative[1]))
    return 120


class State:
    """What is learned from the data, kept over a reload."""

    def __init__(self) -> None:
        self.streams: Streams[Any] = Streams("cumulativetodelta", _ENTRIES, _SIZE, 0, _cost)
        self.returned = Returned()
        self.began_ns = now_ns()


def _filter(block: MatchMetrics) -> Callable[[Any, str], bool] | None:
    """Whether a metric is one of these; None when nothing is asked for."""
    if not block.metrics and not block.metric_types:
        return None
    names = compile_filterset(block.match_type, block.metrics) if block.metrics else None
    kinds = {KINDS[each] for each in block.metric_types} or set(KINDS.values())
    return lambda metric, kind: kind in kinds and (names is None or names(decode_text(metric.name)))


def _excluded(block: MatchMetrics) -> list[Callable[[Any, str], bool]]:
    """Names and types exclude by themselves."""
    parts = [block.model_copy(update={"metric_types": []}), block.model_copy(update={"metrics": [], "match_type": ""})]
    return [test for part in parts if (test := _filter(part)) is not None]


class CumulativeToDeltaProcessor(Processor[Config]):
    """One instance per pipeline, each with its own streams."""

    signals = frozenset({Signal.METRICS})

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._include, self._exclude = _filter(config.include), _excluded(config.exclude)

    async def start(self) -> None:
        context = self.context
        self._state = state = context.host.kept(("cumulativetodelta", context.id, self.pipeline), State)
        state.streams.max_stale = self.config.max_staleness
        ledger, id = context.ledger, context.id
        self._converted = {
            kind: ledger.counter(
                "otelcol_cumulativetodelta_datapoints", "Data points that were converted.", processor=id, metric_type=kind
            )
            for kind in KINDS.values()
        }
        streams = state.streams
        ledger.gauge(
            _GAUGE, "Streams of which the last values are held.", lambda: len(streams), processor=id, pipeline=self.pipeline
        )
        self._mapper = Mapper(self, self._changed)

    async def stop(self) -> None:
        self.context.ledger.forget(_GAUGE, processor=self.context.id, pipeline=self.pipeline)

    def consume(self, batch: Batch) -> Coroutine[Any, Any, None]:
        return self._mapper.consume(batch)

    def _changed(self, batch: Batch) -> Batch | Left:
        turn = _Turn(self, time.monotonic())
        payload, count = map_points(batch.payload, (CUMULATIVE, DELTA), self._wanted, turn.point)
        if not turn.made:
            return batch
        changed = Batch(batch.signal, payload, count, batch.metadata) if count else None
        filtered, dropped = Counter[str](), Counter[str]()
        for (kind, what), items in turn.counts.items():
            self._account(kind, what, items)
            if what in _FILTERED:
                filtered[_FILTERED[what]] += items
            elif what:
                dropped[what] += items
        returned, made = self._state.returned, turn.made
        return Left(changed, filtered, dropped, lambda: returned.put(made))

    def _wanted(self, metric: Any, kind: str) -> bool:
        if kind == "sum" and not metric.sum.is_monotonic:
            return False
        if self._include is not None and not self._include(metric, kind):
            return False
        return not any(test(metric, kind) for test in self._exclude)

    def _account(self, kind: str, what: str, items: int) -> None:
        if not what:
            self._converted[kind](items)
        elif what in _UPSTREAM:
            self.context.ledger.counter(
                "otelcol_cumulativetodelta_datapoints_dropped",
                "Data points that were not converted.",
                processor=self.context.id,
                metric_type=kind,
                reason=_UPSTREAM[what],
            )(items)

    def convert(self, kind: str, metric: bytes, point: Any, now: float) -> str:
        """Makes the point, seen through its lens, a delta; otherwise says why there is none."""
        if point.flags & NO_RECORDED_VALUE:
            return "no value"
        value_kind = point.WhichOneof("value") if kind == "sum" else None
        if value_kind == "as_double" and math.isnan(point.as_double):
            return "as it is"
        streams = self._state.streams
        key = stream_of(metric, point.attributes, point.start.to_bytes(8, "big"), (value_kind or "").encode())
        new, old = deltas.values(kind, point), streams.get(key)
        if old is not None and kind != "sum" and math.isnan(new.sum):
            new = new._replace(sum=old.sum)
        if not streams.put(key, new, now):
            return "stream limit"
        if old is None:
            return self._first(point)
        point.start = old[0]
        try:
            if kind == "sum":
                _subtract(point, old[1], new[1])
            elif kind == "histogram":
                _put_histogram(point, deltas.histogram(old, new))
            else:
                _put_exponential(point, deltas.exponential(old, new))
        except Gone as gone:
            return gone.reason
        return ""

    def _first(self, point: Any) -> str:
        """A stream begins: its value as a delta, or why not."""
        how = self.config.initial_value
        if how == "drop" or (how == "auto" and (point.start < self._state.began_ns or point.start == point.time)):
            return "initial"
        if how == "keep":
            point.ClearField("start")
        return ""


def _subtract(point: Any, old: float, new: float) -> None:
    if new < old:
        raise Gone("counter reset")
    if point.HasField("as_int"):
        point.as_int = wrap64(int(new) - int(old))
    else:
        point.as_double = new - old


def _put_histogram(point: Any, delta: Histogram) -> None:
    point.count = delta.total
    if point.HasField("sum") and not math.isnan(point.sum):
        point.sum = delta.sum
    point.bucket_counts[:] = delta.counts
    _forget_extremes(point)


def _put_exponential(point: Any, delta: Exponential) -> None:
    point.count, point.zero_count = delta.total, delta.zero_count
    if point.HasField("sum") and not math.isnan(point.sum):
        point.sum = delta.sum
    for side, (offset, counts) in ((point.positive, delta.positive), (point.negative, delta.negative)):
        side.offset = offset
        side.bucket_counts[:] = counts
    _forget_extremes(point)


def _forget_extremes(point: Any) -> None:
    """Of what came in between nobody knows them."""
    point.ClearField("min")
    point.ClearField("max")


class _Turn:
    """One batch while its points are converted."""

    __slots__ = ("_now", "_processor", "counts", "made")

    def __init__(self, processor: CumulativeToDeltaProcessor, now: float) -> None:
        self._processor, self._now = processor, now
        self.counts: Counter[tuple[str, str]] = Counter()
        """Points by kind and what became of them; nothing: they are deltas."""
        self.made: list[tuple[bytes, bytes, bytes | None, str]] = []
        processor._state.streams.sweep(now)

    def point(self, kind: str, metric: bytes, old: bytes) -> bytes | None:
        """As `streams.Point`."""
        known = self._processor._state.returned.take(metric, old)
        if known is not None:
            new, what = known
        else:
            view = parse(POINTS[kind], old)
            what = self._processor.convert(kind, metric, view, self._now)
            if what == "as it is":
                what, new = "", old
            else:
                new = None if what else view.SerializeToString()
        self.counts[kind, what] += 1
        self.made.append((metric, old, new, what))
        return new
