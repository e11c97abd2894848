"""What expressions are evaluated over, and the contexts with the names that their paths may begin with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kofagent.telemetry.batch import Metadata


def _nobody(message: str) -> None:
    pass


class Env:
    """One item and what surrounds it: Google's protobuf messages, None for those the context does not have.

    `resource_entry` and `scope_entry` are the messages around resource and scope (as ResourceLogs), for their schema_url.
    """

    __slots__ = (
        "cache",
        "complain",
        "datapoint",
        "exemplar",
        "log",
        "metadata",
        "metric",
        "most_metrics",
        "resource",
        "resource_entry",
        "scope",
        "scope_entry",
        "span",
        "spanevent",
    )

    def __init__(self, resource: Any = None, scope: Any = None, metadata: Metadata | None = None) -> None:
        self.resource = resource
        self.resource_entry: Any = None
        self.scope = scope
        self.scope_entry: Any = None
        self.log: Any = None
        self.span: Any = None
        self.spanevent: Any = None
        self.metric: Any = None
        self.datapoint: Any = None
        self.exemplar: Any = None
        self.metadata = metadata
        self.cache: dict[str, Any] = {}
        self.complain: Callable[[str], None] = _nobody
        """Told of what a function met that is odd, but no error."""
        self.most_metrics = 0
        """Statements may add metrics to the scope as long as it has fewer: those they add are met by them, too."""


Read = Callable[[Env], Any]
Write = Callable[[Env, Any], None]
Pick = Callable[[Env], Any]
"""From an Env to the message a path begins at."""


class Constant:
    """A `Read` whose value is known when the expression is built."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, env: Env) -> Any:
        return self.value


VISIBLE: dict[str, tuple[str, ...]] = {
    "resource": ("resource",),
    "scope": ("scope", "resource"),
    "log": ("log", "scope", "resource"),
    "span": ("span", "scope", "resource"),
    "spanevent": ("spanevent", "span", "scope", "resource"),
    "metric": ("metric", "scope", "resource"),
    "datapoint": ("datapoint", "metric", "scope", "resource"),
    "exemplar": ("exemplar", "datapoint", "metric", "scope", "resource"),
    "request": (),
    "otelcol": (),
}
"""The contexts and what is around an item of each, from the inside out."""


def visible(context: str, name: str) -> str | None:
    """The context that `name` before a dot stands for; None where `context` does not have it."""
    if name == "instrumentation_scope" and context != "scope":
        name = "scope"
    return name if name in VISIBLE[context] else None


_SPAN_KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
_TYPES = ("NONE", "GAUGE", "SUM", "HISTOGRAM", "EXPONENTIAL_HISTOGRAM", "SUMMARY")
_LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
ENUMS: dict[str, dict[str, int]] = {
    "log": {
        "SEVERITY_NUMBER_UNSPECIFIED": 0,
        **{f"SEVERITY_NUMBER_{name}{j + 1 if j else ''}": i * 4 + j + 1 for i, name in enumerate(_LEVELS) for j in range(4)},
    },
    "span": {
        **{f"SPAN_KIND_{name}": i for i, name in enumerate(_SPAN_KINDS)},
        "STATUS_CODE_UNSET": 0,
        "STATUS_CODE_OK": 1,
        "STATUS_CODE_ERROR": 2,
    },
    "metric": {
        **{f"METRIC_DATA_TYPE_{name}": i for i, name in enumerate(_TYPES)},
        "AGGREGATION_TEMPORALITY_UNSPECIFIED": 0,
        "AGGREGATION_TEMPORALITY_DELTA": 1,
        "AGGREGATION_TEMPORALITY_CUMULATIVE": 2,
    },
    "datapoint": {"FLAG_NONE": 0, "FLAG_NO_RECORDED_VALUE": 1},
}


def enums(context: str) -> dict[str, int]:
    """The named numbers that a context knows: its own and those of the messages around it."""
    found: dict[str, int] = {}
    for name in VISIBLE[context]:
        if name in ENUMS and not (context == "exemplar" and name == "metric"):
            found |= ENUMS[name]
    return found
