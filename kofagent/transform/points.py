"""Data points of OTLP through lenses: times and values are numbers, attributes, exemplars and what is unknown stay bytes.

Messages: opentelemetry/proto/metrics/v1. `POINTS` has the lens of each kind of metric, as `wire.otlp.parse_metric` names it.
"""

from __future__ import annotations

from kofagent.wire.lens import lenses

NO_RECORDED_VALUE = 1
"""The flag of a point that only says that the stream has ended."""
DELTA, CUMULATIVE = 1, 2
"""Aggregation temporalities."""

_TIMES = {"start": (2, "fixed64"), "time": (3, "fixed64")}
_lens = lenses(
    "kofagent.points",
    {
        "Number": {
            **_TIMES,
            "as_double": (4, "double"),
            "as_int": (6, "sfixed64"),
            "attributes": (7, "*bytes"),
            "flags": (8, "uint32"),
        },
        "Histogram": {
            **_TIMES,
            "count": (4, "fixed64"),
            "sum": (5, "double"),
            "bucket_counts": (6, "*fixed64"),
            "explicit_bounds": (7, "*double"),
            "attributes": (9, "*bytes"),
            "flags": (10, "uint32"),
            "min": (11, "double"),
            "max": (12, "double"),
        },
        "Buckets": {"offset": (1, "sint32"), "bucket_counts": (2, "*uint64")},
        "Exponential": {
            "attributes": (1, "*bytes"),
            **_TIMES,
            "count": (4, "fixed64"),
            "sum": (5, "double"),
            "scale": (6, "sint32"),
            "zero_count": (7, "fixed64"),
            "positive": (8, "Buckets"),
            "negative": (9, "Buckets"),
            "flags": (10, "uint32"),
            "min": (12, "double"),
            "max": (13, "double"),
            "zero_threshold": (14, "double"),
        },
    },
    {"Number": {"value": ["as_double", "as_int"]}},
)
POINTS = {
    "gauge": _lens["Number"],
    "sum": _lens["Number"],
    "histogram": _lens["Histogram"],
    "exponential_histogram": _lens["Exponential"],
}
