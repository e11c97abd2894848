"""Log records to CloudWatch Logs events: the same JSON message as upstream's awscloudwatchlogs exporter. No I/O.

    {"body": .., "severity_number": .., "severity_text": .., "dropped_attributes_count": .., "flags": .., "trace_id": ..,
     "span_id": .., "attributes": {..}, "scope": {"name": .., "version": .., "attributes": {..}}, "resource": {..}}

Zero numbers, empty strings and empty maps are left out, the body only when it is unset; a scope without a name is left out.
Keys of maps are sorted, bytes are base64, NaN and infinities their names. Ids are lower-case hex.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from kofagent.memory.memo import Memo
from kofagent.transform.anyvalue import as_string, to_json
from kofagent.wire.attributes import decode_attribute, decode_value
from kofagent.wire.lens import lenses, parse
from kofagent.wire.varint import read_varint

EVENT_OVERHEAD = 26
"""Bytes that each event counts in addition to its message (PutLogEvents)."""
MAX_CALL_BYTES = 1024 * 1024
MAX_EVENT_BYTES = MAX_CALL_BYTES - EVENT_OVERHEAD
"""Longest message. AWS raised the limit of one event from 256 KiB to 1 MB in 2025; the limit of a call still bounds it."""
MAX_CALL_EVENTS = 10_000
MAX_CALL_SPAN_MS = 24 * 3600 * 1000
MAX_AGE_MS = 14 * 24 * 3600 * 1000
MAX_AHEAD_MS = 2 * 3600 * 1000
TRUNCATED = "[Truncated...]"

_quote = json.encoder.encode_basestring


class Event(NamedTuple):
    """One log event; `stream` is (group, stream), `timestamp` Unix milliseconds, `size` the UTF-8 bytes of the message."""

    timestamp: int
    message: str
    size: int
    stream: tuple[str, str]


class Events(NamedTuple):
    """What a payload became: the events, how many of them were shortened and how many records have no message at all."""

    events: list[Event]
    truncated: int
    empty: int


_LENS = lenses(
    "kofagent.cloudwatch",
    {
        "Record": {
            "time": (1, "fixed64"),
            "severity_number": (2, "int32"),
            "severity_text": (3, "bytes"),
            "body": (5, "bytes"),
            "attributes": (6, "*bytes"),
            "dropped_attributes_count": (7, "uint32"),
            "flags": (8, "fixed32"),
            "trace_id": (9, "bytes"),
            "span_id": (10, "bytes"),
            "observed": (11, "fixed64"),
        },
        "Identity": {"name": (1, "bytes"), "version": (2, "bytes"), "attributes": (3, "*bytes")},
        "Attributes": {"attributes": (1, "*bytes")},
        "Scope": {"scope": (1, "Identity"), "records": (2, "*Record")},
        "Resource": {"resource": (1, "Attributes"), "scopes": (2, "*Scope")},
        "Request": {"resources": (1, "*Resource")},
    },
)
_Request = _LENS["Request"]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _clean(text: str) -> str:
    """Text whose undecodable bytes (surrogates of `decode_text`) are replacement characters."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _attribute(data: bytes) -> tuple[str, str]:
    key, value = decode_attribute(data)
    key = _clean(key)
    return key, f"{_quote(key)}:{_clean(_quote(value) if isinstance(value, str) else to_json(value))}"


_known = Memo("awscloudwatchlogs.attributes", _attribute, entries=16_000, size=8 << 20, longest=1024)
"""Attributes met before: the bytes of a KeyValue to its key and `"key":value` in JSON. Most records repeat most of them."""


def _map(items: Any) -> str:
    pairs = list(map(_known.__getitem__, items))
    _known.counts.lookups += len(pairs)
    if len(pairs) == 1:
        return f"{{{pairs[0][1]}}}"
    return "{" + ",".join([text for _, text in sorted(dict(pairs).items())]) + "}"


def _identity(scope: Any, resource: Any) -> str:
    """The end of every message of a scope: scope and resource, worked out once."""
    out = ""
    if scope.name:
        parts = [f'"name":{_quote(_text(scope.name))}']
        if scope.version:
            parts.append(f'"version":{_quote(_text(scope.version))}')
        if scope.attributes:
            parts.append(f'"attributes":{_map(scope.attributes)}')
        out = f',"scope":{{{",".join(parts)}}}'
    if resource.attributes:
        out += f',"resource":{_map(resource.attributes)}'
    return out


def _body(record: Any) -> Any:
    """The body as a Python value, strings clean."""
    data = record.body
    # A string is a tag, its length and nothing else.
    if data[:1] == b"\x0a":
        size, at = read_varint(data, 1)
        if at + size == len(data):
            return _text(data[at:])
    return _clean_all(decode_value(data)) if data else None


def _clean_all(value: Any) -> Any:
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, list):
        return [_clean_all(v) for v in value]
    if isinstance(value, dict):
        return {_clean(k): _clean_all(v) for k, v in value.items()}
    return value


def _wrap(record: Any, body: Any, identity: str) -> str:
    out = []
    if body is not None:
        out.append(f'"body":{_quote(body) if isinstance(body, str) else to_json(body)}')
    if record.severity_number:
        out.append(f'"severity_number":{record.severity_number}')
    if record.severity_text:
        out.append(f'"severity_text":{_quote(_text(record.severity_text))}')
    if record.dropped_attributes_count:
        out.append(f'"dropped_attributes_count":{record.dropped_attributes_count}')
    if record.flags:
        out.append(f'"flags":{record.flags}')
    if record.trace_id.strip(b"\0"):
        out.append(f'"trace_id":"{record.trace_id.hex()}"')
    if record.span_id.strip(b"\0"):
        out.append(f'"span_id":"{record.span_id.hex()}"')
    if record.attributes:
        out.append(f'"attributes":{_map(record.attributes)}')
    return "{" + (",".join(out) + identity if out else identity[1:]) + "}"


