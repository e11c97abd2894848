"""The plain twin of `kofagent.wire.remote_write.encode_samples`: Google's protobuf, one message at a time."""

from __future__ import annotations

from collections.abc import Iterable

from tests.support.remote_write import WriteRequest

Labels = tuple[tuple[str, str], ...]


def encode_plain(rows: Iterable[tuple[Labels, float, int]]) -> bytes:
    """A WriteRequest with one TimeSeries for each row of labels, value and Unix milliseconds."""
    request = WriteRequest()
    for labels, value, at in rows:
        series = request.timeseries.add()
        for name, text in labels:
            series.labels.add(name=name, value=text)
        series.samples.add(value=value, timestamp=at)
    encoded: bytes = request.SerializeToString()
    return encoded
