"""What is sent about every object, encoded as far as it does not change: a resource's bytes once per object, its points shared.

Most of a cluster's points say the same (phase 2, 0 restarts, ready): objects share one tuple of points, and of each tuple the
bytes are made once a round. A round over objects that did not change costs two look-ups and a join per resource.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from kofagent.memory.memo import SLOT, Memo, sizeof
from kofagent.receivers.k8s_cluster.model import Described, Point
from kofagent.transform.otlp_metrics import Metric, resource_bytes
from kofagent.wire.varint import length_delimited, varint

Points = tuple[Point, ...]
_Entry = tuple[bytes, Points, bool]


class Snapshot:
    """The encoded resources of all objects, by object."""

    def __init__(self, scope_name: str, scope_version: str, schema_url: str, start_ns: int) -> None:
        scope = length_delimited(1, scope_name.encode()) + (length_delimited(2, scope_version.encode()) if scope_version else b"")
        self.scope = length_delimited(1, scope)
        self.schema = length_delimited(3, schema_url.encode()) if schema_url else b""
        self.start_ns = start_ns
        self.entries: dict[str, tuple[_Entry, ...]] = {}
        self._shared: Memo[Points, Points] = Memo(
            "k8s_cluster.points", lambda points: points, entries=40_000, size=16 << 20, cost=lambda points, _: SLOT + sizeof(points)
        )

    def __len__(self) -> int:
        return len(self.entries)

    def put(self, key: str, described: Iterable[Described]) -> None:
        """Sets what is sent about the object `key` from now on."""
        entries = []
        for resource, points, started in described:
            # message ResourceMetrics {Resource resource = 1; ScopeMetrics scope_metrics = 2; string schema_url = 3;}
            entries.append((length_delimited(1, resource_bytes(resource)), self._shared[points], started))
        if entries:
            self.entries[key] = tuple(entries)
        else:
            self.entries.pop(key, None)

    def remove(self, key: str) -> None:
        """The object was deleted."""
        self.entries.pop(key, None)


def payloads(snapshots: Iterable[Snapshot], time_ns: int, most: int) -> Iterator[tuple[bytes, int]]:
    """(payload, points) of everything, in parts of about `most` points."""
    pieces: list[bytes] = []
    count = 0
    for snapshot in snapshots:
        made: dict[tuple[int, bool], tuple[bytes, int]] = {}
        # Objects change while a part is sent, so a copy of the dictionary is iterated over.
        for resource, points, started in chain.from_iterable(list(snapshot.entries.values())):
            # Shared points are one object, so its address is a key that costs nothing; the entries keep it alive.
            known = made.get((id(points), started))
            if known is None:
                known = made[id(points), started] = (_rest(snapshot, points, started, time_ns), len(points))
            rest, number = known
            pieces += (b"\x0a", varint(len(resource) + len(rest)), resource, rest)
            count += number
            if count >= most:
                yield b"".join(pieces), count
                pieces, count = [], 0
    if count:
        yield b"".join(pieces), count


def _rest(snapshot: Snapshot, points: Points, started: bool, time_ns: int) -> bytes:
    """The fields of a ResourceMetrics behind its resource."""
    metrics: dict[Metric, list[bytes]] = {}
    start_ns = snapshot.start_ns if started else 0
    for metric, value, attributes in points:
        metrics.setdefault(metric, []).append(metric.point(value, attributes, start_ns, time_ns))
    # message ScopeMetrics {InstrumentationScope scope = 1; Metric metrics = 2; string schema_url = 3;}
    body = snapshot.scope + b"".join([length_delimited(2, metric.encode(p)) for metric, p in metrics.items()])
    return length_delimited(2, body) + snapshot.schema
