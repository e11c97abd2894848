"""OTLP metrics -> samples with finished labels.

Labels are worked out once per series: resource, scope, metric and point are looked up by the bytes that identify them, and
what comes out is `Series.wire`-like label bytes. What was not seen for two rotations of the caches is forgotten.
"""

from __future__ import annotations

import math
import struct
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Exemplar

from kofagent.exporters.prometheusremotewrite import histograms
from kofagent.exporters.prometheusremotewrite.labels import ResourceLabels, attributes, decimal, scope_labels, to_labels
from kofagent.exporters.prometheusremotewrite.names import label_name, metric_name, unit_name
from kofagent.exporters.prometheusremotewrite.points import LAYOUTS, Data, Number
from kofagent.telemetry.series import STALE_BITS, encode_labels, sorted_labels
from kofagent.wire import remote_write

STALE: float = struct.unpack("<d", struct.pack("<Q", STALE_BITS))[0]
ROTATE_SECONDS = 600.0
MAX_ENTRIES = 50_000
METADATA_SECONDS = 60.0
MAX_EXEMPLAR_RUNES = 128
_DELTA, _CUMULATIVE = 1, 2
_NUMBERS = frozenset(("gauge", "sum"))
_ANY_TEMPORALITY = frozenset(("gauge", "summary"))


class Options:
    """What of the exporter's configuration the translation depends on."""

    def __init__(self, *, namespace: str = "", external_labels: Mapping[str, str] | None = None, suffixes: bool = True,
                 target_info: bool = True, scope_info: bool = True, copy: Callable[[str], bool] | None = None,
                 metadata: bool = False, custom_buckets: bool = False, keep_classic: bool = False) -> None:
        self.namespace = namespace
        self.external_labels = dict(external_labels or {})
        self.suffixes = suffixes
        self.target_info = target_info
        self.scope_info = scope_info
        self.copy = copy
        self.metadata = metadata
        self.custom_buckets = custom_buckets
        self.keep_classic = keep_classic


class Translated:
    """Columns of samples (`labels[i]`, `values[i]`, `times[i]` in Unix milliseconds) and what does not fit into them."""

    def __init__(self) -> None:
        self.labels: list[bytes] = []
        self.values: list[float] = []
        self.times: list[int] = []
        self.extras: list[bytes] = []
        """Finished `timeseries` fields with native histograms."""
        self.exemplars: dict[int, bytes] = {}
        self.metadata: list[bytes] = []
        self.dropped: dict[str, int] = {}
        """Points left out, by reason."""
        self.colliding = 0
        """Points of metrics whose name another metric of the same resource has after normalisation."""
        self.duplicates = 0
        """Samples left out because the series has one at the same millisecond already."""

    def drop(self, reason: str, points: int) -> None:
        """Counts points that are left out."""
        if points:
            self.dropped[reason] = self.dropped.get(reason, 0) + points


class _Node:
    """Something with children that are forgotten when they were not asked for during two generations."""

    __slots__ = ("generation", "new", "old")

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.new: dict[Any, Any] = {}
        self.old: dict[Any, Any] = {}

    def turn(self, generation: int) -> None:
        self.old = self.new if generation == self.generation + 1 else {}
        self.new = {}
        self.generation = generation

    def find(self, key: Any) -> Any:
        child = self.new.get(key)
        if child is None and self.old:
            child = self.old.pop(key, None)
            if child is not None:
                self.new[key] = child
        return child


class _Resource(_Node):
    __slots__ = ("copied", "identity", "names", "target_info")

    def __init__(self, generation: int, labels: ResourceLabels, target_info: bytes) -> None:
        super().__init__(generation)
        self.identity = labels.identity
        self.copied = labels.copied
        self.target_info = target_info
        self.names: dict[str, str] = {}


class _Scope(_Node):
    __slots__ = ("labels", "resource")

    def __init__(self, generation: int, resource: _Resource, labels: dict[str, str]) -> None:
        super().__init__(generation)
        self.resource = resource
        self.labels = labels


