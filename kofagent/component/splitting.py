"""Batches cut into smaller ones: by `batch.max_size` of a sending queue, by `send_batch_max_size` of the processor `batch`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from kofagent.component.requests import B
from kofagent.telemetry.batch import Batch, MetricBatch, Samples
from kofagent.telemetry.refused import Refused
from kofagent.wire import otlp_split

SAMPLE_BYTES = 40
"""Size of a scraped sample where sizes are in bytes: what it takes in memory."""


Split = Callable[[Batch, int, int], Iterable[Batch]]
"""As `split_batch`."""


def cut(batch: B, most_items: int, most_bytes: int, split: Split | None = None) -> Iterator[B]:
    """The batch in parts with at most this many items and bytes (0: no limit), in order. Refused when it is malformed.

    `split` knows payloads that are not OTLP.
    """
    if isinstance(batch, MetricBatch):
        limits = [most_items] * (most_items > 0) + [max(1, most_bytes // SAMPLE_BYTES)] * (most_bytes > 0)
        if limits and batch.count > min(limits):
            yield from split_columns(batch, min(limits))
        else:
            yield batch
    elif (most_items and batch.count > most_items) or (most_bytes and len(batch.payload) > most_bytes):
        yield from (split or split_batch)(batch, most_items, most_bytes)
    else:
        yield batch


def split_batch(batch: Batch, most_items: int = 0, most_bytes: int = 0) -> Iterator[Batch]:
    """Batches with at most this many items and bytes each, in order. Refused when the payload is malformed."""
    try:
        parts = otlp_split.split(batch.signal.value, batch.payload, most_items, most_bytes)
    except ValueError:
        raise Refused("malformed", "the batch cannot be decoded", permanent=True) from None
    for payload, items in parts:
        yield Batch(batch.signal, payload, items, batch.metadata)


def behind(batch: Batch, items: int) -> Batch:
    """The batch without its first items; it was split before, so that its payload can be decoded."""
    return Batch.join(list(split_batch(batch, items))[1:])


def split_columns(batch: MetricBatch, most: int) -> list[MetricBatch]:
    """Batches of at most `most` samples each, in order."""
    out: list[MetricBatch] = []
    groups: list[Samples] = []
    room = most
    for group in batch.groups:
        at = 0
        while at < len(group.series):
            end = min(len(group.series), at + room)
            stamp = group.timestamp_ms
            exemplars = {i - at: e for i, e in group.exemplars.items() if at <= i < end} if group.exemplars else None
            groups.append(
                Samples(
                    group.series[at:end],
                    group.values[at:end],
                    stamp if isinstance(stamp, int) else stamp[at:end],
                    group.resource,
                    exemplars,
                )
            )
            room -= end - at
            at = end
            if room == 0:
                out.append(MetricBatch(groups))
                groups, room = [], most
    if groups:
        out.append(MetricBatch(groups))
    return out


class OtlpRequest:
    """A request that is an OTLP payload."""

    __slots__ = ("batch", "items", "size")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.items = batch.count
        self.size = len(batch.payload)

    def smaller(self) -> Sequence[OtlpRequest]:
        """As `Request.smaller`: cut between records or data points."""
        if self.items < 2:
            return ()
        try:
            parts = otlp_split.split(self.batch.signal.value, self.batch.payload, (self.items + 1) // 2)
        except ValueError:
            return ()
        if len(parts) < 2:
            return ()
        return [OtlpRequest(Batch(self.batch.signal, payload, items, self.batch.metadata)) for payload, items in parts]


def otlp_requests(batch: Batch, most_bytes: int) -> Iterable[OtlpRequest]:
    """A batch as OTLP requests of at most this many bytes (0: no limit; a larger record is sent alone)."""
    if not most_bytes or len(batch.payload) <= most_bytes:
        return (OtlpRequest(batch),)
    return map(OtlpRequest, split_batch(batch, 0, most_bytes))
