"""The metadata of a page: which family a metric name belongs to, and how its buckets and quantiles are written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal

from kofagent.prometheus.text import Labels, number
from kofagent.telemetry.series import Family

_SUFFIXES = {
    "counter": ("_total", "_created"),
    "histogram": ("_bucket", "_sum", "_count", "_created"),
    "summary": ("_sum", "_count", "_created"),
    "gaugehistogram": ("_bucket", "_gsum", "_gcount"),
    "info": ("_info",),
}


class Families(dict[str, Family]):
    """The families of the last page, by name. A `Family` stays the same object as long as pages describe it."""

    def __init__(self) -> None:
        super().__init__()
        self._renamed: dict[tuple[str, str], Family] = {}
        """Families under the names that relabelling gave them, by both names."""

    def describe(self, described: Mapping[str, Mapping[str, str]]) -> bool:
        """Takes the metadata of a page: by the name of a family, texts by the kind of comment, `type`, `help` or `unit`.

        Families that are not there are forgotten. True when a type changed.
        """
        types = {name: family.type for name, family in self.items()}
        families = {}
        for name, meta in described.items():
            family = self.get(name) or Family(name)
            family.type, family.help, family.unit = meta.get("type", "unknown"), meta.get("help", ""), meta.get("unit", "")
            families[name] = family
        self.clear()
        self.update(families)
        self._renamed = {names: family for names, family in self._renamed.items() if names[0] in families}
        return types != {name: family.type for name, family in families.items()}

    def of(self, name: str) -> Family | None:
        """The family a metric name belongs to: its own, or that of a histogram, summary or counter it is part of."""
        family = self.get(name)
        if family is not None:
            return family
        stem, _, last = name.rpartition("_")
        family = self.get(stem)
        return family if family is not None and "_" + last in _SUFFIXES.get(family.type, ()) else None

    def renamed(self, name: str, new: str) -> Family | None:
        """The family of the metric `name`, for a series that relabelling has named `new`."""
        family = self.of(name)
        if family is None or new == name:
            return family
        suffix = name[len(family.name) :]
        if not new.endswith(suffix) and suffix not in ("_total", "_info"):
            return None  # a part of a histogram or summary that is none any more
        stem = new.removesuffix(suffix)
        known = self._renamed.get((family.name, stem))
        if known is None:
            known = self._renamed[family.name, stem] = Family(stem)
        known.type, known.help, known.unit = family.type, family.help, family.unit
        return known

    def settle(self, used: Iterable[Family | None]) -> None:
        """Forgets renamed families that no series is of any more."""
        if self._renamed:
            names = {family.name for family in used if family is not None}
            self._renamed = {key: family for key, family in self._renamed.items() if family.name in names}

    def canonical(self, labels: Labels) -> Labels:
        """`le` and `quantile` written one way (`1`, not `1.0` or `1e0`): formats differ in it, the series must not."""
        for i, (key, value) in enumerate(labels):
            if key == "le" or key == "quantile":  # noqa: PLR1714 - asked for every label of every new line
                family = self.of(labels[0][1])
                if family is not None and (family.type, key) in (("histogram", "le"), ("summary", "quantile")):
                    return (*labels[:i], (key, canonical_bound(value)), *labels[i + 1 :])
        return labels


def canonical_bound(text: str) -> str:
    """A bucket bound or quantile as upstream writes it: shortest digits, no exponent; unchanged when it is not a number."""
    try:
        value = number(text.encode())
    except ValueError:
        return text
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    short = repr(value)
    if "e" in short:
        short = format(Decimal(short), "f")
    return short.removesuffix(".0")
