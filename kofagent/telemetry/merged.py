"""The metrics of several collectors of one process as those of one registry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector


class Merged(Collector):
    """Each family once, with the samples of all registries; labels of a registry are added to those that its samples lack."""

    def __init__(self, parts: Sequence[tuple[CollectorRegistry, Mapping[str, str]]]) -> None:
        self._parts = parts

    def collect(self) -> Iterator[Metric]:
        """As `CollectorRegistry.collect`."""
        families: dict[str, Metric] = {}
        for registry, labels in self._parts:
            for family in registry.collect():
                if labels:
                    family.samples = [s._replace(labels={**labels, **s.labels}) for s in family.samples]
                known = families.setdefault(family.name, family)
                if known is not family:
                    known.samples += family.samples
        yield from families.values()
