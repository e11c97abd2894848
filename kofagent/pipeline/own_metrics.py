"""The agent's own metrics as a Prometheus page and as OTLP, and those of its process, named as the Go collector's."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from kofagent import __version__
from kofagent.memory import usage as memory
from kofagent.memory.account import ACCOUNT
from kofagent.memory.pressure import PRESSURE
from kofagent.telemetry.clock import now_ns
from kofagent.telemetry.merged import Merged

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Part(NamedTuple):
    """A part of a page: the metrics of a collector, or of the process that several run in."""

    registry: CollectorRegistry
    target: Mapping[str, str] = {}
    """Labels of its `target_info`; empty: it has none."""
    constant: Mapping[str, str] = {}
    """Labels of all its metrics."""


class ProcessCollector(Collector):
    """`otelcol_process_*`: uptime, CPU seconds, resident memory; heap memory is the kernel's anonymous memory."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def collect(self) -> Iterable[Metric]:
        """As `prometheus_client` asks for."""
        yield CounterMetricFamily("otelcol_process_uptime_seconds", "Uptime of the process.", value=time.monotonic() - self._start)
        yield CounterMetricFamily(
            "otelcol_process_cpu_seconds", "Total CPU user and system time in seconds.", value=time.process_time()
        )
        yield GaugeMetricFamily(
            "otelcol_process_memory_rss_bytes", "Total physical memory (resident set size).", value=memory.process_rss()
        )
        heap = _status_bytes("RssAnon")
        if heap is not None:
            yield GaugeMetricFamily(
                "otelcol_process_runtime_heap_alloc_bytes",
                "Resident anonymous memory: heap, stacks and arenas of the interpreter.",
                value=heap,
            )
        data = _status_bytes("VmData")
        if data is not None:
            yield GaugeMetricFamily(
                "otelcol_process_runtime_total_sys_memory_bytes", "Private memory obtained from the operating system.", value=data
            )
        yield from memory_families()


def memory_families() -> Iterator[Metric]:
    """`kofagent_memory_*` by owner and `kofagent_memo_*` by the name of a memo, of the account that `memory_limiter` reads."""
    for name, help, values in (
        ("kofagent_memory_bytes", "Memory by owner; memos are estimated, process is the resident set.", ACCOUNT.owners()),
        ("kofagent_memory_limit_bytes", "The most memory that an owner may take.", ACCOUNT.limits()),
    ):
        gauge = GaugeMetricFamily(name, help, labels=("owner",))
        for owner, value in values.items():
            gauge.add_metric((owner,), value)
        yield gauge
    yield GaugeMetricFamily(
        "kofagent_memory_pressure",
        "How short memory is, from 0 (calm) to 5 (all give way).",
        PRESSURE.level,
    )
    refused = CounterMetricFamily("kofagent_memory_refused", "Work that did not fit into memory, by owner.", labels=("owner",))
    for owner, count in PRESSURE.refusals().items():
        refused.add_metric((owner,), count)
    yield refused
    entries = GaugeMetricFamily("kofagent_memo_entries", "Entries in the memo.", labels=("name",))
    size = GaugeMetricFamily("kofagent_memo_bytes", "Estimated size of the memo.", labels=("name",))
    hits = CounterMetricFamily(
        "kofagent_memo_hits",
        "Look-ups that found their value; absent where counting them would slow them down.",
        labels=("name",),
    )
    misses = CounterMetricFamily("kofagent_memo_misses", "Look-ups that had to compute their value.", labels=("name",))
    evictions = CounterMetricFamily("kofagent_memo_evictions", "Entries dropped to make room.", labels=("name",))
    for name, figures in ACCOUNT.figures().items():
        entries.add_metric((name,), figures.entries)
        size.add_metric((name,), figures.size)
        if figures.counts.lookups:
            hits.add_metric((name,), figures.counts.hits)
        misses.add_metric((name,), figures.counts.misses)
        evictions.add_metric((name,), figures.counts.evictions)
    yield from (entries, size, hits, misses, evictions)


COLLECTOR = "collector"
"""The attribute of a resource, and the label of series, with the name of the collector where several run."""


def collector_of(resource: Mapping[str, str]) -> dict[str, str]:
    """The label with the collector's name, of a resource that has one."""
    return {COLLECTOR: resource[COLLECTOR]} if COLLECTOR in resource else {}


def without_collector(resource: Mapping[str, str]) -> dict[str, str]:
    """The resource of the process: that of a collector without what is the collector's own."""
    return {key: value for key, value in resource.items() if key != COLLECTOR}


