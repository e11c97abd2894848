"""`prometheus.WriteRequest` of remote write 1.0, written by hand (prometheus.io/docs/specs/prw/remote_write_spec).

    message WriteRequest   { repeated TimeSeries timeseries = 1; reserved 2; repeated MetricMetadata metadata = 3; }
    message TimeSeries     { repeated Label labels = 1; repeated Sample samples = 2; repeated Exemplar exemplars = 3;
                             repeated Histogram histograms = 4; }
    message Label          { string name = 1; string value = 2; }
    message Sample         { double value = 1; int64 timestamp = 2; }
    message Exemplar       { repeated Label labels = 1; double value = 2; int64 timestamp = 3; }
    message MetricMetadata { MetricType type = 1; string metric_family_name = 2; string help = 4; string unit = 5; }

A request is the concatenation of its fields, so everything here yields pieces that are joined once per request. Labels come
as finished bytes (`Series.wire`): sorted, unique, none empty. Times are Unix milliseconds.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate, repeat

from kofagent.memory.memo import Memo
from kofagent.wire import walk
from kofagent.wire.varint import length_delimited, varint

METADATA_TYPES = {
    "unknown": 0,
    "counter": 1,
    "gauge": 2,
    "histogram": 3,
    "gaugehistogram": 4,
    "summary": 5,
    "info": 6,
    "stateset": 7,
}
"""`MetricMetadata.MetricType` by Prometheus' word for the type."""

PIECES = 3
"""Pieces that `encode_samples` makes of one sample."""

_MASK = 0xFFFFFFFFFFFFFFFF
_double = struct.Struct("<d").pack


@lru_cache(maxsize=16)
def _packer(tail: int) -> tuple[Memo[int, bytes], bytes, struct.Struct]:
    """Heads, start and layout of samples whose timestamp field takes `tail` bytes; a head is tag and length of a `TimeSeries` by
    the length of its labels."""
    heads: Memo[int, bytes] = Memo("wire.sample_heads", lambda size: b"\x0a" + varint(size + 11 + tail), entries=8192, size=1 << 20)
    return heads, bytes((0x12, 9 + tail, 0x09)), struct.Struct(f"<3sd{tail}s")


def timestamp_field(timestamp_ms: int) -> bytes:
    """`int64 timestamp = 2` of a Sample. From 1970 to 2109 (from 35 years after the epoch on) it takes seven bytes."""
    return b"\x10" + varint(timestamp_ms & _MASK)


def encode_samples(labels: Sequence[bytes], values: Iterable[float], timestamp_ms: int | Sequence[int]) -> list[bytes]:
    """One `timeseries` field for each sample, as PIECES pieces each, in order.

    `timestamp_ms` is the time of all, or a sequence parallel to `labels`.
    """
    # hot: scrape, 0.2 us a sample: every loop runs in C, the label bytes are shared and copied once, by the join
    if isinstance(timestamp_ms, int):
        field = timestamp_field(timestamp_ms)
        size = len(field)
        fields: Iterable[bytes] = repeat(field)
    else:
        known = {at: timestamp_field(at) for at in set(timestamp_ms)}
        sizes = set(map(len, known.values()))
        if len(sizes) > 1:
            return [
                piece
                for one, value, at in zip(labels, values, timestamp_ms, strict=True)
                for piece in encode_samples((one,), (value,), at)
            ]
        size = sizes.pop() if sizes else 0
        fields = map(known.__getitem__, timestamp_ms)
    heads, start, layout = _packer(size)
    out = [b""] * (PIECES * len(labels))
    out[0::PIECES] = map(heads.__getitem__, map(len, labels))
    out[1::PIECES] = labels
    out[2::PIECES] = map(layout.pack, repeat(start), values, fields)
    return out


def add_fields(pieces: list[bytes], index: int, fields: bytes) -> None:
    """Appends fields of a TimeSeries (exemplars) to the sample `index` of what `encode_samples` made."""
    at = PIECES * index
    pieces[at + 2] += fields
    pieces[at] = b"\x0a" + varint(len(pieces[at + 1]) + len(pieces[at + 2]))


def timeseries(labels: bytes, fields: bytes) -> bytes:
    """A `timeseries` field of finished labels and finished samples, exemplars or histograms."""
    return b"\x0a" + varint(len(labels) + len(fields)) + labels + fields


def sample(value: float, timestamp_ms: int) -> bytes:
    """`samples = 2` of a TimeSeries."""
    return length_delimited(2, b"\x09" + _double(value) + timestamp_field(timestamp_ms))


def exemplar(labels: bytes, value: float, timestamp_ms: int) -> bytes:
    """`exemplars = 3` of a TimeSeries."""
    return length_delimited(3, labels + b"\x11" + _double(value) + b"\x18" + varint(timestamp_ms & _MASK))


