"""Names, units, kinds, attributes and defaults against upstream's metadata (a second, independent table of the facts)."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from kofagent.receivers.kubeletstats.catalog import CATALOG, RESOURCE_ATTRIBUTES, SCOPE
from kofagent.receivers.kubeletstats.config import Config

# name | unit | kind (g gauge, s sum, m monotonic sum) and value (i, d) | on by default | attributes
UPSTREAM = """
container.cpu.time s md on
container.cpu.usage {cpu} gd on
container.filesystem.available By gi on
container.filesystem.capacity By gi on
container.filesystem.usage By gi on
container.memory.available By gi on
container.memory.major_page_faults 1 gi on
container.memory.page_faults 1 gi on
container.memory.rss By gi on
container.memory.usage By gi on
container.memory.working_set By gi on
container.uptime s mi off
k8s.container.cpu.node.utilization 1 gd off
k8s.container.cpu_limit_utilization 1 gd off
k8s.container.cpu_request_utilization 1 gd off
k8s.container.memory.node.utilization 1 gd off
k8s.container.memory_limit_utilization 1 gd off
k8s.container.memory_request_utilization 1 gd off
k8s.node.cpu.time s md on
k8s.node.cpu.usage {cpu} gd on
k8s.node.filesystem.available By gi on
k8s.node.filesystem.capacity By gi on
k8s.node.filesystem.usage By gi on
k8s.node.memory.available By gi on
k8s.node.memory.major_page_faults 1 gi on
k8s.node.memory.page_faults 1 gi on
k8s.node.memory.rss By gi on
k8s.node.memory.usage By gi on
k8s.node.memory.working_set By gi on
k8s.node.network.errors 1 mi on interface,direction
k8s.node.network.io By mi on interface,direction
k8s.node.uptime s mi off
k8s.pod.cpu.node.utilization 1 gd off
k8s.pod.cpu.time s md on
k8s.pod.cpu.usage {cpu} gd on
k8s.pod.cpu_limit_utilization 1 gd off
k8s.pod.cpu_request_utilization 1 gd off
k8s.pod.filesystem.available By gi on
k8s.pod.filesystem.capacity By gi on
k8s.pod.filesystem.usage By gi on
k8s.pod.memory.available By gi on
k8s.pod.memory.major_page_faults 1 gi on
k8s.pod.memory.node.utilization 1 gd off
k8s.pod.memory.page_faults 1 gi on
k8s.pod.memory.rss By gi on
k8s.pod.memory.usage By gi on
k8s.pod.memory.working_set By gi on
k8s.pod.memory_limit_utilization 1 gd off
k8s.pod.memory_request_utilization 1 gd off
k8s.pod.network.errors 1 mi on interface,direction
k8s.pod.network.io By mi on interface,direction
k8s.pod.uptime s mi off
k8s.pod.volume.usage By si off
k8s.volume.available By gi on
k8s.volume.capacity By gi on
k8s.volume.inodes 1 gi on
k8s.volume.inodes.free 1 gi on
k8s.volume.inodes.used 1 gi on
"""


def test_the_catalogue_is_upstreams() -> None:
    rows = [line.split() for line in UPSTREAM.strip().splitlines()]
    assert len(rows) == 58
    assert {row[0] for row in rows} == set(CATALOG)
    for name, unit, kind, on, *attributes in rows:
        entry = CATALOG[name]
        metric = entry.metric
        assert (metric.name, metric.unit) == (name, unit)
        assert kind == ("g" if metric.kind == "gauge" else "m" if metric.monotonic else "s") + ("d" if metric.double else "i"), name
        assert entry.enabled == (on == "on"), name
        assert entry.attributes == tuple(attributes[0].split(",") if attributes else ()), name
        assert metric.description
        assert metric.cumulative


def test_resource_attributes_and_scope() -> None:
    assert len(RESOURCE_ATTRIBUTES) == 15
    assert all(RESOURCE_ATTRIBUTES.values())
    assert SCOPE.endswith("/receiver/kubeletstatsreceiver")


def test_defaults() -> None:
    config = Config.model_validate({"cert_file": "c.pem", "key_file": "k.pem"})
    assert (config.auth_type, config.collection_interval, config.initial_delay, config.timeout) == ("tls", 10, 1, 0)
    assert config.metric_groups == ["container", "pod", "node"]
    assert config.extra_metadata_labels == []


@pytest.mark.parametrize(
    "options, said",
    [
        ({"metrics": {"container.cpu.tim": {}}}, "did you mean 'container.cpu.time'"),
        ({"auth_type": "none", "metrics": {"k8s.pod.cpu.node.utilization": {"enabled": True}}}, "write node: ${env:K8S_NODE_NAME}"),
        ({"resource_attributes": {"k8s.pods.uid": {}}}, "did you mean 'k8s.pod.uid'"),
        ({"metric_groups": ["pods"]}, "volume"),
        ({"extra_metadata_labels": ["container.id", "container.id"]}, "duplicate label"),
        ({"extra_metadata_labels": ["k8s.pod.ip"]}, "container.id"),
        ({"auth_type": "magic"}, "kubeConfig"),
        ({}, "auth_type: serviceAccount"),
        ({"cert_file": "c.pem"}, "auth_type: serviceAccount"),
        ({"endpoint": "https://"}, "is not host:port"),
        ({"endpoint": "http://host:port"}, "is not host:port"),
        ({"endpoint": "host:99999"}, "is not host:port"),
        ({"endpoint": "host:0"}, "is not host:port"),
        ({"collection_interval": 10}, "did you mean 10s"),
    ],
)
def test_wrong_options_are_explained(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError) as error:
        Config.model_validate(options)
    assert said in str(error.value)
