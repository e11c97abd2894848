"""Names of scraped series where they are not those of the page: as OTLP metrics are named, so that both give the same series."""

from __future__ import annotations

from kofagent.exporters.prometheusremotewrite.names import metric_name
from kofagent.prometheus.units import ucum
from kofagent.telemetry.series import Family, Series

_PARTS = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}
_SUMS = ("counter", "info", "stateset")


class Naming:
    """`namespace` comes before each name; `suffixes`: unit and `_total` behind it."""

    def __init__(self, namespace: str, suffixes: bool) -> None:
        self._namespace = namespace
        self._suffixes = suffixes

    def series(self, series: Series) -> str:
        """The name of a series."""
        name, family = series.name, series.family
        if family is None or family.type == "unknown":
            return self._name(name, "", "unknown")
        parts = _PARTS.get(family.type)
        if parts is None:
            return self._name(name, family.unit, family.type)
        part = name.removeprefix(family.name)
        if not name.startswith(family.name) or part not in parts:
            return self._name(name, "", "unknown")
        return self._name(family.name, family.unit, family.type) + part

    def family(self, family: Family) -> str:
        """The name of a family."""
        return self._name(family.name, family.unit, family.type)

    def _name(self, name: str, unit: str, type: str) -> str:
        named = metric_name(
            name,
            ucum(unit),
            suffixes=self._suffixes,
            counter=type == "counter",
            gauge=type not in _SUMS and type not in _PARTS,
            namespace=self._namespace,
        )
        return named or name
