"""The paths of each context: from a name to a function that reads it from an `Env`."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

from kofagent.ottl.errors import EvaluationError
from kofagent.ottl.types import Time, string_like
from kofagent.telemetry.batch import Metadata
from kofagent.transform.anyvalue import attributes as to_dict
from kofagent.transform.anyvalue import to_python


class Env:
    """What an expression is evaluated over: Google's protobuf messages, None for those the context does not have."""

    __slots__ = ("cache", "metadata", "metric", "record", "resource", "scope", "span")

    def __init__(
        self,
        resource: Any = None,
        scope: Any = None,
        record: Any = None,
        metric: Any = None,
        *,
        span: Any = None,
        metadata: Metadata | None = None,
    ) -> None:
        self.resource = resource
        self.scope = scope
        self.record = record
        self.metric = metric
        self.span = span
        self.metadata = metadata
        self.cache: dict[str, Any] = {}


Read = Callable[[Env], Any]
Pick = Callable[[Env], Any]
"""From an Env to the message a path begins at."""

CONTEXTS: dict[str, tuple[str, ...]] = {
    "resource": ("resource",),
    "scope": ("scope", "instrumentation_scope", "resource"),
    "log": ("log", "resource", "scope", "instrumentation_scope"),
    "span": ("span", "resource", "scope", "instrumentation_scope"),
    "spanevent": ("spanevent", "span", "resource", "scope", "instrumentation_scope"),
    "metric": ("metric", "resource", "scope", "instrumentation_scope"),
    "datapoint": ("datapoint", "metric", "resource", "scope", "instrumentation_scope"),
    "request": ("request",),
    "otelcol": (),
}
"""The contexts and the names that may stand before a path's first dot in each."""

POINT_KINDS = ("gauge", "sum", "histogram", "exponential_histogram", "summary")
_METRIC_TYPES = {None: 0, "gauge": 1, "sum": 2, "histogram": 3, "exponential_histogram": 4, "summary": 5}
_SPAN_KINDS = ("Unspecified", "Internal", "Server", "Client", "Producer", "Consumer")


def points(metric: Any) -> Any:
    """The data points of a metric, whatever its type."""
    kind = metric.WhichOneof("data")
    return getattr(metric, kind).data_points if kind else ()


def _plain(name: str) -> Callable[[Any], Any]:
    def read(message: Any) -> Any:
        return getattr(message, name, None)

    return read


def _time(name: str) -> Callable[[Any], Any]:
    def read(message: Any) -> Any:
        return Time(getattr(message, name))

    return read


def _id(name: str, size: int) -> Callable[[Any], Any]:
    zero = bytes(size)

    def read(message: Any) -> Any:
        return getattr(message, name) or zero

    return read


def _hex(name: str) -> Callable[[Any], Any]:
    def read(message: Any) -> Any:
        return getattr(message, name).hex()

    return read


def _list(name: str) -> Callable[[Any], Any]:
    def read(message: Any) -> Any:
        value = getattr(message, name, None)
        return None if value is None else list(value)

    return read


def _optional(name: str) -> Callable[[Any], Any]:
    """A number of a data point that only some types have."""

    def read(message: Any) -> Any:
        if name not in message.DESCRIPTOR.fields_by_name:
            return None
        field = message.DESCRIPTOR.fields_by_name[name]
        return getattr(message, name) if not field.has_presence or message.HasField(name) else None

    return read


def _value(name: str) -> Callable[[Any], Any]:
    zero = 0 if name == "as_int" else 0.0

    def read(message: Any) -> Any:
        if "as_int" not in message.DESCRIPTOR.fields_by_name:
            return None
        return getattr(message, name) if message.HasField(name) else zero

    return read


def _buckets(side: str, name: str | None) -> Callable[[Any], Any]:
    def read(message: Any) -> Any:
        if side not in message.DESCRIPTOR.fields_by_name:
            return None
        buckets = getattr(message, side)
        if name == "offset":
            return buckets.offset
        return list(buckets.bucket_counts) if name else {"offset": buckets.offset, "bucket_counts": list(buckets.bucket_counts)}

    return read


def _attributes(message: Any) -> Any:
    return to_dict(message.attributes)


def _trace_state(message: Any) -> Any:
    return dict(part.strip().split("=", 1) for part in message.trace_state.split(",") if "=" in part)


