"""The conversion: every value is the kubelet's, whatever is missing."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kofagent.receivers.kubeletstats.claims import Claims
from kofagent.receivers.kubeletstats.config import Config
from kofagent.receivers.kubeletstats.pods import PodFacts, persistent_attributes, volume_attributes
from kofagent.receivers.kubeletstats.summary import Capacity, Converter, Outcome
from tests.receivers.kubeletstats.support import (
    CONTAINER_START,
    INIT,
    NODE_START,
    POD_START,
    WEB,
    expected,
    measured,
    network,
    pods,
    read,
    sent,
    summary,
    values,
)

NANO = 1_000_000_000


def on(*names: str) -> dict[str, Any]:
    return {name: {"enabled": True} for name in names}


def facts(source: Any = None) -> PodFacts:
    return PodFacts((source or pods())["items"], ids=True, volumes=True, amounts=True)


def convert(
    source: Any = None,
    known: PodFacts | None = None,
    capacity: Capacity | None = None,
    claims: Claims | None = None,
    **options: Any,
) -> Outcome:
    converter = Converter(Config.model_validate({"auth_type": "none", **options}), 77)
    return converter.convert(summary() if source is None else source, known, capacity or Capacity(), claims, 1234)


def seconds(text: str) -> int:
    import calendar

    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))


def test_the_default_metrics_are_the_kubelets_values() -> None:
    source = summary()
    outcome = convert()
    assert (outcome.errored, outcome.problems) == (0, {})
    node, pod, app, side = read(outcome.payload)
    assert sum(len(p) for _, metrics, _ in (node, pod, app, side) for p in metrics.values()) == outcome.points
    assert node[0] == {"k8s.node.name": "node1"}
    assert values(node[1]) == measured("k8s.node", source["node"], source["node"]["fs"])
    stats = source["pods"][0]
    where = {"k8s.pod.uid": WEB, "k8s.pod.name": "web-0", "k8s.namespace.name": "shop"}
    assert pod[0] == where
    assert values(pod[1]) == measured("k8s.pod", stats, stats["ephemeral-storage"])
    assert app[0] == {**where, "k8s.container.name": "app"}
    assert values(app[1]) == measured("container", stats["containers"][0], stats["containers"][0]["rootfs"])
    assert values(side[1]) == {"container.cpu.time": 5 / NANO, "container.memory.working_set": 9}
    assert network(node[1]) == {
        ("k8s.node.network.io", "eth0", "receive"): 101,
        ("k8s.node.network.errors", "eth0", "receive"): 102,
        ("k8s.node.network.io", "eth0", "transmit"): 103,
        ("k8s.node.network.errors", "eth0", "transmit"): 104,
    }
    assert network(pod[1])["k8s.pod.network.io", "eth0", "transmit"] == 703
    for row, start in ((node, NODE_START), (pod, POD_START), (app, CONTAINER_START)):
        for points in row[1].values():
            assert {(p.start_time_unix_nano, p.time_unix_nano) for p in points} == {(seconds(start) * NANO, 1234)}
    assert node[2].scope_metrics[0].scope.name.endswith("/kubeletstatsreceiver")
    assert not node[2].schema_url


def test_everything_the_kubelet_says_and_nothing_else() -> None:
    outcome = convert(metric_groups=["node", "pod", "container", "volume"])
    assert sent(outcome.payload) == expected(summary())
    assert len(expected(summary())) == outcome.points


def test_groups() -> None:
    def kinds(*groups: str) -> list[str]:
        return [
            max(
                resource,
                key=lambda k: (
                    ("k8s.node.name", "k8s.pod.uid", "k8s.container.name", "k8s.volume.name").index(k)
                    if k in ("k8s.node.name", "k8s.pod.uid", "k8s.container.name", "k8s.volume.name")
                    else -1
                ),
            )
            for resource, _, _ in read(convert(metric_groups=list(groups)).payload)
        ]

    assert kinds("node") == ["k8s.node.name"]
    assert kinds("pod") == ["k8s.pod.uid"]
    assert kinds("container") == ["k8s.container.name"] * 2
    assert kinds("volume") == ["k8s.volume.name"] * 3


def test_all_interfaces() -> None:
    rows = read(convert(metric_groups=["node", "pod"], collect_all_network_interfaces={"node": True}).payload)
    assert {key[1] for key in network(rows[0][1])} == {"eth0", "eth1"}
    assert {key[1] for key in network(rows[1][1])} == {"eth0"}
    assert network(rows[0][1])["k8s.node.network.errors", "eth1", "transmit"] == 204
    rows = read(convert(metric_groups=["pod"], collect_all_network_interfaces={"pod": True}).payload)
    assert {key[1] for key in network(rows[0][1])} == {"eth0", "net1"}


def test_volumes() -> None:
    outcome = convert(
        metric_groups=["volume"], metrics=on("k8s.pod.volume.usage"), extra_metadata_labels=["k8s.volume.type"], known=facts()
    )
    data, cache, token = read(outcome.payload)
    assert data[0] == {
        "k8s.pod.uid": WEB,
        "k8s.pod.name": "web-0",
        "k8s.namespace.name": "shop",
        "k8s.volume.name": "data",
        "k8s.volume.type": "persistentVolumeClaim",
        "k8s.persistentvolumeclaim.name": "data-web-0",
    }
    assert cache[0]["k8s.volume.type"] == "emptyDir"
    assert "k8s.volume.type" not in token[0]
    assert values(data[1]) == {
        "k8s.volume.available": 901,
        "k8s.volume.capacity": 902,
        "k8s.pod.volume.usage": 903,
        "k8s.volume.inodes.free": 904,
        "k8s.volume.inodes": 905,
        "k8s.volume.inodes.used": 906,
    }
    assert {p.start_time_unix_nano for points in data[1].values() for p in points} == {77}


def test_ids_of_containers() -> None:
    outcome = convert(metric_groups=["container"], extra_metadata_labels=["container.id"], known=facts())
    assert [resource["container.id"] for resource, _, _ in read(outcome.payload)] == ["aaa", "bbb"]


def test_what_cannot_be_named_in_full_is_left_out_and_counted() -> None:
    less = pods()
    less["items"][0]["status"]["containerStatuses"][0]["containerID"] = ""
    outcome = convert(extra_metadata_labels=["container.id"], known=facts(less))
    assert (outcome.errored, len(read(outcome.payload))) == (1, 3)
    assert list(outcome.problems.values()) == [f"app of pod {WEB}"]
    outcome = convert(extra_metadata_labels=["container.id"], known=None)
    assert (outcome.errored, len(read(outcome.payload))) == (2, 2)
    assert "/pods could not be read" in next(iter(outcome.problems))


def test_shares_of_limits_and_requests() -> None:
    names = [
        f"k8s.{kind}.{resource}_{of}_utilization"
        for kind in ("pod", "container")
        for resource in ("cpu", "memory")
        for of in ("limit", "request")
    ]
    outcome = convert(metric_groups=["pod", "container"], metrics=on(*names), known=facts())
    pod, app, side = (values(metrics) for _, metrics, _ in read(outcome.payload))
    assert app["k8s.container.cpu_limit_utilization"] == pytest.approx(0.003000009 / 0.1)
    assert app["k8s.container.cpu_request_utilization"] == pytest.approx(0.003000009 / 0.05)
    assert app["k8s.container.memory_limit_utilization"] == 302 / 1024
    assert app["k8s.container.memory_request_utilization"] == 302 / 512
    assert not [name for name in side if "utilization" in name]
    assert pod["k8s.pod.cpu_limit_utilization"] == pytest.approx(0.004000012 / 0.4)
    assert pod["k8s.pod.cpu_request_utilization"] == pytest.approx(0.004000012 / 0.2)
    assert pod["k8s.pod.memory_request_utilization"] == 602 / 1024
    assert "k8s.pod.memory_limit_utilization" not in pod, "one of its containers has no memory limit"


def test_shares_of_the_node() -> None:
    names = [f"k8s.{kind}.{resource}.node.utilization" for kind in ("pod", "container") for resource in ("cpu", "memory")]
    options: dict[str, Any] = {"metric_groups": ["pod", "container"], "metrics": on(*names), "node": "node1"}
    pod, app, _ = (values(metrics) for _, metrics, _ in read(convert(capacity=Capacity(4, 1 << 20), **options).payload))
    assert pod["k8s.pod.cpu.node.utilization"] == pytest.approx(0.004000012 / 4)
    assert app["k8s.container.memory.node.utilization"] == 302 / (1 << 20)
    assert not [name for _, metrics, _ in read(convert(**options).payload) for name in metrics if "utilization" in name]


def test_uptime() -> None:
    rows = read(convert(metrics=on("k8s.node.uptime", "k8s.pod.uptime", "container.uptime")).payload)
    now = time.time()
    for row, name, start in zip(
        rows, ("k8s.node.uptime", "k8s.pod.uptime", "container.uptime"), (NODE_START, POD_START, CONTAINER_START), strict=False
    ):
        assert values(row[1])[name] == pytest.approx(now - seconds(start), abs=5)


def test_metrics_attributes_and_filters() -> None:
    rows = read(
        convert(
            metrics={"container.cpu.time": {"enabled": False}},
            resource_attributes={"k8s.pod.uid": {"enabled": False}, "k8s.container.name": {"metrics_exclude": [{"regexp": "^si"}]}},
        ).payload
    )
    assert [resource.get("k8s.container.name") for resource, _, _ in rows] == [None, None, "app"]
    assert not any("k8s.pod.uid" in resource or "container.cpu.time" in metrics for resource, metrics, _ in rows)


def test_unsigned_values_past_63_bits() -> None:
    source = summary()
    source["node"]["memory"]["availableBytes"] = (1 << 64) - 1
    rows = read(convert(source).payload)
    assert values(rows[0][1])["k8s.node.memory.available"] == -1, "as upstream's conversion to a signed integer"


def test_resources_are_encoded_once_and_forgotten_when_gone() -> None:
    converter = Converter(Config(auth_type="none"))
    for _ in range(3):
        converter.convert(summary(), None, Capacity(), None, 1)
    assert len(converter._resources) == 4
    converter.convert({"node": summary()["node"], "pods": []}, None, Capacity(), None, 1)
    assert len(converter._resources) == 1


@pytest.mark.parametrize("source", [None, [], {}, {"node": None}, "text", 1])
def test_what_is_no_summary(source: Any) -> None:
    with pytest.raises(ValueError, match="no node"):
        Converter(Config(auth_type="none")).convert(source, None, Capacity(), None, 1)


anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=4), inner, max_size=2)),
    max_leaves=4,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(p for key, inner in below for p in places(inner, (*path, key)))]


@given(st.sampled_from([p for p in places(summary()) if len(p) > 1]), anything)
def test_a_wrong_part_costs_that_part_only(path: tuple[Any, ...], wrong: Any) -> None:
    source = summary()
    at: Any = source
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = wrong
    outcome = convert(
        source,
        facts(),
        metric_groups=["node", "pod", "container", "volume"],
        extra_metadata_labels=["container.id", "k8s.volume.type"],
        metrics=on("container.uptime", "k8s.pod.uptime"),
    )
    rows = read(outcome.payload)
    assert sum(len(points) for _, metrics, _ in rows for points in metrics.values()) == outcome.points
    if path[0] == "pods":
        assert [r for r, _, _ in rows if "k8s.node.name" in r], "the node is told of"


@given(st.sampled_from([p for p in places(pods()["items"]) if p]), anything)
def test_wrong_pods_never_raise(path: tuple[Any, ...], wrong: Any) -> None:
    source = pods()
    at: Any = source["items"]
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = wrong
    convert(
        None,
        facts(source),
        metric_groups=["node", "pod", "container", "volume"],
        extra_metadata_labels=["container.id", "k8s.volume.type"],
        metrics=on("k8s.pod.cpu_limit_utilization", "k8s.container.memory_limit_utilization"),
    )


@pytest.mark.parametrize(
    "volume, wanted",
    [
        ({"configMap": {"name": "x"}}, {"k8s.volume.type": "configMap"}),
        ({"downwardAPI": {}}, {"k8s.volume.type": "downwardAPI"}),
        ({"secret": {}}, {"k8s.volume.type": "secret"}),
        ({"hostPath": {"path": "/"}}, {"k8s.volume.type": "hostPath"}),
        ({"emptyDir": {}}, {"k8s.volume.type": "emptyDir"}),
        ({"csi": {}}, {}),
        (
            {"awsElasticBlockStore": {"volumeID": "v", "fsType": "ext4", "partition": 3}},
            {"k8s.volume.type": "awsElasticBlockStore", "aws.volume.id": "v", "fs.type": "ext4", "partition": "3"},
        ),
        (
            {"gcePersistentDisk": {"pdName": "p"}},
            {"k8s.volume.type": "gcePersistentDisk", "gce.pd.name": "p", "fs.type": "", "partition": "0"},
        ),
        (
            {"glusterfs": {"endpoints": "e", "path": "/p"}},
            {"k8s.volume.type": "glusterfs", "glusterfs.endpoints.name": "e", "glusterfs.path": "/p"},
        ),
    ],
)
def test_kinds_of_volumes(volume: dict[str, Any], wanted: dict[str, str]) -> None:
    assert dict(volume_attributes(volume)) == wanted
    if set(volume) & {"awsElasticBlockStore", "gcePersistentDisk", "glusterfs"}:
        assert dict(persistent_attributes(volume)) == wanted
    assert dict(persistent_attributes({"local": {"path": "/x"}})) == {"k8s.volume.type": "local"}


def test_facts_of_pods() -> None:
    known = facts()
    assert known.namespaces == {WEB: "shop", INIT: "shop"}
    assert known.pod_amounts[INIT].cpu_limit == 0
    init = pods()
    init["items"][0]["status"]["initContainerStatuses"] = [{"name": "first", "containerID": "docker://ccc"}]
    assert facts(init).container_ids[WEB, "first"] == "ccc"
