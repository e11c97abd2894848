"""Zipkin's version 1, JSON and Thrift, as spans (https://zipkin.io/zipkin-api; upstream: pkg/translator/zipkin/zipkinv1).

Times are microseconds. The first of the annotations `cs`, `cr`, `sr`, `ss`, `ms` and `mr` says kind and service; others are events.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Any

from kofagent.receivers.zipkin.fields import START_ABSENT, address, elements, hex_id, integer, objects, parsed, record, text
from kofagent.telemetry.clock import now_ns
from kofagent.transform.spans import ERROR, KINDS, UNSET, Attributes, Event, Span, Spans, nanoseconds
from kofagent.wire.attributes import Value
from kofagent.wire.thrift import BinaryReader, Struct

UNKNOWN = "unknown-service"
_KINDS = {"cs": "client", "cr": "client", "ss": "server", "sr": "server", "ms": "producer", "mr": "consumer"}
_COMPONENT = "lc"
"""The binary annotation of a span that no other process sees."""
_NUMBERS = {2: ">h", 3: ">i", 4: ">q", 5: ">d"}
"""How a binary annotation's bytes are read, by type of Thrift's enum: I16, I32, I64, DOUBLE."""


def from_json(data: bytes, parse_tags: bool) -> Spans:
    """The spans of a JSON array. ValueError where it, or a span of it, is malformed."""

    def ids(span: Mapping[str, Any]) -> tuple[bytes, bytes, bytes]:
        trace, own = text(span.get("traceId"), "traceId"), hex_id(span.get("id"), "id", 8, 16)
        if len(trace) not in (16, 32):
            raise ValueError("traceId must have 16 or 32 hexadecimal digits")
        parent = hex_id(span["parentId"], "parentId", 8, 16) if span.get("parentId") else b""
        return hex_id(trace, "traceId", 16), own, parent

    return _spans(((each, ids(each)) for each in elements(data)), parse_tags)


def from_thrift(data: bytes) -> Spans:
    """The spans of a list in Thrift's binary protocol. ValueError."""
    return _spans(((_plain(each), _ids(each)) for each in BinaryReader(data).structs() if _is_struct(each)), False)


def _is_struct(value: Any) -> bool:
    if not isinstance(value, dict):
        raise ValueError("the body must be a list of spans")
    return True


def _ids(span: Struct) -> tuple[bytes, bytes, bytes]:
    trace, own = _id(span.get(12)) + _id(span.get(1)), _id(span.get(4))
    if not any(trace) or not any(own):
        raise ValueError("ids must not be zero")
    return trace, own, _id(span.get(5)) if span.get(5) else b""


def _id(value: Any) -> bytes:
    return (integer(value, "an id") & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "big")


def _plain(span: Struct) -> dict[str, Any]:
    """A span of zipkincore.thrift as one of JSON."""
    return {
        "name": _text(span.get(3)),
        "timestamp": span.get(10),
        "duration": span.get(11),
        "annotations": [
            {"timestamp": each.get(1), "value": _text(each.get(2)), "endpoint": _endpoint(each.get(3))}
            for each in objects(span.get(6), "annotations")
        ],
        "binaryAnnotations": [
            {"key": _text(each.get(1)), "value": _binary(each.get(2), each.get(3)), "endpoint": _endpoint(each.get(4))}
            for each in objects(span.get(8), "binary annotations")
        ],
    }


def _endpoint(found: Any) -> dict[str, Any] | None:
    if found is None:
        return None
    host = record(found, "host")
    ipv4 = integer(host.get(1), "ipv4") & 0xFFFFFFFF
    return {
        "serviceName": _text(host.get(3)),
        "ipv4": ipv4.to_bytes(4, "big") if ipv4 else "",
        "ipv6": host.get(4) or "",
        "port": integer(host.get(2), "port") & 0xFFFF,
    }


def _binary(value: Any, kind: Any) -> Value:
    """The value of a binary annotation by its type; bytes are text if they are."""
    data = value if isinstance(value, bytes) else b""
    if kind == 0:
        return data == b"\x01"
    form = _NUMBERS.get(kind)
    if form is not None and len(data) == struct.calcsize(form):
        number: int | float = struct.unpack(form, data)[0]
        return number
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data if kind == 1 else data.decode("utf-8", "replace")


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def _spans(found: Iterable[tuple[dict[str, Any], tuple[bytes, bytes, bytes]]], parse_tags: bool) -> Spans:
    out = Spans()
    for each, ids in found:
        span, resource = _span(each, ids, parse_tags)
        out.add(resource, ("", ""), span)
    return out


def _span(found: Mapping[str, Any], ids: tuple[bytes, bytes, bytes], parse_tags: bool) -> tuple[Span, Attributes]:
    span = Span(*ids, name=text(found.get("name"), "name"))
    endpoint: dict[str, Any] = {}
    times: list[int] = []
    for each in objects(found.get("annotations"), "annotations"):
        value = text(each.get("value"), "annotations.value")
        if not value:
            continue
        at = nanoseconds(integer(each.get("timestamp"), "annotations.timestamp"))
        times.append(at)
        if value not in _KINDS:
            span.events.append(Event(at, value))
            continue
        span.kind = span.kind or KINDS[_KINDS[value]]
        host = record(each.get("endpoint"), "annotations.endpoint")
        if not endpoint and host.get("serviceName"):
            endpoint = host
    if times:
        span.start_ns, span.end_ns = min(times), max(times)
    component = _add_tags(found, span, parse_tags)
    if start := integer(found.get("timestamp"), "timestamp"):
        span.start_ns = nanoseconds(start)
        span.end_ns = span.start_ns + nanoseconds(integer(found.get("duration"), "duration"))
    if not span.start_ns:
        span.start_ns = span.end_ns = now_ns()
        span.attributes[START_ABSENT] = True
    return span, _resource(endpoint, component)


def _add_tags(found: Mapping[str, Any], span: Span, parse_tags: bool) -> str:
    """Binary annotations as attributes and status; returns the service that they name."""
    service = component = ""
    for each in objects(found.get("binaryAnnotations"), "binaryAnnotations"):
        host = record(each.get("endpoint"), "binaryAnnotations.endpoint")
        service = text(host.get("serviceName"), "serviceName") or service
        key, value = text(each.get("key"), "binaryAnnotations.key"), each.get("value")
        if not isinstance(value, str | bool | int | float | bytes):
            raise ValueError("binaryAnnotations.value must be a string")
        if key == _COMPONENT:
            key, component = "component", str(value)
        if parse_tags and isinstance(value, str):
            value = parsed(value)
        if key == "error":
            span.status = ERROR
            if value is True or value == "true":
                continue
        if key == "http.status_code" and span.status == UNSET:
            span.status = _http(value)
        span.attributes[key] = value
    return service or component


def _http(value: Value) -> int:
    try:
        return UNSET if 100 <= int(str(value)[:20]) < 400 else ERROR
    except ValueError:
        return UNSET


def _resource(endpoint: Mapping[str, Any], component: str) -> Attributes:
    out: Attributes = {"service.name": text(endpoint.get("serviceName"), "serviceName") or component or UNKNOWN}
    for name in ("ipv4", "ipv6"):
        if ip := address(endpoint.get(name)):
            out[name] = ip
    if port := integer(endpoint.get("port"), "port"):
        out["port"] = str(port)
    return out