def _of_data(name: str) -> Callable[[Any], Any]:
    def read(metric: Any) -> Any:
        kind = metric.WhichOneof("data")
        data = getattr(metric, kind) if kind else None
        return getattr(data, name, None) if data is not None else None

    return read


def _kind_string(span: Any) -> str:
    return _SPAN_KINDS[span.kind] if 0 <= span.kind < len(_SPAN_KINDS) else ""


def _body(record: Any) -> Any:
    return to_python(record.body)


def _body_string(record: Any) -> Any:
    value = to_python(record.body)
    return base64.b64encode(value).decode() if isinstance(value, bytes) else string_like(value)


Table = Mapping[str, Callable[[Any], Any]]
_RESOURCE: Table = {"attributes": _attributes, "dropped_attributes_count": _plain("dropped_attributes_count")}
_SCOPE: Table = {**_RESOURCE, "name": _plain("name"), "version": _plain("version")}
_IDS: Table = {
    "trace_id": _id("trace_id", 16),
    "trace_id.string": _hex("trace_id"),
    "span_id": _id("span_id", 8),
    "span_id.string": _hex("span_id"),
}
_LOG: Table = {
    "attributes": _attributes,
    "body": _body,
    "body.string": _body_string,
    "severity_number": _plain("severity_number"),
    "severity_text": _plain("severity_text"),
    "event_name": _plain("event_name"),
    **_IDS,
    "time_unix_nano": _plain("time_unix_nano"),
    "observed_time_unix_nano": _plain("observed_time_unix_nano"),
    "time": _time("time_unix_nano"),
    "observed_time": _time("observed_time_unix_nano"),
    "dropped_attributes_count": _plain("dropped_attributes_count"),
    "flags": _plain("flags"),
}
_SPAN: Table = {
    "attributes": _attributes,
    "name": _plain("name"),
    "kind": _plain("kind"),
    "kind.string": _kind_string,
    "kind.deprecated_string": lambda s: f"SPAN_KIND_{_kind_string(s).upper()}" if _kind_string(s) else "",
    **_IDS,
    "parent_span_id": _id("parent_span_id", 8),
    "parent_span_id.string": _hex("parent_span_id"),
    "trace_state": _trace_state,
    "status.code": lambda s: s.status.code,
    "status.message": lambda s: s.status.message,
    "status": lambda s: {"code": s.status.code, "message": s.status.message},
    "start_time_unix_nano": _plain("start_time_unix_nano"),
    "end_time_unix_nano": _plain("end_time_unix_nano"),
    "start_time": _time("start_time_unix_nano"),
    "end_time": _time("end_time_unix_nano"),
    "dropped_attributes_count": _plain("dropped_attributes_count"),
    "dropped_events_count": _plain("dropped_events_count"),
    "dropped_links_count": _plain("dropped_links_count"),
    "events": _list("events"),
    "links": _list("links"),
    "flags": _plain("flags"),
}
_EVENT: Table = {
    "attributes": _attributes,
    "name": _plain("name"),
    "time_unix_nano": _plain("time_unix_nano"),
    "time": _time("time_unix_nano"),
    "dropped_attributes_count": _plain("dropped_attributes_count"),
}
_METRIC: Table = {
    "name": _plain("name"),
    "description": _plain("description"),
    "unit": _plain("unit"),
    "type": lambda m: _METRIC_TYPES[m.WhichOneof("data")],
    "aggregation_temporality": _of_data("aggregation_temporality"),
    "is_monotonic": _of_data("is_monotonic"),
    "metadata": lambda m: to_dict(m.metadata),
    "data_points": lambda m: list(points(m)),
}
_POINT: Table = {
    "attributes": _attributes,
    "time_unix_nano": _plain("time_unix_nano"),
    "start_time_unix_nano": _plain("start_time_unix_nano"),
    "time": _time("time_unix_nano"),
    "start_time": _time("start_time_unix_nano"),
    "value_double": _value("as_double"),
    "value_int": _value("as_int"),
    "flags": _plain("flags"),
    "count": _optional("count"),
    "sum": _optional("sum"),
    "scale": _optional("scale"),
    "zero_count": _optional("zero_count"),
    "bucket_counts": _list("bucket_counts"),
    "explicit_bounds": _list("explicit_bounds"),
    "exemplars": _list("exemplars"),
    "quantile_values": _list("quantile_values"),
    "positive": _buckets("positive", None),
    "positive.offset": _buckets("positive", "offset"),
    "positive.bucket_counts": _buckets("positive", "bucket_counts"),
    "negative": _buckets("negative", None),
    "negative.offset": _buckets("negative", "offset"),
    "negative.bucket_counts": _buckets("negative", "bucket_counts"),
}

