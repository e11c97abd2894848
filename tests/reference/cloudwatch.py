"""The plain twin of `exporters/awscloudwatchlogs/events.build`: Google's protobuf, dicts and json, nothing remembered."""

from __future__ import annotations

import base64
import math
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest


def value(any_value: Any) -> Any:
    kind = any_value.WhichOneof("value")
    if kind is None:
        return None
    found = getattr(any_value, kind)
    if kind == "bytes_value":
        return base64.b64encode(found).decode()
    if kind == "double_value" and not math.isfinite(found):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(found, "NaN")
    if kind == "array_value":
        return [value(v) for v in found.values]
    return attributes(found.values) if kind == "kvlist_value" else found


def attributes(items: Any) -> dict[str, Any]:
    return {kv.key: value(kv.value) for kv in items}


def messages(payload: bytes, now_ms: int) -> list[tuple[int, dict[str, Any]]]:
    """(timestamp in milliseconds, message) of every record."""
    out = []
    for entry in ExportLogsServiceRequest.FromString(payload).resource_logs:
        for group in entry.scope_logs:
            for record in group.log_records:
                message: dict[str, Any] = {}
                if record.body.WhichOneof("value") is not None:
                    message["body"] = value(record.body)
                for name in ("severity_number", "severity_text", "dropped_attributes_count", "flags"):
                    if getattr(record, name):
                        message[name] = getattr(record, name)
                for name in ("trace_id", "span_id"):
                    if any(getattr(record, name)):
                        message[name] = getattr(record, name).hex()
                if record.attributes:
                    message["attributes"] = attributes(record.attributes)
                if group.scope.name:
                    message["scope"] = {"name": group.scope.name}
                    if group.scope.version:
                        message["scope"]["version"] = group.scope.version
                    if group.scope.attributes:
                        message["scope"]["attributes"] = attributes(group.scope.attributes)
                if entry.resource.attributes:
                    message["resource"] = attributes(entry.resource.attributes)
                nanos = record.time_unix_nano or record.observed_time_unix_nano
                out.append((nanos // 1_000_000 if nanos else now_ms, message))
    return out
