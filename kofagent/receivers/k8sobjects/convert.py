"""Objects as LogRecords, as upstream writes them (receiver/k8sobjectsreceiver)."""

from __future__ import annotations

import struct
from typing import Any

from kofagent import __version__
from kofagent.kubernetes.changes import Record
from kofagent.wire.attributes import encode_attributes
from kofagent.wire.json_value import JsonEncoder
from kofagent.wire.varint import length_delimited

SCOPE = length_delimited(
    1, b"github.com/open-telemetry/opentelemetry-collector-contrib/receiver/k8sobjectsreceiver"
) + length_delimited(2, __version__.encode())
"""The InstrumentationScope message; the name is upstream's, which queries may select."""
_FIXED64 = struct.Struct("<Q")
_encode = JsonEncoder().value


def pulled(obj: dict[str, Any], plural: str, observed: int) -> Record:
    """An object of a list: it is the body. `observed` is Unix nanoseconds. ValueError where it is nested too deeply."""
    return _resource(obj), _record(obj, {"k8s.resource.name": plural}, observed)


def watched(kind: str, obj: dict[str, Any], plural: str, observed: int) -> Record:
    """A watch event: the body is `{type, object}`. ValueError where it is nested too deeply."""
    attributes = {"k8s.resource.name": plural}
    name = (obj.get("metadata") or {}).get("name")
    if isinstance(name, str) and name:
        attributes |= {"event.domain": "k8s", "event.name": name}
    return _resource(obj), _record({"object": obj, "type": kind}, attributes, observed)


def namespace_of(obj: dict[str, Any]) -> str:
    """The object's namespace; empty where it has none."""
    found = (obj.get("metadata") or {}).get("namespace")
    return found if isinstance(found, str) else ""


def _resource(obj: dict[str, Any]) -> bytes:
    namespace = namespace_of(obj)
    return encode_attributes({"k8s.namespace.name": namespace}) if namespace else b""


def _record(body: dict[str, Any], attributes: dict[str, str], observed: int) -> bytes:
    return length_delimited(5, _encode(body)) + encode_attributes(attributes, 6) + b"\x59" + _FIXED64.pack(observed)
