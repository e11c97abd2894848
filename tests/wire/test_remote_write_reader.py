"""Remote write as the embedded region reads it."""

from __future__ import annotations

import struct

from kofagent.wire.remote_write_reader import read_write_request
from kofagent.wire.varint import length_delimited, varint
from tests.support.remote_write import WriteRequest


def test_it_reads_what_protobuf_wrote() -> None:
    request = WriteRequest()
    series = request.timeseries.add()
    for name, value in (("__name__", "up"), ("job", "caf\u00e9")):
        series.labels.add(name=name, value=value)
    for value, at in ((1.5, 1_795_257_868_000), (-2.0, -5)):
        series.samples.add(value=value, timestamp=at)
    assert list(read_write_request(request.SerializeToString())) == [
        ((("__name__", "up"), ("job", "caf\u00e9")), [(1_795_257_868_000, 1.5), (-5, -2.0)])
    ]


def test_what_is_not_known_is_passed_over() -> None:
    sample = b"\x09" + struct.pack("<d", 3.0) + b"\x10" + varint(7) + b"\x18\x63"  # field 3, a varint
    series = length_delimited(2, sample) + length_delimited(9, b"exemplar")
    assert list(read_write_request(length_delimited(1, series) + length_delimited(3, b"metadata"))) == [((), [(7, 3.0)])]
