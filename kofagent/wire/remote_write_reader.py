"""Reads `prometheus.WriteRequest` (remote write 1.0): for the embedded region, where clarity matters more than speed."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from kofagent.wire.varint import read_varint
from kofagent.wire.walk import fields

Labels = tuple[tuple[str, str], ...]
_double = struct.Struct("<d").unpack_from


def read_write_request(data: bytes) -> Iterator[tuple[Labels, list[tuple[int, float]]]]:
    """(labels, [(Unix milliseconds, value), ...]) of every series in a request. ValueError where it is malformed.

    Exemplars, histograms and metadata are passed over.
    """
    for number, _, start, end in fields(data):
        if number == 1:
            yield _series(data, start, end)


def _series(data: bytes, start: int, end: int) -> tuple[Labels, list[tuple[int, float]]]:
    labels: list[tuple[str, str]] = []
    samples: list[tuple[int, float]] = []
    for number, _, at, stop in fields(data, start, end):
        if number == 1:
            pair = {1: "", 2: ""}
            for which, _, begin, finish in fields(data, at, stop):
                pair[which] = data[begin:finish].decode("utf-8", "replace")
            labels.append((pair[1], pair[2]))
        elif number == 2:
            value, stamp = 0.0, 0
            for which, _, begin, _ in fields(data, at, stop):
                if which == 1:
                    value = _double(data, begin)[0]
                elif which == 2:
                    stamp = read_varint(data, begin)[0]
            samples.append((stamp - (1 << 64) if stamp >> 63 else stamp, value))
    return tuple(labels), samples
