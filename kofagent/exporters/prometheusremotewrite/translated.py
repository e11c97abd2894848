"""What the translation of OTLP metrics depends on, and what it yields."""

from __future__ import annotations

from collections.abc import Callable, Mapping


class Options:
    """What of the exporter's configuration the translation depends on."""

    def __init__(
        self,
        *,
        namespace: str = "",
        external_labels: Mapping[str, str] | None = None,
        suffixes: bool = True,
        scraped_suffixes: bool = False,
        target_info: bool = True,
        scope_info: bool = True,
        copy: Callable[[str], bool] | None = None,
        metadata: bool = False,
        custom_buckets: bool = False,
        keep_classic: bool = False,
    ) -> None:
        self.namespace = namespace
        self.external_labels = dict(external_labels or {})
        self.suffixes = suffixes
        self.scraped_suffixes = scraped_suffixes
        """Whether metrics that were scraped are given suffixes, too."""
        self.target_info = target_info
        self.scope_info = scope_info
        self.copy = copy
        self.metadata = metadata
        self.custom_buckets = custom_buckets
        self.keep_classic = keep_classic


class Translated:
    """Columns of samples (`labels[i]`, `values[i]`, `times[i]` in Unix milliseconds) and what does not fit into them."""

    def __init__(self) -> None:
        self.labels: list[bytes] = []
        self.values: list[float] = []
        self.times: list[int] = []
        self.extras: list[bytes] = []
        """Finished `timeseries` fields with native histograms."""
        self.exemplars: dict[int, bytes] = {}
        self.metadata: list[bytes] = []
        self.dropped: dict[str, int] = {}
        """Points left out, by reason."""
        self.colliding = 0
        """Points of metrics whose name another metric of the same resource has after normalisation."""
        self.duplicates = 0
        """Samples left out because the series has one at the same millisecond already."""

    def drop(self, reason: str, points: int) -> None:
        """Counts points that are left out."""
        if points:
            self.dropped[reason] = self.dropped.get(reason, 0) + points
