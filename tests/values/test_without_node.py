"""Targets without a node, which the DaemonSet with the targets of monitors leaves to the collector that runs once in a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kofagent.config.source import parse
from kofagent.config.tree import Node
from kofagent.values import Rendered, render_values, without_node
from tests.values.golden import NEWER_NAMES, needs_newer, newer, write_values

STACK = "opentelemetry-kube-stack"


def tree(text: str) -> Node:
    node, problems = parse(text, "f.yaml")
    assert not problems
    return node


ONCE = """
processors: {batch: {}, resource: {attributes: [{key: a, value: once, action: insert}]}}
exporters: {otlphttp: {endpoint: http://one, sending_queue: {storage: file_storage/q}}, debug: {}}
extensions: {file_storage/q: {directory: /once}}
receivers: {k8s_cluster: {}}
service:
  extensions: [file_storage/q]
  pipelines: {metrics: {receivers: [k8s_cluster], processors: [batch, resource], exporters: [otlphttp]}}
"""
NODES = """
processors: {batch: {}, resource: {attributes: [{key: a, value: node, action: insert}]}}
exporters: {otlphttp: {endpoint: http://one, sending_queue: {storage: file_storage/q}}, debug: {}}
extensions: {file_storage/q: {directory: /nodes}}
connectors: {forward: {}}
receivers:
  otlp: {}
  prometheus:
    api_server: {enabled: true}
    allocation: {strategy: per-node}
    config: {scrape_configs: [{job_name: a}]}
service:
  extensions: [file_storage/q]
  pipelines:
    metrics: {receivers: [otlp, prometheus], processors: [batch, resource], exporters: [debug, forward]}
    metrics/out: {receivers: [forward, otlp], exporters: [otlphttp]}
    traces: {receivers: [otlp], exporters: [debug]}
"""


def test_the_pipelines_of_such_targets_are_added_with_all_that_they_name() -> None:
    config = tree(ONCE)
    assert without_node.add(config, "ta", tree(NODES))
    got, was = config.plain(), tree(ONCE).plain()
    added = {kind: {id: v for id, v in got[kind].items() if id not in was.get(kind, {})} for kind in got if kind != "service"}
    assert added == {
        "processors": {"resource/ta": {"attributes": [{"key": "a", "value": "node", "action": "insert"}]}},
        "exporters": {"otlphttp/ta": {"endpoint": "http://one", "sending_queue": {"storage": "file_storage/q/ta"}}},
        "extensions": {"file_storage/q/ta": {"directory": "/nodes"}},
        "connectors": {"forward/ta": {}},
        "receivers": {
            "prometheus/ta": {"allocation": {"strategy": "without-node"}, "config": {"scrape_configs": [{"job_name": "a"}]}}
        },
    }
    assert got["service"] == {
        "extensions": ["file_storage/q", "file_storage/q/ta"],
        "pipelines": {
            **was["service"]["pipelines"],
            "metrics/ta": {
                "receivers": ["prometheus/ta"],
                "processors": ["batch", "resource/ta"],
                "exporters": ["debug", "forward/ta"],
            },
            "metrics/out/ta": {"receivers": ["forward/ta"], "exporters": ["otlphttp/ta"]},
        },
    }


@pytest.mark.parametrize(
    "change",
    [
        ("strategy: per-node", "strategy: all"),
        ("receivers: [otlp, prometheus]", "receivers: [otlp]"),
    ],
)
def test_nothing_is_added_for_a_collector_that_scrapes_everything_or_nothing(change: tuple[str, str]) -> None:
    config = tree(ONCE)
    assert not without_node.add(config, "ta", tree(NODES.replace(*change)))
    assert config.plain() == tree(ONCE).plain()


def render(tmp_path: Path, collectors: Any, collector: str) -> Rendered:
    return render_values([write_values(tmp_path, {STACK: {"collectors": collectors}})], collector=collector)


@pytest.mark.parametrize(
    ("collectors", "taker"),
    [
        ({}, "cluster"),
        (
            {"cluster": {"enabled": False}, "single": {"enabled": True, "mode": "statefulset", "config": yaml.safe_load(ONCE)}},
            "single",
        ),
        ({"cluster": {"enabled": False}}, None),
    ],
)
def test_one_collector_scrapes_them_or_a_warning_says_that_none_does(collectors: Any, taker: str | None, tmp_path: Path) -> None:
    nodes = render(tmp_path, collectors, "target-allocator")
    said = [str(w) for w in nodes.warnings if "no collector is there for those that have none" in w.message]
    assert len(said) == (taker is None)
    if taker is not None:
        rendered = render(tmp_path, collectors, taker)
        assert "prometheus/target-allocator" in rendered.to_run.plain()["receivers"]
        assert "prometheus/target-allocator" not in rendered.config.plain()["receivers"]  # what upstream renders is not changed


def test_variables_come_with_them(tmp_path: Path) -> None:
    own = {"env": [{"name": "TEAM", "value": "a"}, {"name": "OTEL_K8S_NODE_IP", "value": "other"}]}
    rendered = render(tmp_path, {"target-allocator": own}, "cluster")
    env = rendered.env_to_run
    assert env is not None and rendered.env is not None
    names = [entry["name"] for entry in env.plain()]
    assert len(names) == len(set(names)) and names[len(rendered.env.value) :] == ["TEAM"]


@needs_newer
@pytest.mark.parametrize("name", NEWER_NAMES)
def test_every_recipe_has_somebody_who_scrapes_them(name: str, tmp_path: Path) -> None:
    file, version = write_values(tmp_path, newer(name)["values"]), name.split("-", maxsplit=1)[0]
    running = render_values([file], collector="cluster", generation=version).to_run.plain()
    assert running["receivers"]["prometheus/target-allocator"]["allocation"] == {"strategy": "without-node"}
    ends = running["service"]["pipelines"]["metrics/target-allocator"]["exporters"]
    assert ends and set(ends) <= running["exporters"].keys()
