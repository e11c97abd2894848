"""OTLP bytes of entries: `ResourceLogs` of opentelemetry/proto/logs/v1/logs.proto.

message ResourceLogs { Resource resource = 1; repeated ScopeLogs scope_logs = 2; }
message ScopeLogs { InstrumentationScope scope = 1; repeated LogRecord log_records = 2; }
message LogRecord { fixed64 time_unix_nano = 1; SeverityNumber severity_number = 2; string severity_text = 3;
  AnyValue body = 5; repeated KeyValue attributes = 6; fixed32 flags = 8; bytes trace_id = 9; bytes span_id = 10;
  fixed64 observed_time_unix_nano = 11; }
message AnyValue { oneof { string_value = 1; bool_value = 2; int64 int_value = 3; double double_value = 4;
  ArrayValue array_value = 5; KeyValueList kvlist_value = 6; bytes bytes_value = 7; } }
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from typing import Any

from kofagent.memory.memo import Memo
from kofagent.operators.entry import SEVERITY_TEXT, Entry
from kofagent.operators.text import whole
from kofagent.wire.varint import varint

_U64 = 0xFFFFFFFFFFFFFFFF
_fixed64 = Struct("<Q").pack
_double = Struct("<d").pack
MAX_DEPTH = 28
"""Maps and lists nested deeper are written as text: protobuf readers refuse 100 levels, a map takes three of them."""


def utf8(text: str) -> bytes:
    """The text in UTF-8; bytes that are none, and lone surrogates (escapes in JSON), become U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return whole(text).encode()


def any_value(value: Any, depth: int = 0) -> bytes:
    """The fields of an `AnyValue`; None is one without a value."""
    if isinstance(value, str):
        data = utf8(value)
        return b"\x0a" + varint(len(data)) + data
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        return b"\x18" + varint(value & _U64)
    if isinstance(value, float):
        return b"\x21" + _double(value)
    if value is None:
        return b""
    if isinstance(value, bytes):
        return b"\x3a" + varint(len(value)) + value
    if depth < MAX_DEPTH:
        if isinstance(value, dict):
            data = key_values(value, b"\x0a", depth + 1)
            return b"\x32" + varint(len(data)) + data
        if isinstance(value, list):
            out: list[bytes] = []
            for item in value:
                data = any_value(item, depth + 1)
                out.append(b"\x0a" + varint(len(data)) + data)
            data = b"".join(out)
            return b"\x2a" + varint(len(data)) + data
    data = utf8(str(value)[:100_000])
    return b"\x0a" + varint(len(data)) + data


def key_values(mapping: Mapping[str, Any], tag: bytes, depth: int = 0) -> bytes:
    """`repeated KeyValue` under this tag byte, in the mapping's order."""
    out: list[bytes] = []
    for key, value in mapping.items():
        name = utf8(key)
        data = any_value(value, depth)
        pair = b"\x0a" + varint(len(name)) + name + b"\x12" + varint(len(data)) + data
        out += (tag, varint(len(pair)), pair)
    return b"".join(out)


def record_rest(entry: Entry) -> bytes:
    """The fields of a `LogRecord` other than times and body."""
    text = utf8(entry.severity_text or SEVERITY_TEXT[entry.severity])
    out = []
    if entry.severity:
        out.append(b"\x10" + varint(entry.severity))
    if text:
        out.append(b"\x1a" + varint(len(text)) + text)
    out.append(key_values(entry.attributes, b"\x32"))
    out.append(trace_fields(entry))
    return b"".join(out)


def trace_fields(entry: Entry) -> bytes:
    """Flags, trace id and span id of a `LogRecord`, as far as the entry has them."""
    out: list[bytes] = []
    if entry.flags and entry.flags[0]:
        out.append(b"\x45" + bytes((entry.flags[0], 0, 0, 0)))
    if entry.trace_id:
        # As upstream: cut or filled up to its length.
        out.append(b"\x4a\x10" + entry.trace_id[:16].ljust(16, b"\0"))
    if entry.span_id:
        out.append(b"\x52\x08" + entry.span_id[:8].ljust(8, b"\0"))
    return b"".join(out)


