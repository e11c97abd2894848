"""What the kubelet's /pods says about pods: ids of containers, volumes, requests and limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from kofagent.kubernetes import quantity
from kofagent.kubernetes.image import container_id

Pairs = list[tuple[str, str]]


class Amounts(NamedTuple):
    """Requests and limits; 0 for those that are not set. CPUs in cores, memory in bytes."""

    cpu_request: float = 0
    cpu_limit: float = 0
    memory_request: float = 0
    memory_limit: float = 0


NOTHING = Amounts()


class PodFacts:
    """What one answer of /pods says."""

    def __init__(self, pods: Iterable[Any], *, ids: bool, volumes: bool, amounts: bool) -> None:
        self.container_ids: dict[tuple[str, str], str] = {}
        self.volumes: dict[tuple[str, str], Mapping[str, Any]] = {}
        self.container_amounts: dict[tuple[str, str], Amounts] = {}
        self.pod_amounts: dict[str, Amounts] = {}
        self.namespaces: dict[str, str] = {}
        self.malformed = 0
        for pod in pods:
            try:
                self._read(pod, ids, volumes, amounts)
            except (AttributeError, KeyError, TypeError):
                self.malformed += 1

    def _read(self, pod: Mapping[str, Any], ids: bool, volumes: bool, amounts: bool) -> None:
        uid = pod["metadata"]["uid"]
        self.namespaces[uid] = pod["metadata"].get("namespace", "")
        spec, status = pod.get("spec") or {}, pod.get("status") or {}
        if ids:
            for kind in ("ephemeralContainerStatuses", "initContainerStatuses", "containerStatuses"):
                for container in status.get(kind) or ():
                    self.container_ids[uid, container["name"]] = container_id(container.get("containerID") or "")
        if volumes:
            for volume in spec.get("volumes") or ():
                self.volumes[uid, volume["name"]] = volume
        if amounts:
            found = []
            for container in spec.get("containers") or ():
                one = self.container_amounts[uid, container["name"]] = _amounts(container.get("resources") or {})
                found.append(one)
            # A pod has a limit only when each of its containers has one.
            self.pod_amounts[uid] = (
                Amounts(*(sum(column) if all(column) else 0 for column in zip(*found, strict=True))) if found else NOTHING
            )


def _amounts(resources: Mapping[str, Any]) -> Amounts:
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    return Amounts(_cpu(requests), _cpu(limits), _memory(requests), _memory(limits))


def _cpu(amounts: Mapping[str, Any]) -> float:
    try:
        return float(quantity.parse(str(amounts.get("cpu", "0"))))
    except ValueError:
        return 0


def _memory(amounts: Mapping[str, Any]) -> float:
    try:
        return quantity.whole(str(amounts.get("memory", "0")))
    except ValueError:
        return 0


_DISKS = (("awsElasticBlockStore", "volumeID", "aws.volume.id"), ("gcePersistentDisk", "pdName", "gce.pd.name"))
_PLAIN = (("configMap", "configMap"), ("downwardAPI", "downwardAPI"), ("emptyDir", "emptyDir"), ("secret", "secret"))


def volume_attributes(volume: Mapping[str, Any]) -> Pairs:
    """The attributes of a pod's volume, by its kind."""
    for key, kind in _PLAIN:
        if volume.get(key) is not None:
            return [("k8s.volume.type", kind)]
    claim = claim_of(volume)
    if claim is not None:
        return [("k8s.volume.type", "persistentVolumeClaim"), ("k8s.persistentvolumeclaim.name", claim)]
    if volume.get("hostPath") is not None:
        return [("k8s.volume.type", "hostPath")]
    return _disk_attributes(volume)


def claim_of(volume: Mapping[str, Any]) -> str | None:
    """The name of the claim of a volume; None without a claim."""
    claim = volume.get("persistentVolumeClaim")
    return None if claim is None else str(claim.get("claimName") or "")


def persistent_attributes(spec: Mapping[str, Any]) -> Pairs:
    """What the spec of a persistent volume says of its kind; replaces what the pod's volume said."""
    if spec.get("local") is not None:
        return [("k8s.volume.type", "local")]
    return _disk_attributes(spec)


def _disk_attributes(source: Mapping[str, Any]) -> Pairs:
    for key, id_field, attribute in _DISKS:
        disk = source.get(key)
        if disk is not None:
            return [
                ("k8s.volume.type", key),
                (attribute, str(disk.get(id_field) or "")),
                ("fs.type", str(disk.get("fsType") or "")),
                ("partition", str(disk.get("partition") or 0)),
            ]
    gluster = source.get("glusterfs")
    if gluster is not None:
        return [
            ("k8s.volume.type", "glusterfs"),
            ("glusterfs.endpoints.name", str(gluster.get("endpoints") or "")),
            ("glusterfs.path", str(gluster.get("path") or "")),
        ]
    return []
