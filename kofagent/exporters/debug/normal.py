"""`verbosity: normal`: a line per resource, scope and item, worded as upstream's."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from kofagent.exporters.debug.text import pairs, plain, request_of, short, six, text
from kofagent.telemetry.batch import AnyBatch
from kofagent.telemetry.signal import Signal


def render(batch: AnyBatch) -> str:
    """The lines. ValueError where the batch is malformed."""
    request = request_of(batch)
    if batch.signal is Signal.LOGS:
        lines = _walk(request.resource_logs, "Log", "scope_logs", _logs)
    elif batch.signal is Signal.TRACES:
        lines = _walk(request.resource_spans, "Traces", "scope_spans", _spans)
    else:
        lines = _walk(request.resource_metrics, "Metrics", "scope_metrics", _metrics)
    return "".join(line + "\n" for line in lines)


def _walk(resources: Any, word: str, scopes: str, items: Any) -> Iterator[str]:
    for i, entry in enumerate(resources):
        url = f" [{text(entry.schema_url)}]" if entry.schema_url else ""
        yield f"Resource{word} #{i}{url}{_attributes(entry.resource)}"
        for j, scope in enumerate(getattr(entry, scopes)):
            name = text(scope.scope.name) + (f"@{text(scope.scope.version)}" if scope.scope.version else "")
            words = [w for w in (name, f"[{text(scope.schema_url)}]" if scope.schema_url else "") if w]
            yield " ".join([f"Scope{word} #{j}", *words]) + _attributes(scope.scope)
            yield from items(scope)


def _attributes(holder: Any) -> str:
    return "".join(f" {pair}" for pair in pairs(holder.attributes))


def _logs(scope: Any) -> Iterator[str]:
    for record in scope.log_records:
        yield f"{plain(record.body)} {' '.join(pairs(record.attributes))}"


def _spans(scope: Any) -> Iterator[str]:
    for span in scope.spans:
        yield f"{text(span.name)} {span.trace_id.hex()} {span.span_id.hex()}{_attributes(span)}"


def _metrics(scope: Any) -> Iterator[str]:
    for metric in scope.metrics:
        kind = metric.WhichOneof("data")
        for point in getattr(metric, kind).data_points if kind else ():
            value = _POINTS[kind](point)
            yield f"{text(metric.name)}{{{','.join(pairs(point.attributes))}}} {value}"


def _number(point: Any) -> str:
    kind = point.WhichOneof("value")
    if kind == "as_int":
        return str(point.as_int)
    return short(point.as_double) if kind else ""


def _totals(point: Any) -> list[str]:
    words = [f"count={point.count}"]
    words += [f"{name}={short(getattr(point, name))}" for name in ("sum", "min", "max") if point.HasField(name)]
    return words


def _histogram(point: Any) -> str:
    words = _totals(point)
    bounds = point.explicit_bounds
    words += [f"{f'le{short(bounds[i])}=' if i < len(bounds) else ''}{count}" for i, count in enumerate(point.bucket_counts)]
    return " ".join(words)


def _exponential(point: Any) -> str:
    words = _totals(point)
    factor = math.ldexp(math.log(2), -point.scale)
    negative, positive = point.negative, point.positive
    for j in range(len(negative.bucket_counts) - 1, -1, -1):
        words.append(f"le{short(-_exp((negative.offset + j) * factor))}={negative.bucket_counts[j]}")
    if point.zero_count:
        words.append(f"zero={point.zero_count}")
    for j, count in enumerate(positive.bucket_counts):
        words.append(f"le{short(_exp((positive.offset + j + 1) * factor))}={count}")
    return " ".join(words)


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def _summary(point: Any) -> str:
    words = [f"count={point.count}", f"sum={six(point.sum)}"]
    return " ".join(words + [f"q{short(q.quantile)}={short(q.value)}" for q in point.quantile_values])


_POINTS = {"gauge": _number, "sum": _number, "histogram": _histogram, "exponential_histogram": _exponential, "summary": _summary}
