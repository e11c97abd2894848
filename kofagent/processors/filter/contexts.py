"""The OTTL context of a condition, found by its paths: `resource.attributes["a"]`, `log.body`, `datapoint.value_int`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from kofagent.ottl.ast import Path
from kofagent.ottl.parser import Parser
from kofagent.telemetry.signal import Signal

OF_SIGNAL = {
    Signal.LOGS: ("resource", "scope", "log"),
    Signal.METRICS: ("resource", "scope", "metric", "datapoint"),
    Signal.TRACES: ("resource", "scope", "span", "spanevent"),
}
"""Contexts from the outermost to the innermost; a condition on an inner one may ask about the outer ones."""


def infer(text: str, signal: Signal) -> str:
    """The innermost context the condition's paths name. ValueError where a path does not begin with one (OttlError: no OTTL)."""
    contexts = OF_SIGNAL[signal]
    found = []
    for path in _paths(Parser(text).condition()):
        name = path.fields[0].name
        name = "scope" if name == "instrumentation_scope" else name
        if len(path.fields) < 2 or name not in contexts:
            written = ".".join(field.name for field in path.fields)
            raise ValueError(f"the path {written} must begin with its context ({', '.join(contexts)}), as {contexts[-1]}.{written}")
        found.append(contexts.index(name))
    if not found:
        raise ValueError("the condition has no path that shows its context; set the context as well")
    return contexts[max(found)]


def _paths(node: Any) -> Iterator[Path]:
    if isinstance(node, Path):
        yield node
    if dataclasses.is_dataclass(node):
        for field in dataclasses.fields(node):
            yield from _paths(getattr(node, field.name))
    elif isinstance(node, tuple | list):
        for item in node:
            yield from _paths(item)
