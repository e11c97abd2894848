from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kofagent.wire.varint import length_delimited, read_varint, varint
from kofagent.wire.walk import delimited, fields


@given(st.integers(0, (1 << 64) - 1), st.binary(max_size=3), st.binary(max_size=3))
def test_varints_are_read_back_with_anything_around(value: Any, before: bytes, after: bytes) -> None:
    data = before + varint(value) + after
    assert read_varint(data, len(before)) == (value, len(data) - len(after))


def test_every_wire_type() -> None:
    data = b"\x08\x96\x01" + b"\x11" + b"12345678" + length_delimited(3, b"abc") + b"\x23\x08\x01\x24" + b"\x2d" + b"1234"
    assert [(n, k, data[a:b]) for n, k, a, b in fields(data)] == [
        (1, 0, b"\x96\x01"),
        (2, 1, b"12345678"),
        (3, 2, b"abc"),
        (4, 3, b"\x08\x01"),
        (5, 5, b"1234"),
    ]
    assert delimited(data, 3) == [b"abc"]


@pytest.mark.parametrize(
    "data",
    [
        b"\x80",
        b"\x0a",
        b"\x0a\x05abc",
        b"\x09\x00",
        b"\x0d\x00",
        b"\x00",
        b"\x0c",
        b"\x0b",
        b"\x0b\x14",
        b"\x0f",
        b"\x0b" * 200,
        b"\xff" * 11,
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    ],
)
def test_malformed_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        list(fields(data))


@given(st.binary(max_size=40))
def test_any_bytes_walk_or_raise_value_error(data: bytes) -> None:
    try:
        for _, _, start, end in fields(data):
            assert 0 <= start <= end <= len(data)
    except ValueError:
        pass
