"""OTLP metrics -> samples with finished labels.

Labels are worked out once per series and kept in `cache`; what comes out are columns as scraped samples have them.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from kofagent.exporters.prometheusremotewrite import histograms
from kofagent.exporters.prometheusremotewrite.cache import Cache, KnownMetric
from kofagent.exporters.prometheusremotewrite.exemplars import exemplars as decode_exemplars
from kofagent.exporters.prometheusremotewrite.labels import decimal
from kofagent.exporters.prometheusremotewrite.points import LAYOUTS, Data, Number
from kofagent.exporters.prometheusremotewrite.translated import Options, Translated
from kofagent.memory.memo import Memo
from kofagent.telemetry.series import STALE_BITS
from kofagent.wire import remote_write

STALE: float = struct.unpack("<d", struct.pack("<Q", STALE_BITS))[0]
METADATA_SECONDS = 60.0
_DELTA, _CUMULATIVE = 1, 2
_NUMBERS = frozenset(("gauge", "sum"))
_ANY_TEMPORALITY = frozenset(("gauge", "summary"))


class Translator:
    """Turns OTLP metrics into samples; holds the caches. `warn` gets sentences worth logging, each once."""

    def __init__(
        self, options: Options, warn: Callable[[str], None] = lambda _: None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._options = options
        self._warn = warn
        self._clock = clock
        self._cache = Cache(options, self._warn_once, clock)
        self._warned: set[str] = set()
        self._metadata_sent: Memo[bytes, float] = Memo("prometheusremotewrite.metadata_sent", entries=20_000, size=8 << 20)
        self._newest = 0

    def translate(self, payload: bytes) -> Translated:
        """The samples of an OTLP metrics payload. ValueError when it is not one."""
        if self._cache.rotate():
            self._metadata_sent.clear()
        try:
            return self._translate(Data.FromString(payload))
        except DecodeError as error:  # of the payload, a resource or a scope
            raise ValueError(f"not OTLP metrics: {error}") from None

    def _translate(self, data: Any) -> Translated:
        cache = self._cache
        out = Translated()
        infos: dict[bytes, int] = {}
        for group in data.resource_metrics:
            resource = cache.resource(group.resource)
            first = len(out.times)
            self._newest = 0
            for scoped in group.scope_metrics:
                scope = cache.scope(resource, scoped.scope)
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
                        known = cache.metric(scope, metric, kind, counter)
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
        cache.counts.lookups += len(out.labels)
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
        self._warn_once(
            f"temporality {temporality}",
            "points of delta or unknown temporality are dropped: remote write needs cumulative ones; "
            "configure the SDK or sender for cumulative temporality",
        )
        self._saw(kind, points)

    def _saw(self, kind: str, points: Any) -> None:
        """Lets points that make no sample count for the time of target_info."""
        for point in points:
            try:
                self._newest = max(self._newest, (Number.FromString(point) if kind in _NUMBERS else point).time_unix_nano)
            except DecodeError:
                continue

    def _attend(self, metric: KnownMetric, kind: str, points: Any, out: Translated) -> bool:
        """What only few metrics need; False when the points are dropped."""
        if not metric.name:
            out.drop("unusable metric name", len(points))
            self._warn_once("name", "metrics whose name has no letter or digit are dropped")
            self._saw(kind, points)
            return False
        if metric.collides:
            out.colliding += len(points)
        if metric.metadata:
            at = self._metadata_sent.find(metric.metadata)
            if at is None or self._clock() - at > METADATA_SECONDS:
                self._metadata_sent[metric.metadata] = self._clock()
                out.metadata.append(metric.metadata)
        return True

    # --- points

    def _numbers(self, metric: KnownMetric, points: Any, out: Translated, exemplars: bool) -> None:
        # hot: otlp_point, 0.7 us a point: nothing is decoded but time and value, a series is one lookup by the bytes
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

    def _number(self, metric: KnownMetric, encoded: bytes, end: int | None, out: Translated, exemplars: bool) -> None:
        """A point whose series is new or that has more than time, value and attributes."""
        try:
            point = Number.FromString(encoded)
            rest = Number.FromString(encoded[end:]) if end is not None else None
        except DecodeError:
            out.drop("undecodable point", 1)
            return
        plain = rest is not None and not (rest.time_unix_nano or rest.WhichOneof("value") or rest.flags or rest.exemplars)
        key: Any = encoded[end:] if plain else tuple(point.attributes)
        series = metric.new.get(key) or self._cache.learn(metric, key, point.attributes)
        if series is None:
            out.drop("undecodable attributes", 1)
            return
        if not point.time_unix_nano:
            out.drop("no timestamp", 1)
            return
        if exemplars and point.exemplars:
            fields = b"".join([one for _, one in decode_exemplars(point.exemplars)])
            if fields:
                out.exemplars[len(out.labels)] = fields
        out.labels.append(series)
        out.values.append(STALE if point.flags & 1 else point.as_double or point.as_int or point.as_double)
        out.times.append(point.time_unix_nano)

    def _histograms(self, metric: KnownMetric, points: Any, out: Translated) -> None:
        options = self._options
        for point in points:
            key = tuple(point.attributes)
            at = point.time_unix_nano
            if not at:
                out.drop("no timestamp", 1)
                continue
            counted = histograms.below(point)
            if counted is None:
                self._contradicts(at, out)
                continue
            bounds, rising = counted
            if options.custom_buckets:
                if not histograms.apart(bounds):
                    self._contradicts(at, out)
                    continue
                native = metric.new.get(key) or self._cache.learn(metric, key, key)
                if native is None:
                    out.drop("undecodable attributes", 1)
                    continue
                fields = histograms.from_explicit(point, bounds, rising, at // 1_000_000, STALE)
                out.extras.append(
                    remote_write.timeseries(native, b"".join([one for _, one in decode_exemplars(point.exemplars)]) + fields)
                )
                self._newest = max(self._newest, at)
                if not options.keep_classic:
                    continue
            whole = (key, bounds)
            parts = metric.new.get(whole)
            if parts is None:
                if not histograms.apart(bounds):
                    self._contradicts(at, out)
                    continue
                parts = self._cache.learn_parts(metric, whole, "le", ["+Inf", *map(decimal, bounds)], "_bucket")
                if parts is None:
                    out.drop("undecodable attributes", 1)
                    continue
            count = point.count
            values = [point.sum, count, count, *rising]
            if point.flags & 1:
                values = [STALE] * len(values)
            skip = 0 if point.HasField("sum") else 1
            first = len(out.labels)
            out.labels += parts[skip : len(values)]
            out.values += values[skip:]
            out.times += [at] * (len(values) - skip)
            if point.exemplars:
                for value, encoded in decode_exemplars(point.exemplars):
                    bucket = next((i for i, bound in enumerate(bounds[: len(rising)]) if value <= bound), -1)
                    index = first + 3 - skip + bucket
                    out.exemplars[index] = out.exemplars.get(index, b"") + encoded

    def _summaries(self, metric: KnownMetric, points: Any, out: Translated) -> None:
        for point in points:
            key = tuple(point.attributes)
            at = point.time_unix_nano
            if not at:
                out.drop("no timestamp", 1)
                continue
            pairs = {q.quantile: q.value for q in point.quantile_values}
            whole = (key, tuple(pairs))
            parts = metric.new.get(whole)
            if parts is None or len(pairs) != len(point.quantile_values):
                if not histograms.within(pairs, point):
                    self._contradicts(at, out)
                    continue
                parts = self._cache.learn_parts(metric, whole, "quantile", map(decimal, pairs), "")
                if parts is None:
                    out.drop("undecodable attributes", 1)
                    continue
            values = [point.sum, point.count, *pairs.values()]
            out.labels += parts
            out.values += [STALE] * len(values) if point.flags & 1 else values
            out.times += [at] * len(values)

    def _exponential(self, metric: KnownMetric, points: Any, out: Translated) -> None:
        for point in points:
            key = tuple(point.attributes)
            at = point.time_unix_nano
            if not at:
                out.drop("no timestamp", 1)
                continue
            self._newest = max(self._newest, at)
            labels = metric.new.get(key) or self._cache.learn(metric, key, key)
            if labels is None:
                out.drop("undecodable attributes", 1)
                continue
            if point.scale < histograms.MIN_SCALE:
                out.drop("histogram scale below -4", 1)
                continue
            counts = histograms.counted(point)
            if counts is None:
                self._contradicts(at, out)
                continue
            fields = histograms.from_exponential(point, counts, at // 1_000_000, STALE)
            exemplars = b"".join([one for _, one in decode_exemplars(point.exemplars)])
            out.extras.append(remote_write.timeseries(labels, exemplars + fields))

    def _contradicts(self, at: int, out: Translated) -> None:
        """Leaves out a point whose parts contradict each other; it counts for the time of target_info."""
        self._newest = max(self._newest, at)
        out.drop(histograms.INCONSISTENT, 1)
        self._warn_once(
            histograms.INCONSISTENT,
            "points of histograms or summaries that contradict themselves (bounds that do not rise, counts that do not add up) are "
            "dropped: backends refuse them, or calculate garbage from them",
        )

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
