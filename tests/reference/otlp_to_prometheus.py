"""The plain twin of the remote write exporter's translation: official messages, one point after the other, no cache.

It shares with the real one only the names (`metric_name`, `label_name`) and the text of values, which have tests of their own.
"""

from __future__ import annotations

import math
import struct
from typing import Any

from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData

from kofagent.exporters.prometheusremotewrite.labels import decimal, text
from kofagent.exporters.prometheusremotewrite.names import label_name, metric_name

STALE = struct.unpack("<d", bytes.fromhex("020000000000f07f"))[0]
Row = tuple[tuple[tuple[str, str], ...], bytes, int]
"""Sorted labels, the bits of the value, Unix milliseconds."""


def translate(payload: bytes, external: dict[str, str], copy: bool) -> list[Row]:
    """Every sample of a payload, sorted; of one series and millisecond the first sample counts."""
    found: dict[tuple[Any, int], float] = {}

    def add(labels: dict[str, str], value: float, at: int) -> None:
        key = (tuple(sorted(((k, v) for k, v in labels.items() if v), key=lambda p: p[0].encode())), at // 1_000_000)
        found.setdefault(key, value)

    infos: dict[Any, tuple[dict[str, str], int]] = {}
    for group in MetricsData.FromString(payload).resource_metrics:
        resource = _texts(group.resource.attributes)
        raw = {a.key for a in group.resource.attributes}
        identity = {}
        if resource.get("service.name"):
            namespace = resource.get("service.namespace", "") + "/" if "service.namespace" in raw else ""
            identity["job"] = namespace + resource["service.name"]
        if resource.get("service.instance.id"):
            identity["instance"] = resource["service.instance.id"]
        newest = 0
        for scoped in group.scope_metrics:
            scope = {"otel_scope_name": scoped.scope.name, "otel_scope_version": scoped.scope.version}
            for key, value in _texts(scoped.scope.attributes).items():
                if key not in ("name", "version", "schema_url"):
                    scope.setdefault(label_name("otel_scope_" + key), value)
            scope = {k: v for k, v in scope.items() if v}
            for metric in scoped.metrics:
                kind = metric.WhichOneof("data")
                if kind is None or kind == "exponential_histogram":
                    continue
                data = getattr(metric, kind)
                newest = max([newest, *[p.time_unix_nano for p in data.data_points]])
                if kind in ("sum", "histogram") and data.aggregation_temporality != 2:
                    continue
                name = metric_name(
                    metric.name, metric.unit, suffixes=True, gauge=kind == "gauge", counter=kind == "sum" and data.is_monotonic
                )
                if not name:
                    continue
                for point in data.data_points:
                    if not point.time_unix_nano or not consistent(kind, point):
                        continue
                    attributes = {**_texts(point.attributes), **(resource if copy else {})}
                    labels = {**external, **_named(attributes), **identity, **scope}
                    for suffix, extra, number in _samples(kind, point):
                        add(
                            {**labels, "__name__": name + suffix, **extra},
                            STALE if point.flags & 1 else number,
                            point.time_unix_nano,
                        )
        described = {k: v for k, v in resource.items() if k not in ("service.name", "service.namespace", "service.instance.id")}
        if described and identity and newest:
            labels = {**external, **_named(described), **identity, "__name__": "target_info"}
            info = tuple(sorted(labels.items()))
            infos[info] = (labels, max(newest, infos.get(info, ({}, 0))[1]))
    for labels, at in infos.values():
        add(labels, 1.0, at)
    return sorted((labels, struct.pack(">d", value), at) for (labels, at), value in found.items())


def _samples(kind: str, point: Any) -> list[tuple[str, dict[str, str], float]]:
    if kind in ("gauge", "sum"):
        return [("", {}, float(point.as_int) if point.WhichOneof("value") == "as_int" else point.as_double)]
    out = [("_count", {}, float(point.count))]
    if kind == "summary":
        out.append(("_sum", {}, point.sum))
        for quantile in {q.quantile: q for q in point.quantile_values}.values():
            out.append(("", {"quantile": decimal(quantile.quantile)}, quantile.value))
        return out
    if point.HasField("sum"):
        out.append(("_sum", {}, point.sum))
    out.append(("_bucket", {"le": "+Inf"}, float(point.count)))
    seen = 0
    for bound, count in zip(point.explicit_bounds, point.bucket_counts, strict=False):
        seen += count
        if not math.isinf(bound):
            out.append(("_bucket", {"le": decimal(bound)}, float(seen)))
    return out


def consistent(kind: str, point: Any) -> bool:
    """Whether the parts of a data point agree, or can be understood in one way only."""
    if kind == "summary":
        quantiles = [q.quantile for q in point.quantile_values]
        return not any(math.isnan(q) or q < 0 or q > 1 for q in quantiles) and len(set(quantiles)) == len(quantiles)
    if kind == "histogram":
        bounds, counts = list(point.explicit_bounds), list(point.bucket_counts)
        if not counts:
            return point.count < 2**63
        lengths = {len(bounds), len(bounds) + 1}
        if bounds and bounds[-1] == math.inf:
            bounds.pop()
            lengths.add(len(bounds))
        if bounds != sorted(set(bounds)) or any(map(math.isnan, bounds)) or any(map(math.isinf, bounds)):
            return False
        return bool(point.flags & 1) or (len(counts) in lengths and sum(counts) <= point.count < 2**63)
    if kind == "exponential_histogram" and not point.flags & 1:
        total = point.zero_count + sum(point.positive.bucket_counts) + sum(point.negative.bucket_counts)
        if total > point.count or point.count >= 2**63 or (total < point.count and not math.isnan(point.sum)):
            return False
        if any(b.offset + len(b.bucket_counts) >= 2**31 for b in (point.positive, point.negative)):
            return False
        return math.isfinite(point.zero_threshold) and point.zero_threshold >= 0
    return True


def _texts(attributes: Any) -> dict[str, str]:
    return {a.key: text(a.value) for a in attributes if text(a.value)}


def _named(attributes: dict[str, str]) -> dict[str, str]:
    out: dict[str, list[str]] = {}
    for key in sorted(attributes):
        out.setdefault(label_name(key), []).append(attributes[key])
    return {name: _joined(values) for name, values in out.items() if name}


def _joined(values: list[str]) -> str:
    joined = values[0]
    for value in values[1:]:
        if joined != value:
            joined += ";" + value
    return joined
