"""The known pods, found by attributes of the telemetry. No I/O; times are given by the caller.

A pod is known by one key for each rule of `pod_association` (several where it has several addresses or containers). Where two
pods have had the same address, the one started later has it. A pod that was deleted, and a key that a pod has lost, stay for
the grace period. Pods are kept packed: as dicts 5000 of them would take 5 to 20 MiB.
"""

from __future__ import annotations

import ipaddress
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from kofagent.kubernetes.store import Packer
from kofagent.processors.k8sattributes.extract import CONFIG_HASH, Extraction, Object, addresses, container_ids

Key = str | tuple[str, ...]
Place = tuple[int, Key]
"""A rule's number and the values of its sources."""
Rules = Sequence[Sequence[str]]
"""The attributes of each rule's sources; an empty name is the sender's address."""
MAX_GONE = 20_000


class Known:
    """A pod and what depends on it."""

    __slots__ = ("gone", "ignored", "packed", "uid", "users")

    def __init__(self, uid: str) -> None:
        self.uid = uid
        self.packed = b""
        """The pod; `Pods.pod` unpacks it."""
        self.ignored = False
        self.gone: float | None = None  # when it is to be forgotten
        self.users: set[Any] | None = None
        """Keys of remembered resources that were made from it."""

    def take_users(self) -> set[Any]:
        """Those keys, which are then no longer remembered here."""
        users, self.users = self.users, None
        return users or set()


class Pods:
    """All known pods. Methods that change something return the keys of remembered resources that are now outdated."""

    def __init__(self, rules: Rules, extraction: Extraction, grace: float) -> None:
        self.rules: Rules = rules or ([""],)
        self._by_default = not rules
        self._extraction = extraction
        self._grace = grace
        self._packer = Packer()
        self._by_place: list[dict[Key, Known]] = [{} for _ in self.rules]
        self._by_uid: dict[str, Known] = {}
        self._leaving: deque[tuple[float, Known, list[Place] | None]] = deque()

    def __len__(self) -> int:
        return len(self._by_uid)

    def put(self, pod: Object, now: float) -> set[Any]:
        """A pod as it is now."""
        uid = str(pod["metadata"].get("uid", ""))
        known = self._by_uid.get(uid)
        stale: set[Any] = set()
        before: list[Place] = []
        if known is None:
            known = self._by_uid[uid] = Known(uid)
        else:
            stale, before = known.take_users(), self.places_of(self.pod(known))
        known.packed, known.ignored = self._packer.pack(dict(pod)), self._extraction.ignored(pod)
        known.gone = None
        places = self.places_of(pod)
        for rule, key in places:
            other = self._by_place[rule].get(key)
            if other is known or (other is not None and other.gone is None and _started(pod) < _started(self.pod(other))):
                continue
            if other is not None:
                stale.update(other.take_users())
            self._by_place[rule][key] = known
        lost = [place for place in before if place not in places]
        if lost:
            self._leaving.append((now + self._grace, known, lost))
        return stale

    def remove(self, pod: Object, now: float) -> None:
        """A pod that was deleted; it stays for the grace period."""
        known = self._by_uid.get(str(pod["metadata"].get("uid", "")))
        if known is not None:
            known.gone = now + self._grace
            self._leaving.append((known.gone, known, None))

    def next_expiry(self) -> float | None:
        """When `expire` has something to do."""
        return self._leaving[0][0] if self._leaving else None

    def expire(self, now: float) -> set[Any]:
        """Forgets what has been gone for the grace period (and the oldest of too many)."""
        stale: set[Any] = set()
        while self._leaving and (self._leaving[0][0] <= now or len(self._leaving) > MAX_GONE):
            until, known, places = self._leaving.popleft()
            if places is None:
                if known.gone != until:  # it came back, and may have gone again since
                    continue
                places = self.places_of(self.pod(known))
                if self._by_uid.get(known.uid) is known:
                    del self._by_uid[known.uid]
            else:
                now_at = self.places_of(self.pod(known))
                places = [place for place in places if place not in now_at]
            for rule, key in places:
                if self._by_place[rule].get(key) is known:
                    del self._by_place[rule][key]
            stale.update(known.take_users())
        return stale

    def pod(self, known: Known) -> Object:
        """The pod itself, unpacked: some microseconds."""
        return self._packer.unpack(known.packed)

    def find(self, place: Place) -> Known | None:
        """The pod at a place; an excluded pod is found with `ignored`."""
        return self._by_place[place[0]].get(place[1])

    def place(self, resource: Mapping[str, Any], sender: str) -> Place | None:
        """The first of `places`."""
        return next(self.places(resource, sender), None)

    def places(self, resource: Mapping[str, Any], sender: str) -> Iterator[Place]:
        """Where to look for the pod of a resource, one after the other: every rule whose sources are all present."""
        if self._by_default:
            for name in ("k8s.pod.ip", "ip", "", "host.name"):
                value = sender if not name else resource.get(name)
                if isinstance(value, str) and value and (name != "host.name" or _is_address(value)):
                    yield 0, value
            return
        for number, names in enumerate(self.rules):
            values = []
            for name in names:
                value = resource.get(name) if name else sender
                if not isinstance(value, str) or not value or (name == "host.name" and not _is_address(value)):
                    break
                values.append(value)
            else:
                if values:
                    yield number, values[0] if len(values) == 1 else tuple(values)

    def sender_of(self, place: Place) -> str:
        """The address by which the place was found (upstream's connection); empty if it was found otherwise."""
        names = self.rules[place[0]]
        if "" not in names:
            return ""
        return place[1] if isinstance(place[1], str) else place[1][list(names).index("")]

    def describe(self, place: Place | None) -> str:
        """The rule as a label of upstream's counter; there are only a few."""
        if place is None:
            return ""
        return "+".join([f"resource_attribute/{name}" if name else "connection" for name in self.rules[place[0]]])

    def places_of(self, pod: Object) -> list[Place]:
        """Where telemetry of this pod will look for it."""
        out: list[Place] = []
        for number, names in enumerate(self.rules):
            values = [self._values(pod, name) for name in names]
            if not values or not all(values):
                continue
            out += [(number, found[0] if len(found) == 1 else found) for found in product(*values)]
        return out

    def _values(self, pod: Object, name: str) -> list[str]:
        metadata = pod["metadata"]
        if name in ("", "k8s.pod.ip", "host.name"):
            return addresses(pod)
        if name == "container.id":
            return container_ids(pod)
        if name == "k8s.pod.uid":
            # the log directory of a static pod is named by the hash of its manifest, its mirror in the API has another uid
            found = [metadata.get("uid"), (metadata.get("annotations") or {}).get(CONFIG_HASH)]
            return [uid for uid in dict.fromkeys(found) if uid]
        if name in ("k8s.pod.name", "k8s.namespace.name"):
            value = metadata.get("name" if name == "k8s.pod.name" else "namespace")
        else:
            value = self._extraction.of_pod(pod, lambda kind, uid: None).get(name)
        return [value] if value else []


def _started(pod: Object) -> str:
    return str((pod.get("status") or {}).get("startTime") or "")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
