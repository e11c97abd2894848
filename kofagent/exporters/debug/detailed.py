"""`verbosity: detailed`: the whole tree, laid out as upstream's (otlptext)."""

from __future__ import annotations

import math
from typing import Any

from kofagent.exporters.debug.text import moment, request_of, six, text, typed
from kofagent.telemetry.batch import AnyBatch
from kofagent.telemetry.signal import Signal

_SEVERITIES = ("Trace", "Debug", "Info", "Warn", "Error", "Fatal")
_KINDS = ("Unspecified", "Internal", "Server", "Client", "Producer", "Consumer")
_CODES = ("Unset", "Ok", "Error")
_TEMPORALITIES = ("Unspecified", "Delta", "Cumulative")
_TYPES = {
    "gauge": "Gauge",
    "sum": "Sum",
    "histogram": "Histogram",
    "exponential_histogram": "ExponentialHistogram",
    "summary": "Summary",
    None: "Empty",
}


def render(batch: AnyBatch) -> str:
    """The text. ValueError where the batch is malformed."""
    out = _Text()
    request = request_of(batch)
    if batch.signal is Signal.LOGS:
        out.tree(request.resource_logs, ("ResourceLog", "ScopeLogs", "scope_logs"), out.logs)
    elif batch.signal is Signal.TRACES:
        out.tree(request.resource_spans, ("ResourceSpans", "ScopeSpans", "scope_spans"), out.spans)
    else:
        out.tree(request.resource_metrics, ("ResourceMetrics", "ScopeMetrics", "scope_metrics"), out.metrics)
    return "".join(line + "\n" for line in out.lines)


def _name(names: tuple[str, ...], number: int) -> str:
    return names[number] if 0 <= number < len(names) else ""


def _level(number: int) -> str:
    if not 1 <= number <= 24:
        return "" if number else "Unspecified"
    level, step = divmod(number - 1, 4)
    return f"{_SEVERITIES[level]}{step + 1 if step else ''}"


