"""`attributes`: inserts, updates, deletes, hashes, extracts and converts attributes of log records, spans and data points.

`include` and `exclude` select the records. A record in which nothing changes keeps its bytes; in the others only the attributes are
rewritten and unknown fields are kept. A malformed payload is refused and counted as dropped (`malformed`).
Upstream: processor/attributesprocessor.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from typing import Any

from pydantic import Field

from kofagent.component.mapping import Mapper
from kofagent.component.protocols import Context, Processor
from kofagent.config.base import ComponentConfig
from kofagent.config.errors import Problem
from kofagent.telemetry.batch import Batch, Metadata
from kofagent.telemetry.signal import Signal
from kofagent.transform.actions import ActionBlock, Actions
from kofagent.transform.matching import MatchBlock, RecordMatch, unfit
from kofagent.wire import edit, otlp
from kofagent.wire.otlp import ResourceView, ScopeView


class Config(ComponentConfig):
    """Options of `attributes`."""

    actions: list[ActionBlock] = Field(min_length=1, description="Actions, in order.")
    include: MatchBlock | None = Field(None, description="Change only records that match; default: all.")
    exclude: MatchBlock | None = Field(None, description="Do not change records that match.")

    def misfits(self, signal: str) -> Iterator[Problem]:
        """Properties in a match list that records of `signal` do not have."""
        for name in ("include", "exclude"):
            block = getattr(self, name)
            for option in unfit(block, Signal(signal)) if block is not None else ():
                hint = f"use another attributes processor in the {signal} pipeline"
                yield Problem((name, option), f"{signal} do not have this property", hint)


class AttributesProcessor(Processor[Config]):
    """One instance per pipeline."""

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._actions = Actions(config.actions)

    def explain(self) -> str:
        """The actions, and which records they are for."""
        lists = [
            f"{name} {block.model_dump(exclude_defaults=True)}\n"
            for name in ("include", "exclude")
            if (block := getattr(self.config, name)) is not None
        ]
        return "".join(lists) + self._actions.explain()

    async def start(self) -> None:
        self._include = RecordMatch(self.config.include, self.signal) if self.config.include else None
        self._exclude = RecordMatch(self.config.exclude, self.signal) if self.config.exclude else None
        self._mapper = Mapper(self, self._changed, by_record=True)

    def consume(self, batch: Batch) -> Coroutine[Any, Any, None]:
        return self._mapper.consume(batch)

    def _changed(self, batch: Batch) -> Batch:
        apply, metadata = self._actions.apply, batch.metadata
        wanted = self._wanted if self._include or self._exclude else None
        if batch.signal is Signal.METRICS:

            def change(record: bytes, scope: ScopeView, entry: ResourceView) -> bytes:
                return record if wanted and not wanted(record, scope, entry) else self._metric(record, metadata)
        else:
            field = edit.LOG_RECORD if batch.signal is Signal.LOGS else edit.SPAN

            def change(record: bytes, scope: ScopeView, entry: ResourceView) -> bytes:
                return record if wanted and not wanted(record, scope, entry) else apply(record, field, metadata)

        payload = otlp.map_records(batch.payload, change)
        return batch if payload is batch.payload else Batch(batch.signal, payload, batch.count, batch.metadata)

    def _wanted(self, record: bytes, scope: ScopeView, entry: ResourceView) -> bool:
        resource, scope_bytes = entry.resource, scope.scope
        if self._include is not None and not self._include.match(resource, scope_bytes, record):
            return False
        return self._exclude is None or not self._exclude.match(resource, scope_bytes, record)

    def _metric(self, record: bytes, metadata: Metadata | None) -> bytes:
        metric = otlp.parse_metric(record)
        kind = metric.WhichOneof("data")
        if kind is None:
            return record
        data, field = getattr(metric, kind), edit.POINT_ATTRIBUTES[kind]
        old = list(data.points)
        new = [self._actions.apply(point, field, metadata) for point in old]
        if all(a is b for a, b in zip(old, new, strict=True)):
            return record
        otlp.replace(data.points, new)
        changed: bytes = metric.SerializeToString()
        return changed


COMPONENT = AttributesProcessor
