"""kof-collectors 0.1.1: pipelines fixed by the chart, only `kof.*` and `global.*` to set.

Two deviations. `collectors.<role>` of later generations may be laid over the fixed configuration (upstream has no such
keys), so that configs/no-cluster.yaml works here too. And upstream shows traces in the debug exporter only;
here they also go to `kof.traces.endpoint` once it is set.
"""

from __future__ import annotations

from typing import Any

from kofagent.config.tree import Node
from kofagent.values.generated import Values, cluster_label, credentials, storage_exporter
from kofagent.values.model import Collectors

NAME = "0.1.1"
PIPELINES = "0.1.1"
COLLECTORS = Collectors


def generate(values: Values, role: str) -> Node:
    """The part of a role's configuration that depends on the values."""
    logins, names = credentials(values)
    exporters: dict[str, Any] = {
        "prometheusremotewrite": storage_exporter(values, "metrics", "endpoint", always_insecure=True),
        "otlphttp": storage_exporter(values, "logs", "logs_endpoint", always_insecure=True),
    }
    out: dict[str, Any] = {"extensions": logins}
    if role == "node":
        out["receivers"] = {"prometheus": cluster_label(values)}  # a null merged over it turns scraping off
        traces = storage_exporter(values, "traces", "endpoint")
        if traces is not None:
            exporters["otlphttp/traces"] = traces
    out["exporters"] = {k: v for k, v in exporters.items() if v is not None}
    if names:
        out["service"] = {"extensions": values.made(names, "kof", "basic_auth")}
    return values.made(out, "kof")


def adjust(config: Node, values: Values, role: str) -> None:
    """Sends traces to the storage as well, if there is one: the pipelines are fixed, so a user cannot configure it."""
    ends = config.get("service", "pipelines", "traces", "exporters")
    if role == "node" and values.text("kof", "traces", "endpoint") and ends is not None and ends.is_list:
        ends.value.append(values.made("otlphttp/traces", "kof", "traces", "endpoint"))
