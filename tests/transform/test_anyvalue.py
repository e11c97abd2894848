"""AnyValue as Python and as text; the expected texts are the Go collector's."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from kofagent.transform.anyvalue import as_string, number, to_json, to_python
from tests.support.otlp import set_value, values


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (0.5, "0.5"),
        (1e21, "1e+21"),
        (1e20, "100000000000000000000"),
        (1.5e-7, "1.5e-7"),
        (1e-6, "0.000001"),
        (1.25e-5, "0.0000125"),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
        (-0.0, "-0"),
        (-5.0, "-5"),
        (123456789.125, "123456789.125"),
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ("x", "x"),
        (True, "true"),
        (7, "7"),
        (b"\x00\xff", "AP8="),
        ([1.0, "<a>&", None], '[1,"<a>&",null]'),
        ({"b": 1, "a": b"\x01", "c": float("nan"), "d": "\u2028\u00e9"}, '{"a":"AQ==","b":1,"c":"NaN","d":"\\u2028\u00e9"}'),
    ],
)
def test_text(value: Any, text: str) -> None:
    assert as_string(value) == text


@given(values)
def test_what_was_set_comes_back(value: Any) -> None:
    message = AnyValue()
    set_value(message, value)
    assert to_python(message) == value and type(to_python(message)) is type(value)
    json.loads(to_json(value))


def test_depth_is_bounded() -> None:
    message = AnyValue()
    at = message
    for _ in range(80):
        at = at.array_value.values.add()
    at.string_value = "deep"
    found, depth = to_python(message), 0
    while found:
        found, depth = found[0], depth + 1
    assert depth == 65
