"""The column of series of a page, the same object as long as the page has the same series.

Consumers may attach to it what they computed for the whole column.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kofagent.memory.memo import Memo
from kofagent.telemetry.series import Family, Series, encode_labels


class Columns(list[Series]):
    """Immutable by convention. `plans` is filled by `otlp.to_otlp`."""

    __slots__ = ("plans",)

    def __init__(self, series: Iterable[Series] = ()) -> None:
        super().__init__(series)
        self.plans: list[tuple[Any, list[Any]]] = []


_Pair = tuple[str, str]
_shared: Memo[_Pair, tuple[_Pair, bytes]] = Memo(
    "prometheus.label_pairs",
    lambda pair: (pair, encode_labels((pair,))),
    entries=100_000,
    size=32 << 20,
)
"""Label pairs that were seen lately with their bytes: series of a target, and of targets alike, share most of theirs."""


def make_series(labels: tuple[_Pair, ...], family: Family | None) -> Series:
    """The series of final labels, sharing label pairs with other series."""
    _shared.counts.lookups += len(labels)
    pairs, wires = [], []
    for pair in labels:
        known, wire = _shared[pair]
        pairs.append(known)
        wires.append(wire)
    return Series(tuple(pairs), family, b"".join(wires))


class TargetResource(dict[str, str]):
    """What describes a target in OTLP; `trim_suffixes` is the receiver's `trim_metric_suffixes`."""

    trim_suffixes = False
