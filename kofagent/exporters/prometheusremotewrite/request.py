"""`WriteRequest`: one remote write request, which is made of fields and compressed when it is sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import snappy

from kofagent.telemetry.batch import Batch, Metadata
from kofagent.wire import remote_write


class WriteRequest:
    """As `Request` of the sending kit. The fields are given up when they are compressed, so a request is in memory once."""

    __slots__ = ("_body", "_fields", "_size", "items", "metadata")

    def __init__(self, fields: Sequence[bytes], items: int, metadata: Metadata | None = None) -> None:
        self._fields = fields
        self._body: bytes | None = None
        self._size = -1
        self.items = items
        self.metadata = metadata

    @property
    def size(self) -> int:
        """Bytes before compression."""
        if self._size < 0:
            self._size = sum(map(len, self._fields))
        return self._size

    def encoded(self) -> bytes:
        """The compressed body."""
        if self._body is None:
            whole = b"".join(self._fields)
            self._size = len(whole)
            self._body = snappy.compress(whole)
            self._fields = ()
        return self._body

    def fields(self) -> bytes:
        """The body before compression."""
        return snappy.uncompress(self._body) if self._body is not None else b"".join(self._fields)

    def smaller(self) -> Sequence[WriteRequest]:
        """As `Request.smaller`: cut between time series."""
        runs = remote_write.halves(self.fields())
        return self._parts(runs) if runs is not None else ()

    def within(self, most_bytes: int, most_items: int = 0) -> Iterator[WriteRequest]:
        """Itself, or requests of at most this many bytes (a single time series may be larger) and about this many items."""
        large, many = most_bytes and self.size > most_bytes, most_items and self.items > most_items
        if not large and not many:
            yield self
            return
        fields = remote_write.fields_of(self.fields())
        step = max(1, len(fields) * most_items // self.items) if many else len(fields)
        runs = [fields[at : at + step] for at in range(0, len(fields), step)]
        yield from self._parts([part for run in runs for part in remote_write.split(run, 1, most_bytes)] if large else runs)

    def _parts(self, runs: Sequence[list[bytes]]) -> list[WriteRequest]:
        """Requests of these fields; items go by the number of time series, of which a point can make several."""
        weights = [sum([field[:1] == remote_write.TIMESERIES for field in run]) for run in runs]
        if not sum(weights):
            weights = list(map(len, runs))
        total = sum(weights)
        out, seen, given = [], 0, 0
        for run, weight in zip(runs, weights, strict=True):
            seen += weight
            upto = self.items * seen // total
            out.append(WriteRequest(run, upto - given, self.metadata))
            given = upto
        return out


def unpacked(body: bytes) -> bytes:
    """What `snappy.compress` was given. ValueError for a damaged body."""
    try:
        whole: bytes = snappy.uncompress(body)
    except Exception as error:  # the library's exception class has no common base with others
        raise ValueError(f"not a snappy body: {error}") from None
    return whole


def split_written(batch: Batch, most_items: int, most_bytes: int) -> Iterator[Batch]:
    """As `splitting.split_batch`, for batches whose payload is a write request."""
    for part in WriteRequest([batch.payload], batch.count, batch.metadata).within(most_bytes, most_items):
        yield Batch(batch.signal, part.fields(), part.items, batch.metadata)
