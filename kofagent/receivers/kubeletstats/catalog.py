"""The metrics and resource attributes of `kubeletstats`: name, unit, kind, attributes and whether they are on by default.

Facts of upstream's metadata (opentelemetry-collector-contrib 0.149, receiver/kubeletstatsreceiver), which
`tests/receivers/kubeletstats/test_catalog.py` holds a second copy of.
"""

from __future__ import annotations

from typing import NamedTuple

from kofagent.transform.otlp_metrics import Metric

SCOPE = "github.com/open-telemetry/opentelemetry-collector-contrib/receiver/kubeletstatsreceiver"


class Entry(NamedTuple):
    """One metric of the catalogue; `attributes` are those of its points."""

    metric: Metric
    attributes: tuple[str, ...]
    enabled: bool


def _gauge(name: str, unit: str, description: str, *, on: bool = True, double: bool = False) -> Entry:
    return Entry(Metric(name, unit, description, "gauge", double=double), (), on)


def _counter(name: str, unit: str, description: str, attributes: str = "", *, on: bool = True, double: bool = False) -> Entry:
    return Entry(Metric(name, unit, description, "sum", monotonic=True, double=double), tuple(attributes.split()), on)


def _measured(prefix: str, what: str) -> list[Entry]:
    """What the kubelet measures of nodes, pods and containers alike."""
    return [
        _counter(f"{prefix}.cpu.time", "s", f"CPU time of the {what}.", double=True),
        _gauge(f"{prefix}.cpu.usage", "{cpu}", f"CPUs the {what} uses.", double=True),
        _gauge(f"{prefix}.filesystem.available", "By", f"Free bytes of the {what}'s file system."),
        _gauge(f"{prefix}.filesystem.capacity", "By", f"Size of the {what}'s file system."),
        _gauge(f"{prefix}.filesystem.usage", "By", f"Used bytes of the {what}'s file system."),
        _gauge(f"{prefix}.memory.available", "By", f"Memory the {what} may still use."),
        _gauge(f"{prefix}.memory.major_page_faults", "1", f"Page faults of the {what} that read from disk."),
        _gauge(f"{prefix}.memory.page_faults", "1", f"Page faults of the {what}."),
        _gauge(f"{prefix}.memory.rss", "By", f"Resident memory of the {what}."),
        _gauge(f"{prefix}.memory.usage", "By", f"Memory the {what} uses, caches included."),
        _gauge(f"{prefix}.memory.working_set", "By", f"Memory of the {what} that cannot be reclaimed at once."),
        _counter(f"{prefix}.uptime", "s", f"Time since the {what} started.", on=False),
    ]


def _network(prefix: str, what: str) -> list[Entry]:
    return [
        _counter(f"{prefix}.network.errors", "1", f"Network errors of the {what}.", "interface direction"),
        _counter(f"{prefix}.network.io", "By", f"Bytes the {what} sent and received.", "interface direction"),
    ]


def _ratios(prefix: str, what: str) -> list[Entry]:
    return [
        _gauge(f"{prefix}.{resource}{of}", "1", f"{name} use of the {what} as a share of {share}.", on=False, double=True)
        for resource, name in (("cpu", "CPU"), ("memory", "Memory"))
        for of, share in (
            (".node.utilization", "the node's capacity"),
            ("_limit_utilization", "its limits"),
            ("_request_utilization", "its requests"),
        )
    ]


CATALOG: dict[str, Entry] = {
    entry.metric.name: entry
    for entry in (
        *_measured("k8s.node", "node"),
        *_network("k8s.node", "node"),
        *_measured("k8s.pod", "pod"),
        *_network("k8s.pod", "pod"),
        *_ratios("k8s.pod", "pod"),
        *_measured("container", "container"),
        *_ratios("k8s.container", "container"),
        _gauge("k8s.volume.available", "By", "Free bytes of the volume."),
        _gauge("k8s.volume.capacity", "By", "Size of the volume."),
        _gauge("k8s.volume.inodes", "1", "Inodes of the volume."),
        _gauge("k8s.volume.inodes.free", "1", "Free inodes of the volume."),
        _gauge("k8s.volume.inodes.used", "1", "Used inodes of the volume."),
        Entry(Metric("k8s.pod.volume.usage", "By", "Used bytes of the pod's volume.", "sum"), (), False),
    )
}
NODE_RATIOS = tuple(name for name in CATALOG if name.endswith(".node.utilization"))
"""What needs to know the node's capacity."""
OWN_RATIOS = tuple(name for name in CATALOG if name.endswith(("_limit_utilization", "_request_utilization")))
"""What needs to know the requests and limits of containers."""

RESOURCE_ATTRIBUTES: dict[str, bool] = dict.fromkeys(
    (
        "aws.volume.id",
        "container.id",
        "fs.type",
        "gce.pd.name",
        "glusterfs.endpoints.name",
        "glusterfs.path",
        "k8s.container.name",
        "k8s.namespace.name",
        "k8s.node.name",
        "k8s.persistentvolumeclaim.name",
        "k8s.pod.name",
        "k8s.pod.uid",
        "k8s.volume.name",
        "k8s.volume.type",
        "partition",
    ),
    True,
)
"""Whether an attribute is on by default, by name."""
DEFAULTS: dict[str, bool] = {name: entry.enabled for name, entry in CATALOG.items()}
"""Whether a metric is on by default, by name."""
