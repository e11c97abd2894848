"""Objects of a cluster and readers of what the receiver sent."""

from __future__ import annotations

from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from kofagent.kubernetes.resources import Resource
from kofagent.kubernetes.trim import Object, Trimmer
from kofagent.receivers.k8s_cluster.config import Config
from kofagent.receivers.k8s_cluster.model import Described, Selection, Source

Key = tuple[str, tuple[tuple[str, Any], ...]]


def meta(name: str, namespace: str = "", **more: Any) -> Object:
    return {"name": name, **({"namespace": namespace} if namespace else {}), "uid": f"uid-{name}", **more}


def select(**options: Any) -> Selection:
    return Selection(Config.model_validate(options))


def on(*names: str) -> dict[str, Any]:
    return {name: {"enabled": True} for name in names}


def described(source: Source, obj: Object, selection: Selection) -> list[Described]:
    """What is said of an object as the informer hands it over: cut down to the fields that are asked for."""
    return source.describe(Trimmer(source.metric_fields(selection))(obj), selection)


def points(one: Described) -> dict[Key, float]:
    return {(metric.name, attributes): value for metric, value, attributes in one.points}


def plain(one: Described) -> dict[str, float]:
    assert not any(attributes for _, _, attributes in one.points)
    return {metric.name: value for metric, value, _ in one.points}


def no_lookup(resource: Resource, namespace: str, name: str) -> Object | None:
    return None


def value_of(any_value: Any) -> Any:
    kind = any_value.WhichOneof("value")
    if kind == "kvlist_value":
        return {kv.key: value_of(kv.value) for kv in any_value.kvlist_value.values}
    return getattr(any_value, kind) if kind else None


def attributes_of(repeated: Any) -> dict[str, Any]:
    return {kv.key: value_of(kv.value) for kv in repeated}


def read_metrics(payload: bytes) -> list[tuple[dict[str, Any], dict[str, list[Any]], Any]]:
    """(resource attributes, data points by metric name, ResourceMetrics) of each resource."""
    request = ExportMetricsServiceRequest.FromString(payload)
    out = []
    for entry in request.resource_metrics:
        (scope,) = entry.scope_metrics
        found = {m.name: list(getattr(m, str(m.WhichOneof("data"))).data_points) for m in scope.metrics}
        assert len(found) == len(scope.metrics), "a metric appears once a resource"
        out.append((attributes_of(entry.resource.attributes), found, entry))
    return out


def number(point: Any) -> float:
    return point.as_int if point.WhichOneof("value") == "as_int" else point.as_double


def read_events(payload: bytes) -> list[dict[str, Any]]:
    """The attributes of each entity event; checks what is the same for all."""
    out = []
    for entry in ExportLogsServiceRequest.FromString(payload).resource_logs:
        for scope in entry.scope_logs:
            assert attributes_of(scope.scope.attributes) == {"otel.entity.event_as_log": True}
            for record in scope.log_records:
                assert record.time_unix_nano > 0
                out.append(attributes_of(record.attributes))
    return out
