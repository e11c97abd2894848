"""The resources that a target's series belong to: what discovery knows of the target, and what `target_info` on its page says.

`target_info` is no sample (opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics): its labels are attributes of
the resource, from which remote write makes the one `target_info` of the target.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from kofagent.prometheus.columns import Columns, TargetResource
from kofagent.prometheus.target import Target, resource_attributes
from kofagent.telemetry.series import Series

HIDDEN = frozenset({"__name__", "job", "instance", "__scheme__", "__metrics_path__", "service.name", "service.instance.id"})
"""Labels that are no attributes: they are in the resource as what they are."""
TARGET_INFO = "target_info"

_Key = tuple[str, str]
"""`job` and `instance`."""


class Part(NamedTuple):
    """The series of one resource, and their places in the column; no places: it is the whole column."""

    resource: TargetResource
    series: Columns
    places: list[int]


class Resources:
    """The resources of a target as of its last page. A page may have series of others, too (`honor_labels`)."""

    def __init__(self, target: Target, trim_suffixes: bool) -> None:
        self._target = target
        attributes = target.resource()
        self._base = TargetResource(attributes, trim_suffixes=trim_suffixes)
        self._key = attributes.get("service.name", ""), attributes.get("service.instance.id", "")
        self._known = {self._key: self._base}
        self._used = False
        self._column: Sequence[Series] | None = None
        self._parts: list[Part] = []

    @property
    def own(self) -> TargetResource:
        """That of the target."""
        return self._known[self._key]

    def page(self, column: Sequence[Series]) -> tuple[list[Part], list[TargetResource]]:
        """The series of a page by resource, and resources that are over: their attributes changed, or their series are gone."""
        if column is self._column:
            return self._parts, []
        described: dict[_Key, dict[str, str]] = {}
        found = self._by_key(column, described)
        before, self._known = self._known, {}
        for key in {self._key: 0, **found, **described}:
            self._known[key] = self._resource(key, described.get(key, {}), before.get(key))
        self._parts = []
        for key, places in found.items():
            all_of_it = len(places) == len(column)
            series = column if all_of_it and isinstance(column, Columns) else Columns([column[i] for i in places])
            self._parts.append(Part(self._known[key], series, [] if all_of_it else places))
        self._column = column
        return self._parts, self._over(before)

    def failed(self) -> list[TargetResource]:
        """There is no page; the resources that are over. The target's own stays as it was described."""
        before, self._known = self._known, {self._key: self.own}
        self._column, self._parts = None, []
        return self._over(before)

    def ended(self, series: Sequence[Series], over: Collection[TargetResource]) -> list[Part]:
        """Series that ended by resource, with those that are over, whether they had series or not."""
        gone = {_key_of(resource): resource.at_its_end() for resource in over}
        found = self._by_key(series, {})
        out = []
        for key in {**found, **gone}:
            resource = gone.get(key) or self._known.get(key) or self._resource(key, {}, None)
            out.append(Part(resource, Columns([series[i] for i in found.get(key, ())]), []))
        return out

    def last(self, series: Sequence[Series], own: bool) -> list[Part]:
        """As `ended`, of a target that is gone; `own`: its own resource, too, is over."""
        over = [resource for key, resource in self._known.items() if key != self._key or own]
        there = self._by_key(series, {})
        return self.ended(series, [resource for resource in over if _key_of(resource) in there])

    def _over(self, before: Mapping[_Key, TargetResource]) -> list[TargetResource]:
        if not self._used:
            self._used = True
            return []
        return [resource for key, resource in before.items() if self._known.get(key) is not resource]

    def _resource(self, key: _Key, described: Mapping[str, str], before: TargetResource | None) -> TargetResource:
        base = self._base if key == self._key else resource_attributes(*key, self._target.discovered)
        attributes = {**base, **described}
        if before is not None and dict(before) == dict(attributes):
            return before
        return TargetResource(attributes, trim_suffixes=self._base.trim_suffixes)

    def _by_key(self, column: Sequence[Series], described: dict[_Key, dict[str, str]]) -> dict[_Key, list[int]]:
        """Places of series by job and instance; fills `described` with what `target_info` says."""
        found: dict[_Key, list[int]] = {}
        for i, series in enumerate(column):
            job, instance = self._key
            name = ""
            for label, value in series.labels:
                if label == "job":
                    job = value
                elif label == "instance":
                    instance = value
                elif label == "__name__":
                    name = value
            if name == TARGET_INFO:
                about = {label: value for label, value in series.labels if label not in HIDDEN}
                described.setdefault((job, instance), {}).update(about)
            else:
                found.setdefault((job, instance), []).append(i)
        return found


def _key_of(resource: TargetResource) -> _Key:
    return resource.get("service.name", ""), resource.get("service.instance.id", "")
