"""From OTLP resource, scope and attributes to the labels of a series."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from kofagent.exporters.prometheusremotewrite.names import label_name
from kofagent.telemetry.series import SCRAPE_SCOPE

SERVICE = ("service.name", "service.namespace", "service.instance.id")


def decimal(value: float) -> str:
    """The shortest decimal without an exponent that reads back as the same double: values of `le` and `quantile`."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    return format(Decimal(repr(value)), "f").removesuffix(".0")


def double_text(value: float) -> str:
    """A double as JavaScript writes it: exponents only below 1e-6 and from 1e21 on."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value and not 1e-6 <= abs(value) < 1e21:
        return re.sub(r"e-0(\d)$", r"e-\1", repr(float(value)))
    return decimal(value)


def text(value: AnyValue) -> str:
    """An attribute value as a label value: lists and maps as JSON, bytes as base64, empty without a value."""
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return value.string_value
    return _scalar(value, kind) if kind not in ("array_value", "kvlist_value") else _json(value)


def _scalar(value: AnyValue, kind: str | None) -> str:
    if kind == "bool_value":
        return "true" if value.bool_value else "false"
    if kind == "int_value":
        return str(value.int_value)
    if kind == "double_value":
        return double_text(value.double_value)
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    return ""


def _json(value: AnyValue) -> str:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return "[" + ",".join([_json(v) for v in value.array_value.values]) + "]"
    if kind == "kvlist_value":
        members = {pair.key: pair.value for pair in value.kvlist_value.values}
        return "{" + ",".join([f"{_quoted(key)}:{_json(members[key])}" for key in sorted(members)]) + "}"
    if kind == "string_value":
        return _quoted(value.string_value)
    if kind == "bytes_value":
        return _quoted(_scalar(value, kind))
    if kind == "double_value" and not math.isfinite(value.double_value):
        return _quoted(double_text(value.double_value))  # JSON has no word for it
    return _scalar(value, kind) if kind else "null"


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def attributes(pairs: Iterable[KeyValue]) -> dict[str, str]:
    """Attributes as text, without those that are empty; the last of equal keys counts."""
    return {pair.key: rendered for pair in pairs if (rendered := text(pair.value))}


def to_labels(values: Mapping[str, str]) -> dict[str, str]:
    """Attributes by label name; the values of names that become equal are joined with `;`, in the order of their names."""
    out: dict[str, str] = {}
    for key in sorted(values):
        name = label_name(key)
        if not name:
            continue
        seen = out.get(name)
        out[name] = values[key] if seen is None or seen == values[key] else f"{seen};{values[key]}"
    return out


class ResourceLabels:
    """What a resource gives to its series: `job` and `instance`, attributes to copy, and the labels of `target_info`."""

    def __init__(self, encoded: bytes, copy: Callable[[str], bool] | None) -> None:
        pairs = Resource.FromString(encoded).attributes
        values = attributes(pairs)
        self.identity: dict[str, str] = {}
        name = values.get("service.name")
        if name:
            namespace = values.get("service.namespace")
            # an empty namespace still counts as one, as upstream has it
            if namespace is None and any(pair.key == "service.namespace" for pair in pairs):
                namespace = ""
            self.identity["job"] = name if namespace is None else f"{namespace}/{name}"
        if values.get("service.instance.id"):
            self.identity["instance"] = values["service.instance.id"]
        self.copied = {k: v for k, v in values.items() if copy(k)} if copy else {}
        described = {k: v for k, v in values.items() if k not in SERVICE}
        self.target_info: dict[str, str] | None = None
        if described and self.identity:
            self.target_info = {**to_labels(described), **self.identity}


def scope_labels(encoded: bytes) -> dict[str, str]:
    """`otel_scope_name`, `otel_scope_version` and `otel_scope_<attribute>` of an instrumentation scope.

    None for the scope of scraped samples, which have the same labels whether they came as columns or as OTLP.
    """
    scope: Any = InstrumentationScope.FromString(encoded)
    if scope.name == SCRAPE_SCOPE:
        return {}
    out = {
        label_name("otel_scope_" + key): value
        for key, value in attributes(scope.attributes).items()
        if key not in ("name", "version", "schema_url")
    }
    if scope.name:
        out["otel_scope_name"] = scope.name
    if scope.version:
        out["otel_scope_version"] = scope.version
    return out
