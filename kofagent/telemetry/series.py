"""Interned series: the identity of a scraped sample, worked out once and remembered."""

from __future__ import annotations

from collections.abc import Mapping

from kofagent.wire.varint import length_delimited

STALE_BITS = 0x7FF0000000000002
"""The NaN that marks the end of a series (Prometheus staleness marker), as the bits of an IEEE 754 double."""


SCRAPE_SCOPE = "github.com/open-telemetry/opentelemetry-collector-contrib/receiver/prometheusreceiver"
"""The instrumentation scope of scraped samples where they travel as OTLP; upstream's, as dashboards may select it."""


class Family:
    """What `# TYPE`, `# HELP` and `# UNIT` say of a metric family; `type` is Prometheus' word, `unknown` without one."""

    __slots__ = ("help", "name", "type", "unit")

    def __init__(self, name: str, type: str = "unknown", help: str = "", unit: str = "") -> None:
        self.name = name
        self.type = type
        self.help = help
        self.unit = unit


class Exemplar:
    """An OpenMetrics exemplar: labels (UTF-8), value and Unix milliseconds (None: the page gave no time)."""

    __slots__ = ("labels", "timestamp_ms", "value")

    def __init__(self, labels: tuple[tuple[str, str], ...], value: float, timestamp_ms: int | None) -> None:
        self.labels = labels
        self.value = value
        self.timestamp_ms = timestamp_ms


class Series:
    """A series with its final labels. Equal label sets of one target are one object, so `is` compares identity.

    `labels` are sorted by name, unique and none empty, `__name__` among them. `wire` is the same as the `Label` fields of
    a `prometheus.TimeSeries` (field 1, remote write 1.0), ready to be copied into a request.
    """

    __slots__ = ("__weakref__", "family", "labels", "wire")

    def __init__(self, labels: tuple[tuple[str, str], ...], family: Family | None = None, wire: bytes | None = None) -> None:
        self.labels = labels
        self.family = family
        self.wire = encode_labels(labels) if wire is None else wire

    @property
    def name(self) -> str:
        """The value of `__name__`, empty without one."""
        for key, value in self.labels:
            if key == "__name__":
                return value
        return ""

    def __repr__(self) -> str:
        return f"<Series {dict(self.labels)}>"


def sorted_labels(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Labels as `Series` wants them: sorted by the bytes of the name, empty values left out."""
    return tuple(sorted([(k, v) for k, v in labels.items() if v], key=_name_bytes))


def _name_bytes(pair: tuple[str, str]) -> bytes:
    return pair[0].encode("utf-8", "surrogatepass")


def encode_labels(labels: tuple[tuple[str, str], ...]) -> bytes:
    """`repeated Label labels = 1` of `prometheus.TimeSeries`; `Label` is `{string name = 1; string value = 2}`."""
    out = []
    for key, value in labels:
        label = length_delimited(1, key.encode("utf-8", "replace")) + length_delimited(2, value.encode("utf-8", "replace"))
        out.append(length_delimited(1, label))
    return b"".join(out)
