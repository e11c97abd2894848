"""Which component types exist and where their code is; a module is imported only when a configuration names its type."""

from __future__ import annotations

import importlib
from typing import Any

from kofagent.component.protocols import Component

ComponentClass = type[Component[Any]]
TYPES: dict[str, tuple[str, ...]] = {
    "receivers": (
        "otlp",
        "filelog",
        "journald",
        "prometheus",
        "hostmetrics",
        "httpcheck",
        "nop",
        "k8s_cluster",
        "k8s_events",
        "k8sobjects",
        "kubeletstats",
        "postgresql",
        "receiver_creator",
        "jaeger",
        "zipkin",
    ),
    "processors": (
        "batch",
        "memory_limiter",
        "resource",
        "attributes",
        "filter",
        "transform",
        "resourcedetection",
        "k8sattributes",
        "groupbyattrs",
        "metricstransform",
        "cumulativetodelta",
        "deltatocumulative",
        "probabilistic_sampler",
        "tail_sampling",
    ),
    "exporters": ("prometheusremotewrite", "otlphttp", "otlp", "awscloudwatchlogs", "file", "debug", "nop"),
    "connectors": ("routing", "forward", "spanmetrics"),
    "extensions": (
        "basicauth",
        "bearertokenauth",
        "headers_setter",
        "oauth2client",
        "health_check",
        "zpages",
        "file_storage",
        "k8s_leader_elector",
        "k8s_observer",
        "host_observer",
        "pprof",
    ),
}
"""The type as upstream spells it in KOF's configurations, which is also the name of the module."""

ALIASES: dict[str, dict[str, str]] = {
    "receivers": {
        "file_log": "filelog",
        "host_metrics": "hostmetrics",
        "http_check": "httpcheck",
        "k8s_objects": "k8sobjects",
        "kubelet_stats": "kubeletstats",
    },
    "processors": {
        "memorylimiter": "memory_limiter",
        "resource_detection": "resourcedetection",
        "k8s_attributes": "k8sattributes",
        "metrics_transform": "metricstransform",
        "cumulative_to_delta": "cumulativetodelta",
        "delta_to_cumulative": "deltatocumulative",
    },
    "exporters": {
        "otlp_http": "otlphttp",
        "otlp_grpc": "otlp",
        "prometheus_remote_write": "prometheusremotewrite",
        "aws_cloudwatch_logs": "awscloudwatchlogs",
    },
    "connectors": {"span_metrics": "spanmetrics"},
    "extensions": {
        "basic_auth": "basicauth",
        "bearer_token_auth": "bearertokenauth",
        "headerssetter": "headers_setter",
        "healthcheck": "health_check",
        "filestorage": "file_storage",
    },
}
"""Other spellings of the same types, old and new."""


def type_of(id: str) -> str:
    """The type in a component's name: `otlphttp` of `otlphttp/logs`."""
    return id.split("/", 1)[0]


def resolve(kind: str, type: str) -> str | None:
    """The registered spelling of a type, None when there is no such component."""
    type = ALIASES[kind].get(type, type)
    return type if type in TYPES[kind] else None


def load(kind: str, type: str) -> ComponentClass:
    """The class of a component; `type` in any known spelling. KeyError for an unknown one, ImportError if it cannot be loaded."""
    name = resolve(kind, type)
    if name is None:
        raise KeyError(f"unknown {kind[:-1]} type {type!r}")
    module = importlib.import_module(f"kofagent.{kind}.{name}")
    if not hasattr(module, "COMPONENT"):
        raise ImportError(f"{module.__name__} does not say which class it is for; end it with: COMPONENT = TheClass")
    component: ComponentClass = module.COMPONENT
    return component
