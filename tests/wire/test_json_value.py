"""The fast encoder of JSON values against the plain one and Google's protobuf."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from kofagent.wire.attributes import MAX_DEPTH, encode_value
from kofagent.wire.json_value import JsonEncoder

text = st.text(max_size=200)
values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(text, st.booleans(), st.integers(-(1 << 70), 1 << 70), st.floats(allow_nan=False), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(text, inner, max_size=5)),
    max_leaves=30,
)
_shared = JsonEncoder()


@given(values)
def test_the_same_bytes_as_the_plain_encoder(value: Any) -> None:
    wanted = encode_value(value)
    assert JsonEncoder().value(value) == wanted
    assert _shared.value(value) == wanted, "also after it has seen others"
    AnyValue.FromString(wanted)


@given(st.integers(0, 3000))
def test_lengths_of_every_size(size: int) -> None:
    for value in ({"k": "x" * size}, {"k" * size: {"a": [1, "x" * size]}}, ["x" * size]):
        assert JsonEncoder().value(value) == encode_value(value)


@pytest.mark.parametrize("levels, fits", [(MAX_DEPTH, True), (MAX_DEPTH + 1, False)])
@pytest.mark.parametrize("wrap", [lambda v: {"a": v}, lambda v: [v]])
def test_depth(levels: int, fits: bool, wrap: Any) -> None:
    value: Any = "x"
    for _ in range(levels):
        value = wrap(value)
    if fits:
        assert JsonEncoder().value(value) == encode_value(value)
    else:
        for encode in (encode_value, JsonEncoder().value):
            with pytest.raises(ValueError, match="levels deep"):
                encode(value)
