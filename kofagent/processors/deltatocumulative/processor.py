"""The processor `deltatocumulative`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Coroutine
from typing import Any

from kofagent.component.mapping import Left, Mapper
from kofagent.component.protocols import Processor
from kofagent.processors.deltatocumulative import totals
from kofagent.processors.deltatocumulative.config import UNLIMITED, Config
from kofagent.processors.deltatocumulative.totals import Exponential, Histogram, State
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.signal import Signal
from kofagent.transform.points import CUMULATIVE, DELTA, POINTS
from kofagent.transform.streams import Returned, Streams, map_points, stream_of
from kofagent.wire.lens import parse

_SIZE = 64 << 20
_GAUGE = "otelcol_deltatocumulative_streams_{}"
_ERRORS = {"stream limit": "limit", "older start": "delta.ErrOlderStart", "out of order": "delta.ErrOutOfOrder"}
"""What upstream's metric calls the reasons."""


def _cost(state: State) -> int:
    if isinstance(state, Histogram):
        return 280 + 24 * len(state.bounds) + 40 * len(state.counts)
    if isinstance(state, Exponential):
        return 560 + 40 * (len(state.positive.counts) + len(state.negative.counts))
    return 160


class Kept:
    """What is learned from the data, kept over a reload."""

    def __init__(self) -> None:
        self.streams: Streams[Any] = Streams("deltatocumulative", UNLIMITED, _SIZE, 0, _cost)
        self.returned = Returned()


class DeltaToCumulativeProcessor(Processor[Config]):
    """One instance per pipeline, each with its own streams."""

    signals = frozenset({Signal.METRICS})

    async def start(self) -> None:
        context = self.context
        self._kept = context.host.kept(("deltatocumulative", context.id, self.pipeline), Kept)
        streams = self._kept.streams
        streams.max_stale, streams.max_entries = self.config.max_stale, self.config.max_streams
        ledger = context.ledger
        for name, help, read in (
            ("tracked", "Streams that are tracked.", lambda: len(streams)),
            ("limit", "Most streams that are tracked.", lambda: streams.max_entries),
            ("max_stale", "Seconds after which streams without points are forgotten.", lambda: streams.max_stale),
        ):
            ledger.gauge(_GAUGE.format(name), help, read, processor=context.id, pipeline=self.pipeline)
        self._points = {
            what: ledger.counter(
                "otelcol_deltatocumulative_datapoints",
                "Data points that were processed, by what was wrong with them.",
                processor=context.id,
                error=_ERRORS.get(what, ""),
            )
            for what in ("", *_ERRORS)
        }
        self._mapper = Mapper(self, self._changed)

    async def stop(self) -> None:
        for name in ("tracked", "limit", "max_stale"):
            self.context.ledger.forget(_GAUGE.format(name), processor=self.context.id, pipeline=self.pipeline)

    def consume(self, batch: Batch) -> Coroutine[Any, Any, None]:
        return self._mapper.consume(batch)

    def _changed(self, batch: Batch) -> Batch | Left:
        kept, now = self._kept, time.monotonic()
        kept.streams.sweep(now)
        counts: Counter[str] = Counter()
        made: list[tuple[bytes, bytes, bytes | None, str]] = []

        def point(kind: str, metric: bytes, old: bytes) -> bytes | None:
            known = kept.returned.take(metric, old)
            new, what = known if known is not None else self._added(kind, metric, old, now)
            counts[what] += 1
            made.append((metric, old, new, what))
            return new

        payload, count = map_points(batch.payload, (DELTA, CUMULATIVE), lambda metric, kind: True, point)
        if not made:
            return batch
        for what, items in counts.items():
            self._points[what](items)
        dropped = {what: items for what, items in counts.items() if what}
        changed = Batch(batch.signal, payload, count, batch.metadata) if count else None
        return Left(changed, {}, dropped, lambda: kept.returned.put(made))

    def _added(self, kind: str, metric: bytes, old: bytes, now: float) -> tuple[bytes | None, str]:
        """The total after a point; otherwise why there is none."""
        view = parse(POINTS[kind], old)
        streams = self._kept.streams
        value = view.WhichOneof("value") or "" if kind == "sum" else ""
        key = stream_of(metric, view.attributes, value.encode())
        new, state = totals.state_of(kind, view), streams.get(key)
        if state is not None:
            if new.start < state.start:
                return None, "older start"
            if new.time <= state.time:
                return None, "out of order"
            new = totals.add(state, new)
        if not streams.put(key, new, now):
            return None, "stream limit"
        if state is None:
            return old, ""
        totals.write(new, view)
        return view.SerializeToString(), ""
