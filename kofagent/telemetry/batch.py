"""What travels: serialized OTLP (`Batch`) or columns of scraped samples (`MetricBatch`). Both are immutable by convention.

A consumer never changes a batch it was given: fan-out hands the same object to several exporters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from kofagent.telemetry.series import Exemplar, Series
from kofagent.telemetry.signal import Signal

Metadata = Mapping[str, tuple[str, ...]]
"""Headers of the request that brought the data, names in lower case (receivers with `include_metadata: true`)."""


class Batch:
    """OTLP bytes of one signal: the body of an `Export{Logs,Metrics,Trace}ServiceRequest`.

    `payload` is a concatenation of field 1 (`resource_logs`, `resource_metrics`, `resource_spans`); by protobuf's rules the
    concatenation of two payloads is their merge, so joining batches copies bytes and parses nothing.
    `count` is the number of items: log records, metric data points or spans.
    """

    __slots__ = ("count", "metadata", "payload", "signal")

    def __init__(self, signal: Signal, payload: bytes, count: int, metadata: Metadata | None = None) -> None:
        self.signal = signal
        self.payload = payload
        self.count = count
        self.metadata = metadata

    @property
    def size(self) -> int:
        """Bytes this batch keeps in memory, as the memory budget counts them."""
        return len(self.payload) + 200

    @staticmethod
    def join(batches: Sequence[Batch]) -> Batch:
        """One batch of the items of all, in order; they share a signal, the first one's metadata is kept."""
        if len(batches) == 1:
            return batches[0]
        return Batch(
            batches[0].signal, b"".join([b.payload for b in batches]), sum([b.count for b in batches]), batches[0].metadata
        )

    def __repr__(self) -> str:
        return f"<Batch {self.signal.value} items={self.count} bytes={len(self.payload)}>"


class Samples:
    """The samples of one scrape of one target: parallel columns `series[i]`, `values[i]`.

    `timestamp_ms` is the time of all of them, in Unix milliseconds, or a list parallel to `series` where the page has
    its own times. `exemplars` maps an index to the exemplar of that sample. `resource` describes the target for
    consumers that speak OTLP (`service.name`, `server.address`, ...).
    """

    __slots__ = ("exemplars", "resource", "series", "timestamp_ms", "values")

    def __init__(
        self,
        series: Sequence[Series],
        values: Sequence[float],
        timestamp_ms: int | Sequence[int],
        resource: Mapping[str, str] | None = None,
        exemplars: Mapping[int, Exemplar] | None = None,
    ) -> None:
        self.series = series
        self.values = values
        self.timestamp_ms = timestamp_ms
        self.resource = resource
        self.exemplars = exemplars

    def timestamps(self) -> Sequence[int]:
        """The times as a column, Unix milliseconds."""
        at = self.timestamp_ms
        return [at] * len(self.series) if isinstance(at, int) else at


class MetricBatch:
    """Scraped samples as columns, one `Samples` per scrape. Only a `ColumnsConsumer` is given one."""

    __slots__ = ("count", "groups")
    signal = Signal.METRICS
    metadata: Metadata | None = None

    def __init__(self, groups: Sequence[Samples]) -> None:
        self.groups = groups
        self.count = sum([len(g.series) for g in groups])

    @property
    def size(self) -> int:
        """Bytes this batch keeps in memory in addition to the interned series: a reference and a float per sample."""
        return 40 * self.count + 200

    @staticmethod
    def join(batches: Iterable[MetricBatch]) -> MetricBatch:
        """One batch of the samples of all, in order."""
        return MetricBatch([g for b in batches for g in b.groups])

    def __repr__(self) -> str:
        return f"<MetricBatch samples={self.count}>"


AnyBatch = Batch | MetricBatch
