"""OTLP metrics with what identifies a point left undecoded.

The same messages as opentelemetry/proto/metrics/v1/metrics.proto, declared once more: `resource`, `scope`, the points of
gauges and sums, and the other points' `attributes` and `exemplars` are bytes here. These bytes are what the caches of
finished labels are asked with, so that attributes are decoded once per series and not once per point.

A NumberDataPoint is three fixed-size fields (start, time and value, in one of two orders, the start often absent), then its
attributes and nothing else, in nearly all there is: LAYOUTS reads these by their tags, Number the others.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from kofagent.wire.lens import lenses

_LENS = lenses(
    "kofagent.remotewrite",
    {
        "Data": {
            "resource_metrics": (1, "*ResourceMetrics"),
        },
        "ResourceMetrics": {
            "resource": (1, "bytes"),
            "scope_metrics": (2, "*ScopeMetrics"),
        },
        "ScopeMetrics": {
            "scope": (1, "bytes"),
            "metrics": (2, "*Metric"),
        },
        "Metric": {
            "name": (1, "bytes"),
            "description": (2, "bytes"),
            "unit": (3, "bytes"),
            "gauge": (5, "Numbers"),
            "sum": (7, "Numbers"),
            "histogram": (9, "Histogram"),
            "exponential_histogram": (10, "Exponential"),
            "summary": (11, "Summary"),
            "metadata": (12, "*bytes"),
        },
        # Gauge and Sum: a gauge has data_points only
        "Numbers": {
            "data_points": (1, "*bytes"),
            "aggregation_temporality": (2, "int32"),
            "is_monotonic": (3, "bool"),
        },
        "Histogram": {
            "data_points": (1, "*HistogramPoint"),
            "aggregation_temporality": (2, "int32"),
        },
        "Exponential": {
            "data_points": (1, "*ExponentialPoint"),
            "aggregation_temporality": (2, "int32"),
        },
        "Summary": {
            "data_points": (1, "*SummaryPoint"),
        },
        "Number": {
            "attributes": (7, "*bytes"),
            "time_unix_nano": (3, "fixed64"),
            "as_double": (4, "double"),
            "as_int": (6, "sfixed64"),
            "exemplars": (5, "*bytes"),
            "flags": (8, "uint32"),
        },
        "HistogramPoint": {
            "attributes": (9, "*bytes"),
            "time_unix_nano": (3, "fixed64"),
            "count": (4, "fixed64"),
            "sum": (5, "double"),
            "bucket_counts": (6, "*fixed64"),
            "explicit_bounds": (7, "*double"),
            "exemplars": (8, "*bytes"),
            "flags": (10, "uint32"),
        },
        "ExponentialPoint": {
            "attributes": (1, "*bytes"),
            "time_unix_nano": (3, "fixed64"),
            "count": (4, "fixed64"),
            "sum": (5, "double"),
            "scale": (6, "sint32"),
            "zero_count": (7, "fixed64"),
            "positive": (8, "Buckets"),
            "negative": (9, "Buckets"),
            "flags": (10, "uint32"),
            "exemplars": (11, "*bytes"),
            "zero_threshold": (14, "double"),
        },
        "Buckets": {
            "offset": (1, "sint32"),
            "bucket_counts": (2, "*uint64"),
        },
        "SummaryPoint": {
            "attributes": (7, "*bytes"),
            "time_unix_nano": (3, "fixed64"),
            "count": (4, "fixed64"),
            "sum": (5, "double"),
            "quantile_values": (6, "*Quantile"),
            "flags": (8, "uint32"),
        },
        "Quantile": {
            "quantile": (1, "double"),
            "value": (2, "double"),
        },
    },
    {
        "Metric": {"value": ["gauge", "sum", "histogram", "exponential_histogram", "summary"]},
        "Number": {"value": ["as_double", "as_int"]},
    },
)
Data, Number = _LENS["Data"], _LENS["Number"]
"""`Data`: the body of an ExportMetricsServiceRequest, or MetricsData. `Number`: a NumberDataPoint."""

Unpack = Callable[[bytes], tuple[Any, ...]]

LAYOUTS: dict[bytes, tuple[Unpack, int, bool]] = {}
"""By the bytes 0, 9 and 18 of a point: what unpacks time and value, where the rest begins, True where the value comes first."""


def _layouts() -> None:
    attributes, start, at, double, integer = b"\x3a", b"\x11", b"\x19", b"\x21", b"\x31"
    for value, letter in ((double, "d"), (integer, "q")):
        # in the order of field numbers, as most write them
        LAYOUTS[start + at + value] = struct.Struct(f"<9xxQx{letter}").unpack_from, 27, False
        for end in (b"", attributes):
            LAYOUTS[at + value + end] = struct.Struct(f"<xQx{letter}").unpack_from, 18, False
            LAYOUTS[value + at + end] = struct.Struct(f"<x{letter}xQ").unpack_from, 18, True
        # as the Go collector writes them
        LAYOUTS[value + at + start] = struct.Struct(f"<x{letter}xQ9x").unpack_from, 27, True


_layouts()
