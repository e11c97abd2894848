"""The column of series of a page, the same object as long as the page has the same series.

Consumers may keep beside it what they worked out for the whole column.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kofagent.telemetry.series import Series


class Columns(list[Series]):
    """Immutable by convention. `plans` is filled by `otlp.to_otlp`."""

    __slots__ = ("plans",)

    def __init__(self, series: Iterable[Series] = ()) -> None:
        super().__init__(series)
        self.plans: list[tuple[Any, list[Any]]] = []


class TargetResource(dict[str, str]):
    """What describes a target in OTLP; `trim_suffixes` is the receiver's `trim_metric_suffixes`."""

    trim_suffixes = False
