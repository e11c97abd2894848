"""The column of series of a page, the same object as long as the page has the same series."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

from kofagent.memory.memo import Memo
from kofagent.telemetry.series import Family, Series, encode_labels

T = TypeVar("T")


class Columns(list[Series]):
    """Immutable by convention, which is why `derived` may remember what was computed of it."""

    __slots__ = ("_derived",)

    def __init__(self, series: Iterable[Series] = ()) -> None:
        super().__init__(series)
        self._derived: list[tuple[object, Any]] = []

    def derived(self, of: object, make: Callable[[], T]) -> T:
        """What `make` computes of the column and of the object `of`, computed once; the last four are remembered."""
        for known, result in self._derived:
            if known is of:
                return cast(T, result)
        made = make()
        del self._derived[3:]
        self._derived.insert(0, (of, made))
        return made


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
    """What describes a target in OTLP. Immutable by convention.

    `trim_suffixes` is the receiver's `trim_metric_suffixes`; `over`: what it describes ends with the samples that are given it.
    """

    def __init__(self, attributes: Mapping[str, str] | None = None, *, trim_suffixes: bool = False, over: bool = False) -> None:
        super().__init__(attributes or {})
        self.trim_suffixes = trim_suffixes
        self.over = over

    def at_its_end(self) -> TargetResource:
        """The same for its last samples."""
        return TargetResource(self, trim_suffixes=self.trim_suffixes, over=True)
