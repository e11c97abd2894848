"""process: which resource attributes are sent, and which processes, by their resource attributes."""

from __future__ import annotations

from collections.abc import Callable

from kofagent.receivers.hostmetrics.catalog import RESOURCE_ATTRIBUTES
from kofagent.receivers.hostmetrics.config import AttributeMatch, ProcessOptions


def resource_selection(options: ProcessOptions) -> tuple[frozenset[str], Callable[[dict[str, str | int]], bool] | None]:
    """The resource attributes that are sent, and whether a process with these attributes is sent at all (None: always)."""
    on, rules = set(), []
    for name, default in RESOURCE_ATTRIBUTES.items():
        chosen = options.resource_attributes.get(name)
        if default if chosen is None or chosen.enabled is None else chosen.enabled:
            on.add(name)
            if chosen is not None and (chosen.metrics_include or chosen.metrics_exclude):
                rules.append((name, _any(chosen.metrics_include), _any(chosen.metrics_exclude)))
    if not rules:
        return frozenset(on), None

    def passes(attributes: dict[str, str | int]) -> bool:
        for name, include, exclude in rules:
            if name in attributes:
                value = str(attributes[name])
                if (include is not None and not include(value)) or (exclude is not None and exclude(value)):
                    return False
        return True

    return frozenset(on), passes


def _any(matches: list[AttributeMatch]) -> Callable[[str], bool] | None:
    tests = [m.compiled() for m in matches]
    return (lambda value: any(test(value) for test in tests)) if tests else None
