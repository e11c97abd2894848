"""An Event as a LogRecord, as upstream writes it (receiver/k8seventsreceiver).

Both generations of the API are read, whoever wrote the event: one that recurs has its last time and count in `series` (`eventTime`
stays at the first occurrence; upstream reports that), where the first generation counted in `count` and `lastTimestamp`. The API of
the second generation calls those `deprecatedCount` and so on, what an event is about `regarding`, and its message `note`.
"""

from __future__ import annotations

import struct
import time
from typing import Any

from kofagent import __version__
from kofagent.kubernetes.changes import Record, unix_nanos
from kofagent.wire.attributes import encode_attributes, encode_text, encode_value
from kofagent.wire.varint import length_delimited, varint

SCOPE = length_delimited(
    1, b"github.com/open-telemetry/opentelemetry-collector-contrib/receiver/k8seventsreceiver"
) + length_delimited(2, __version__.encode())
"""The InstrumentationScope message; the name is upstream's, which queries may select."""
SEVERITY = {"normal": 9, "warning": 13, "error": 17, "critical": 21}
"""SeverityNumber by the event's type in lower case; other types have none."""
_FIXED64 = struct.Struct("<Q")
_TIMES = ("eventTime", "lastTimestamp", "deprecatedLastTimestamp", "firstTimestamp", "deprecatedFirstTimestamp")


def _times(event: dict[str, Any]) -> list[int]:
    """The times of its occurrences, the first of them the record's."""
    found = [_map(event, "series").get("lastObservedTime"), *[event.get(name) for name in _TIMES]]
    return [at for text in found if (at := unix_nanos(text)) is not None]


def timestamp(event: dict[str, Any]) -> int:
    """Unix nanoseconds of the record: when its series was last observed, else eventTime, else lastTimestamp, else firstTimestamp.

    The creation time if all are missing.
    """
    for at in _times(event):
        return at
    return unix_nanos(_map(event, "metadata").get("creationTimestamp")) or 0


def last_seen(event: dict[str, Any]) -> float:
    """Unix seconds of the latest time in the event, including that of its series; 0 if it has none."""
    return max(_times(event), default=timestamp(event)) / 1e9


def _count(event: dict[str, Any]) -> int:
    """How often it occurred; 0: not known."""
    for count in (_map(event, "series").get("count"), event.get("count"), event.get("deprecatedCount")):
        if isinstance(count, int) and not isinstance(count, bool) and count:
            return count
    return 0


def _node(event: dict[str, Any]) -> str:
    """The node it was reported from; the second generation says that only of the kubelet's, as its instance."""
    host = _text(_map(event, "source"), "host") or _text(_map(event, "deprecatedSource"), "host")
    if not host and "kubelet" in (_text(event, "reportingComponent"), _text(event, "reportingController")):
        return _text(event, "reportingInstance")
    return host


def go_time(text: Any) -> str:
    """An API timestamp as upstream prints it: `2026-01-02 03:04:05 +0000 UTC`."""
    at = unix_nanos(text)
    if at is None:
        return "0001-01-01 00:00:00 +0000 UTC"
    return time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC", time.gmtime(at // 1_000_000_000))


def to_record(event: dict[str, Any], observed: int) -> Record:
    """Resource and LogRecord of an event. `observed` is Unix nanoseconds."""
    about, metadata = _map(event, "involvedObject") or _map(event, "regarding"), _map(event, "metadata")
    resource = encode_attributes(
        {
            "k8s.node.name": _node(event),
            "k8s.object.kind": _text(about, "kind"),
            "k8s.object.name": _text(about, "name"),
            "k8s.object.uid": _text(about, "uid"),
            "k8s.object.fieldpath": _text(about, "fieldPath"),
            "k8s.object.api_version": _text(about, "apiVersion"),
            "k8s.object.resource_version": _text(about, "resourceVersion"),
        }
    )
    attributes: dict[str, Any] = {
        "k8s.event.reason": _text(event, "reason"),
        "k8s.event.action": _text(event, "action"),
        "k8s.event.start_time": go_time(metadata.get("creationTimestamp")),
        "k8s.event.name": _text(metadata, "name"),
        "k8s.event.uid": _text(metadata, "uid"),
        "k8s.namespace.name": _text(about, "namespace"),
    }
    count = _count(event)
    if count:
        attributes["k8s.event.count"] = count
    out = [b"\x09" + _FIXED64.pack(timestamp(event))]
    type = _text(event, "type")
    severity = SEVERITY.get(type.lower())
    if severity is not None:
        out += [b"\x10" + varint(severity), length_delimited(3, encode_text(type))]
    out += [
        length_delimited(5, encode_value(_text(event, "message") or _text(event, "note"))),
        encode_attributes(attributes, 6),
        b"\x59" + _FIXED64.pack(observed),
    ]
    return resource, b"".join(out)


def _map(value: dict[str, Any], key: str) -> dict[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def _text(value: dict[str, Any], key: str) -> str:
    found = value.get(key)
    return found if isinstance(found, str) else ""
