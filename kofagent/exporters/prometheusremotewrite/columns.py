"""What the exporter adds to scraped samples: external labels, copied resource attributes, and `target_info` of each target."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from operator import attrgetter

from kofagent.exporters.prometheusremotewrite.cache import ROTATE_SECONDS
from kofagent.exporters.prometheusremotewrite.labels import ResourceLabels, to_labels
from kofagent.exporters.prometheusremotewrite.naming import Naming
from kofagent.exporters.prometheusremotewrite.translate import STALE
from kofagent.memory.account import ACCOUNT
from kofagent.memory.memo import SLOT, Memo, sizeof
from kofagent.telemetry.batch import MetricBatch, Samples
from kofagent.telemetry.series import Series, encode_labels, sorted_labels
from kofagent.wire import remote_write
from kofagent.wire.attributes import encode_attributes

MAX_LABELLED = 200_000, 64 << 20
"""Entries and bytes of the label bytes of all targets together."""
LOOK_EVERY = 1000
TARGET_BYTES = 600
"""Of a target's objects, without its labels and its series."""
_wire = attrgetter("wire")
Labelled = Memo[Series, bytes]
"""Label bytes of a series with more labels where it has none."""


def _labelled(more: Mapping[str, str], naming: Naming | None) -> Labelled:
    more = dict(more)

    def encode(series: Series) -> bytes:
        labels = remote_write.with_labels(series.labels, more)
        name = series.name
        new = naming.series(series) if naming is not None else name
        if new != name:
            return encode_labels(tuple([(k, new if k == "__name__" else v) for k, v in labels]))
        return series.wire if len(labels) == len(series.labels) else encode_labels(tuple(labels))

    return Memo("prometheusremotewrite.labelled", encode, entries=MAX_LABELLED[0], size=MAX_LABELLED[1])


class _Target:
    """A resource of scraped samples: the series that describes it, and the labels its series are given."""

    __slots__ = ("info", "labelled")

    def __init__(self, info: bytes, labelled: Labelled | None) -> None:
        self.info = info
        self.labelled = labelled


def _target_bytes(key: tuple[tuple[str, str], ...], target: _Target) -> int:
    return SLOT + TARGET_BYTES + sizeof(key) + sizeof(target.info)


class Targets:
    """Remembers per resource what is added; `copy` chooses the attributes that become labels, None: none do.

    `naming`: how names change; None: they do not.
    """

    def __init__(
        self,
        external: Mapping[str, str],
        copy: Callable[[str], bool] | None,
        target_info: bool,
        namespace: str,
        clock: Callable[[], float] = time.monotonic,
        naming: Naming | None = None,
    ) -> None:
        self._external = dict(external)
        self._naming = naming
        self._copy = copy
        self._target_info = target_info
        self._name = f"{namespace}_target_info" if namespace else "target_info"
        self._plain = _Target(b"", _labelled(external, naming) if external or naming is not None else None)
        self._known: Memo[tuple[tuple[str, str], ...], _Target] = Memo(
            "prometheusremotewrite.targets", entries=20_000, size=16 << 20, cost=_target_bytes
        )
        self._until = clock() + ROTATE_SECONDS
        self._clock = clock
        self._new = ACCOUNT.counts("prometheusremotewrite.labelled")
        self._looked = self._new.misses

    def rotate(self) -> None:
        """Lets go of series and targets that were not seen for two generations. Called once a batch."""
        if self._clock() > self._until or self._too_many():
            self._until = self._clock() + ROTATE_SECONDS
            for labelled in self._all():
                labelled.rotate()
            self._known.rotate()

    def _all(self) -> list[Labelled]:
        targets = [self._plain, *[target for _, target in self._known.everything()]]
        return list({id(t.labelled): t.labelled for t in targets if t.labelled is not None}.values())

    def _too_many(self) -> bool:
        """Whether the series of all targets together fill a generation; computed again after LOOK_EVERY new ones."""
        if self._new.misses < self._looked + LOOK_EVERY:
            return False
        self._looked = self._new.misses
        every = self._all()
        entries, size = MAX_LABELLED
        return 2 * sum(map(len, every)) > entries or sum([labelled.size for labelled in every]) > size

    def label_bytes(self, group: Samples) -> list[bytes]:
        """The finished label bytes of a group's series."""
        labelled = self._target(group).labelled
        if labelled is None:
            return list(map(_wire, group.series))
        labelled.counts.lookups += len(group.series)
        return list(map(labelled.__getitem__, group.series))

    def infos(self, batch: MetricBatch) -> list[bytes]:
        """A `target_info` sample for each resource in the batch, at the time of its newest sample; a marker where it is over."""
        newest: dict[bytes, int] = {}
        over: dict[bytes, int] = {}
        for group in batch.groups:
            info = self._target(group).info
            ends = getattr(group.resource, "over", False)
            if info and (group.series or ends):
                at = group.timestamp_ms
                times = over if ends else newest
                times[info] = max(times.get(info, 0), at if isinstance(at, int) else max(at))
        out = [remote_write.timeseries(info, remote_write.sample(1.0, at)) for info, at in newest.items()]
        ended = {info: at for info, at in over.items() if newest.get(info, 0) < at}
        return out + [remote_write.timeseries(info, remote_write.sample(STALE, at)) for info, at in ended.items()]

    def _target(self, group: Samples) -> _Target:
        if not group.resource or not (self._target_info or self._copy):
            return self._plain
        key = tuple(group.resource.items())
        self._known.counts.lookups += 1
        found = self._known.get(key)
        if found is None:
            found = self._known.find(key)
        if found is None:
            labels = ResourceLabels(encode_attributes(group.resource), self._copy)
            info = b""
            if self._target_info and labels.target_info:
                info = encode_labels(sorted_labels({**self._external, **labels.target_info, "__name__": self._name}))
            labelled = (
                _labelled({**to_labels(labels.copied), **self._external}, self._naming) if labels.copied else self._plain.labelled
            )
            found = self._known[key] = _Target(info, labelled)
        return found
