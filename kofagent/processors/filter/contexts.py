"""The contexts of each signal, and the one that a condition is written for: `resource.attributes["a"]`, `log.body`."""

from __future__ import annotations

from kofagent.ottl import infer_context
from kofagent.telemetry.signal import Signal

OF_SIGNAL = {
    Signal.LOGS: ("resource", "scope", "log"),
    Signal.METRICS: ("resource", "scope", "metric", "datapoint"),
    Signal.TRACES: ("resource", "scope", "span", "spanevent"),
}
"""Contexts from the outermost to the innermost; a condition on an inner one may ask about the outer ones."""


def infer(text: str, signal: Signal) -> str:
    """The context that the paths of a condition name. OttlError where they name none."""
    return infer_context([text], OF_SIGNAL[signal])
