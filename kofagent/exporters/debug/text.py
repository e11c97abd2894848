"""Values as the Go collector's debug exporter prints them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any

from kofagent.telemetry.batch import AnyBatch, MetricBatch
from kofagent.transform.anyvalue import as_string, number
from kofagent.wire.lens import parse
from kofagent.wire.otlp import checker

_TYPES = {
    "string_value": "Str",
    "bool_value": "Bool",
    "int_value": "Int",
    "double_value": "Double",
    "array_value": "Slice",
    "kvlist_value": "Map",
    "bytes_value": "Bytes",
    None: "Empty",
}


def request_of(batch: AnyBatch) -> Any:
    """The whole request, strings as bytes (they need not be UTF-8). ValueError where it is malformed."""
    if isinstance(batch, MetricBatch):
        from kofagent.prometheus.otlp import to_otlp  # only who scrapes pays for it

        batch = to_otlp(batch)
    payload: bytes = batch.payload
    return parse(checker(batch.signal.value), payload)


def text(data: bytes) -> str:
    """A protobuf string that may be no UTF-8."""
    return data.decode("utf-8", "backslashreplace")


def python(value: Any) -> Any:
    """An AnyValue as a Python value."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "string_value":
        return text(value.string_value)
    if kind == "array_value":
        return [python(v) for v in value.array_value.values]
    if kind == "kvlist_value":
        return {text(kv.key): python(kv.value) for kv in value.kvlist_value.values}
    return getattr(value, kind)


def plain(value: Any) -> str:
    """An AnyValue as text."""
    return as_string(python(value))


def typed(value: Any) -> str:
    """An AnyValue with its type: `Str(x)`."""
    return f"{_TYPES[value.WhichOneof('value')]}({plain(value)})"


def pairs(attributes: Iterable[Any]) -> list[str]:
    """`key=value` of every attribute."""
    return [f"{text(kv.key)}={plain(kv.value)}" for kv in attributes]


def moment(nanos: int) -> str:
    """Unix nanoseconds as Go prints a UTC time: fractions without trailing zeros."""
    seconds, rest = divmod(nanos, 1_000_000_000)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds)) + fraction + " +0000 UTC"


def six(value: float) -> str:
    """Go's `%f`."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return f"{value:.6f}"


def short(value: float) -> str:
    """Go's `%v` of a float64: shortest form, an exponent outside of 1e-4 .. 1e21."""
    if math.isnan(value) or math.isinf(value):
        return six(value)
    if value != 0 and not 1e-4 <= abs(value) < 1e21:
        mantissa, _, exponent = f"{value!r}".partition("e")
        if exponent:
            sign, digits = exponent[0] if exponent[0] in "+-" else "+", exponent.lstrip("+-")
            return f"{mantissa}e{sign}{int(digits):02d}"
    return number(value)
