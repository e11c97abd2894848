"""What the options of components that use the language have in common."""

from __future__ import annotations

from typing import Any, Literal

from kofagent.telemetry.signal import Signal

ErrorMode = Literal["propagate", "ignore", "silent"]
CONTEXTS = {
    Signal.LOGS: ("resource", "scope", "log"),
    Signal.METRICS: ("resource", "scope", "metric", "datapoint", "exemplar"),
    Signal.TRACES: ("resource", "scope", "span", "spanevent"),
}
"""Contexts of a signal from the outermost to the innermost; what is written for an inner one may ask about the outer ones."""


def in_small_letters(value: Any) -> Any:
    """Upstream reads contexts and error modes in any case."""
    return value.lower() if isinstance(value, str) else value


def or_strings(schema: dict[str, Any]) -> None:
    """Says in the schema of a list of groups that its elements may be strings as well."""
    schema["items"] = {"anyOf": [schema["items"], {"type": "string"}]}
