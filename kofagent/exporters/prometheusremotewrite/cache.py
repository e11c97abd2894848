"""Finished labels by the bytes that identify a series: resource, scope, metric, attributes.

Four levels of dictionaries, each asked with bytes as they came: a Memo would need one long key. What was not asked for during two
generations of ROTATE_SECONDS is forgotten, so series that ended cost nothing for long. MANY new entries make a generation shorter,
but not shorter than SHORTEST_SECONDS: series that are sent every minute would be forgotten in between, and computed again each
time. A generation of MOST entries or MOST_BYTES ends at once. The account of memory sees it as it sees Memos.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from kofagent.exporters.prometheusremotewrite.labels import ResourceLabels, attributes, scope_labels, to_labels
from kofagent.exporters.prometheusremotewrite.names import metric_name, unit_name
from kofagent.exporters.prometheusremotewrite.translated import Options
from kofagent.memory.account import ACCOUNT
from kofagent.memory.memo import Memo, measured
from kofagent.telemetry.series import encode_labels, sorted_labels
from kofagent.wire import remote_write

ROTATE_SECONDS = 600.0
SHORTEST_SECONDS = 60.0
MANY, MOST = 20_000, 500_000
MOST_BYTES = 128 << 20
NODE_BYTES = 400
"""Of a resource, scope or metric: the object, its dicts, its place; without its key."""
_NOTHING: dict[Any, Any] = {}
"""What a new node has from the generation before; shared, for there are several nodes to a series. Never changed."""


class Node:
    """Something with children that are forgotten when they were not asked for during two generations."""

    __slots__ = ("generation", "new", "old")

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.new: dict[Any, Any] = {}
        self.old = _NOTHING

    def turn(self, generation: int) -> None:
        """Begins a generation; what the one before the last had is forgotten."""
        self.old = self.new if generation == self.generation + 1 else _NOTHING
        self.new = {}
        self.generation = generation

    def find(self, key: Any) -> Any:
        """The child of a key, None without one; one of the generation before is kept from now on."""
        child = self.new.get(key)
        if child is None and self.old:
            child = self.take(key)
            if child is not None:
                self.new[key] = child
        return child

    def forget_old(self) -> None:
        """Lets go of the generation before, also of children."""
        self.old = _NOTHING
        for child in self.new.values():
            if isinstance(child, Node):
                child.forget_old()

    def take(self, key: Any) -> Any:
        """What the generation before has for a key, taken from it. An emptied dict keeps its size, so it is let go."""
        child = self.old.pop(key, None) if self.old else None
        if not self.old:
            self.old = _NOTHING
        return child


class Origin(NamedTuple):
    """What resource and scope give to each of their series. Nodes know this and not their parents: what is forgotten must go at
    once, not when the garbage collector looks for cycles."""

    identity: dict[str, str]
    copied: dict[str, str]
    scope: dict[str, str]


class KnownResource(Node):
    """What the series of a resource share; its scopes are below it."""

    __slots__ = ("copied", "identity", "names", "target_info")

    def __init__(self, generation: int, labels: ResourceLabels, target_info: bytes) -> None:
        super().__init__(generation)
        self.identity = labels.identity or _NOTHING
        self.copied = labels.copied or _NOTHING
        self.target_info = target_info
        self.names: dict[str, str] = {}
        """The names of its metrics in Prometheus, with those in OTLP; of this generation."""

    def turn(self, generation: int) -> None:
        """As of every node; names begin again."""
        super().turn(generation)
        self.names = {}


class KnownScope(Node):
    """What the series of a scope share; its metrics are below it."""

    __slots__ = ("names", "origin")

    def __init__(self, generation: int, resource: KnownResource, labels: dict[str, str]) -> None:
        super().__init__(generation)
        self.names = resource.names
        self.origin = Origin(resource.identity, resource.copied, labels)


class KnownMetric(Node):
    """What the series of a metric share; they are below it."""

    __slots__ = ("collides", "metadata", "name", "origin", "special")

    def __init__(self, generation: int, origin: Origin, name: str, collides: bool, metadata: bytes) -> None:
        super().__init__(generation)
        self.origin = origin
        self.name = name
        self.collides = collides
        self.metadata = metadata
        self.special = collides or bool(metadata) or not name


class Held:
    """What a generation holds."""

    __slots__ = ("entries", "size")

    def __init__(self) -> None:
        self.entries = self.size = 0

    def add(self, entries: int, size: int) -> None:
        """Counts what came, with negative numbers what went."""
        self.entries += entries
        self.size += size


class Cache:
    """The caches of one exporter. `warn(key, sentence)` is called for what should be logged."""

    name = "prometheusremotewrite.series"

    def __init__(self, options: Options, warn: Callable[[str, str], None], clock: Callable[[], float]) -> None:
        self._options = options
        self._warn = warn
        self._clock = clock
        self.root = Node(0)
        self.max_entries, self.max_size = 2 * MOST, 2 * MOST_BYTES
        self._new = 0
        """Entries that this generation had to work out; the others were in the one before."""
        self._young, self._old = Held(), Held()
        self._since = clock()
        self.counts = ACCOUNT.join(self)
        self._names: Memo[Any, tuple[Any, str, str]] = Memo("prometheusremotewrite.names", entries=8192, size=4 << 20)
        """By metric: its key, its name, and its name in Prometheus; shared by all resources that have it."""
        self._scopes: Memo[bytes, tuple[bytes, dict[str, str]]] = Memo("prometheusremotewrite.scopes", entries=8192, size=4 << 20)
        self._same: Memo[bytes, bytes] = Memo("prometheusremotewrite.labels", _itself, entries=8192, size=4 << 20)
        """Labels that series of several resources have in common, as all do whose resources give no labels."""

    def rotate(self) -> bool:
        """Begins a new generation when it is time; True when it did."""
        now = self._clock()
        full = self._young.entries >= MOST or self._young.size >= MOST_BYTES
        if not full and now <= self._since + (ROTATE_SECONDS if self._new <= MANY else SHORTEST_SECONDS):
            return False
        self._new = 0
        self._since = now
        self.root.turn(self.root.generation + 1)
        self.counts.evictions += self._old.entries
        self._young, self._old = Held(), self._young
        return True

    @property
    def entries(self) -> int:
        """Resources, scopes, metrics and series of both generations."""
        return self._young.entries + self._old.entries

    @property
    def size(self) -> int:
        """Their estimated bytes."""
        return self._young.size + self._old.size

    def shrink(self) -> int:
        """Drops the previous generation, or the present one if there is no previous one; returns the estimated bytes."""
        gone = self._old if self._old.entries else self._young
        if gone is self._old:
            self.root.forget_old()
            self._old = Held()
        else:
            self.root.new = {}
            self._young = Held()
        self.counts.evictions += gone.entries
        return gone.size

    def _made(self, entries: int, size: int) -> None:
        """There is something new."""
        self._new += entries
        self._young.add(entries, size)

    def _moved(self, entries: int, size: int) -> None:
        """Something of the generation before was asked for again."""
        self._young.add(entries, size)
        self._old.add(-entries, -size)

    def resource(self, encoded: bytes) -> KnownResource:
        """The node of a Resource message."""
        root = self.root
        found: KnownResource | None = root.find(encoded)
        if found is None:
            options = self._options
            labels = ResourceLabels(encoded, options.copy)
            info = b""
            if options.target_info and labels.target_info:
                name = f"{options.namespace}_target_info" if options.namespace else "target_info"
                info = self._encode({**options.external_labels, **labels.target_info, "__name__": name})
            found = root.new[encoded] = KnownResource(root.generation, labels, info)
            self._made(1, NODE_BYTES + 2 * len(encoded) + len(info))
        elif found.generation != root.generation:
            found.turn(root.generation)
            self._moved(1, NODE_BYTES + 2 * len(encoded) + len(found.target_info))
        return found

    def scope(self, resource: KnownResource, encoded: bytes) -> KnownScope:
        """The node of an InstrumentationScope message below a resource."""
        found: KnownScope | None = resource.find(encoded)
        if found is None:
            shared = self._scopes.find(encoded)
            if shared is None:
                shared = self._scopes[encoded] = encoded, scope_labels(encoded) if self._options.scope_info else {}
            encoded, labels = shared
            found = resource.new[encoded] = KnownScope(resource.generation, resource, labels)
            self._made(1, NODE_BYTES)
        elif found.generation != resource.generation:
            found.turn(resource.generation)
            found.names = resource.names
            self._moved(1, NODE_BYTES)
        return found

    def metric(self, scope: KnownScope, metric: Any, kind: str, counter: bool) -> KnownMetric:
        """The node of a metric of this kind (`gauge`, `sum`, ...) below a scope."""
        key = (metric.name, metric.unit, kind, counter)
        found: KnownMetric | None = scope.find(key)
        if found is None:
            options, unit = self._options, metric.unit.decode("utf-8", "replace")
            scraped = options.suffixes and not options.scraped_suffixes and _is_of_page(metric.metadata)
            shared = self._names.find((scraped, key))
            if shared is None:
                original = metric.name.decode("utf-8", "replace")
                shared = self._names[scraped, key] = (
                    key,
                    original,
                    metric_name(
                        original,
                        unit,
                        suffixes=options.suffixes and not scraped,
                        counter=counter,
                        gauge=kind == "gauge",
                        namespace=options.namespace,
                    ),
                )
            key, original, name = shared
            owner = scope.names.setdefault(name, original)
            if owner != original:
                self._warn(
                    f"collision {name}",
                    f"metrics {owner!r} and {original!r} of one resource are both called "
                    f"{name!r} for Prometheus; rename one of them",
                )
            encoded = self._metadata(metric, name, unit, kind, counter) if options.metadata and name else b""
            found = scope.new[key] = KnownMetric(scope.generation, scope.origin, name, owner != original, encoded)
            self._made(1, NODE_BYTES + len(encoded))
        elif found.generation != scope.generation:
            found.turn(scope.generation)
            scope.names.setdefault(found.name, metric.name.decode("utf-8", "replace"))
            self._moved(1, NODE_BYTES + len(found.metadata))
        return found

    def _metadata(self, metric: Any, name: str, unit: str, kind: str, counter: bool) -> bytes:
        said = attributes(_pairs(metric.metadata)).get("prometheus.type", "")
        word = {"histogram": "histogram", "exponential_histogram": "histogram", "summary": "summary"}.get(kind, "gauge")
        if counter:
            word = "counter"
        elif (kind == "gauge" and said == "unknown") or (kind == "sum" and said in ("info", "stateset")):
            word = said
        return remote_write.metadata(
            remote_write.METADATA_TYPES[word], name, metric.description.decode("utf-8", "replace"), unit_name(unit)
        )

    def _base(self, metric: KnownMetric, encoded: Iterable[bytes]) -> dict[str, str] | None:
        """The labels of a point without its name; None when its attributes cannot be decoded."""
        origin = metric.origin
        try:
            values = attributes(_pairs(encoded))
        except DecodeError:
            return None
        values.update(origin.copied)
        out = dict(self._options.external_labels)
        out.update(to_labels(values))
        out.update(origin.identity)
        out.update(origin.scope)
        return out

    def _encode(self, labels: dict[str, str]) -> bytes:
        return encode_labels(sorted_labels(labels))

    def learn(self, metric: KnownMetric, key: Any, encoded: Iterable[bytes]) -> bytes | None:
        """The labels of a new series of a gauge, sum or native histogram."""
        labels: bytes | None = metric.take(key)
        if labels is not None:
            self._moved(1, measured(key, labels))
        else:
            base = self._base(metric, encoded)
            if base is None:
                return None
            base["__name__"] = metric.name
            labels = self._encode(base)
            labels = self._same[labels]
            self._made(1, measured(key, labels))
            self.counts.misses += 1
        metric.new[key] = labels
        return labels

    def learn_parts(
        self, metric: KnownMetric, key: tuple[Any, ...], label: str, values: Iterable[str], suffix: str
    ) -> list[bytes] | None:
        """Labels of the series of a histogram or summary: `_sum`, `_count`, then one for each value of `label`.

        `key` begins with the attributes.
        """
        found: list[bytes] | None = metric.take(key)
        if found is not None:
            self._moved(len(found), measured(key, found))
        else:
            base = self._base(metric, key[0])
            if base is None:
                return None
            found = _variants(base, metric.name, label, values, suffix)
            self._made(len(found), measured(key, found))
            self.counts.misses += len(found)
        metric.new[key] = found
        return found


def _itself(labels: bytes) -> bytes:
    return labels


def _variants(base: dict[str, str], name: str, label: str, values: Iterable[str], suffix: str) -> list[bytes]:
    """Label bytes of `name_sum`, `name_count` and, for each value, of `name<suffix>` with the label: what they share, once."""
    shared = sorted_labels({k: v for k, v in base.items() if k not in ("__name__", label)})
    names = [k.encode("utf-8", "surrogatepass") for k, _ in shared]
    at, then = bisect_left(names, b"__name__"), bisect_left(names, label.encode())  # "__name__" sorts before both labels
    first, middle, last = encode_labels(shared[:at]), encode_labels(shared[at:then]), encode_labels(shared[then:])
    # a label of the point that is called as ours stays where ours is not
    own = encode_labels(((label, base[label]),)) if base.get(label) else b""
    out = [first + encode_labels((("__name__", name + end),)) + middle + own + last for end in ("_sum", "_count")]
    start = first + encode_labels((("__name__", name + suffix),)) + middle
    return out + [start + encode_labels(((label, value),)) + last for value in values]


def _is_of_page(metadata: Iterable[bytes]) -> bool:
    """Whether the name of a metric with this metadata (KeyValue messages) is that of a scraped page."""
    keys = {pair[: 2 + pair[1]] for pair in metadata if len(pair) > 1}
    return b"\x0a\x0fprometheus.type" in keys and b"\x0a\x10kofagent.trimmed" not in keys


def _pairs(encoded: Iterable[bytes]) -> list[KeyValue]:
    return [KeyValue.FromString(one) for one in encoded]
