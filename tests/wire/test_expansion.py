"""Data in which next to nothing is a whole struct ends before it takes memory; the smallest structs that senders write do not."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from kofagent.receivers.jaeger import proto, thrift
from kofagent.receivers.zipkin import v1, v2
from kofagent.wire.varint import length_delimited

MANY = 300_000
IDS = length_delimited(1, b"\1" * 8) + length_delimited(3, b"\1" * 8)


def thrift_batch(count: int, span: bytes) -> bytes:
    """A Batch in the binary protocol: a process without a name, and the same span again and again."""
    return b"\x0c\x00\x01\x00\x0f\x00\x02\x0c" + count.to_bytes(4, "big") + count * span + b"\x00"


NOTHING: dict[str, tuple[Callable[[bytes], Any], bytes]] = {
    "jaeger thrift spans": (thrift.body, thrift_batch(MANY, b"\0")),
    "jaeger thrift tags": (thrift.body, thrift_batch(1, b"\x0f\x00\x0a\x0c" + MANY.to_bytes(4, "big") + MANY * b"\0" + b"\0")),
    "jaeger protobuf spans": (proto.request, length_delimited(1, MANY * b"\x0a\0")),
    "jaeger protobuf logs": (proto.request, length_delimited(1, length_delimited(1, MANY * b"\x4a\0"))),
    "zipkin thrift spans": (v1.from_thrift, b"\x0c" + MANY.to_bytes(4, "big") + MANY * b"\0"),
    "zipkin protobuf annotations": (lambda data: v2.from_protobuf(data, False), length_delimited(1, IDS + MANY * b"\x52\0")),
    "zipkin json annotations": (
        lambda data: v2.from_json(data, False),
        b'[{"traceId":"1","id":"2","annotations":[{}' + MANY * b",{}" + b"]}]",
    ),
}


@pytest.mark.parametrize("name", NOTHING)
def test_a_million_of_nothing_is_refused_before_it_takes_memory(name: str) -> None:
    decode, data = NOTHING[name]
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="next to nothing"):
            decode(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < (8 << 20) + 40 * len(data)


def test_the_smallest_tags_of_jaeger_are_taken() -> None:
    tag = b"\x0b\x00\x01\x00\x00\x00\x00" + b"\x08\x00\x02\x00\x00\x00\x02" + b"\x02\x00\x05\x01" + b"\x00"
    count = 20_000
    spans = thrift.body(thrift_batch(1, b"\x0f\x00\x0a\x0c" + count.to_bytes(4, "big") + count * tag + b"\0"))
    assert spans.count == 1
