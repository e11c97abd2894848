"""A page read from the start each time, nothing remembered: the twin of `kofagent.prometheus.page.PageReader`."""

from __future__ import annotations

from collections.abc import Callable

from kofagent.prometheus.families import canonical_bound
from kofagent.prometheus.shape import AHEAD_MS
from kofagent.prometheus.text import Meta, Sample, scan

Labels = tuple[tuple[str, str], ...]
Row = tuple[Labels, float, int | None]


def read(page: bytes, openmetrics: bool, now_ms: int, finish: Callable[[Labels], Labels | None]) -> tuple[list[Row], set[Labels]]:
    """The samples that are left, and the labels of those a staleness marker may end."""
    items = list(scan(page, openmetrics))
    types = {item.family: item.text for item in items if isinstance(item, Meta) and item.kind == "type"}
    rows: list[Row] = []
    tracked: set[Labels] = set()
    for item in items:
        if not isinstance(item, Sample):
            continue
        name = item.labels[0][1]
        labels = tuple((key, canonical_bound(value) if bound(types, name, key) else value) for key, value in item.labels)
        final = finish(labels)
        if final is None or (item.timestamp_ms is None and final in tracked):
            continue
        if item.timestamp_ms is not None and (item.timestamp_ms > now_ms + AHEAD_MS or item.timestamp_ms == -(1 << 63)):
            continue
        if item.timestamp_ms is None:
            tracked.add(final)
        rows.append((final, item.value, item.timestamp_ms))
    return rows, tracked


def bound(types: dict[str, str], name: str, key: str) -> bool:
    if key == "le":
        return types.get(name) == "histogram" or (
            name not in types
            and any(
                name.endswith(s) and types.get(name.removesuffix(s)) == "histogram"
                for s in ("_bucket", "_sum", "_count", "_created")
            )
        )
    return key == "quantile" and (
        types.get(name) == "summary"
        or (
            name not in types
            and any(name.endswith(s) and types.get(name.removesuffix(s)) == "summary" for s in ("_sum", "_count", "_created"))
        )
    )
