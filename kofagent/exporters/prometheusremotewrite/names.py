"""Names of metrics and labels, as the OpenTelemetry specification maps them to Prometheus.

opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics
"""

from __future__ import annotations

import re

_UNITS = {
    "d": "days",
    "h": "hours",
    "min": "minutes",
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "By": "bytes",
    "KiBy": "kibibytes",
    "MiBy": "mebibytes",
    "GiBy": "gibibytes",
    "TiBy": "tibibytes",
    "KBy": "kilobytes",
    "MBy": "megabytes",
    "GBy": "gigabytes",
    "TBy": "terabytes",
    "m": "meters",
    "V": "volts",
    "A": "amperes",
    "J": "joules",
    "W": "watts",
    "g": "grams",
    "Cel": "celsius",
    "Hz": "hertz",
    "1": "",
    "%": "percent",
}
"""UCUM units by their Prometheus word."""

_PER = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week", "mo": "month", "y": "year"}
_NOT_IN_NAME = re.compile(r"[^a-zA-Z0-9:]+")
_NOT_IN_NAME_KEEP = re.compile(r"[^a-zA-Z0-9:_]+")
_NOT_IN_LABEL = re.compile(r"[^a-zA-Z0-9]+")


def metric_name(name: str, unit: str, *, suffixes: bool, counter: bool, gauge: bool, namespace: str = "") -> str:
    """The Prometheus name of a metric, empty when nothing of the name can be used.

    With `suffixes` the unit is appended, `_total` to a `counter` (monotonic sum) and `_ratio` to a `gauge` of unit 1.
    """
    if not suffixes:
        out = "_".join(filter(None, _NOT_IN_NAME_KEEP.split(name)))
        if namespace:
            out = "_".join(filter(None, _NOT_IN_NAME_KEEP.split(namespace))) + "_" + out
    else:
        tokens = [t for t in _NOT_IN_NAME.split(name) if t]
        main, per = (_clean(part) for part in _unit_words(unit))
        if main in tokens:
            main = ""
        per = "" if per == "per_" else per.removesuffix("_")
        if per in tokens:
            per = ""
        if per:
            main = main.removesuffix("_")
        tokens += [t for t in (main, per) if t]
        if counter:
            tokens = [*[t for t in tokens if t != "total"], "total"]
        if gauge and unit == "1":
            tokens = [*[t for t in tokens if t != "ratio"], "ratio"]
        if namespace:
            tokens.insert(0, namespace)
        out = "_".join(tokens)
    if out[:1].isdigit():
        out = "_" + out
    return out if out.strip("_") or out == name else ""


def unit_name(unit: str) -> str:
    """The unit as metadata carries it: `By/s` is `bytes_per_second`."""
    return "_".join(filter(None, map(_clean, _unit_words(unit)))).strip("_")


def _unit_words(unit: str) -> tuple[str, str]:
    main, _, per = unit.partition("/")
    main, per = main.strip(), per.strip()
    main = "" if "{" in main or "}" in main else _UNITS.get(main, main)
    per = "" if not per or "{" in per or "}" in per else "per_" + _PER.get(per, per)
    return main, per


def _clean(word: str) -> str:
    return _NOT_IN_NAME.sub("_", word).removeprefix("_")


def label_name(name: str) -> str:
    """The Prometheus label of an attribute, empty when there is nothing of the name to use.

    Runs of other characters become one `_`; a digit at the start gets `key_` before it, a `_` gets `key`; `__x__` is kept.
    """
    if len(name) >= 4 and name.startswith("__") and name.endswith("__"):
        out = "__" + _NOT_IN_LABEL.sub("_", name[2:-2]) + "__"
    else:
        out = _NOT_IN_LABEL.sub("_", name)
    if out[:1].isdigit():
        return "key_" + out
    if out.startswith("_") and not out.startswith("__"):
        out = "key" + out
    return out if out.strip("_") else ""
