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

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_TYPES = {"bytes": 12, "double": 1, "fixed64": 6, "sfixed64": 16, "uint32": 13, "uint64": 4, "sint32": 17, "bool": 8, "int32": 5}

_MESSAGES = {
    "Data": ["rep ResourceMetrics resource_metrics 1"],
    "ResourceMetrics": ["opt bytes resource 1", "rep ScopeMetrics scope_metrics 2"],
    "ScopeMetrics": ["opt bytes scope 1", "rep Metric metrics 2"],
    "Metric": [
        "opt bytes name 1",
        "opt bytes description 2",
        "opt bytes unit 3",
        "one Numbers gauge 5",
        "one Numbers sum 7",
        "one Histogram histogram 9",
        "one Exponential exponential_histogram 10",
        "one Summary summary 11",
        "rep bytes metadata 12",
    ],
    # Gauge and Sum: a gauge has data_points only
    "Numbers": ["rep bytes data_points 1", "opt int32 aggregation_temporality 2", "opt bool is_monotonic 3"],
    "Histogram": ["rep HistogramPoint data_points 1", "opt int32 aggregation_temporality 2"],
    "Exponential": ["rep ExponentialPoint data_points 1", "opt int32 aggregation_temporality 2"],
    "Summary": ["rep SummaryPoint data_points 1"],
    "Number": [
        "rep bytes attributes 7",
        "opt fixed64 time_unix_nano 3",
        "one double as_double 4",
        "one sfixed64 as_int 6",
        "rep bytes exemplars 5",
        "opt uint32 flags 8",
    ],
    "HistogramPoint": [
        "rep bytes attributes 9",
        "opt fixed64 time_unix_nano 3",
        "opt fixed64 count 4",
        "has double sum 5",
        "rep fixed64 bucket_counts 6",
        "rep double explicit_bounds 7",
        "rep bytes exemplars 8",
        "opt uint32 flags 10",
    ],
    "ExponentialPoint": [
        "rep bytes attributes 1",
        "opt fixed64 time_unix_nano 3",
        "opt fixed64 count 4",
        "has double sum 5",
        "opt sint32 scale 6",
        "opt fixed64 zero_count 7",
        "opt Buckets positive 8",
        "opt Buckets negative 9",
        "opt uint32 flags 10",
        "rep bytes exemplars 11",
        "opt double zero_threshold 14",
    ],
    "Buckets": ["opt sint32 offset 1", "rep uint64 bucket_counts 2"],
    "SummaryPoint": [
        "rep bytes attributes 7",
        "opt fixed64 time_unix_nano 3",
        "opt fixed64 count 4",
        "opt double sum 5",
        "rep Quantile quantile_values 6",
        "opt uint32 flags 8",
    ],
    "Quantile": ["opt double quantile 1", "opt double value 2"],
}


def _build() -> tuple[Any, Any]:
    package = "kofagent.remotewrite"
    file = descriptor_pb2.FileDescriptorProto(name="kofagent/remotewrite.proto", package=package, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        proto3_optional = []
        for text in fields:
            rule, kind, field_name, number = text.split()
            field = message.field.add(name=field_name, number=int(number), label=3 if rule == "rep" else 1)
            if kind in _TYPES:
                field.type = _TYPES[kind]  # type: ignore[assignment]
            else:
                field.type, field.type_name = 11, f".{package}.{kind}"  # type: ignore[assignment]
            if rule == "one":
                if not message.oneof_decl:
                    message.oneof_decl.add(name="value")
                field.oneof_index = 0
            elif rule == "has":
                proto3_optional.append(field)
        for field in proto3_optional:  # synthetic oneofs come after the real ones
            field.oneof_index = len(message.oneof_decl)
            field.proto3_optional = True
            message.oneof_decl.add(name="_" + field.name)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    find: Callable[[str], Any] = pool.FindMessageTypeByName
    return (message_factory.GetMessageClass(find(f"{package}.Data")), message_factory.GetMessageClass(find(f"{package}.Number")))


Data, Number = _build()
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