def _status_bytes(key: str) -> int | None:
    """A size in /proc/self/status, None if it is not there."""
    try:
        with open("/proc/self/status", "rb") as file:
            for line in file:
                if line.startswith(key.encode() + b":"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def _families(registry: Collector | CollectorRegistry) -> Iterator[Metric]:
    for family in registry.collect():
        # the library's creation times, which the Go collector's page does not have
        family.samples = [s for s in family.samples if not s.name.endswith("_created")]
        yield family


def page(parts: Sequence[Part], *, total: bool = True) -> bytes:
    """The text format 0.0.4: `target_info` of each part, then every metric.

    Without `total` counters have no `_total` at the end of their names.
    """
    # Not by the library's generate_latest: it has no constant labels and no names without `_total`, splits histograms into
    # families of their own for creation times, and writes bounds as 1.0 where the Go collector has 1.
    out: list[str] = []
    if targets := [part.target for part in parts if part.target]:
        out += ["# HELP target_info Target metadata", "# TYPE target_info gauge"]
        out += [f"target_info{_labels(target)} 1" for target in targets]
    for family in _families(Merged([(part.registry, part.constant) for part in parts])):
        suffix = "_total" if family.type == "counter" and total else ""
        kind = family.type if family.type in ("counter", "gauge", "histogram", "summary") else "untyped"
        out.append(f"# HELP {family.name}{suffix} " + family.documentation.replace("\\", "\\\\").replace("\n", "\\n"))
        out.append(f"# TYPE {family.name}{suffix} {kind}")
        for sample in family.samples:
            name = sample.name if total or family.type != "counter" else sample.name.removesuffix("_total")
            labels = sample.labels
            if "le" in labels:  # as Go writes bounds
                labels = {**labels, "le": labels["le"].removesuffix(".0")}
            out.append(f"{name}{_labels(labels)} {_go_number(sample.value)}")
    return "\n".join([*out, ""]).encode("utf-8", "replace")


_go_number: Callable[[float], str] = floatToGoString


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join([f'{k}="{_escape(v)}"' for k, v in labels.items()]) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def otlp(parts: Sequence[tuple[CollectorRegistry, Mapping[str, str]]], start_unix_nano: int) -> bytes:
    """Registries with their resources as an ExportMetricsServiceRequest: counters as cumulative sums, names without `_total`."""
    from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData

    now = now_ns()
    data = MetricsData()
    for registry, resource in parts:
        _of_resource(data.resource_metrics.add(), registry, resource, start_unix_nano, now)
    encoded: bytes = data.SerializeToString()
    return encoded


def _of_resource(group: Any, registry: CollectorRegistry, resource: Mapping[str, str], start_unix_nano: int, now: int) -> None:
    from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE

    for key, value in resource.items():
        group.resource.attributes.add(key=key).value.string_value = value
    scope = group.scope_metrics.add()
    scope.scope.name, scope.scope.version = "kofagent", __version__
    for family in _families(registry):
        if not family.samples:
            continue
        metric = scope.metrics.add(name=family.name, description=family.documentation)
        if family.type == "histogram":
            metric.histogram.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
            _histogram(metric.histogram, family, start_unix_nano, now)
            continue
        body: Any = metric.gauge
        if family.type == "counter":
            body = metric.sum
            body.aggregation_temporality, body.is_monotonic = AGGREGATION_TEMPORALITY_CUMULATIVE, True
        for sample in family.samples:
            point = body.data_points.add(time_unix_nano=now, as_double=sample.value)
            if family.type == "counter":
                point.start_time_unix_nano = start_unix_nano
            _attributes(point, sample.labels)


def _attributes(point: Any, labels: Mapping[str, str]) -> None:
    for key, value in labels.items():
        point.attributes.add(key=key).value.string_value = value


def _histogram(histogram: Any, family: Metric, start: int, now: int) -> None:
    points: dict[tuple[tuple[str, str], ...], Any] = {}
    below: dict[tuple[tuple[str, str], ...], float] = {}
    for sample in family.samples:
        labels = {k: v for k, v in sample.labels.items() if k != "le"}
        key = tuple(labels.items())
        point = points.get(key)
        if point is None:
            point = points[key] = histogram.data_points.add(start_time_unix_nano=start, time_unix_nano=now)
            _attributes(point, labels)
        if sample.name.endswith("_bucket"):
            bound = float(sample.labels["le"])
            if not math.isinf(bound):
                point.explicit_bounds.append(bound)
            point.bucket_counts.append(int(sample.value - below.get(key, 0.0)))
            below[key] = sample.value
        elif sample.name.endswith("_count"):
            point.count = int(sample.value)
        elif sample.name.endswith("_sum"):
            point.sum = sample.value