def log_record(entry: Entry) -> bytes:
    """The entry as `ScopeLogs.log_records`, tag and length included."""
    body = b"" if entry.body is None else any_value(entry.body)
    parts = [
        b"" if entry.timestamp is None else b"\x09" + _fixed64(entry.timestamp & _U64),
        b"\x59" + _fixed64(entry.observed & _U64),
        record_rest(entry),
    ]
    if entry.body is not None:
        parts.append(b"\x2a" + varint(len(body)) + body)
    data = b"".join(parts)
    return b"\x12" + varint(len(data)) + data


def group_key(entry: Entry) -> bytes:
    """What records that share a `ScopeLogs` have in common: the bytes of `ResourceLogs.resource` and `ScopeLogs.scope`."""
    resource = key_values(entry.resource, b"\x0a")
    name = utf8(entry.scope)
    scope = b"\x0a" + varint(len(name)) + name if name else b""
    return (b"\x0a" + varint(len(resource)) + resource) + b"\0SCOPE" + (b"\x0a" + varint(len(scope)) + scope)


def resource_logs(key: bytes, records: bytes) -> bytes:
    """One `ResourceLogs` as field 1 of a request; `key` is of `group_key`, `records` joined `log_record`s."""
    resource, _, scope = key.rpartition(b"\0SCOPE")
    scope_logs = varint(len(scope) + len(records))
    size = len(resource) + 1 + len(scope_logs) + len(scope) + len(records)
    return b"".join((b"\x0a", varint(size), resource, b"\x12", scope_logs, scope, records))


_group_keys: Memo[tuple[Any, ...], bytes] = Memo("operators.group_keys", entries=4000, size=4 << 20)
_pairs: Memo[tuple[str, str], bytes] = Memo(
    "operators.attribute_pairs", lambda pair: key_values({pair[0]: pair[1]}, b"\x32"), entries=10_000, size=4 << 20
)
"""Resources, and attributes with a short string: what repeats, in all files."""


def encoded(entry: Entry) -> tuple[bytes, bytes]:
    """`group_key` and `log_record` of the entry, faster where it repeats others."""
    return _group(entry), _record(entry)


def _group(entry: Entry) -> bytes:
    # Only strings are looked up: 1, 1.0 and True are equal as keys but not as values.
    for value in entry.resource.values():
        if value.__class__ is not str:
            return group_key(entry)
    key = (entry.scope, *entry.resource.items())
    found = _group_keys.get(key)
    if found is None:
        found = _group_keys.find(key)
    if found is None:
        found = _group_keys[key] = group_key(entry)
    return found


def _record(entry: Entry) -> bytes:
    parts = []
    for pair in entry.attributes.items():
        key, value = pair
        if value.__class__ is str and len(value) < 256:
            data = _pairs[pair]
        else:
            data = key_values({key: value}, b"\x32")
        parts.append(data)
    # the fields that are mostly there, written here; the others as log_record does
    text = entry.severity_text or SEVERITY_TEXT[entry.severity]
    if entry.severity:
        parts.append(b"\x10" + varint(entry.severity))
    if text:
        data = utf8(text)
        parts.append(b"\x1a" + varint(len(data)) + data)
    if entry.trace_id or entry.span_id or entry.flags:
        parts.append(trace_fields(entry))
    body = entry.body
    if body is not None:
        data = any_value(body)
        parts.append(b"\x2a" + varint(len(data)) + data)
    if entry.timestamp is not None:
        parts.append(b"\x09" + _fixed64(entry.timestamp & _U64))
    parts.append(b"\x59" + _fixed64(entry.observed & _U64))
    record = b"".join(parts)
    return b"\x12" + varint(len(record)) + record
