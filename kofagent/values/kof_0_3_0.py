"""kof-collectors 0.3.0 to 1.1: collector configuration inside the values, merged over generated parts."""

from __future__ import annotations

from typing import Any

from kofagent.config.tree import Node
from kofagent.values.generated import Values, cluster_label, credentials, storage_exporter
from kofagent.values.model import Collectors

NAME = "0.3.0"
PIPELINES = ""
COLLECTORS = Collectors


def generate(values: Values, role: str) -> Node:
    """The part of a role's configuration that the configuration in the values is merged over."""
    logins, names = credentials(values)
    exporters: dict[str, Any] = {
        "prometheusremotewrite": storage_exporter(values, "metrics", "endpoint"),
        "otlphttp/logs" if role == "node" else "otlphttp": storage_exporter(values, "logs", "logs_endpoint"),
    }
    if role == "node":
        exporters["otlphttp/traces"] = storage_exporter(values, "traces", "endpoint")
    out: dict[str, Any] = {"exporters": {k: v for k, v in exporters.items() if v is not None}, "extensions": logins}
    if role == "node":
        scraped = values.tree.get("collectors", "node", "receivers", "prometheus")
        if scraped is not None and scraped.value:
            out["receivers"] = {"prometheus": cluster_label(values)}
    else:
        insert = {"action": "insert", "key": "k8s.cluster.name", "value": values.text("global", "clusterName")}
        out["processors"] = {"resource/k8s_events": values.made({"attributes": [insert]}, "global", "clusterName")}
    if names:
        out["service"] = {"extensions": values.made(names, "kof", "basic_auth")}
    return values.made(out, "kof")


def adjust(config: Node, values: Values, role: str) -> None:
    """Nothing: all that is generated can be overridden."""
