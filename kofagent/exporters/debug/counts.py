"""The one line per batch of `basic`: counts from the wire, nothing decoded."""

from __future__ import annotations

from kofagent.telemetry.batch import AnyBatch, MetricBatch
from kofagent.telemetry.signal import Signal
from kofagent.wire.varint import read_varint


def count_entries(payload: bytes, depth: int) -> int:
    """How many messages lie `depth` levels deep in an OTLP payload: 1 counts resources, 3 counts items (or metrics).

    The way down is field 1 at the top and field 2 below, in all three signals. Anything malformed ends the count there.
    """
    return _count(payload, 1, depth, 0, len(payload))


def _count(payload: bytes, field: int, depth: int, at: int, end: int) -> int:
    found = 0
    try:
        while at < end:
            tag, at = read_varint(payload, at)
            kind = tag & 7
            if kind == 2:
                size, at = read_varint(payload, at)
                if tag >> 3 == field:
                    found += 1 if depth == 1 else _count(payload, 2, depth - 1, at, min(at + size, end))
                at += size
            elif kind == 0:
                at = read_varint(payload, at)[1]
            elif kind in (1, 5):
                at += 8 if kind == 1 else 4
            else:
                break
    except ValueError:
        pass
    return found


def summary(batch: AnyBatch) -> str:
    """The line as upstream words it; samples of a scrape count as data points."""
    if isinstance(batch, MetricBatch):
        resources = len(batch.groups)
        metrics = sum(len({s.family or s.name for s in g.series}) for g in batch.groups)
        return f'Metrics {{"resource metrics": {resources}, "metrics": {metrics}, "data points": {batch.count}}}'
    resources = count_entries(batch.payload, 1)
    if batch.signal is Signal.LOGS:
        return f'Logs {{"resource logs": {resources}, "log records": {batch.count}}}'
    if batch.signal is Signal.TRACES:
        return f'Traces {{"resource spans": {resources}, "spans": {batch.count}}}'
    metrics = count_entries(batch.payload, 3)
    return f'Metrics {{"resource metrics": {resources}, "metrics": {metrics}, "data points": {batch.count}}}'
