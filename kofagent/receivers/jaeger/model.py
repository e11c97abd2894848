"""Jaeger's spans as OTLP's (upstream: pkg/translator/jaeger). `thrift.py` and `proto.py` make a `Process` and `JaegerSpan`s."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from kofagent.transform.spans import ERROR, KINDS, OK, UNSET, Attributes, Event, Link, Scope, Span, take_scope
from kofagent.wire.attributes import Value

CHILD_OF, FOLLOWS_FROM = 0, 1
_REFERENCES = {CHILD_OF: "child_of"}
_CODES = {"OK": OK, "ERROR": ERROR}
_NO_SERVICE = "OTLPResourceNoServiceName"
"""The service of what has none, in spans that a collector made of OTLP."""
_NOWHERE = bytes(8)


class Reference(NamedTuple):
    """Another span. `kind` is CHILD_OF or FOLLOWS_FROM."""

    trace_id: bytes
    span_id: bytes
    kind: int


class Log(NamedTuple):
    """What was logged in a span."""

    time_ns: int
    fields: Attributes


class JaegerSpan(NamedTuple):
    """A span as Jaeger has it; ids are 16 and 8 bytes."""

    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    name: str
    start_ns: int
    duration_ns: int
    tags: Attributes
    references: list[Reference]
    logs: list[Log]


def resource(service: str, tags: Mapping[str, Value]) -> Attributes:
    """The attributes of a process."""
    if service == _NO_SERVICE:
        return {}
    out: Attributes = {"service.name": service, **tags} if service else dict(tags)
    if "hostname" in out and "host.name" not in out:
        out["host.name"] = out.pop("hostname")
    if "jaeger.version" in out and "opencensus.exporterversion" not in out:
        out["opencensus.exporterversion"] = f"Jaeger-{out.pop('jaeger.version')}"
    return out


def translate(span: JaegerSpan) -> tuple[Scope, Span]:
    """The span and its scope. Changes the span's tags."""
    tags = span.tags
    scope = take_scope(tags)
    parent = span.parent_id if span.parent_id != _NOWHERE else b""
    kind = KINDS.get(str(tags.pop("span.kind", "")), 0)
    status, message = _status(tags, kind)
    trace_state = str(tags.pop("w3c.tracestate", ""))
    return scope, Span(
        span.trace_id,
        span.span_id,
        parent,
        span.name,
        kind,
        span.start_ns,
        span.start_ns + span.duration_ns,
        tags,
        [_event(log) for log in span.logs],
        [
            Link(
                reference.trace_id,
                reference.span_id,
                {"opentracing.ref_type": _REFERENCES.get(reference.kind, "follows_from")},
            )
            for reference in span.references
            if not (reference.kind == CHILD_OF and reference.span_id == (parent or _NOWHERE))
        ],
        status,
        message,
        trace_state,
    )


def _event(log: Log) -> Event:
    name = log.fields.pop("event", "")
    return Event(log.time_ns, str(name), log.fields)


def _status(tags: Attributes, kind: int) -> tuple[int, str]:
    """Code and message, whose tags are taken away: `error` comes first, then `otel.status_code`, then the answer over HTTP."""
    failed = tags.get("error") is True
    if failed:
        del tags["error"]
    explicit = tags.pop("otel.status_code", None)
    if failed:
        return ERROR, str(tags.pop("otel.status_description", tags.get("http.status_message", "")))
    if explicit is not None:
        return _CODES.get(str(explicit).upper(), UNSET), str(tags.pop("otel.status_description", ""))
    if "http.status_code" in tags:
        code = http_status(tags["http.status_code"], kind)
        return code, str(tags.get("http.status_message", "")) if code else ""
    return UNSET, ""


def http_status(value: Value, kind: int) -> int:
    """The code of a span that got this HTTP status: 4xx is no error of a server's own."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return UNSET
    try:
        status = int(value)
    except ValueError:
        return UNSET
    if 400 <= status < 500 and kind == KINDS["server"]:
        return UNSET
    return UNSET if 100 <= status < 400 else ERROR
