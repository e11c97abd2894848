"""Streams of points for the processors that hold a state of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from tests.processors.support import batch, pairs, processor
from tests.support.components import FakeHost, Sink

DELTA, CUMULATIVE = 1, 2


def request(
    kind: str,
    temporality: int,
    *points: Mapping[str, Any],
    name: str = "m",
    monotonic: bool = True,
    resource: Mapping[str, Any] | None = None,
) -> ExportMetricsServiceRequest:
    """One metric. A point has the fields of its message; `attributes` and `positive`, `negative` (offset, counts) are plain values."""
    made = ExportMetricsServiceRequest()
    entry = made.resource_metrics.add()
    entry.resource.attributes.extend(pairs(resource or {}))
    metric = entry.scope_metrics.add().metrics.add(name=name)
    data = getattr(metric, kind)
    data.aggregation_temporality = temporality
    if kind == "sum":
        data.is_monotonic = monotonic
    for given in points:
        point = data.data_points.add()
        for field, value in given.items():
            if field == "attributes":
                point.attributes.extend(pairs(value))
            elif field in ("positive", "negative"):
                getattr(point, field).offset, counts = value
                getattr(point, field).bucket_counts.extend(counts)
            elif isinstance(value, list):
                getattr(point, field).extend(value)
            else:
                setattr(point, field, value)
    return made


def points_of(given: Batch) -> list[Any]:
    """All points of a batch."""
    out = ExportMetricsServiceRequest.FromString(given.payload)
    metrics = [m for e in out.resource_metrics for s in e.scope_metrics for m in s.metrics]
    return [p for m in metrics for p in getattr(m, m.WhichOneof("data") or "sum").data_points]


class Line:
    """A processor with a state, and what it hands on, batch by batch."""

    def __init__(self, cls: Any, options: Mapping[str, Any], host: FakeHost | None = None) -> None:
        self.host = host or FakeHost()
        self.made, self.sink = processor(cls, options, Signal.METRICS, self.host)

    async def __aenter__(self) -> Line:
        await self.made.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.made.stop()

    async def send(self, *requests: ExportMetricsServiceRequest) -> list[Any]:
        """The points that come out of these."""
        before = len(self.sink.batches)
        await self.made.consume(batch(Signal.METRICS, *requests))
        return [point for out in self.sink.batches[before:] if isinstance(out, Batch) for point in points_of(out)]

    async def refused(self, *requests: ExportMetricsServiceRequest) -> None:
        """Sends while the next component refuses for now."""
        self.sink.refuse = Refused("sending queue full", retry_after=1)
        try:
            await self.send(*requests)
        except Refused:
            pass
        else:
            raise AssertionError("it was not refused")
        finally:
            self.sink.refuse = None

    def counted(self, what: str) -> dict[str, float]:
        """Points that were dropped or filtered, by reason or rule."""
        label = "reason" if what == "dropped" else "rule"
        samples = [s for f in self.host.ledger.registry.collect() for s in f.samples if s.name == f"kofagent_{what}_items_total"]
        return {sample.labels[label]: sample.value for sample in samples if sample.value}


def settled(line: Line) -> bool:
    """incoming = outgoing + filtered + dropped."""
    total = line.host.ledger.total
    labels = {"processor": "p", "otel_signal": "metrics"}
    went = sum(line.counted("dropped").values()) + sum(line.counted("filtered").values())
    sink: Sink = line.sink
    outgoing = total("otelcol_processor_outgoing_items_total", **labels)
    return outgoing == sink.count and total("otelcol_processor_incoming_items_total", **labels) == outgoing + went
