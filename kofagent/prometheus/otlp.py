"""Scraped samples as OTLP metrics, for consumers that do not take columns.

Follows the compatibility specification (opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics) as
upstream's receiver does: counters become cumulative sums, histograms and summaries one point each, everything else gauges;
`otel_scope_*` becomes the scope, a staleness marker the flag "no recorded value". Samples of a histogram or summary that lacks
its count are gauges under their own names, so that no sample is lost. A point whose parts contradict each other, as they do on a
page that was written in the middle of an update, is left out: OTLP forbids it, and backends refuse it or show garbage.

What depends on the series only is worked out once per column of series and kept with it (`Columns.derived`).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from operator import lt, sub

from opentelemetry.proto.metrics.v1 import metrics_pb2

from kofagent.prometheus.columns import Columns, TargetResource
from kofagent.prometheus.resources import HIDDEN
from kofagent.prometheus.target import resource_attributes
from kofagent.prometheus.units import trim_suffixes, ucum
from kofagent.telemetry.batch import Batch, MetricBatch, Samples
from kofagent.telemetry.series import SCRAPE_SCOPE, STALE_BITS, Exemplar, Family, Series
from kofagent.telemetry.signal import Signal
from kofagent.wire.varint import length_delimited, varint

_CUMULATIVE = metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE
_NO_VALUE = metrics_pb2.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK
_SCOPE_PREFIX = "otel_scope_"
_DOUBLE = struct.Struct("<d")
_FIXED = struct.Struct("<Q")
TRIMMED = "kofagent.trimmed"
"""Metadata of a metric whose name has lost its unit and `_total` (`trim_metric_suffixes`)."""
INCONSISTENT = "inconsistent histogram"
"""The reason of points that are left out."""
_MOST = float(1 << 63)

Drop = Callable[[str, int], None]
"""Counts points that are left out: reason, points."""


def to_otlp(batch: MetricBatch, drop: Drop | None = None) -> Batch:
    """The same samples as OTLP; `count` is the number of data points. `drop` is told how many were left out."""
    pieces: list[bytes] = []
    count = 0
    for samples in batch.groups:
        for plan in _plans(samples):
            data, points, bad = plan.encode(samples)
            if points:
                pieces.append(length_delimited(1, data))
                count += points
            if bad and drop is not None:
                drop(INCONSISTENT, bad)
    return Batch(Signal.METRICS, b"".join(pieces), count)


def _plans(samples: Samples) -> list[_Plan]:
    series = samples.series
    if isinstance(series, Columns):
        return series.derived(samples.resource, lambda: _make_plans(samples))
    return _make_plans(samples)


class _Numbers:
    """A gauge or sum: the encoded metric without its points, and per point its fixed bytes and its place in the column."""

    def __init__(self, field: int, tail: bytes) -> None:
        self.head = b""
        self.field = field
        self.tail = tail
        self.fixed: list[bytes] = []
        self.at: list[int] = []
        self.created: dict[bytes, int] = {}

    def encode(self, samples: Samples, now: bytes) -> tuple[bytes, int, int]:
        values, times = samples.values, samples.timestamp_ms
        exemplars = samples.exemplars or {}
        out: list[bytes] = []
        stamps: Iterable[bytes] = repeat(now) if isinstance(times, int) else [_nanos(times[i]) for i in self.at]
        for fixed, i, stamp in zip(self.fixed, self.at, stamps, strict=False):
            value = values[i]
            if value != value and _is_stale(value):  # noqa: PLR0124 - only NaN differs from itself
                body = b"".join((fixed, b"\x19", stamp, b"\x40", varint(_NO_VALUE)))
            else:
                body = b"".join((fixed, b"\x19", stamp, b"\x21", _DOUBLE.pack(value)))
            start = self.created.get(fixed)
            if start is not None:
                body += b"\x11" + _FIXED.pack(_start(values[start], _FIXED.unpack(stamp)[0]))
            if i in exemplars:
                body += length_delimited(5, _exemplar(exemplars[i], stamp))
            out.append(b"\x0a" + varint(len(body)) + body)
        return self.head + length_delimited(self.field, b"".join(out) + self.tail), len(out), 0


class _Parts:
    """Places of the samples of one histogram or summary point."""

    __slots__ = ("attributes", "bounds", "count", "created", "sum")

    def __init__(self, attributes: bytes) -> None:
        self.attributes = attributes
        self.bounds: list[tuple[float, int]] = []
        self.count = self.sum = self.created = -1


class _Distributions:
    """A histogram or summary."""

    def __init__(self, summary: bool) -> None:
        self.head = b""
        self.summary = summary
        self.points: list[_Parts] = []

    def encode(self, samples: Samples, now: bytes) -> tuple[bytes, int, int]:
        out = []
        for parts in self.points:
            point = self._summary(samples, parts) if self.summary else self._histogram(samples, parts)
            if point is None:
                continue
            body = parts.attributes + point.SerializeToString()
            out.append(b"\x0a" + varint(len(body)) + body)
        tail = b"" if self.summary else b"\x10" + varint(_CUMULATIVE)
        encoded = self.head + length_delimited(11 if self.summary else 9, b"".join(out) + tail)
        return encoded, len(out), len(self.points) - len(out)

    def _frame(self, samples: Samples, parts: _Parts, point: metrics_pb2.HistogramDataPoint | metrics_pb2.SummaryDataPoint) -> bool:
        """Sets the times; True when the point has a value (no staleness marker)."""
        values, times = samples.values, samples.timestamp_ms
        first = parts.count if parts.count >= 0 else parts.bounds[-1][1]
        point.time_unix_nano = (times if isinstance(times, int) else times[first]) * 1_000_000
        if parts.created >= 0:
            point.start_time_unix_nano = _start(values[parts.created], point.time_unix_nano)
        if any(i >= 0 and _is_stale(values[i]) for i in (first, parts.sum)):
            point.flags = _NO_VALUE
            return False
        return True

    def _summary(self, samples: Samples, parts: _Parts) -> metrics_pb2.SummaryDataPoint | None:
        """The point, None where its count is none."""
        point = metrics_pb2.SummaryDataPoint()
        live = self._frame(samples, parts, point)
        values = samples.values
        if live:
            if not _rising([values[parts.count]]):
                return None
            point.count = int(values[parts.count])
            if parts.sum >= 0:
                point.sum = values[parts.sum]
        for bound, i in parts.bounds:
            point.quantile_values.add(quantile=bound, value=values[i] if live else 0.0)
        return point

    def _histogram(self, samples: Samples, parts: _Parts) -> metrics_pb2.HistogramDataPoint | None:
        """The point, None where its buckets do not rise to its count."""
        point = metrics_pb2.HistogramDataPoint()
        live = self._frame(samples, parts, point)
        values = samples.values
        inner = [pair for pair in parts.bounds if pair[0] != math.inf]
        point.explicit_bounds.extend([bound for bound, _ in inner])
        if not live:
            point.bucket_counts.extend([0] * (len(inner) + 1))
            if parts.sum >= 0:
                point.sum = 0.0  # so that a reader knows that there was one, which ends
            return point
        cumulative = [values[i] for _, i in inner]
        if parts.count >= 0:
            if len(inner) < len(parts.bounds) and not _rising([values[parts.bounds[-1][1]], values[parts.count]]):
                return None
            cumulative.append(values[parts.count])
        else:
            cumulative.append(values[parts.bounds[-1][1]])
        if not _rising(cumulative) or not _apart([bound for bound, _ in parts.bounds]):
            return None
        whole = list(map(int, cumulative))
        point.count = whole[-1]
        point.bucket_counts.extend(map(sub, whole, [0, *whole]))
        if parts.sum >= 0:
            point.sum = values[parts.sum]
        for _, i in parts.bounds:
            if samples.exemplars and i in samples.exemplars:
                stamp = _FIXED.pack(point.time_unix_nano)
                point.exemplars.add().MergeFromString(_exemplar(samples.exemplars[i], stamp))
        return point


_Metric = _Numbers | _Distributions


class _Plan:
    """One resource: its encoded attributes, and the metrics of each scope."""

    def __init__(self, resource: bytes) -> None:
        self.resource = resource
        self.scopes: dict[tuple[bytes, str], list[_Metric]] = {}

    def encode(self, samples: Samples) -> tuple[bytes, int, int]:
        times = samples.timestamp_ms
        now = _nanos(times) if isinstance(times, int) else b""
        out = [length_delimited(1, self.resource)]
        count = bad = 0
        for (scope, schema), metrics in self.scopes.items():
            encoded = [length_delimited(1, scope)]
            for metric in metrics:
                data, points, left_out = metric.encode(samples, now)
                if points:
                    encoded.append(length_delimited(2, data))
                count += points
                bad += left_out
            if schema:
                encoded.append(length_delimited(3, schema.encode()))
            out.append(length_delimited(2, b"".join(encoded)))
        return b"".join(out), count, bad


def _make_plans(samples: Samples) -> list[_Plan]:
    about = samples.resource or {}
    trim = isinstance(about, TargetResource) and about.trim_suffixes
    groups: dict[tuple[str, str], list[tuple[int, Series, dict[str, str]]]] = {}
    for i, series in enumerate(samples.series):
        labels = dict(series.labels)
        key = labels.get("job") or about.get("service.name", ""), labels.get("instance") or about.get("service.instance.id", "")
        groups.setdefault(key, []).append((i, series, labels))
    plans = []
    for (job, instance), members in groups.items():
        attributes = _resource(job, instance, about)
        scopes: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
        by_scope: dict[tuple[tuple[str, str], ...], list[tuple[int, Series, dict[str, str]]]] = {}
        for i, series, labels in members:
            name = labels.get("__name__", "")
            scope = tuple([(k, v) for k, v in series.labels if k.startswith(_SCOPE_PREFIX)])
            if name == "otel_scope_info":
                identity = tuple([(k, v) for k, v in scope if k in ("otel_scope_name", "otel_scope_version")])
                scopes.setdefault(identity, {}).update({k: v for k, v in labels.items() if k not in HIDDEN and (k, v) not in scope})
                continue
            by_scope.setdefault(scope, []).append((i, series, labels))
        plan = _Plan(b"".join([_attribute(1, k, v) for k, v in attributes.items()]))
        for scope, items in by_scope.items():
            identity = tuple([(k, v) for k, v in scope if k in ("otel_scope_name", "otel_scope_version")])
            plan.scopes[_scope(dict(scope), scopes.get(identity, {}))] = _metrics(items, trim)
        plans.append(plan)
    return plans


def _resource(job: str, instance: str, about: Mapping[str, str]) -> dict[str, str]:
    if (job, instance) == (about.get("service.name"), about.get("service.instance.id")):
        return dict(about)
    own = resource_attributes(job, instance, {})
    return {**{k: v for k, v in about.items() if k not in ("server.address", "server.port")}, **own}


def _scope(labels: Mapping[str, str], more: Mapping[str, str]) -> tuple[bytes, str]:
    name, version = labels.get("otel_scope_name", ""), labels.get("otel_scope_version", "")
    attributes = {
        k[len(_SCOPE_PREFIX) :]: v
        for k, v in labels.items()
        if k not in ("otel_scope_name", "otel_scope_version", "otel_scope_schema_url")
    }
    if not labels:
        name = SCRAPE_SCOPE
    encoded = length_delimited(1, name.encode()) + (length_delimited(2, version.encode()) if version else b"")
    described = b"".join([_attribute(3, k, v) for k, v in {**attributes, **more}.items()])
    return encoded + described, labels.get("otel_scope_schema_url", "")


def _metrics(items: Sequence[tuple[int, Series, dict[str, str]]], trim: bool) -> list[_Metric]:
    out: dict[tuple[str, str], _Metric] = {}
    families: dict[tuple[str, str], tuple[str, Family | None]] = {}
    points: dict[tuple[str, bytes], _Parts] = {}
    distributions: dict[str, _Distributions] = {}
    for i, series, labels in items:
        name, family = labels.get("__name__", ""), series.family
        kind = family.type if family is not None else "unknown"
        if family is not None and kind in ("histogram", "summary"):
            part = name[len(family.name) :] if name.startswith(family.name) else "?"
            field, bound_label, bound_part = (9, "le", "_bucket") if kind == "histogram" else (7, "quantile", "")
            bound = _bound(labels.get(bound_label, ""), kind)
            if part in ("_count", "_sum", "_created") or (part == bound_part and bound is not None):
                attributes = _attributes(field, labels, bound_label)
                parts = points.setdefault((family.name, attributes), _Parts(attributes))
                if part == "_count":
                    parts.count = i
                elif part == "_sum":
                    parts.sum = i
                elif part == "_created":
                    parts.created = i
                elif bound is not None:
                    parts.bounds.append((bound, i))
                key = family.name, kind
                if key not in out:
                    out[key] = distributions[family.name] = _Distributions(kind == "summary")
                    families[key] = family.name, family
                continue
            kind = "unknown"
        if kind == "counter" and family is not None and name == family.name.removesuffix("_total") + "_created":
            total = family.name.removesuffix("_total") + "_total"
            numbers = _numbers(out, families, (total, "counter"), family)
            numbers.created[_attributes(7, labels)] = i
            continue
        numbers = _numbers(out, families, (name, kind), family if kind != "unknown" else None)
        numbers.fixed.append(_attributes(7, labels))
        numbers.at.append(i)
    by_place: dict[int, dict[str, str]] = {}
    for (name, _), parts in points.items():
        parts.bounds.sort()
        summary = distributions[name].summary
        if parts.count >= 0 or (not summary and parts.bounds and parts.bounds[-1][0] == math.inf):
            distributions[name].points.append(parts)
            continue
        by_place = by_place or {i: labels for i, _, labels in items}
        for at in (*[i for _, i in parts.bounds], parts.sum, parts.created):
            if at >= 0:
                numbers = _numbers(out, families, (by_place[at]["__name__"], "unknown"), None)
                numbers.fixed.append(_attributes(7, by_place[at]))
                numbers.at.append(at)
    for key, metric in out.items():
        metric.head = _head(families[key], key[1], trim)
    return [m for m in out.values() if (m.at if isinstance(m, _Numbers) else m.points)]


def _numbers(
    out: dict[tuple[str, str], _Metric],
    families: dict[tuple[str, str], tuple[str, Family | None]],
    key: tuple[str, str],
    family: Family | None,
) -> _Numbers:
    metric = out.get(key)
    if isinstance(metric, _Numbers):
        return metric
    if key[1] in ("counter", "info", "stateset"):
        monotonic = b"\x18\x01" if key[1] == "counter" else b""
        metric = _Numbers(7, b"\x10" + varint(_CUMULATIVE) + monotonic)
    else:
        metric = _Numbers(5, b"")
    out[key] = metric
    families[key] = key[0], family
    return metric


def _head(described: tuple[str, Family | None], kind: str, trim: bool) -> bytes:
    name, family = described
    unit = family.unit if family is not None else ""
    if trim:
        name = trim_suffixes(name, kind, unit)
    out = length_delimited(1, name.encode())
    if family is not None and family.help:
        out += length_delimited(2, family.help.encode())
    if unit:
        out += length_delimited(3, ucum(unit).encode())
    # who makes names of Prometheus of it has to know whether this one is that of the page
    return out + _attribute(12, "prometheus.type", kind) + (_attribute(12, TRIMMED, "true") if trim else b"")


def _bound(text: str, kind: str) -> float | None:
    """The bound of a bucket, or a quantile; None where the label says something else."""
    try:
        bound = float(text)
    except ValueError:
        return None
    if kind == "summary":
        return bound if 0 <= bound <= 1 else None
    return bound if bound > -math.inf else None


def _rising(values: Iterable[float]) -> bool:
    """Whether these are counts that do not fall."""
    before = 0.0
    for value in values:
        if not before <= value < _MOST:
            return False
        before = value
    return True


def _apart(bounds: Sequence[float]) -> bool:
    return all(map(lt, bounds, bounds[1:]))


def _attributes(field: int, labels: Mapping[str, str], without: str = "") -> bytes:
    return b"".join(
        [_attribute(field, k, v) for k, v in labels.items() if k not in HIDDEN and k != without and not k.startswith(_SCOPE_PREFIX)]
    )


def _attribute(field: int, key: str, value: str) -> bytes:
    """A KeyValue with a string value as field `field`."""
    text = length_delimited(1, value.encode("utf-8", "replace"))
    return length_delimited(field, length_delimited(1, key.encode("utf-8", "replace")) + length_delimited(2, text))


def _exemplar(exemplar: Exemplar, stamp: bytes) -> bytes:
    point = metrics_pb2.Exemplar()
    point.as_double = exemplar.value
    point.time_unix_nano = _FIXED.unpack(stamp)[0] if exemplar.timestamp_ms is None else max(exemplar.timestamp_ms, 0) * 1_000_000
    for key, value in exemplar.labels:
        size = {"trace_id": 16, "span_id": 8}.get(key.lower())
        digits = _identifier(value, size) if size is not None else None
        if digits is None:
            point.filtered_attributes.add(key=key).value.string_value = value
        elif size == 16:
            point.trace_id = digits
        else:
            point.span_id = digits
    return point.SerializeToString()


def _identifier(text: str, size: int) -> bytes | None:
    try:
        return bytes.fromhex(text[: 2 * size]).rjust(size, b"\0") if text.strip() == text else None
    except ValueError:
        return None


def _is_stale(value: float) -> bool:
    return math.isnan(value) and bool(_FIXED.unpack(_DOUBLE.pack(value))[0] == STALE_BITS)


def _nanos(milliseconds: int) -> bytes:
    return _FIXED.pack(max(milliseconds, 0) * 1_000_000)


def _start(seconds: float, end: int) -> int:
    """When a series began, in Unix nanoseconds; 0, which is unknown, where that is no time before `end`."""
    start = int(seconds * 1e9) if math.isfinite(seconds) and 0 < seconds < 1.8e10 else 0
    return start if start <= end else 0
