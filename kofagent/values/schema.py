"""JSON Schema of a `collectors-values.yaml` with the chart's own keys: `helm/kofagent/values.schema.json` is generated from it.

Helm reads these values before the agent does, so a reference such as `${env:X}` stands for a text only. Draft 7, the newest
that every Helm 3 understands. Collector configuration below `collectors.<role>` is any map: the agent checks it and names the
line (`kofagent validate --values`).
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from kofagent.config.base import ComponentConfig
from kofagent.config.schema import REFERENCE, options_schema
from kofagent.values.chart import Agent, Kcm, NodeExporter, OpenCostChart, StateMetrics
from kofagent.values.model import OTHERS, Collectors, Global, Kof
from kofagent.values.versions import STACK


class _Chart(ComponentConfig):
    """The top of the file."""

    global_: Global = Field(Global(), alias="global", description="Name of the cluster, on every series.")
    kof: Kof = Field(Kof(), description="KOF's storage.")
    collectors: Collectors = Field(Collectors(), description="The agents' collector configuration.")
    kofagent: Agent = Field(Agent(), description="How the agents run; not read by kof-collectors.")
    kcm: Kcm = Field(Kcm(), description="KCM, the cluster manager.")
    prometheus_node_exporter: NodeExporter = Field(NodeExporter(), alias="prometheus-node-exporter", description="node-exporter.")
    kube_state_metrics: StateMetrics = Field(StateMetrics(), alias="kube-state-metrics", description="kube-state-metrics.")
    opencost: OpenCostChart = Field(OpenCostChart(), description="OpenCost.")


def values_schema() -> dict[str, Any]:
    """The schema; keys of other charts in the same file may hold anything."""
    schema: dict[str, Any] = _without_references(options_schema(_Chart))
    for name in _Chart.model_fields:
        if "_" in name:
            schema["properties"].pop(name, None)  # the Python spelling of a key
    schema["properties"][STACK] = {
        "type": "object",
        "description": "KOF 1.2 and later: the collectors. The agents check what is in it.",
    }
    schema["properties"]["resources"] = {
        "description": "What KOF's chart of a child cluster hands on; it has no effect, as upstream."
    }
    schema["properties"]["metrics-server"] = {}
    for key in OTHERS:
        schema["properties"].setdefault(key, {})
    schema["patternProperties"] = {r"^(x-|\.)": {}}
    return {"$schema": "http://json-schema.org/draft-07/schema#", **schema, "title": "Values of kofagent"}


def _without_references(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_references(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: _without_references(value) for key, value in schema.items()}
    if isinstance(out.get("anyOf"), list):
        out["anyOf"] = [choice for choice in out["anyOf"] if choice != REFERENCE]
    return out
