"""OTLP metric bytes from values a receiver has just read: `MetricWriter` collects points and gives one payload.

Identity is encoded once: a `Metric` keeps the bytes of its name, unit and description, and the bytes of an attribute set
are remembered (bounded), so a point costs one `struct.pack` and a join. Messages: opentelemetry/proto/metrics/v1.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from kofagent.memory.memo import Memo
from kofagent.wire.attributes import Value, encode_attributes
from kofagent.wire.varint import length_delimited

Pairs = tuple[tuple[str, Value], ...]
"""Attributes in the order they are sent; hashable when the values are."""

_INT_POINT = struct.Struct("<BQBQBq").pack
_DOUBLE_POINT = struct.Struct("<BQBQBd").pack
_DOUBLE = struct.Struct("<d").pack
_encoded_attributes: Memo[Pairs, bytes] = Memo("transform.point_attributes", entries=20_000, size=8 << 20)


class Metric:
    """Name, unit (UCUM), description and kind of a metric. `monotonic` and `cumulative` speak of sums only."""

    __slots__ = ("_close", "_data_field", "_header", "cumulative", "description", "double", "kind", "monotonic", "name", "unit")

    def __init__(
        self,
        name: str,
        unit: str,
        description: str,
        kind: str,
        *,
        monotonic: bool = False,
        double: bool = False,
        cumulative: bool = True,
    ) -> None:
        if kind not in ("gauge", "sum"):
            raise ValueError(f"a metric is a gauge or a sum, not {kind!r}")
        self.name, self.unit, self.description, self.kind = name, unit, description, kind
        self.monotonic, self.double, self.cumulative = monotonic, double, cumulative
        # message Metric {string name = 1; string description = 2; string unit = 3; Gauge gauge = 5; Sum sum = 7;}
        self._header = b"".join(
            length_delimited(field, text.encode()) for field, text in ((1, name), (2, description), (3, unit)) if text
        )
        self._data_field = 5 if kind == "gauge" else 7
        # message Sum {NumberDataPoint data_points = 1; AggregationTemporality aggregation_temporality = 2; bool is_monotonic = 3;}
        self._close = b"" if kind == "gauge" else (b"\x10\x02" if cumulative else b"\x10\x01") + (b"\x18\x01" if monotonic else b"")

    def encode(self, points: Iterable[bytes]) -> bytes:
        """The body of a `Metric` with these `NumberDataPoint` bodies."""
        data = b"".join([length_delimited(1, point) for point in points]) + self._close
        return self._header + length_delimited(self._data_field, data)

    def point(self, value: float, attributes: Pairs, start_ns: int, time_ns: int) -> bytes:
        """The body of a `NumberDataPoint`; times are Unix nanoseconds, a start of 0 means unknown."""
        # message NumberDataPoint {fixed64 start_time_unix_nano = 2; fixed64 time_unix_nano = 3; double as_double = 4;
        #                          sfixed64 as_int = 6; repeated KeyValue attributes = 7;}
        if self.double:
            tail = _DOUBLE_POINT(0x11, start_ns, 0x19, time_ns, 0x21, value)
        else:
            tail = _INT_POINT(0x11, start_ns, 0x19, time_ns, 0x31, wrap64(int(value)))
        return _point_attributes(attributes) + tail

    def __repr__(self) -> str:
        return f"<Metric {self.name} {self.kind}>"


def wrap64(value: int) -> int:
    """`value` as a signed 64-bit integer: counters of the kernel are unsigned and may pass 2**63."""
    value &= 0xFFFFFFFFFFFFFFFF
    return value - (1 << 64) if value >> 63 else value


def _point_attributes(pairs: Pairs) -> bytes:
    try:
        return _encoded_attributes[pairs]
    except (KeyError, TypeError):
        encoded = encode_attributes(pairs, 7)
    # Only strings are remembered: 1, 1.0 and True are one key to a dict and three to OTLP.
    if all(type(value) is str for _, value in pairs):
        _encoded_attributes[pairs] = encoded
    return encoded


class MetricWriter:
    """Builds the body of one `ExportMetricsServiceRequest`: points per metric, closed by their resource, one scope each.

    `add` the points of one resource, then `end_resource`; a resource without points leaves no trace. `take` gives
    (payload, number of points) and starts over.
    """

    def __init__(self, scope_name: str, scope_version: str = "", schema_url: str = "") -> None:
        scope = length_delimited(1, scope_name.encode()) + (length_delimited(2, scope_version.encode()) if scope_version else b"")
        self._scope = length_delimited(1, scope)
        self._schema = length_delimited(3, schema_url.encode()) if schema_url else b""
        self._metrics: dict[Metric, list[bytes]] = {}
        self._resources: list[bytes] = []
        self.count = 0

    def add(self, metric: Metric, value: float, attributes: Pairs = (), *, start_ns: int = 0, time_ns: int) -> None:
        """One point of the resource that the next `end_resource` names."""
        point = metric.point(value, attributes, start_ns, time_ns)
        points = self._metrics.get(metric)
        if points is None:
            self._metrics[metric] = [point]
        else:
            points.append(point)
        self.count += 1

    def end_resource(self, resource: bytes = b"") -> None:
        """Closes the points added since the last call; `resource` is the body of a `Resource` (`resource_bytes`)."""
        if not self._metrics:
            return
        # message ScopeMetrics {InstrumentationScope scope = 1; Metric metrics = 2; string schema_url = 3;}
        metrics = b"".join([length_delimited(2, metric.encode(points)) for metric, points in self._metrics.items()])
        self._metrics.clear()
        # message ResourceMetrics {Resource resource = 1; ScopeMetrics scope_metrics = 2; string schema_url = 3;}
        body = length_delimited(1, resource) + length_delimited(2, self._scope + metrics) + self._schema
        self._resources.append(length_delimited(1, body))

    def take(self) -> tuple[bytes, int]:
        """The payload and its number of points; the writer is empty afterwards."""
        payload, count = b"".join(self._resources), self.count
        _encoded_attributes.counts.lookups += count
        self._resources.clear()
        self.count = 0
        return payload, count


def resource_bytes(attributes: Iterable[tuple[str, Value]]) -> bytes:
    """The body of a `Resource` with these attributes; keep it where the same resource is sent again."""
    return encode_attributes(attributes, 1)