class _Text:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, line: str) -> None:
        self.lines.append(line)

    def attributes(self, header: str, attributes: Any) -> None:
        if not attributes:
            return
        self.add(f"{header}:")
        prefix = (header.split("->", maxsplit=1)[0] if "->" in header else "") + "     ->"
        for kv in attributes:
            self.add(f"{prefix} {text(kv.key)}: {typed(kv.value)}")

    def tree(self, resources: Any, words: tuple[str, str, str], items: Any) -> None:
        resource_word, scope_word, scopes = words
        for i, entry in enumerate(resources):
            self.add(f"{resource_word} #{i}")
            self.add(f"Resource SchemaURL: {text(entry.schema_url)}")
            self.attributes("Resource attributes", entry.resource.attributes)
            self.entities(getattr(entry.resource, "entity_refs", ()))
            for j, scope in enumerate(getattr(entry, scopes)):
                self.add(f"{scope_word} #{j}")
                self.add(f"{scope_word} SchemaURL: {text(scope.schema_url)}")
                self.add(f"InstrumentationScope {text(scope.scope.name)} {text(scope.scope.version)}")
                self.attributes("InstrumentationScope attributes", scope.scope.attributes)
                items(scope)

    def entities(self, references: Any) -> None:
        if not references:
            return
        self.add("Resource entity refs:")
        for i, entity in enumerate(references):
            self.add(f"     -> Entity ref #{i}:")
            self.add(f"          -> Type: {text(entity.type)}")
            if entity.schema_url:
                self.add(f"          -> Schema URL: {text(entity.schema_url)}")
            for header, keys in (("ID keys", entity.id_keys), ("Description keys", entity.description_keys)):
                if keys:
                    self.add(f"          -> {header}:")
                    for key in keys:
                        self.add(f"               -> {text(key)}")

    def logs(self, scope: Any) -> None:
        for k, record in enumerate(scope.log_records):
            number = record.severity_number
            self.add(f"LogRecord #{k}")
            self.add(f"ObservedTimestamp: {moment(record.observed_time_unix_nano)}")
            self.add(f"Timestamp: {moment(record.time_unix_nano)}")
            self.add(f"SeverityText: {text(record.severity_text)}")
            self.add(f"SeverityNumber: {_level(number)}({number})")
            if record.event_name:
                self.add(f"EventName: {text(record.event_name)}")
            self.add(f"Body: {typed(record.body)}")
            self.attributes("Attributes", record.attributes)
            self.add(f"Trace ID: {record.trace_id.hex()}")
            self.add(f"Span ID: {record.span_id.hex()}")
            self.add(f"Flags: {record.flags}")

    def spans(self, scope: Any) -> None:
        for k, span in enumerate(scope.spans):
            self.add(f"Span #{k}")
            values = [
                ("Trace ID", span.trace_id.hex()),
                ("Parent ID", span.parent_span_id.hex()),
                ("ID", span.span_id.hex()),
                ("Name", text(span.name)),
                ("Kind", _name(_KINDS, span.kind)),
            ]
            if span.trace_state:
                values.append(("TraceState", text(span.trace_state)))
            values += [
                ("Start time", moment(span.start_time_unix_nano)),
                ("End time", moment(span.end_time_unix_nano)),
                ("Status code", _name(_CODES, span.status.code)),
                ("Status message", text(span.status.message)),
                ("DroppedAttributesCount", str(span.dropped_attributes_count)),
                ("DroppedEventsCount", str(span.dropped_events_count)),
                ("DroppedLinksCount", str(span.dropped_links_count)),
            ]
            for name, value in values:
                self.add(f"    {name:<15}: {value}")
            self.attributes("Attributes", span.attributes)
            if span.events:
                self.add("Events:")
            for i, event in enumerate(span.events):
                self.add(f"SpanEvent #{i}")
                self.add(f"     -> Name: {text(event.name)}")
                self.add(f"     -> Timestamp: {moment(event.time_unix_nano)}")
                self.add(f"     -> DroppedAttributesCount: {event.dropped_attributes_count}")
                self.attributes("     -> Attributes:", event.attributes)
            if span.links:
                self.add("Links:")
            for i, link in enumerate(span.links):
                self.add(f"SpanLink #{i}")
                self.add(f"     -> Trace ID: {link.trace_id.hex()}")
                self.add(f"     -> ID: {link.span_id.hex()}")
                self.add(f"     -> TraceState: {text(link.trace_state)}")
                self.add(f"     -> DroppedAttributesCount: {link.dropped_attributes_count}")
                self.attributes("     -> Attributes:", link.attributes)

    def metrics(self, scope: Any) -> None:
        for k, metric in enumerate(scope.metrics):
            kind = metric.WhichOneof("data")
            self.add(f"Metric #{k}")
            self.add("Descriptor:")
            self.add(f"     -> Name: {text(metric.name)}")
            self.add(f"     -> Description: {text(metric.description)}")
            self.add(f"     -> Unit: {text(metric.unit)}")
            self.add(f"     -> DataType: {_TYPES[kind]}")
            self.attributes("     -> Metadata", metric.metadata)
            if kind is None:
                continue
            data = getattr(metric, kind)
            if kind == "sum":
                self.add(f"     -> IsMonotonic: {'true' if data.is_monotonic else 'false'}")
            if kind in ("sum", "histogram", "exponential_histogram"):
                self.add(f"     -> AggregationTemporality: {_name(_TEMPORALITIES, data.aggregation_temporality)}")
            word = "Number" if kind in ("gauge", "sum") else _TYPES[kind]
            for i, point in enumerate(data.data_points):
                self.add(f"{word}DataPoints #{i}")
                self.attributes("Data point attributes", point.attributes)
                self.add(f"StartTimestamp: {moment(point.start_time_unix_nano)}")
                self.add(f"Timestamp: {moment(point.time_unix_nano)}")
                getattr(self, f"_{kind}")(point)
                if kind != "summary":
                    self._exemplars(point.exemplars)

    def _gauge(self, point: Any) -> None:
        kind = point.WhichOneof("value")
        if kind:
            self.add(f"Value: {point.as_int if kind == 'as_int' else six(point.as_double)}")

    _sum = _gauge

    def _totals(self, point: Any) -> None:
        self.add(f"Count: {point.count}")
        for name in ("sum", "min", "max"):
            if point.HasField(name):
                self.add(f"{name.capitalize()}: {six(getattr(point, name))}")

    def _histogram(self, point: Any) -> None:
        self._totals(point)
        for i, bound in enumerate(point.explicit_bounds):
            self.add(f"ExplicitBounds #{i}: {six(bound)}")
        for i, count in enumerate(point.bucket_counts):
            self.add(f"Buckets #{i}, Count: {count}")

    def _exponential_histogram(self, point: Any) -> None:
        self._totals(point)
        factor = math.ldexp(math.log(2), -point.scale)

        def edge(index: int) -> float:
            try:
                return math.exp(index * factor)
            except OverflowError:
                return math.inf

        for i in range(len(point.negative.bucket_counts) - 1, -1, -1):
            index = point.negative.offset + i
            self.add(f"Bucket [{six(-edge(index + 1))}, {six(-edge(index))}), Count: {point.negative.bucket_counts[i]}")
        if point.zero_count:
            self.add(f"Bucket [0, 0], Count: {point.zero_count}")
        for i, count in enumerate(point.positive.bucket_counts):
            index = point.positive.offset + i
            self.add(f"Bucket ({six(edge(index))}, {six(edge(index + 1))}], Count: {count}")

    def _summary(self, point: Any) -> None:
        self.add(f"Count: {point.count}")
        self.add(f"Sum: {six(point.sum)}")
        for i, value in enumerate(point.quantile_values):
            self.add(f"QuantileValue #{i}: Quantile {six(value.quantile)}, Value {six(value.value)}")

    def _exemplars(self, exemplars: Any) -> None:
        if exemplars:
            self.add("Exemplars:")
        for i, exemplar in enumerate(exemplars):
            kind = exemplar.WhichOneof("value")
            self.add(f"Exemplar #{i}")
            self.add(f"     -> Trace ID: {exemplar.trace_id.hex()}")
            self.add(f"     -> Span ID: {exemplar.span_id.hex()}")
            self.add(f"     -> Timestamp: {moment(exemplar.time_unix_nano)}")
            if kind:
                self.add(f"     -> Value: {exemplar.as_int if kind == 'as_int' else six(exemplar.as_double)}")
            self.attributes("     -> FilteredAttributes", exemplar.filtered_attributes)
