"""Spans of other formats written as OTLP: grouped by resource and scope, values clamped to what OTLP can say."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kofagent.wire.attributes import Value, encode_attributes, encode_text
from kofagent.wire.varint import length_delimited, varint

KINDS = {"internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}
"""OTLP's span kinds by the names that OpenTracing's and Zipkin's tags have; what is not among them is 0."""
UNSET, OK, ERROR = 0, 1, 2
"""Codes of a status."""
_FIXED64 = struct.Struct("<Q")
Scope = tuple[str, str]
"""Name and version."""
Attributes = dict[str, Value]


def take_scope(tags: dict[str, Any]) -> Scope:
    """The scope that exporters of OTLP write into tags, under its present name or its former one; takes these tags away."""
    found = [(str(tags.pop(f"otel.{kind}.name", "")), str(tags.pop(f"otel.{kind}.version", ""))) for kind in ("scope", "library")]
    return next((scope for scope in found if scope[0]), ("", ""))


class Event(NamedTuple):
    """Something that happened during a span."""

    time_ns: int
    name: str
    attributes: Mapping[str, Value] = {}
    dropped: int = 0


class Link(NamedTuple):
    """Another span."""

    trace_id: bytes
    span_id: bytes
    attributes: Mapping[str, Value] = {}
    trace_state: str = ""
    dropped: int = 0


@dataclass(slots=True)
class Span:
    """A span; ids are 16 and 8 bytes, times Unix nanoseconds."""

    trace_id: bytes
    span_id: bytes
    parent_id: bytes = b""
    name: str = ""
    kind: int = 0
    start_ns: int = 0
    end_ns: int = 0
    attributes: Attributes = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    status: int = UNSET
    message: str = ""
    trace_state: str = ""


class Spans:
    """Spans that become one payload; each is written as it comes, so that what it was made of need not stay."""

    def __init__(self) -> None:
        self._groups: dict[bytes, dict[Scope, list[bytes]]] = {}
        self.count = 0

    def add(self, resource: Mapping[str, Value], scope: Scope, span: Span) -> None:
        """Adds a span of a resource; equal resources and scopes are joined."""
        group = self._groups.setdefault(encode_attributes(resource), {}).setdefault(scope, [])
        group.append(length_delimited(2, _encoded(span)))
        self.count += 1

    def payload(self) -> bytes:
        """An ExportTraceServiceRequest."""
        return b"".join([length_delimited(1, _of_resource(*group)) for group in self._groups.items()])


def _of_resource(resource: bytes, scopes: dict[Scope, list[bytes]]) -> bytes:
    out = [length_delimited(1, resource)]
    for (name, version), spans in scopes.items():
        scope = _field(1, name) + _field(2, version)
        out.append(length_delimited(2, (length_delimited(1, scope) if scope else b"") + b"".join(spans)))
    return b"".join(out)


def nanoseconds(microseconds: int) -> int:
    """Unix nanoseconds of a time in microseconds, within what OTLP can say."""
    return _u64(microseconds * 1000)


def _encoded(span: Span) -> bytes:
    """The message of a span (opentelemetry/proto/trace/v1/trace.proto)."""
    out = [
        length_delimited(1, span.trace_id),
        length_delimited(2, span.span_id),
        _field(3, span.trace_state),
        length_delimited(4, span.parent_id) if span.parent_id else b"",
        _field(5, span.name),
        b"\x30" + varint(span.kind) if span.kind else b"",
        b"\x39" + _FIXED64.pack(_u64(span.start_ns)),
        b"\x41" + _FIXED64.pack(_u64(span.end_ns)),
        encode_attributes(span.attributes, 9),
    ]
    for event in span.events:
        attributes = encode_attributes(event.attributes, 3)
        time = b"\x09" + _FIXED64.pack(_u64(event.time_ns))
        out.append(length_delimited(11, time + _field(2, event.name) + attributes + _count(4, event.dropped)))
    for link in span.links:
        ids = length_delimited(1, link.trace_id) + length_delimited(2, link.span_id)
        attributes = encode_attributes(link.attributes, 4)
        out.append(length_delimited(13, ids + _field(3, link.trace_state) + attributes + _count(5, link.dropped)))
    if span.status or span.message:
        out.append(length_delimited(15, _field(2, span.message) + _count(3, span.status)))
    return b"".join(out)


def _field(number: int, text: str) -> bytes:
    """A string field; nothing for an empty one."""
    return length_delimited(number, encode_text(text)) if text else b""


def _count(number: int, value: int) -> bytes:
    """A varint field below 16; nothing for zero."""
    return bytes((number << 3,)) + varint(value) if value else b""


def _u64(value: int) -> int:
    return min(max(value, 0), (1 << 64) - 1)