TABLES: dict[str, tuple[Table, Pick]] = {
    "resource": (_RESOURCE, lambda e: e.resource),
    "scope": (_SCOPE, lambda e: e.scope),
    "instrumentation_scope": (_SCOPE, lambda e: e.scope),
    "log": (_LOG, lambda e: e.record),
    "spanevent": (_EVENT, lambda e: e.record),
    "datapoint": (_POINT, lambda e: e.record),
}


def table(context: str, prefix: str) -> tuple[Table, Pick]:
    """The paths behind `prefix` in `context` and where they begin."""
    if prefix == "span":
        return _SPAN, (lambda e: e.record) if context == "span" else (lambda e: e.span)
    if prefix == "metric":
        return _METRIC, (lambda e: e.record if e.metric is None else e.metric) if context == "metric" else (lambda e: e.metric)
    return TABLES[prefix]


class Attribute:
    """Reads one attribute: looked for without decoding the others; of equal keys the first, as upstream."""

    __slots__ = ("_key", "_pick")

    def __init__(self, pick: Pick, key: str) -> None:
        self._pick = pick
        self._key = key

    def __call__(self, env: Env) -> Any:
        key = self._key
        for item in self._pick(env).attributes:
            if item.key == key:
                return to_python(item.value)
        return None

    def equals(self, text: str) -> Callable[[Env], bool]:
        """Whether it is the string `text`, without making a Python value of any other type."""
        key, pick = self._key, self._pick

        def read(env: Env) -> bool:
            for item in pick(env).attributes:
                if item.key == key:
                    value = item.value
                    return bool(value.string_value == text) and (text != "" or value.WhichOneof("value") == "string_value")
            return False

        return read


def header(key: str) -> Read:
    """The first value of a request header from the batch's metadata; nil without one. Names in any case."""
    name = key.lower()

    def read(env: Env) -> Any:
        values = (env.metadata or {}).get(name)
        return values[0] if values else None

    return read


def client(part: str, key: str) -> Read:
    """What `otelcol.client.<part>[key]` reads: all values of a header (`metadata`), or an attribute of its authentication."""
    name = key.lower()
    if part == "metadata":
        return lambda env: list(values) if (values := (env.metadata or {}).get(name)) else None
    return header(f"auth.{name}")


def enums(context: str) -> dict[str, int]:
    """The named numbers a context knows."""
    found: dict[str, int] = {}
    prefixes = CONTEXTS[context]
    if "log" in prefixes:
        found["SEVERITY_NUMBER_UNSPECIFIED"] = 0
        for i, level in enumerate(("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")):
            for j in range(4):
                found[f"SEVERITY_NUMBER_{level}{j + 1 if j else ''}"] = i * 4 + j + 1
    if "span" in prefixes:
        for i, name in enumerate(_SPAN_KINDS):
            found[f"SPAN_KIND_{name.upper()}"] = i
        found.update(STATUS_CODE_UNSET=0, STATUS_CODE_OK=1, STATUS_CODE_ERROR=2)
    if "metric" in prefixes:
        for i, name in enumerate(("NONE", "GAUGE", "SUM", "HISTOGRAM", "EXPONENTIAL_HISTOGRAM", "SUMMARY")):
            found[f"METRIC_DATA_TYPE_{name}"] = i
        found.update(AGGREGATION_TEMPORALITY_UNSPECIFIED=0, AGGREGATION_TEMPORALITY_DELTA=1, AGGREGATION_TEMPORALITY_CUMULATIVE=2)
    if "datapoint" in prefixes:
        found.update(FLAG_NONE=0, FLAG_NO_RECORDED_VALUE=1)
    return found


def missing(env: Env) -> Any:
    """Reads nothing: for a path whose message the caller did not give."""
    raise EvaluationError("the item has no such part")
