"""Remote write by hand equals Google's protobuf."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kofagent.telemetry.series import STALE_BITS, Series, encode_labels, sorted_labels
from kofagent.wire import remote_write
from tests.reference.remote_write import encode_plain
from tests.support.remote_write import WriteRequest, is_stale

names = st.text("abc_xyz", min_size=1, max_size=8)
label_sets = st.dictionaries(names, st.text(min_size=1, max_size=200), max_size=5).map(sorted_labels)
doubles = st.floats() | st.integers(-(2**53), 2**53).map(float)
times = st.integers(-(2**63), 2**63 - 1) | st.integers(1_700_000_000_000, 1_900_000_000_000)


@given(st.lists(st.tuples(label_sets, doubles), max_size=12), times)
def test_columns_of_one_time_equal_protobuf(rows: list, at: int) -> None:
    wires = [Series(labels).wire for labels, _ in rows]
    pieces = remote_write.encode_samples(wires, [value for _, value in rows], at)
    assert len(pieces) == 3 * len(rows) == remote_write.PIECES * len(rows)
    _same(b"".join(pieces), encode_plain([(labels, value, at) for labels, value in rows]))


@given(st.lists(st.tuples(label_sets, doubles, times), max_size=12))
def test_columns_with_times_of_their_own_equal_protobuf(rows: list) -> None:
    wires = [Series(labels).wire for labels, _, _ in rows]
    pieces = remote_write.encode_samples(wires, [r[1] for r in rows], [r[2] for r in rows])
    _same(b"".join(pieces), encode_plain(rows))


def _same(ours: bytes, theirs: bytes) -> None:
    a, b = WriteRequest.FromString(ours), WriteRequest.FromString(theirs)
    # NaN is unequal to itself as a message: compare what both serialize to
    assert a.SerializeToString(deterministic=True) == b.SerializeToString(deterministic=True)


def test_the_stale_marker_keeps_its_bits() -> None:
    assert STALE_BITS == 0x7FF0000000000002, "Prometheus' number"
    stale = struct.unpack("<d", struct.pack("<Q", STALE_BITS))[0]
    request = WriteRequest.FromString(b"".join(remote_write.encode_samples([Series((("__name__", "x"),)).wire], [stale], 5)))
    assert is_stale(request.timeseries[0].samples[0].value)
    assert not is_stale(math.nan)


@given(st.lists(st.integers(1, 40), max_size=60), st.integers(1, 90), st.sampled_from([1, 3]))
def test_split_keeps_everything_in_order_and_under_the_limit(sizes: list[int], limit: int, stride: int) -> None:
    pieces = [bytes([i % 256]) * size for i, size in enumerate(sizes[: len(sizes) // stride * stride])]
    runs = remote_write.split(pieces, stride, limit)
    assert [p for run in runs for p in run] == pieces
    for run in runs:
        assert run
        assert len(run) % stride == 0
        assert sum(map(len, run)) <= limit or len(run) == stride
    if pieces and sum(map(len, pieces)) <= limit:
        assert len(runs) == 1


@given(label_sets, doubles, times, doubles, times, label_sets)
def test_exemplars_join_their_sample(labels: tuple, value: float, at: int, other: float, then: int, marks: tuple) -> None:
    pieces = remote_write.encode_samples([encode_labels(labels)] * 2, [value, other], at)
    for _ in range(2):
        remote_write.add_fields(pieces, 1, remote_write.exemplar(encode_labels(marks), other, then))
    first, second = WriteRequest.FromString(b"".join(pieces)).timeseries
    assert not first.exemplars
    assert len(second.samples) == 1
    assert [(e.timestamp, struct.pack("d", e.value)) for e in second.exemplars] == [(then, struct.pack("d", other))] * 2
    assert [(x.name, x.value) for x in second.exemplars[0].labels] == list(marks)


@pytest.mark.parametrize(("kind", "number"), list(remote_write.METADATA_TYPES.items()))
def test_metadata(kind: str, number: int) -> None:
    request = WriteRequest.FromString(remote_write.metadata(remote_write.METADATA_TYPES[kind], "x_seconds", "Gr\u00fc\u00dfe", "s"))
    entry = request.metadata[0]
    assert (entry.type, entry.metric_family_name, entry.help, entry.unit) == (number, "x_seconds", "Gr\u00fc\u00dfe", "s")


@given(
    st.integers(0, 2**64 - 1),
    doubles,
    st.integers(-60, 8),
    doubles,
    st.integers(0, 2**64 - 1),
    times,
    st.lists(st.tuples(st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**32 - 1)), max_size=4),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=6),
    st.lists(doubles, max_size=4),
)
def test_native_histograms_equal_protobuf(
    count: int, sum: float, schema: int, threshold: float, zeros: int, at: int, spans: list, deltas: list, custom: list
) -> None:
    encoded = remote_write.native_histogram(
        count=count,
        sum=sum,
        schema=schema,
        zero_threshold=threshold,
        zero_count=zeros,
        positive=(spans, deltas),
        negative=(spans[:1], deltas[:2]),
        timestamp_ms=at,
        custom_values=custom,
    )
    got = WriteRequest.FromString(remote_write.timeseries(b"", encoded)).timeseries[0].histograms[0]
    assert (got.count_int, got.schema, got.zero_count_int, got.timestamp, got.reset_hint) == (count, schema, zeros, at, 0)
    assert struct.pack("dd", got.sum, got.zero_threshold) == struct.pack("dd", sum, threshold)
    assert [(s.offset, s.length) for s in got.positive_spans] == spans
    assert [(s.offset, s.length) for s in got.negative_spans] == spans[:1]
    assert list(got.positive_deltas) == deltas
    assert list(got.negative_deltas) == deltas[:2]
    assert struct.pack(f"{len(custom)}d", *got.custom_values) == struct.pack(f"{len(custom)}d", *custom)


def test_labels_are_added_only_where_absent() -> None:
    labels = (("__name__", "x"), ("cluster", "own"))
    assert remote_write.with_labels(labels, {"cluster": "other", "a": "1", "none": ""}) == [
        ("__name__", "x"),
        ("a", "1"),
        ("cluster", "own"),
    ]
