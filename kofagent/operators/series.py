"""Entries that an operator holds back to join them: partial lines of `container`, series of `recombine`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kofagent.operators.entry import Entry

if TYPE_CHECKING:
    from kofagent.operators.operator import Run


class Hold:
    """The first entry of a series that came from one owner. `position` counts the entries of the call that brought it, from 0;
    `place` is the owner's own note of where that is, for reading it again.
    """

    __slots__ = ("place", "position")

    def __init__(self, position: int) -> None:
        self.position = position
        self.place: Any = None


class Series:
    """Entries that wait for the end of their series. `base` is the entry whose other fields are kept, `size` is in bytes."""

    __slots__ = ("base", "count", "first_observed", "holds", "matched", "parts", "size")

    def __init__(self, base: Entry) -> None:
        self.base = base
        self.count = 0
        self.first_observed = base.observed
        self.matched = False
        self.parts: list[str] = []
        self.size = 0
        self.holds: dict[Any, Hold] = {}

    def add(self, run: Run) -> None:
        """Counts one more entry, which `run` is about."""
        self.count += 1
        if run.owner not in self.holds:
            self.holds[run.owner] = Hold(run.position)


class Held:
    """What the operators of a chain hold back. Streams of files that follow one another at a path share it, so that a series which
    began in one file ends in the next."""

    __slots__ = ("__weakref__", "states")

    def __init__(self) -> None:
        self.states: dict[Any, dict[Any, Any]] = {}

    def series(self) -> list[Series]:
        """All series that wait."""
        return [series for state in self.states.values() for series in state.values() if isinstance(series, Series)]

    @property
    def count(self) -> int:
        """Entries held back."""
        return sum(series.count for series in self.series()) if self.states else 0

    def of(self, owner: Any) -> list[Hold]:
        """For each series with entries of this owner the first of them."""
        return [hold for series in self.series() if (hold := series.holds.get(owner)) is not None] if self.states else []
