"""The contexts of each signal, and the one that a condition is written for: `resource.attributes["a"]`, `log.body`."""

from __future__ import annotations

from kofagent.ottl import infer_context
from kofagent.ottl.options import CONTEXTS
from kofagent.telemetry.signal import Signal

OF_SIGNAL = {signal: tuple(c for c in contexts if c != "exemplar") for signal, contexts in CONTEXTS.items()}
"""The filter leaves out no exemplars."""


def infer(text: str, signal: Signal) -> str:
    """The context that the paths of a condition name. OttlError where they name none."""
    return infer_context([text], OF_SIGNAL[signal])