class _Metric(_Node):
    __slots__ = ("collides", "metadata", "name", "scope", "special")

    def __init__(self, generation: int, scope: _Scope, name: str, collides: bool, metadata: bytes) -> None:
        super().__init__(generation)
        self.scope = scope
        self.name = name
        self.collides = collides
        self.metadata = metadata
        self.special = collides or bool(metadata) or not name


class Translator:
    """Turns OTLP metrics into samples; holds the caches. `warn` gets sentences worth logging, each once."""

    def __init__(self, options: Options, warn: Callable[[str], None] = lambda _: None,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._options = options
        self._warn = warn
        self._clock = clock
        self._root = _Node(0)
        self._entries = 0
        self._rotate_at = clock() + ROTATE_SECONDS
        self._warned: set[str] = set()
        self._metadata_sent: dict[bytes, float] = {}
        self._newest = 0

    def translate(self, payload: bytes) -> Translated:
        """The samples of an OTLP metrics payload. ValueError when it is not one."""
        try:
            data = Data.FromString(payload)
        except DecodeError as error:
            raise ValueError(f"not OTLP metrics: {error}") from None
        if self._entries > MAX_ENTRIES or self._clock() > self._rotate_at:
            self._entries = 0
            self._rotate_at = self._clock() + ROTATE_SECONDS
            self._root.turn(self._root.generation + 1)
            self._metadata_sent.clear()
        out = Translated()
        infos: dict[bytes, int] = {}
        for group in data.resource_metrics:
            resource = self._resource(group.resource)
            first = len(out.times)
            self._newest = 0
            for scoped in group.scope_metrics:
                scope = self._scope(resource, scoped.scope)
                known_metrics = scope.new
                for metric in scoped.metrics:
                    kind = metric.WhichOneof("value")
                    if kind is None:
                        continue
                    body = metric.gauge if kind == "gauge" else metric.sum if kind == "sum" else getattr(metric, kind)
                    points = body.data_points
                    counter = False
                    if kind not in _ANY_TEMPORALITY:
                        if body.aggregation_temporality != _CUMULATIVE:
                            self._refuse(kind, body.aggregation_temporality, points, out)
                            continue
                        counter = kind == "sum" and body.is_monotonic
                    known = known_metrics.get((metric.name, metric.unit, kind, counter))
                    if known is None or known.special:
                        known = self._metric(scope, metric, kind, counter)
                        if known.special and not self._attend(known, kind, points, out):
                            continue
                    if kind in _NUMBERS:
                        self._numbers(known, points, out, counter)
                    elif kind == "histogram":
                        self._histograms(known, points, out)
                    elif kind == "summary":
                        self._summaries(known, points, out)
                    else:
                        self._exponential(known, points, out)
            if resource.target_info:
                newest = max(self._newest, max(out.times[first:], default=0), infos.get(resource.target_info, 0))
                if newest:
                    infos[resource.target_info] = newest
        for labels, at in infos.items():
            out.labels.append(labels)
            out.values.append(1.0)
            out.times.append(at)
        distinct = {at: at // 1_000_000 for at in set(out.times)}
        out.times = list(map(distinct.__getitem__, out.times))
        if len(set(out.labels)) != len(out.labels):
            self._untangle(out)
        return out

    def _refuse(self, kind: str, temporality: int, points: Any, out: Translated) -> None:
        out.drop("delta temporality" if temporality == _DELTA else "unknown temporality", len(points))
        self._warn_once(f"temporality {temporality}",
                        "points of delta or unknown temporality are dropped: remote write needs cumulative ones; "
                        "configure the SDK or sender for cumulative temporality")
        self._saw(kind, points)

    def _saw(self, kind: str, points: Any) -> None:
        """Lets points that make no sample count for the time of target_info."""
        for point in points:
            try:
                self._newest = max(self._newest, (Number.FromString(point) if kind in _NUMBERS else point).time_unix_nano)
            except DecodeError:
                continue

    def _attend(self, metric: _Metric, kind: str, points: Any, out: Translated) -> bool:
        """What only few metrics need; False when the points are dropped."""
        if not metric.name:
            out.drop("unusable metric name", len(points))
            self._warn_once("name", "metrics whose name has no letter or digit are dropped")
            self._saw(kind, points)
            return False
        if metric.collides:
            out.colliding += len(points)
        if metric.metadata and self._clock() - self._metadata_sent.get(metric.metadata, -math.inf) > METADATA_SECONDS:
            self._metadata_sent[metric.metadata] = self._clock()
            out.metadata.append(metric.metadata)
        return True

    # --- caches

    def _resource(self, encoded: bytes) -> _Resource:
        root = self._root
        found: _Resource | None = root.find(encoded)
        if found is None:
            options = self._options
            labels = ResourceLabels(encoded, options.copy)
            info = b""
            if options.target_info and labels.target_info:
                name = f"{options.namespace}_target_info" if options.namespace else "target_info"
                info = self._encode({**options.external_labels, **labels.target_info, "__name__": name})
            found = root.new[encoded] = _Resource(root.generation, labels, info)
            self._entries += 1
        elif found.generation != root.generation:
            found.turn(root.generation)
        return found

    def _scope(self, resource: _Resource, encoded: bytes) -> _Scope:
        found: _Scope | None = resource.find(encoded)
        if found is None:
            labels = scope_labels(encoded) if self._options.scope_info else {}
            found = resource.new[encoded] = _Scope(resource.generation, resource, labels)
            self._entries += 1
        elif found.generation != resource.generation:
            found.turn(resource.generation)
        return found

    def _metric(self, scope: _Scope, metric: Any, kind: str, counter: bool) -> _Metric:
        key = (metric.name, metric.unit, kind, counter)
        found: _Metric | None = scope.find(key)
        if found is None:
            original, unit = metric.name.decode("utf-8", "replace"), metric.unit.decode("utf-8", "replace")
            options = self._options
            name = metric_name(original, unit, suffixes=options.suffixes, counter=counter, gauge=kind == "gauge",
                               namespace=options.namespace)
            owner = scope.resource.names.setdefault(name, original)
            if owner != original:
                self._warn_once(f"collision {name}", f"metrics {owner!r} and {original!r} of one resource are both called "
                                f"{name!r} for Prometheus; rename one of them")
            encoded = self._metadata(metric, name, unit, kind, counter) if options.metadata and name else b""
            found = scope.new[key] = _Metric(scope.generation, scope, name, owner != original, encoded)
            self._entries += 1
        elif found.generation != scope.generation:
            found.turn(scope.generation)
        return found

    def _metadata(self, metric: Any, name: str, unit: str, kind: str, counter: bool) -> bytes:
        said = attributes(_pairs(metric.metadata)).get("prometheus.type", "")
        word = {"histogram": "histogram", "exponential_histogram": "histogram", "summary": "summary"}.get(kind, "gauge")
        if counter:
            word = "counter"
        elif (kind == "gauge" and said == "unknown") or (kind == "sum" and said in ("info", "stateset")):
            word = said
        return remote_write.metadata(remote_write.METADATA_TYPES[word], name,
                                     metric.description.decode("utf-8", "replace"), unit_name(unit))

    def _base(self, metric: _Metric, encoded: Iterable[bytes]) -> dict[str, str] | None:
        """The labels of a point without its name; None when its attributes cannot be decoded."""
        scope = metric.scope
        resource = scope.resource
        try:
            values = attributes(_pairs(encoded))
        except DecodeError:
            return None
        values.update(resource.copied)
        out = dict(self._options.external_labels)
        out.update(to_labels(values))
        out.update(resource.identity)
        out.update(scope.labels)
        return out

    def _encode(self, labels: dict[str, str]) -> bytes:
        return encode_labels(sorted_labels(labels))

    def _learn(self, metric: _Metric, key: Any, encoded: Iterable[bytes]) -> bytes | None:
        """The labels of a new series of a gauge, sum or native histogram."""
        labels: bytes | None = metric.old.pop(key, None) if metric.old else None
        if labels is None:
            base = self._base(metric, encoded)
            if base is None:
                return None
            base["__name__"] = metric.name
            labels = self._encode(base)
            self._entries += 1
        metric.new[key] = labels
        return labels

    def _learn_parts(self, metric: _Metric, key: tuple[Any, ...], label: str, values: Iterable[str],
                     suffix: str) -> list[bytes] | None:
        """Labels of the series of a histogram or summary: `_sum`, `_count`, then one for each value of `label`.

        `key` begins with the attributes.
        """
        found: list[bytes] | None = metric.old.pop(key, None) if metric.old else None
        if found is None:
            base = self._base(metric, key[0])
            if base is None:
                return None
            found = _variants(base, metric.name, label, values, suffix)
            self._entries += len(found)
        metric.new[key] = found
        return found

    # --- points

    def _numbers(self, metric: _Metric, points: Any, out: Translated, exemplars: bool) -> None:
        # hot: bench/otlp_metrics, 0.7 us a point: nothing is decoded but time and value, a series is one lookup by the bytes
        # of all its attributes together
        known = metric.new.get
        layout_of = LAYOUTS.get
        add_labels, add_value, add_time = out.labels.append, out.values.append, out.times.append
        for point in points:
            layout = layout_of(point[:27:9])
            if layout is not None:
                unpack, end, swapped = layout
                series = known(point[end:])
                if series is not None and len(point) >= end:
                    if swapped:
                        value, at = unpack(point)
                    else:
                        at, value = unpack(point)
                    if at:
                        add_labels(series)
                        add_value(value)
                        add_time(at)
                        continue
            self._number(metric, point, layout[1] if layout else None, out, exemplars)

    def _number(self, metric: _Metric, encoded: bytes, end: int | None, out: Translated, exemplars: bool) -> None:
        """A point whose series is new or that has more than time, value and attributes."""
        try:
            point = Number.FromString(encoded)
            rest = Number.FromString(encoded[end:]) if end is not None else None
        except DecodeError:
            out.drop("undecodable point", 1)
            return
        plain = rest is not None and not (rest.time_unix_nano or rest.WhichOneof("value") or rest.flags or rest.exemplars)
        key: Any = encoded[end:] if plain else tuple(point.attributes)
        series = metric.new.get(key) or self._learn(metric, key, point.attributes)
        if series is None:
            out.drop("undecodable attributes", 1)
            return
        if not point.time_unix_nano:
            out.drop("no timestamp", 1)
            return
        if exemplars and point.exemplars:
            fields = b"".join([one for _, one in _exemplars(point.exemplars)])
            if fields:
                out.exemplars[len(out.labels)] = fields
        out.labels.append(series)
        out.values.append(STALE if point.flags & 1 else point.as_double or point.as_int or point.as_double)
        out.times.append(point.time_unix_nano)

    def _histograms(self, metric: _Metric, points: Any, out: Translated) -> None:
        options = self._options
        for point in points:
            key = tuple(point.attributes)
            at = point.time_unix_nano
            if not at:
                out.drop("no timestamp", 1)
                continue
            bounds = tuple(point.explicit_bounds)
            if bounds and bounds[-1] == math.inf:
                bounds = bounds[:-1]
            if options.custom_buckets:
                native = metric.new.get(key) or self._learn(metric, key, key)
                if native is None:
                    out.drop("undecodable attributes", 1)
                    continue
                fields = histograms.from_explicit(point, bounds, at // 1_000_000, STALE)
                out.extras.append(remote_write.timeseries(
                    native, b"".join([one for _, one in _exemplars(point.exemplars)]) + fields))
                self._newest = max(self._newest, at)
                if not options.keep_classic:
                    continue
            whole = (key, bounds)
            parts = metric.new.get(whole)
            if parts is None:
                parts = self._learn_parts(metric, whole, "le", ["+Inf", *map(decimal, bounds)], "_bucket")
                if parts is None:
                    out.drop("undecodable attributes", 1)
                    continue
            count = point.count
            rising = list(accumulate(point.bucket_counts))[:len(bounds)]
            values = [point.sum, count, count, *rising]
            if point.flags & 1:
                values = [STALE] * len(values)
            skip = 0 if point.HasField("sum") else 1
            first = len(out.labels)
            out.labels += parts[skip:len(values)]
            out.values += values[skip:]
            out.times += [at] * (len(values) - skip)
            if point.exemplars:
                for value, encoded in _exemplars(point.exemplars):
                    bucket = next((i for i, bound in enumerate(bounds[:len(rising)]) if value <= bound), -1)
                    index = first + 3 - skip + bucket
                    out.exemplars[index] = out.exemplars.get(index, b"") + encoded

    def _summaries(self, metric: _Metric, points: Any, out: Translated) -> None:
        for point in points:
            key = tuple(point.attributes)
            at = point.time_unix_nano
            if not at:
                out.drop("no timestamp", 1)
                continue
            pairs = {q.quantile: q.value for q in point.quantile_values}
            whole = (key, tuple(pairs))
            parts = metric.new.get(whole)
            if parts is None:
                parts = self._learn_parts(metric, whole, "quantile", map(decimal, pairs), "")
                if parts is None:
                    out.drop("undecodable attributes", 1)
                    continue
            values = [point.sum, point.count, *pairs.values()]
            out.labels += parts
            out.values += [STALE] * len(values) if point.flags & 1 else values
            out.times += [at] * len(values)

    def _exponential(self, metric: _Metric, points: Any, out: Translated) -> None:
        for point in points:
            key = tuple(point.attributes)
            at = point.time_unix_nano
            if not at:
                out.drop("no timestamp", 1)
                continue
            self._newest = max(self._newest, at)
            labels = metric.new.get(key) or self._learn(metric, key, key)
            if labels is None:
                out.drop("undecodable attributes", 1)
                continue
            fields = histograms.from_exponential(point, at // 1_000_000, STALE)
            if fields is None:
                out.drop("histogram scale below -4", 1)
                continue
            exemplars = b"".join([one for _, one in _exemplars(point.exemplars)])
            out.extras.append(remote_write.timeseries(labels, exemplars + fields))

    def _untangle(self, out: Translated) -> None:
        """Where a series is there more than once: its samples in the order of time, one a millisecond."""
        places: dict[bytes, list[int]] = {}
        for index, labels in enumerate(out.labels):
            places.setdefault(labels, []).append(index)
        gone: set[int] = set()
        values, times, exemplars = list(out.values), list(out.times), dict(out.exemplars)
        for where in places.values():
            if len(where) == 1:
                continue
            before: int | None = None
            for slot, source in zip(where, sorted(where, key=times.__getitem__), strict=True):
                if times[source] == before:
                    gone.add(slot)
                    continue
                before = times[source]
                out.values[slot], out.times[slot] = values[source], times[source]
                if source in exemplars or slot in exemplars:
                    out.exemplars[slot] = exemplars.get(source, b"")
        if gone:
            keep = [i for i in range(len(out.labels)) if i not in gone]
            out.labels = [out.labels[i] for i in keep]
            out.values = [out.values[i] for i in keep]
            out.times = [out.times[i] for i in keep]
            out.exemplars = {new: out.exemplars[i] for new, i in enumerate(keep) if out.exemplars.get(i)}
            out.duplicates += len(gone)

    def _warn_once(self, key: str, sentence: str) -> None:
        if key not in self._warned and len(self._warned) < 100:
            self._warned.add(key)
            self._warn(sentence)


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


def _pairs(encoded: Iterable[bytes]) -> list[KeyValue]:
    return [KeyValue.FromString(one) for one in encoded]


def _exemplars(encoded: Iterable[bytes]) -> Iterable[tuple[float, bytes]]:
    """Value and `exemplars` field of each exemplar; those that cannot be decoded are left out."""
    for one in encoded:
        try:
            exemplar = Exemplar.FromString(one)
            filtered = attributes(exemplar.filtered_attributes)
        except DecodeError:
            continue
        labels = {}
        if any(exemplar.trace_id):
            labels["trace_id"] = exemplar.trace_id.hex()
        if any(exemplar.span_id):
            labels["span_id"] = exemplar.span_id.hex()
        # OpenMetrics: name and value of all labels have 128 characters at most; the ids are worth more than the rest
        runes = sum(len(k) + len(v) for group in (labels, filtered) for k, v in group.items())
        if runes <= MAX_EXEMPLAR_RUNES:
            labels = {**{name: v for k, v in filtered.items() if (name := label_name(k))}, **labels}
        value = float(exemplar.as_int if exemplar.WhichOneof("value") == "as_int" else exemplar.as_double)
        yield value, remote_write.exemplar(encode_labels(sorted_labels(labels)), value, exemplar.time_unix_nano // 1_000_000)