def cut(text: str, limit: int) -> str:
    """At most `limit` bytes of UTF-8, the mark of truncation at the end."""
    return text.encode("utf-8", "replace")[: max(0, limit - len(TRUNCATED))].decode("utf-8", "ignore") + TRUNCATED


def _shorten(record: Any, body: Any, identity: str, limit: int) -> str:
    """A message within the limit: a text body is cut so that the JSON stays whole, anything else is cut as upstream does."""
    if isinstance(body, str):
        room = limit - len(_wrap(record, "", identity).encode("utf-8", "replace"))
        keep = min(room, len(body.encode("utf-8", "replace")))
        while keep > len(TRUNCATED):
            message = _wrap(record, cut(body, keep), identity)
            over = len(message.encode("utf-8", "replace")) - limit
            if over <= 0:
                return message
            # Escapes made the text longer than its bytes: keep the share that fits, and look again.
            keep = min(keep - 1, keep * room // (room + over))
    return cut(_wrap(record, body, identity), limit)


def _emf_stream(text: str, stream: tuple[str, str]) -> tuple[str, str]:
    """Group and stream that an embedded-metric-format body asks for (`raw_log`)."""
    if not text.startswith("{") or ("logGroupName" not in text and "log_group_name" not in text):
        return stream
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return stream
    aws = body.get("_aws")
    for group, name in (
        (aws.get("logGroupName"), aws.get("logStreamName")) if isinstance(aws, dict) else (None, None),
        (body.get("log_group_name"), body.get("log_stream_name")),
    ):
        if isinstance(group, str) and group:
            return group, name if isinstance(name, str) and name else stream[1]
    return stream


def build(payload: bytes, stream: tuple[str, str], raw: bool, now_ms: int, limit: int = MAX_EVENT_BYTES) -> Events:
    """The events of an OTLP logs payload in its order, messages shortened to `limit` bytes.

    Time: the record's, else the observed one, else `now_ms`.

    ValueError where the payload is malformed; strings that are not UTF-8 get replacement characters.
    """
    events: list[Event] = []
    truncated = empty = 0
    # hot: otlp_cloudwatch, 11 us a record end to end, one parse in C, attributes as JSON remembered by their bytes
    for entry in parse(_Request, payload).resources:
        for scope in entry.scopes:
            identity = "" if raw else _identity(scope.scope, entry.resource)
            for record in scope.records:
                body = _body(record)
                target = stream
                if raw:
                    message = as_string(body)
                    target = _emf_stream(message, stream)
                else:
                    message = _wrap(record, body, identity)
                size = len(message) if message.isascii() else len(message.encode("utf-8", "replace"))
                if size > limit:
                    message = cut(message, limit) if raw else _shorten(record, body, identity, limit)
                    size = len(message.encode("utf-8", "replace"))
                    truncated += 1
                if not message:
                    empty += 1
                    continue
                nanos = record.time or record.observed
                events.append(Event(nanos // 1_000_000 if nanos else now_ms, message, size, target))
    return Events(events, truncated, empty)


class Call(NamedTuple):
    """One PutLogEvents call."""

    stream: tuple[str, str]
    events: list[Event]

    @property
    def items(self) -> int:
        """As `Request.items`."""
        return len(self.events)

    @property
    def size(self) -> int:
        """As `Request.size`, as the service counts."""
        return sum([event.size for event in self.events]) + EVENT_OVERHEAD * len(self.events)

    def smaller(self) -> Sequence[Call]:
        """As `Request.smaller`."""
        middle = len(self.events) // 2
        return (Call(self.stream, self.events[:middle]), Call(self.stream, self.events[middle:])) if middle else ()


def within(events: Iterable[Event], now_ms: int) -> tuple[list[Event], int, int]:
    """The events that CloudWatch takes by their age, and how many are too old and too new."""
    keep: list[Event] = []
    old = new = 0
    for event in events:
        if event.timestamp < now_ms - MAX_AGE_MS:
            old += 1
        elif event.timestamp > now_ms + MAX_AHEAD_MS:
            new += 1
        else:
            keep.append(event)
    return keep, old, new


def plan(events: Iterable[Event], most_bytes: int = MAX_CALL_BYTES) -> Iterator[Call]:
    """Calls within the limits: per stream, sorted by time (equal times keep their order), bytes, count and time span bounded."""
    streams: dict[tuple[str, str], list[Event]] = {}
    for event in events:
        streams.setdefault(event.stream, []).append(event)
    for stream, its in streams.items():
        its.sort(key=_timestamp)
        chunk: list[Event] = []
        size = 0
        for event in its:
            cost = event.size + EVENT_OVERHEAD
            if chunk and (
                len(chunk) >= MAX_CALL_EVENTS or size + cost > most_bytes or event.timestamp - chunk[0].timestamp > MAX_CALL_SPAN_MS
            ):
                yield Call(stream, chunk)
                chunk, size = [], 0
            chunk.append(event)
            size += cost
        if chunk:
            yield Call(stream, chunk)


def _timestamp(event: Event) -> int:
    return event.timestamp
