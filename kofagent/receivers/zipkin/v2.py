"""Zipkin's version 2, JSON and protobuf, as spans (https://zipkin.io/zipkin-api; upstream: pkg/translator/zipkin/zipkinv2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kofagent.receivers.zipkin.fields import START_ABSENT, address, elements, hex_id, integer, objects, parsed, record, text
from kofagent.receivers.zipkin.resources import RESOURCE_TAGS, SERVICE_NAME_SOURCE
from kofagent.transform.spans import ERROR, KINDS, OK, UNSET, Attributes, Event, Link, Span, Spans, nanoseconds, take_scope
from kofagent.wire.expansion import STRUCT_BYTES, Expansion
from kofagent.wire.foreign_json import read_json
from kofagent.wire.lens import lenses, parse

# What repeats is left as bytes and read one by one: parsed at once, an empty message of two bytes takes some 130.
_messages = lenses(
    "kofagent.zipkin",
    {
        "ListOfSpans": {"spans": (1, "*bytes")},
        "Span": {
            "trace_id": (1, "bytes"),
            "parent_id": (2, "bytes"),
            "id": (3, "bytes"),
            "kind": (4, "int32"),
            "name": (5, "bytes"),
            "timestamp": (6, "fixed64"),
            "duration": (7, "uint64"),
            "local_endpoint": (8, "Endpoint"),
            "remote_endpoint": (9, "Endpoint"),
            "annotations": (10, "*bytes"),
            "tags": (11, "*bytes"),
        },
        "Endpoint": {"service_name": (1, "bytes"), "ipv4": (2, "bytes"), "ipv6": (3, "bytes"), "port": (4, "int32")},
        "Annotation": {"timestamp": (1, "fixed64"), "value": (2, "bytes")},
        "Tag": {"key": (1, "bytes"), "value": (2, "bytes")},
    },
)
_KIND_NAMES = ("", "CLIENT", "SERVER", "PRODUCER", "CONSUMER")
_CODES = {"OK": OK, "ERROR": ERROR}
_MOST_LINKS = 128
_TAG_BYTES = 150
"""What a tag takes while a span is made."""


def from_json(data: bytes, parse_tags: bool) -> Spans:
    """The spans of a JSON array. ValueError where it, or a span of it, is malformed."""
    expansion = Expansion(len(data))
    return _spans((_measured(each, expansion) for each in elements(data)), parse_tags)


def _measured(span: dict[str, Any], expansion: Expansion) -> dict[str, Any]:
    expansion.take(STRUCT_BYTES * (1 + len(objects(span.get("annotations"), "annotations"))))
    return span


def from_protobuf(data: bytes, parse_tags: bool) -> Spans:
    """The spans of a ListOfSpans. ValueError."""
    expansion = Expansion(len(data))
    spans = parse(_messages["ListOfSpans"], data).spans
    expansion.take(STRUCT_BYTES * len(spans))
    return _spans((_plain(raw, expansion) for raw in spans), parse_tags)


def _plain(raw: bytes, expansion: Expansion) -> dict[str, Any]:
    """A span of protobuf as one of JSON."""
    span = parse(_messages["Span"], raw)
    expansion.take(STRUCT_BYTES * len(span.annotations) + _TAG_BYTES * len(span.tags))
    return {
        "traceId": span.trace_id.hex(),
        "id": span.id.hex(),
        "parentId": span.parent_id.hex() or None,
        "kind": _KIND_NAMES[span.kind] if 0 <= span.kind < len(_KIND_NAMES) else "",
        "name": _text(span.name),
        "timestamp": span.timestamp,
        "duration": span.duration,
        "localEndpoint": _endpoint(span.local_endpoint),
        "remoteEndpoint": _endpoint(span.remote_endpoint),
        "annotations": [
            {"timestamp": each.timestamp, "value": _text(each.value)} for each in _each("Annotation", span.annotations)
        ],
        "tags": {_text(each.key): _text(each.value) for each in _each("Tag", span.tags)},
    }


def _each(name: str, raws: Iterable[bytes]) -> Iterable[Any]:
    return (parse(_messages[name], raw) for raw in raws)


def _endpoint(found: Any) -> dict[str, Any]:
    return {"serviceName": _text(found.service_name), "ipv4": found.ipv4, "ipv6": found.ipv6, "port": found.port}


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _spans(found: Iterable[dict[str, Any]], parse_tags: bool) -> Spans:
    out = Spans()
    for each in found:
        tags = {key: text(value, f"tags.{key[:40]}") for key, value in record(each.get("tags"), "tags").items()}
        resource = _resource(each, tags)
        scope = take_scope(tags)
        out.add(resource, scope, _span(each, tags, parse_tags))
    return out


def _resource(span: Mapping[str, Any], tags: dict[str, str]) -> Attributes:
    """The resource, whose tags are taken away."""
    service = text(record(span.get("localEndpoint"), "localEndpoint").get("serviceName"), "localEndpoint.serviceName")
    source = tags.pop(SERVICE_NAME_SOURCE, "") or "service.name"
    out: Attributes = {source: service} if service else {}
    out.update([(key, tags.pop(key)) for key in [key for key in tags if key in RESOURCE_TAGS]])
    return out


def _span(found: Mapping[str, Any], tags: dict[str, str], parse_tags: bool) -> Span:
    span = Span(hex_id(found.get("traceId"), "traceId", 16), hex_id(found.get("id"), "id", 8))
    if found.get("parentId"):
        parent = hex_id(found["parentId"], "parentId", 8)
        span.parent_id = parent if parent != span.span_id else b""
    span.name = text(found.get("name"), "name")
    kind = text(found.get("kind"), "kind").lower()
    if kind not in ("client", "server", "producer", "consumer"):
        kind = tags.pop("span.kind", "")
        kind = kind if kind == "internal" else ""
    span.kind = KINDS.get(kind, 0)
    span.trace_state = tags.pop("w3c.tracestate", "")
    span.status, span.message = _status(tags)
    span.links = list(_links(tags))
    span.attributes = {key: parsed(value) for key, value in tags.items()} if parse_tags else dict(tags)
    _add_endpoints(found, span.attributes)
    start, duration = integer(found.get("timestamp"), "timestamp"), integer(found.get("duration"), "duration")
    if start <= 0:
        span.attributes[START_ABSENT] = True
    span.start_ns = nanoseconds(start)
    span.end_ns = span.start_ns + nanoseconds(duration)
    span.events = [_event(each) for each in objects(found.get("annotations"), "annotations")]
    return span


def _status(tags: dict[str, str]) -> tuple[int, str]:
    """Code and message; a tag `error` is an error, and stays if it says more than that."""
    code, message = UNSET, ""
    if "otel.status_code" in tags:
        code = _CODES.get(tags.pop("otel.status_code").upper().removeprefix("STATUS_CODE_"), UNSET)
        message = tags.pop("otel.status_description", "")
    if "error" in tags:
        code = ERROR
        if tags["error"] == "true":
            del tags["error"]
    return code, message


def _add_endpoints(found: Mapping[str, Any], out: Attributes) -> None:
    for name, prefix in (("localEndpoint", "net.host"), ("remoteEndpoint", "net.peer")):
        endpoint = record(found.get(name), name)
        if name == "remoteEndpoint" and (service := text(endpoint.get("serviceName"), f"{name}.serviceName")):
            out.setdefault("peer.service", service)
        for version in ("ipv4", "ipv6"):
            if ip := address(endpoint.get(version)):
                out.setdefault(f"{prefix}.ip", ip)
        if port := integer(endpoint.get("port"), f"{name}.port"):
            out[f"{prefix}.port"] = port


def _links(tags: dict[str, str]) -> Iterable[Link]:
    """Links that an exporter of OTLP wrote: `otlp.link.N`: trace id, span id, trace state, attributes as JSON, dropped ones."""
    for i in range(_MOST_LINKS):
        value = tags.pop(f"otlp.link.{i}", None)
        if value is None:
            return
        parts = value.split("|")
        if len(parts) >= 5:
            attributes, dropped = _details("|".join(parts[3:-1]), parts[-1], "otlp.link")
            yield Link(
                hex_id(parts[0].strip('"'), "otlp.link", 16, 32),
                hex_id(parts[1].strip('"'), "otlp.link", 8, 16),
                attributes,
                parts[2],
                dropped,
            )


def _event(annotation: Mapping[str, Any]) -> Event:
    """An annotation; one that an exporter of OTLP wrote has attributes: `name|JSON|dropped`."""
    time_ns = nanoseconds(integer(annotation.get("timestamp"), "annotations.timestamp"))
    value = text(annotation.get("value"), "annotations.value")
    parts = value.split("|")
    if len(parts) >= 3:
        try:
            attributes, dropped = _details("|".join(parts[1:-1]), parts[-1], "annotations.value")
        except ValueError:
            return Event(time_ns, value)  # text that has the sign of its own
        return Event(time_ns, parts[0], attributes, dropped)
    return Event(time_ns, value)


def _details(attributes: str, dropped: str, what: str) -> tuple[Attributes, int]:
    """Attributes that were written as JSON, and a count. ValueError."""
    found = record(read_json(attributes), what)
    if not dropped.isascii() or not dropped.isdigit() or len(dropped) > 9:
        raise ValueError(f"{what} must end with a count")
    kept: Attributes = {}
    for key, value in found.items():
        if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 63:
            value = int(value)
        if isinstance(value, str | bool | int | float):
            kept[key] = value
    return kept, int(dropped)
