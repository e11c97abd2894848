"""The paths of each context: by name behind the context's own, as `body.string` of `log.body.string`."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from kofagent.ottl.access import Access, attributes, body, integer, own, text, wanted
from kofagent.ottl.env import Env, Pick, Read
from kofagent.ottl.errors import EvaluationError
from kofagent.ottl.types import Own, SpanID, Time, TraceID, Whole, index, kind, string_like
from kofagent.transform.anyvalue import to_python, write

POINT_KINDS = ("gauge", "sum", "histogram", "exponential_histogram", "summary")
_TYPES = {None: 0, "gauge": 1, "sum": 2, "histogram": 3, "exponential_histogram": 4, "summary": 5}
_SPAN_KINDS = ("Unspecified", "Internal", "Server", "Client", "Producer", "Consumer")
_U64 = 0xFFFFFFFFFFFFFFFF

Table = dict[str, Access]


def points(metric: Any) -> Any:
    """The data points of a metric, whatever its type."""
    kind = metric.WhichOneof("data")
    return getattr(metric, kind).data_points if kind else ()


def _time(pick: Pick, name: str) -> Access:
    def put(env: Env, value: Any) -> None:
        setattr(pick(env), name, wanted(value, Time, "time").ns & _U64)

    return Access(lambda env: Time(getattr(pick(env), name)), put)


def _times(pick: Pick, *names: str) -> Table:
    found: Table = {}
    for name in names:
        found[name] = _time(pick, f"{name}_unix_nano")
        found[f"{name}_unix_nano"] = integer(pick, f"{name}_unix_nano", _U64)
    return found


def _id(pick: Pick, name: str, kind_of: type[TraceID] | type[SpanID]) -> Table:
    size = 16 if kind_of is TraceID else 8

    def put(env: Env, value: Any) -> None:
        data = wanted(value, kind_of, "trace id" if size == 16 else "span id").data
        setattr(pick(env), name, data if data.strip(b"\0") else b"")

    def put_text(env: Env, value: Any) -> None:
        try:
            data = bytes.fromhex(wanted(value, str, "string"))
        except ValueError:
            data = b""
        if len(data) != size or len(value) != 2 * size:
            raise EvaluationError(f"an id is {2 * size} hex digits")
        setattr(pick(env), name, data if data.strip(b"\0") else b"")

    zero = bytes(size)
    return {
        name: Access(lambda env: kind_of(getattr(pick(env), name) or zero), put),
        f"{name}.string": Access(lambda env: (getattr(pick(env), name) or zero).hex(), put_text),
    }


def _whole(pick: Pick, kind_of: str, field: str = "") -> Access:
    def message(env: Env) -> Any:
        return getattr(pick(env), field) if field else pick(env)

    def put(env: Env, value: Any) -> None:
        if not isinstance(value, Whole) or value.kind != kind_of:
            raise EvaluationError(f"it takes a whole {kind_of}, not {kind(value)}")
        if value.message is not message(env):
            message(env).CopyFrom(value.message)

    return Access(lambda env: Whole(kind_of, message(env)), put)


def _around(pick: Pick) -> Table:
    return {"attributes": attributes(pick), "dropped_attributes_count": integer(pick, "dropped_attributes_count")}


def _schema_url(pick: Pick) -> Access:
    def get(env: Env) -> Any:
        entry = pick(env)
        url = entry.schema_url if entry is not None else ""
        return url.decode("utf-8", "replace") if isinstance(url, bytes) else url

    def put(env: Env, value: Any) -> None:
        if (entry := pick(env)) is not None:
            entry.schema_url = wanted(value, str, "string")

    return Access(get, put)


def _resource() -> Table:
    pick: Pick = lambda e: e.resource  # noqa: E731
    return {**_around(pick), "schema_url": _schema_url(lambda e: e.resource_entry)}


def _scope() -> Table:
    pick: Pick = lambda e: e.scope  # noqa: E731
    return {
        **_around(pick),
        "name": text(pick, "name"),
        "version": text(pick, "version"),
        "schema_url": _schema_url(lambda e: e.scope_entry),
    }


def _body_string(pick: Pick) -> Access:
    def get(env: Env) -> Any:
        value = to_python(pick(env).body)
        if value is None:
            return ""
        return base64.b64encode(value).decode() if isinstance(value, bytes) else string_like(value)

    def put(env: Env, value: Any) -> None:
        write(pick(env).body, wanted(value, str, "string"))

    return Access(get, put)


def _log() -> Table:
    pick: Pick = lambda e: e.log  # noqa: E731
    return {
        **_around(pick),
        "body": body(pick),
        "body.string": _body_string(pick),
        "severity_number": integer(pick, "severity_number", signed=True),
        "severity_text": text(pick, "severity_text"),
        "event_name": text(pick, "event_name"),
        "flags": integer(pick, "flags"),
        **_id(pick, "trace_id", TraceID),
        **_id(pick, "span_id", SpanID),
        **_times(pick, "time", "observed_time"),
    }


def _span_kind(pick: Pick, prefix: str, write_as: Callable[[str], str]) -> Access:
    names = [prefix + write_as(name) for name in _SPAN_KINDS]

    def get(env: Env) -> str:
        number = pick(env).kind
        return names[number] if 0 <= number < len(names) else ""

    def put(env: Env, value: Any) -> None:
        if wanted(value, str, "string") not in names:
            raise EvaluationError(f"no such kind of a span; known: {', '.join(names)}")
        pick(env).kind = names.index(value)

    return Access(get, put)


def _status(pick: Pick) -> Table:
    def code(env: Env, value: Any) -> None:
        pick(env).status.code = wanted(value, int, "int")

    def message(env: Env, value: Any) -> None:
        pick(env).status.message = wanted(value, str, "string")

    return {
        "status": _whole(pick, "status", "status"),
        "status.code": Access(lambda e: pick(e).status.code, code),
        "status.message": Access(lambda e: pick(e).status.message, message),
    }


def _trace_state(pick: Pick) -> Access:
    plain = text(pick, "trace_state")

    def entries(env: Env) -> list[tuple[str, str]]:
        parts = [part.strip().split("=", 1) for part in pick(env).trace_state.split(",") if "=" in part]
        return [(key, value) for key, value in parts]

    def keyed(keys: list[Read]) -> Access:
        if len(keys) != 1:
            raise ValueError("trace_state takes one key")

        def read(env: Env) -> Any:
            key = wanted(keys[0](env), str, "string")
            return next((v for k, v in entries(env) if k == key), "")

        def put(env: Env, value: Any) -> None:
            key = wanted(keys[0](env), str, "string")
            # What was changed last stands first (W3C trace context).
            kept = [(k, v) for k, v in entries(env) if k != key]
            pick(env).trace_state = ",".join(f"{k}={v}" for k, v in [(key, wanted(value, str, "string")), *kept])

        return Access(read, put)

    return Access(plain.get, plain.put, keyed)


def _span_flags(pick: Pick) -> Access:
    def put(env: Env, value: Any) -> None:
        if not 0 <= wanted(value, int, "int") <= 0xFFFFFFFF:
            raise EvaluationError("flags are 32 bits")
        pick(env).flags = value

    return Access(lambda env: pick(env).flags, put)


def _kind_number(pick: Pick) -> Access:
    def put(env: Env, value: Any) -> None:
        pick(env).kind = wanted(value, int, "int")

    return Access(lambda env: pick(env).kind, put)


def _span() -> Table:
    pick: Pick = lambda e: e.span  # noqa: E731
    return {
        **_around(pick),
        "name": text(pick, "name"),
        "kind": _kind_number(pick),
        "kind.string": _span_kind(pick, "", str),
        "kind.deprecated_string": _span_kind(pick, "SPAN_KIND_", str.upper),
        **_id(pick, "trace_id", TraceID),
        **_id(pick, "span_id", SpanID),
        **_id(pick, "parent_span_id", SpanID),
        "trace_state": _trace_state(pick),
        **_status(pick),
        **_times(pick, "start_time", "end_time"),
        "dropped_events_count": integer(pick, "dropped_events_count"),
        "dropped_links_count": integer(pick, "dropped_links_count"),
        "events": own("events", pick, "events"),
        "links": own("links", pick, "links"),
        "flags": _span_flags(pick),
    }


def _event() -> Table:
    pick: Pick = lambda e: e.spanevent  # noqa: E731

    def unknown(env: Env, value: Any = None) -> Any:
        raise EvaluationError("event_index has no value and cannot be set, as upstream")

    return {
        **_around(pick),
        "name": text(pick, "name"),
        **_times(pick, "time"),
        "event_index": Access(unknown, unknown),
    }


def _of_data(pick: Pick, name: str, types: type, word: str) -> Access:
    """A field that only some kinds of metrics have: nil, and nothing happens, where the metric has it not."""

    def data(env: Env) -> Any:
        kind = pick(env).WhichOneof("data")
        found = getattr(pick(env), kind) if kind else None
        return found if found is not None and name in found.DESCRIPTOR.fields_by_name else None

    def get(env: Env) -> Any:
        return getattr(found, name) if (found := data(env)) is not None else None

    def put(env: Env, value: Any) -> None:
        new = wanted(value, types, word)
        if (found := data(env)) is not None:
            setattr(found, name, new)

    return Access(get, put)


def _data_points(pick: Pick) -> Access:
    def kind_of(env: Env) -> str:
        return f"data points of a {pick(env).WhichOneof('data') or 'metric without data'}"

    def put(env: Env, value: Any) -> None:
        if not isinstance(value, Own) or value.kind != kind_of(env):
            raise EvaluationError(f"it takes {kind_of(env)}, not {kind(value)}")
        target, new = points(pick(env)), [type(p).FromString(p.SerializeToString()) for p in value]
        del target[:]
        target.extend(new)

    return Access(lambda env: Own(kind_of(env), points(pick(env))), put)


def _metric() -> Table:
    pick: Pick = lambda e: e.metric  # noqa: E731
    return {
        "name": text(pick, "name"),
        "description": text(pick, "description"),
        "unit": text(pick, "unit"),
        "type": Access(lambda env: _TYPES[pick(env).WhichOneof("data")], lambda env, value: None),
        "aggregation_temporality": _of_data(pick, "aggregation_temporality", int, "int"),
        "is_monotonic": _of_data(pick, "is_monotonic", bool, "bool"),
        "metadata": attributes(pick, "metadata"),
        "data_points": _data_points(pick),
    }


def _value(pick: Pick, name: str) -> Access:
    """value_int and value_double: of a point of the other kind 0, of other types nil."""
    zero = 0 if name == "as_int" else 0.0

    def get(env: Env) -> Any:
        message = pick(env)
        if "as_int" not in message.DESCRIPTOR.fields_by_name:
            return None
        return getattr(message, name) if message.HasField(name) else zero

    def put(env: Env, value: Any) -> None:
        message = pick(env)
        if "as_int" not in message.DESCRIPTOR.fields_by_name:
            raise EvaluationError("the data point has buckets or quantiles, no value")
        setattr(message, name, wanted(value, int if name == "as_int" else float, "int" if name == "as_int" else "double"))

    return Access(get, put)


def _has(message: Any, name: str) -> bool:
    return name in message.DESCRIPTOR.fields_by_name


def _of_point(pick: Pick, name: str) -> Access:
    """A number that only some types of data points have."""

    def get(env: Env) -> Any:
        message = pick(env)
        return getattr(message, name) if _has(message, name) else None

    def put(env: Env, value: Any) -> None:
        message = pick(env)
        if not _has(message, name):
            raise EvaluationError(f"the data point has no {name}")
        if name == "sum":
            message.sum = wanted(value, float, "double")
        elif name == "scale":
            message.scale = wanted(value, int, "int") & 0x7FFFFFFF if value >= 0 else wanted(value, int, "int") | ~0x7FFFFFFF
        else:
            setattr(message, name, wanted(value, int, "int") & _U64)

    return Access(get, put)


def _numbers(pick: Pick, name: str, kind_of: str, field: str = "") -> Access:
    """A list that only some types of data points have; `field` is one of its two sides of buckets."""

    def target(env: Env) -> Any:
        message = pick(env)
        if field:
            return getattr(message, field) if _has(message, field) else None
        return message if _has(message, name) else None

    def get(env: Env) -> Any:
        message = target(env)
        return None if message is None else Own(kind_of, getattr(message, name))

    def put(env: Env, value: Any) -> None:
        message = target(env)
        if message is None:
            raise EvaluationError(f"the data point has no {name}")
        if isinstance(value, Own) and value.kind == kind_of:
            new = list(value)
        elif isinstance(value, list) and kind_of in ("integers", "numbers"):
            types = int if kind_of == "integers" else float
            new = [wanted(v, types, "int" if types is int else "double") for v in value]
            new = [v & _U64 for v in new] if types is int else new
        else:
            raise EvaluationError(f"it takes {kind_of}, not {kind(value)}")
        repeated = getattr(message, name)
        del repeated[:]
        repeated.extend(new)

    return Access(get, put)


def _side(pick: Pick, side: str) -> Table:
    def get(env: Env) -> Any:
        message = pick(env)
        return Whole("buckets", getattr(message, side)) if _has(message, side) else None

    def put(env: Env, value: Any) -> None:
        message = pick(env)
        if not _has(message, side) or not isinstance(value, Whole) or value.kind != "buckets":
            raise EvaluationError(f"{side} takes the buckets of an exponential histogram")
        getattr(message, side).CopyFrom(value.message)

    def get_offset(env: Env) -> Any:
        message = pick(env)
        return getattr(message, side).offset if _has(message, side) else None

    def put_offset(env: Env, value: Any) -> None:
        message = pick(env)
        if not _has(message, side):
            raise EvaluationError(f"the data point has no {side} buckets")
        getattr(message, side).offset = wanted(value, int, "int")

    return {
        side: Access(get, put),
        f"{side}.offset": Access(get_offset, put_offset),
        f"{side}.bucket_counts": _numbers(pick, "bucket_counts", "integers", side),
    }


def _exemplars(pick: Pick) -> Access:
    return _numbers(pick, "exemplars", "exemplars")


def _point() -> Table:
    pick: Pick = lambda e: e.datapoint  # noqa: E731
    return {
        "attributes": attributes(pick),
        **_times(pick, "time", "start_time"),
        "value_double": _value(pick, "as_double"),
        "value_int": _value(pick, "as_int"),
        "flags": integer(pick, "flags"),
        **{name: _of_point(pick, name) for name in ("count", "sum", "scale", "zero_count")},
        "bucket_counts": _numbers(pick, "bucket_counts", "integers"),
        "explicit_bounds": _numbers(pick, "explicit_bounds", "numbers"),
        "exemplars": _exemplars(pick),
        "quantile_values": _numbers(pick, "quantile_values", "quantiles"),
        **_side(pick, "positive"),
        **_side(pick, "negative"),
    }


def _exemplar() -> Table:
    pick: Pick = lambda e: e.exemplar  # noqa: E731

    def value(name: str) -> Access:
        zero = 0 if name == "as_int" else 0.0

        def put(env: Env, new: Any) -> None:
            setattr(pick(env), name, wanted(new, int if name == "as_int" else float, "int" if name == "as_int" else "double"))

        return Access(lambda env: getattr(pick(env), name) if pick(env).HasField(name) else zero, put)

    return {
        "filtered_attributes": attributes(pick, "filtered_attributes"),
        **_times(pick, "time"),
        **_id(pick, "trace_id", TraceID),
        **_id(pick, "span_id", SpanID),
        "int_value": value("as_int"),
        "double_value": value("as_double"),
    }


TABLES: dict[str, Table] = {
    "resource": _resource(),
    "scope": _scope(),
    "log": _log(),
    "span": _span(),
    "spanevent": _event(),
    "metric": _metric(),
    "datapoint": _point(),
    "exemplar": _exemplar(),
}
WHOLE: dict[str, Access] = {
    "resource": _whole(lambda e: e.resource, "resource"),
    "scope": _whole(lambda e: e.scope, "scope"),
    "span": _whole(lambda e: e.span, "span"),
    "metric": _whole(lambda e: e.metric, "metric"),
}
"""Paths that are the name of a context alone."""


def header(key: str) -> Read:
    """The first value of a request header from the batch's metadata; nil without one. Names in any case."""
    name = key.lower()

    def read(env: Env) -> Any:
        values = (env.metadata or {}).get(name)
        return values[0] if values else None

    return read


def _client_map(part: str) -> Read:
    def read(env: Env) -> Any:
        metadata = env.metadata or {}
        if part == "auth":
            return {k.removeprefix("auth."): v[0] for k, v in metadata.items() if k.startswith("auth.") and v}
        return {k: list(v) for k, v in metadata.items() if not k.startswith("auth.")}

    return read


def client(part: str, keys: list[Read]) -> Access:
    """`otelcol.client.metadata`, `otelcol.client.auth.attributes`, `otelcol.grpc.metadata` and `otelcol.client.addr`."""

    def refuse(env: Env, value: Any) -> None:
        raise EvaluationError("what is told of a client cannot be set")

    if part == "client.addr":
        return Access(lambda env: header("client.address")(env) or "", refuse)
    whole = _client_map("auth" if part == "client.auth.attributes" else "metadata")

    def read(env: Env) -> Any:
        values = [k(env) for k in keys]
        if values and isinstance(values[0], str):
            values[0] = values[0].lower()
        return index(whole(env), values) if values else whole(env)

    return Access(read, refuse)


CLIENT_PATHS = ("client.addr", "client.metadata", "client.auth.attributes", "grpc.metadata")
