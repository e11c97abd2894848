"""Entries that an operator holds back to join them: partial lines of `container`, series of `recombine`."""

from __future__ import annotations

from typing import Any

from kofagent.operators.entry import Entry


class Series:
    """Entries that wait for the end of their series. `base` is the entry whose other fields are kept, `size` is in bytes."""

    __slots__ = ("base", "count", "first_observed", "matched", "parts", "size")

    def __init__(self, base: Entry) -> None:
        self.base = base
        self.count = 0
        self.first_observed = base.observed
        self.matched = False
        self.parts: list[str] = []
        self.size = 0


def held(state: dict[Any, Any]) -> int:
    """Entries held back in an operator's state."""
    return sum(series.count for series in state.values() if isinstance(series, Series))
