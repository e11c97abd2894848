"""What the exporter adds to scraped samples: external labels, copied resource attributes, and `target_info` of each target."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from operator import attrgetter

from kofagent.exporters.prometheusremotewrite.cache import ROTATE_SECONDS
from kofagent.exporters.prometheusremotewrite.labels import ResourceLabels, to_labels
from kofagent.telemetry.batch import MetricBatch, Samples
from kofagent.telemetry.series import Series, encode_labels, sorted_labels
from kofagent.wire import remote_write
from kofagent.wire.attributes import encode_attributes

MAX_LABELLED_SERIES = 100_000
MAX_TARGETS = 10_000
_wire = attrgetter("wire")


class Labelled(dict[Series, bytes]):
    """Label bytes of a series with more labels where it has none; a series not seen for two generations is forgotten."""

    def __init__(self, more: Mapping[str, str]) -> None:
        super().__init__()
        self._more = dict(more)
        self._old: dict[Series, bytes] = {}
        self._until = time.monotonic() + ROTATE_SECONDS

    def rotate(self) -> None:
        """Begins a new generation when it is time."""
        now = time.monotonic()
        if now > self._until or len(self) > MAX_LABELLED_SERIES:
            self._until = now + ROTATE_SECONDS
            self._old = dict(self)
            self.clear()

    def __missing__(self, series: Series) -> bytes:
        encoded = self._old.pop(series, None)
        if encoded is None:
            labels = remote_write.with_labels(series.labels, self._more)
            encoded = series.wire if len(labels) == len(series.labels) else encode_labels(tuple(labels))
        self[series] = encoded
        return encoded


class _Target:
    """A resource of scraped samples: the series that describes it, and the labels its series are given."""

    __slots__ = ("info", "labelled")

    def __init__(self, info: bytes, labelled: Labelled | None) -> None:
        self.info = info
        self.labelled = labelled


class Targets:
    """Remembers per resource what is added; `copy` chooses the attributes that become labels, None: none do."""

    def __init__(self, external: Mapping[str, str], copy: Callable[[str], bool] | None, target_info: bool, namespace: str) -> None:
        self._external = dict(external)
        self._copy = copy
        self._target_info = target_info
        self._name = f"{namespace}_target_info" if namespace else "target_info"
        self._plain = _Target(b"", Labelled(external) if external else None)
        self._known: dict[tuple[tuple[str, str], ...], _Target] = {}

    def rotate(self) -> None:
        """Lets go of series and targets that were not seen for long."""
        for target in (self._plain, *self._known.values()):
            if target.labelled is not None:
                target.labelled.rotate()
        if len(self._known) > MAX_TARGETS:
            self._known.clear()

    def label_bytes(self, group: Samples) -> list[bytes]:
        """The finished label bytes of a group's series."""
        labelled = self._target(group).labelled
        return list(map(_wire, group.series)) if labelled is None else list(map(labelled.__getitem__, group.series))

    def infos(self, batch: MetricBatch) -> list[bytes]:
        """A `target_info` sample for each resource in the batch, at the time of its newest sample."""
        newest: dict[bytes, int] = {}
        for group in batch.groups:
            info = self._target(group).info
            if info and group.series:
                at = group.timestamp_ms
                newest[info] = max(newest.get(info, 0), at if isinstance(at, int) else max(at))
        return [remote_write.timeseries(info, remote_write.sample(1.0, at)) for info, at in newest.items()]

    def _target(self, group: Samples) -> _Target:
        if not group.resource or not (self._target_info or self._copy):
            return self._plain
        key = tuple(group.resource.items())
        found = self._known.get(key)
        if found is None:
            labels = ResourceLabels(encode_attributes(group.resource), self._copy)
            info = b""
            if self._target_info and labels.target_info:
                info = encode_labels(sorted_labels({**self._external, **labels.target_info, "__name__": self._name}))
            labelled = Labelled({**to_labels(labels.copied), **self._external}) if labels.copied else self._plain.labelled
            found = self._known[key] = _Target(info, labelled)
        return found
