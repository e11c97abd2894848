"""The column of series of a page, the same object as long as the page has the same series.

Consumers may keep beside it what they worked out for the whole column.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kofagent.telemetry.series import Family, Series, encode_labels


class Columns(list[Series]):
    """Immutable by convention. `plans` is filled by `otlp.to_otlp`."""

    __slots__ = ("plans",)

    def __init__(self, series: Iterable[Series] = ()) -> None:
        super().__init__(series)
        self.plans: list[tuple[Any, list[Any]]] = []


_SHARED: dict[tuple[str, str], tuple[tuple[str, str], bytes]] = {}
"""Label pairs that were seen lately with their bytes: series of a target, and of targets alike, share most of theirs."""
_SHARED_MOST = 50_000


def make_series(labels: tuple[tuple[str, str], ...], family: Family | None) -> Series:
    """The series of final labels, sharing label pairs with other series."""
    if len(_SHARED) > _SHARED_MOST:
        _SHARED.clear()
    pairs, wires = [], []
    for pair in labels:
        known = _SHARED.get(pair)
        if known is None:
            known = _SHARED[pair] = pair, encode_labels((pair,))
        pairs.append(known[0])
        wires.append(known[1])
    return Series(tuple(pairs), family, b"".join(wires))


class TargetResource(dict[str, str]):
    """What describes a target in OTLP; `trim_suffixes` is the receiver's `trim_metric_suffixes`."""

    trim_suffixes = False
