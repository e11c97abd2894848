"""Thrift's protocols: what a writer of the specification writes is read as it was; anything else is a ValueError."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kofagent.wire.thrift import MAX_DEPTH, BinaryReader, CompactReader
from tests.support.thrift import binary, compact, plain

_SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "byte": st.integers(-128, 127),
    "double": st.floats(allow_nan=False),
    "i16": st.integers(-(1 << 15), (1 << 15) - 1),
    "i32": st.integers(-(1 << 31), (1 << 31) - 1),
    "i64": st.integers(-(1 << 63), (1 << 63) - 1),
    "string": st.binary(max_size=20),
}
_scalar = st.one_of([st.tuples(st.just(kind), values) for kind, values in _SCALARS.items()])
_lists = st.one_of([st.tuples(st.sampled_from(["list", "set"]), st.just(k), st.lists(v, max_size=20)) for k, v in _SCALARS.items()])
_maps = st.tuples(
    st.just("map"),
    st.just("string"),
    st.just("i64"),
    st.dictionaries(_SCALARS["string"], _SCALARS["i64"], max_size=4).map(lambda d: list(d.items())),
)
_numbers = st.integers(-(1 << 15), (1 << 15) - 1)


def _structs(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(st.just("struct"), st.dictionaries(_numbers, inner, max_size=5))


_flat = _structs(st.one_of(_scalar, _lists, _maps))
_deep = _structs(st.one_of(_scalar, _flat, _flat.map(lambda s: ("list", "struct", [s[1:], s[1:]]))))


@given(_deep)
def test_what_was_written_is_read(struct: Any) -> None:
    assert BinaryReader(binary(struct)).struct() == plain(struct)
    assert CompactReader(compact(struct)).struct() == plain(struct)


@given(_deep, st.data())
def test_a_part_of_it_is_an_error(struct: Any, data: st.DataObject) -> None:
    for reader, written in ((BinaryReader, binary(struct)), (CompactReader, compact(struct))):
        cut = data.draw(st.integers(0, len(written) - 1))
        with pytest.raises(ValueError):
            reader(written[:cut]).struct()


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_an_error(data: bytes) -> None:
    for reader in (BinaryReader, CompactReader):
        for read in ("struct", "structs", "message"):
            with contextlib.suppress(ValueError):
                getattr(reader(data), read)()


def test_nesting_ends() -> None:
    for depth, fine in ((MAX_DEPTH, True), (MAX_DEPTH + 1, False), (100_000, False)):
        for reader, data in (
            (BinaryReader, b"\x0c\x00\x01" * depth + b"\0" * (depth + 1)),
            (CompactReader, b"\x1c" * depth + b"\0" * (depth + 1)),
            (BinaryReader, b"\x0f\x00\x01" + b"\x0f\x00\x00\x00\x01" * (depth - 1) + b"\x03\x00\x00\x00\x00\0"),
        ):
            if fine:
                assert reader(data).struct()
            else:
                with pytest.raises(ValueError, match="nested too deeply"):
                    reader(data).struct()


@pytest.mark.parametrize(
    ("reader", "data"),
    [
        (BinaryReader, b"\x0b\x00\x01\x7f\xff\xff\xff"),
        (BinaryReader, b"\x0f\x00\x01\x03\x7f\xff\xff\xff"),
        (BinaryReader, b"\x0d\x00\x01\x03\x03\x7f\xff\xff\xff"),
        (BinaryReader, b"\x0b\x00\x01\xff\xff\xff\xff"),
        (BinaryReader, b"\x0f\x00\x01\x03\xff\xff\xff\xff\0"),
        (CompactReader, b"\x18\xff\xff\xff\xff\x0f"),
        (CompactReader, b"\x19\xf3\xff\xff\xff\xff\x0f"),
    ],
)
def test_sizes_that_the_data_has_not_are_errors(reader: Any, data: bytes) -> None:
    with pytest.raises(ValueError, match="cut off"):
        reader(data).struct()
