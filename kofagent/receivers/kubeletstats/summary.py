"""The kubelet's /stats/summary (k8s.io/kubelet stats/v1alpha1) as OTLP metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from kofagent import __version__
from kofagent.component.metric_options import ResourceFilter, switched_on
from kofagent.memory.memo import Memo
from kofagent.receivers.kubeletstats.catalog import CATALOG, RESOURCE_ATTRIBUTES, SCOPE
from kofagent.receivers.kubeletstats.claims import Claims
from kofagent.receivers.kubeletstats.config import Config
from kofagent.receivers.kubeletstats.pods import NOTHING, Amounts, PodFacts, claim_of, volume_attributes
from kofagent.transform.otlp_metrics import Metric, MetricWriter, Pairs, resource_bytes

_MEMORY = (
    ("available", "availableBytes"),
    ("usage", "usageBytes"),
    ("rss", "rssBytes"),
    ("working_set", "workingSetBytes"),
    ("page_faults", "pageFaults"),
    ("major_page_faults", "majorPageFaults"),
)
_FILES = (("available", "availableBytes"), ("capacity", "capacityBytes"), ("usage", "usedBytes"))
_VOLUME = (
    ("k8s.volume.available", "availableBytes"),
    ("k8s.volume.capacity", "capacityBytes"),
    ("k8s.pod.volume.usage", "usedBytes"),
    ("k8s.volume.inodes", "inodes"),
    ("k8s.volume.inodes.free", "inodesFree"),
    ("k8s.volume.inodes.used", "inodesUsed"),
)
_NETWORK = (("io", "rxBytes", "txBytes"), ("errors", "rxErrors", "txErrors"))
Stats = Mapping[str, Any]
Points = list[tuple[Metric, float, Pairs]]


class Capacity(NamedTuple):
    """What the node has: CPUs in cores, memory in bytes; 0 if it is not known."""

    cpu: float = 0
    memory: float = 0


class Outcome(NamedTuple):
    """One collection: the payload and its points, resources that could not be described, and why (kind of problem: a case)."""

    payload: bytes
    points: int
    errored: int
    problems: dict[str, str]


class Converter:
    """Turns summaries into payloads; the bytes of a resource are made once for as long as it is there.

    `start_ns` is the start time of volumes' points: the kubelet does not say since when there is a volume.
    """

    def __init__(self, config: Config, start_ns: int = 0) -> None:
        self._start_ns = start_ns
        self._on = {name: CATALOG[name].metric for name in config.on()}
        self._groups = frozenset(config.metric_groups)
        self._labels = frozenset(config.extra_metadata_labels)
        self._interfaces = config.collect_all_network_interfaces
        self._attributes = switched_on(RESOURCE_ATTRIBUTES, config.resource_attributes)
        self._filter = ResourceFilter(config.resource_attributes)
        self._writer = MetricWriter(SCOPE, __version__)
        self._resources: dict[Pairs, bytes | None] = {}
        self._used: dict[Pairs, bytes | None] = {}

    def convert(self, summary: Any, facts: PodFacts | None, capacity: Capacity, claims: Claims | None, time_ns: int) -> Outcome:
        """`facts` is None when /pods was not asked for or could not be read. ValueError when it is no summary."""
        if not isinstance(summary, dict) or not isinstance(summary.get("node"), dict):
            raise ValueError("the kubelet's /stats/summary has no node")
        errored = 0
        problems: dict[str, str] = {}
        for stats in self._parts(summary, facts, capacity, claims):
            if isinstance(stats, _Problem):
                errored += 1
                problems.setdefault(stats.kind, stats.detail)
            else:
                resource, points, start_ns = stats
                self._write(resource, points, start_ns, time_ns)
        self._resources, self._used = self._used, {}
        return Outcome(*self._writer.take(), errored, problems)

    def _write(self, resource: Pairs, points: Points, start_ns: int, time_ns: int) -> None:
        if not points:
            return
        try:
            encoded = self._used[resource] = self._resources[resource]
        except KeyError:
            kept = [(name, value) for name, value in resource if name in self._attributes]
            wanted = not self._filter or self._filter(dict(kept))
            encoded = self._used[resource] = resource_bytes(kept) if wanted else None
        if encoded is not None:
            for metric, value, attributes in points:
                self._writer.add(metric, value, attributes, start_ns=start_ns, time_ns=time_ns)
            self._writer.end_resource(encoded)

    def _parts(
        self, summary: Stats, facts: PodFacts | None, capacity: Capacity, claims: Claims | None
    ) -> Iterator[tuple[Pairs, Points, int] | _Problem]:
        if "node" in self._groups:
            yield _guarded(self._node, summary["node"])
        for pod in _list(summary.get("pods")):
            try:
                reference = pod["podRef"]
                uid = str(reference["uid"])
                where = (
                    ("k8s.pod.uid", uid),
                    ("k8s.pod.name", str(reference["name"])),
                    ("k8s.namespace.name", str(reference["namespace"])),
                )
                containers, volumes = _list(pod.get("containers")), _list(pod.get("volume"))
            except (AttributeError, KeyError, TypeError):
                yield _Problem("the kubelet returned a pod without podRef", "")
                continue
            if "pod" in self._groups:
                yield _guarded(self._pod, pod, where, uid, facts, capacity)
            if "container" in self._groups:
                for stats in containers:
                    yield _guarded(self._container, stats, where, uid, facts, capacity)
            if "volume" in self._groups:
                for stats in volumes:
                    yield _guarded(self._volume, stats, where, uid, facts, claims)

    def _node(self, node: Stats) -> tuple[Pairs, Points, int]:
        points: Points = []
        self._measured(points, "k8s.node", "", node, node.get("fs"), NOTHING, Capacity())
        self._network(points, "k8s.node", node.get("network"), self._interfaces.node)
        return (("k8s.node.name", str(node.get("nodeName") or "")),), points, start_of(node)

    def _pod(self, pod: Stats, where: Pairs, uid: str, facts: PodFacts | None, capacity: Capacity) -> tuple[Pairs, Points, int]:
        points: Points = []
        amounts = facts.pod_amounts.get(uid, NOTHING) if facts is not None else NOTHING
        self._measured(points, "k8s.pod", "k8s.pod", pod, pod.get("ephemeral-storage"), amounts, capacity)
        self._network(points, "k8s.pod", pod.get("network"), self._interfaces.pod)
        return where, points, start_of(pod)

    def _container(
        self, stats: Stats, where: Pairs, uid: str, facts: PodFacts | None, capacity: Capacity
    ) -> tuple[Pairs, Points, int]:
        name = str(stats["name"])
        resource: Pairs = (*where, ("k8s.container.name", name))
        if "container.id" in self._labels:
            if facts is None:
                raise _Missing("container.id is not known: the kubelet's /pods could not be read", "")
            container_id = facts.container_ids.get((uid, name))
            if not container_id:
                raise _Missing("/pods has no container.id for some containers", f"{name} of pod {uid}")
            resource += (("container.id", container_id),)
        amounts = facts.container_amounts.get((uid, name), NOTHING) if facts is not None else NOTHING
        points: Points = []
        self._measured(points, "container", "k8s.container", stats, stats.get("rootfs"), amounts, capacity)
        return resource, points, start_of(stats)

    def _volume(
        self, stats: Stats, where: Pairs, uid: str, facts: PodFacts | None, claims: Claims | None
    ) -> tuple[Pairs, Points, int]:
        name = str(stats["name"])
        resource: Pairs = (*where, ("k8s.volume.name", name))
        if "k8s.volume.type" in self._labels:
            if facts is None:
                raise _Missing("k8s.volume.type is not known: the kubelet's /pods could not be read", "")
            volume = facts.volumes.get((uid, name))
            if volume is None:
                raise _Missing("/pods does not have some of the volumes", f"{name} of pod {uid}")
            attributes = dict(volume_attributes(volume))
            if claims is not None and claim_of(volume) is not None:
                if (uid, name) not in claims.attributes:
                    raise _Missing("cannot read the persistent volume of a claim", claims.problems.get((uid, name), ""))
                attributes |= claims.attributes[uid, name]
            resource += tuple(attributes.items())
        points: Points = []
        for metric_name, key in _VOLUME:
            self._add(points, metric_name, stats.get(key))
        return resource, points, self._start_ns

    def _measured(
        self, points: Points, prefix: str, ratios: str, stats: Stats, files: Stats | None, amounts: Amounts, capacity: Capacity
    ) -> None:
        """Uptime, CPU, memory and file system."""
        metric = self._on.get(f"{prefix}.uptime")
        if metric is not None and start_of(stats):
            points.append((metric, max(0, int(datetime.now(UTC).timestamp() - start_of(stats) / 1e9)), ()))
        cpu, memory = stats.get("cpu") or {}, stats.get("memory") or {}
        nano = cpu.get("usageNanoCores")
        self._add(points, f"{prefix}.cpu.usage", nano, 1_000_000_000)
        self._add(points, f"{prefix}.cpu.time", cpu.get("usageCoreNanoSeconds"), 1_000_000_000)
        for name, key in _MEMORY:
            self._add(points, f"{prefix}.memory.{name}", memory.get(key))
        if ratios:
            used = memory.get("usageBytes")
            for resource, value, node, limit, request in (
                ("cpu", None if nano is None else nano / 1_000_000_000, capacity.cpu, amounts.cpu_limit, amounts.cpu_request),
                ("memory", used, capacity.memory, amounts.memory_limit, amounts.memory_request),
            ):
                for of, whole in ((".node.utilization", node), ("_limit_utilization", limit), ("_request_utilization", request)):
                    if whole > 0:
                        self._add(points, f"{ratios}.{resource}{of}", value, whole)
        if files is not None:
            for name, key in _FILES:
                self._add(points, f"{prefix}.filesystem.{name}", files.get(key))

    def _network(self, points: Points, prefix: str, network: Stats | None, every: bool) -> None:
        if network is None:
            return
        for interface in (network.get("interfaces") or ()) if every else (network,):
            name = str(interface.get("name") or "")
            for metric_name, received, sent in _NETWORK:
                for key, direction in ((received, "receive"), (sent, "transmit")):
                    self._add(
                        points,
                        f"{prefix}.network.{metric_name}",
                        interface.get(key),
                        1,
                        (("interface", name), ("direction", direction)),
                    )

    def _add(self, points: Points, name: str, value: Any, divide: float = 1, attributes: Pairs = ()) -> None:
        metric = self._on.get(name)
        if metric is None or value is None:
            return
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise TypeError(name)
        points.append((metric, value / divide if metric.double else value, attributes))


class _Problem(NamedTuple):
    kind: str
    detail: str


class _Missing(Exception):
    """A resource cannot be named in full, so it is left out."""


def _guarded(describe: Any, stats: Any, *more: Any) -> tuple[Pairs, Points, int] | _Problem:
    try:
        found: tuple[Pairs, Points, int] = describe(stats, *more)
        return found
    except _Missing as missing:
        return _Problem(*missing.args)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return _Problem(
            "the kubelet returned something that does not conform to stats/v1alpha1", f"{type(error).__name__}: {error}"[:200]
        )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def start_of(stats: Stats) -> int:
    """`startTime` as Unix nanoseconds; 0 if it is missing."""
    text = stats.get("startTime")
    return _nanoseconds(text) if text else 0


def _parse_time(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0, int(moment.timestamp() * 1_000_000) * 1000)


_nanoseconds = Memo("kubeletstats.times", _parse_time, entries=4096, size=1 << 20).__getitem__
