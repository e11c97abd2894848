"""The items of a request that the statements of a context are run on, from the outside in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from kofagent.ottl.env import Env
from kofagent.ottl.paths import points
from kofagent.telemetry.batch import Metadata

TIMES, SOME, MANY = 8, 16, 10_000


def items(context: str, request: Any, metadata: Metadata | None = None) -> Iterator[Env]:
    """An `Env` for every item of a context in Google's message of a whole request.

    Lists of records are walked by index: what a statement adds to the end of one is met, too. So that this ends, the metrics of a
    scope may become TIMES as many and SOME more, but no more than MANY by this.
    """
    return _ITEMS[context](request, metadata)


def _resources(request: Any, metadata: Metadata | None) -> Iterator[Env]:
    (entries,) = (getattr(request, field.name) for field in request.DESCRIPTOR.fields)
    for entry in entries:
        env = Env(entry.resource, metadata=metadata)
        env.resource_entry = entry
        yield env


def _scopes(request: Any, metadata: Metadata | None) -> Iterator[Env]:
    for around in _resources(request, metadata):
        entry = around.resource_entry
        scopes = getattr(entry, next(f.name for f in entry.DESCRIPTOR.fields if f.name.startswith("scope_")))
        for scope in scopes:
            env = Env(entry.resource, scope.scope, metadata)
            env.resource_entry, env.scope_entry = entry, scope
            yield env


def _records(field: str, slot: str) -> Callable[[Any, Metadata | None], Iterator[Env]]:
    def walk(request: Any, metadata: Metadata | None) -> Iterator[Env]:
        for around in _scopes(request, metadata):
            records = getattr(around.scope_entry, field)
            most = min(len(records) * TIMES + SOME, max(len(records), MANY))
            at = 0
            while at < len(records):
                env = Env(around.resource, around.scope, metadata)
                env.resource_entry, env.scope_entry = around.resource_entry, around.scope_entry
                env.most_metrics = most
                setattr(env, slot, records[at])
                at += 1
                yield env

    return walk


_logs, _spans, _metrics = _records("log_records", "log"), _records("spans", "span"), _records("metrics", "metric")


def _inner(outer: Env) -> Env:
    env = Env(outer.resource, outer.scope, outer.metadata)
    env.resource_entry, env.scope_entry = outer.resource_entry, outer.scope_entry
    env.span, env.metric, env.datapoint = outer.span, outer.metric, outer.datapoint
    env.most_metrics = outer.most_metrics
    return env


def _events(request: Any, metadata: Metadata | None) -> Iterator[Env]:
    for around in _spans(request, metadata):
        for event in around.span.events:
            env = _inner(around)
            env.spanevent = event
            yield env


def _points(request: Any, metadata: Metadata | None) -> Iterator[Env]:
    for around in _metrics(request, metadata):
        for point in points(around.metric):
            env = _inner(around)
            env.datapoint = point
            yield env


def _exemplars(request: Any, metadata: Metadata | None) -> Iterator[Env]:
    for around in _points(request, metadata):
        for exemplar in getattr(around.datapoint, "exemplars", ()):
            env = _inner(around)
            env.exemplar = exemplar
            yield env


_ITEMS: dict[str, Callable[[Any, Metadata | None], Iterator[Env]]] = {
    "resource": _resources,
    "scope": _scopes,
    "log": _logs,
    "span": _spans,
    "spanevent": _events,
    "metric": _metrics,
    "datapoint": _points,
    "exemplar": _exemplars,
}