def metadata(kind: int, family: str, help: str, unit: str) -> bytes:
    """`metadata = 3` of a WriteRequest; `kind` is one of METADATA_TYPES."""
    body = (b"\x08" + varint(kind) if kind else b"") + length_delimited(2, family.encode("utf-8", "replace"))
    if help:
        body += length_delimited(4, help.encode("utf-8", "replace"))
    if unit:
        body += length_delimited(5, unit.encode("utf-8", "replace"))
    return length_delimited(3, body)


Buckets = tuple[Sequence[tuple[int, int]], Sequence[int]]
"""Spans `(offset, length)` and the deltas of the bucket counts, as a native histogram has them."""

NO_BUCKETS: Buckets = ((), ())


def native_histogram(
    *,
    count: int,
    sum: float,
    schema: int,
    zero_threshold: float,
    zero_count: int,
    positive: Buckets,
    negative: Buckets = NO_BUCKETS,
    timestamp_ms: int,
    custom_values: Sequence[float] = (),
) -> bytes:
    """`histograms = 4` of a TimeSeries, with integer counts and reset hint UNKNOWN.

    message Histogram { oneof { uint64 count_int = 1; double count_float = 2; } double sum = 3; sint32 schema = 4;
      double zero_threshold = 5; oneof { uint64 zero_count_int = 6; double zero_count_float = 7; }
      repeated BucketSpan negative_spans = 8; repeated sint64 negative_deltas = 9; repeated double negative_counts = 10;
      repeated BucketSpan positive_spans = 11; repeated sint64 positive_deltas = 12; repeated double positive_counts = 13;
      ResetHint reset_hint = 14; int64 timestamp = 15; repeated double custom_values = 16; }
    message BucketSpan { sint32 offset = 1; uint32 length = 2; }
    """
    out = [b"\x08", varint(count & _MASK), b"\x19", _double(sum)]
    if schema:
        out += (b"\x20", varint(_zigzag(schema)))
    if zero_threshold:
        out += (b"\x29", _double(zero_threshold))
    out += (b"\x30", varint(zero_count & _MASK))
    out += _buckets(8, negative)
    out += _buckets(11, positive)
    if timestamp_ms:
        out += (b"\x78", varint(timestamp_ms & _MASK))
    if custom_values:
        out.append(length_delimited(16, b"".join(map(_double, custom_values))))
    return length_delimited(4, b"".join(out))


def _buckets(spans_field: int, buckets: Buckets) -> list[bytes]:
    spans, deltas = buckets
    out = [
        length_delimited(spans_field, (b"\x08" + varint(_zigzag(offset)) if offset else b"") + b"\x10" + varint(length))
        for offset, length in spans
    ]
    if deltas:
        out.append(length_delimited(spans_field + 1, b"".join([varint(_zigzag(d)) for d in deltas])))
    return out


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def split(pieces: list[bytes], stride: int, limit: int) -> list[list[bytes]]:
    """Cuts pieces between multiples of `stride` into runs of at most `limit` bytes (one item may be larger by itself)."""
    ends = list(accumulate(map(len, pieces)))
    out: list[list[bytes]] = []
    start, base = 0, 0
    while start < len(ends) and ends[-1] - base > limit:
        stop = bisect_right(ends, base + limit, start)
        stop = max(stop - (stop - start) % stride, start + stride)
        out.append(pieces[start:stop])
        start, base = stop, ends[stop - 1]
    if start < len(ends):
        out.append(pieces[start:])
    return out


TIMESERIES = b"\x0a"
"""The tag of a `timeseries` field."""


def fields_of(body: bytes) -> list[bytes]:
    """The fields of an encoded request, in order. ValueError when it is not one."""
    fields = []
    at = 0
    for _, _, _, end in walk.fields(body):
        fields.append(body[at:end])
        at = end
    return fields


def halves(body: bytes) -> tuple[list[bytes], list[bytes]] | None:
    """The fields of an encoded request in two runs of about the same size, in order; None when it has but one field."""
    fields = fields_of(body)
    if len(fields) < 2:
        return None
    middle = min(max(bisect_left(list(accumulate(map(len, fields))), len(body) // 2), 1), len(fields) - 1)
    return fields[:middle], fields[middle:]


def with_labels(labels: Sequence[tuple[str, str]], extra: Mapping[str, str]) -> list[tuple[str, str]]:
    """Sorted labels with those of `extra` whose name is absent."""
    names = {name for name, _ in labels}
    return sorted(
        [*labels, *[(k, v) for k, v in extra.items() if k not in names and v]],
        key=lambda label: label[0].encode("utf-8", "surrogatepass"),
    )
