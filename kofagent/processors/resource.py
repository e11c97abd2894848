"""`resource`: inserts, updates, deletes, hashes, extracts and converts attributes of the resource, for all three signals.

Every distinct resource is changed once and the result is remembered; the records below it are never decoded. A malformed payload is
refused and counted as dropped (`malformed`). Upstream: processor/resourceprocessor.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from pydantic import Field

from kofagent.component.mapping import Mapper
from kofagent.component.protocols import Context, Processor
from kofagent.config.base import ComponentConfig
from kofagent.telemetry.batch import Batch, Metadata
from kofagent.transform.actions import ActionBlock, Actions
from kofagent.transform.resources import ResourceMap
from kofagent.wire import edit


class Config(ComponentConfig):
    """Options of resource."""

    attributes: list[ActionBlock] = Field(min_length=1, description="Actions, in order.")


class ResourceProcessor(Processor[Config]):
    """One instance per pipeline, each with its own memo."""

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._actions = Actions(config.attributes)
        self._map = ResourceMap(self._change)

    def explain(self) -> str:
        """The actions, once per distinct resource."""
        return self._actions.explain()

    async def start(self) -> None:
        self._mapper = Mapper(self, self._changed)

    def consume(self, batch: Batch) -> Coroutine[Any, Any, None]:
        return self._mapper.consume(batch)

    def _changed(self, batch: Batch) -> Batch:
        metadata = batch.metadata or {}
        return self._map.apply(batch, tuple([metadata.get(name, ()) for name in self._actions.needs_metadata]))

    def _change(self, resource: bytes, headers: tuple[tuple[str, ...], ...]) -> bytes:
        metadata: Metadata = {name: values for name, values in zip(self._actions.needs_metadata, headers, strict=True) if values}
        return self._actions.apply(resource, edit.RESOURCE, metadata)


COMPONENT = ResourceProcessor
