"""Units of Prometheus as OTLP writes them, in a metric's unit and no longer in its name."""

from __future__ import annotations

_UCUM = {
    "days": "d",
    "hours": "h",
    "minutes": "min",
    "seconds": "s",
    "milliseconds": "ms",
    "microseconds": "us",
    "nanoseconds": "ns",
    "bytes": "By",
    "kibibytes": "KiBy",
    "mebibytes": "MiBy",
    "gibibytes": "GiBy",
    "tibibytes": "TiBy",
    "kilobytes": "KBy",
    "megabytes": "MBy",
    "gigabytes": "GBy",
    "terabytes": "TBy",
    "meters": "m",
    "volts": "V",
    "amperes": "A",
    "joules": "J",
    "watts": "W",
    "grams": "g",
    "celsius": "Cel",
    "hertz": "Hz",
    "ratio": "1",
    "percent": "%",
}
_PER = {"second": "s", "minute": "m", "hour": "h", "day": "d", "week": "w", "month": "mo", "year": "y"}


def ucum(unit: str) -> str:
    """The UCUM symbol of a Prometheus unit (`bytes_per_second` is `By/s`); an unknown word stays."""
    word, per, rest = unit.partition("_per_")
    return _UCUM.get(word, word) + (f"/{_PER.get(rest, rest)}" if per and rest else "")


def trim_suffixes(name: str, kind: str, unit: str) -> str:
    """A name without `_total` (counters) and without its unit, for `trim_metric_suffixes`."""
    if kind == "counter":
        name = name.removesuffix("_total")
    return name.removesuffix("_" + unit) if unit else name
