"""What an endpoint says of the resource of everything that its receiver brings in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kofagent.component.observing import TYPES
from kofagent.component.protocols import ColumnsConsumer
from kofagent.receivers.receiver_creator.config import RESOURCE_ATTRIBUTES, Config, TemplateBlock
from kofagent.receivers.receiver_creator.templates import compile_templates, fill, shown
from kofagent.telemetry.batch import AnyBatch, Batch, MetricBatch, Samples
from kofagent.telemetry.refused import Refused
from kofagent.transform.actions import ActionBlock, Actions
from kofagent.transform.resources import ResourceMap
from kofagent.wire import edit


class ResourceAttributes:
    """The attributes for endpoints: upstream's, the creator's and the template's, later ones over earlier ones."""

    def __init__(self, config: Config, block: TemplateBlock | None) -> None:
        last = block.resource_attributes if block is not None else {}
        self._of_types = {
            type: _compiled({**RESOURCE_ATTRIBUTES.get(type, {}), **config.resource_attributes.get(type, {}), **last})
            for type in TYPES
        }

    def of(self, type: str, env: Mapping[str, Any]) -> dict[str, str]:
        """Those that are not empty. ExpressionError where an expression cannot be evaluated."""
        found = fill(self._of_types[type], env)
        return {k: v if isinstance(v, str) else shown(v) for k, v in found.items() if v is not None and v != ""}


def _compiled(texts: Mapping[str, str]) -> dict[str, Any]:
    """Without those that an empty text removes."""
    return {key: compile_templates(text) for key, text in texts.items() if text}


class Enhancer(ColumnsConsumer):
    """Adds attributes to every resource that does not have them, and hands on."""

    def __init__(self, next: ColumnsConsumer, dropped: Callable[[str, int], None]) -> None:
        """`dropped` counts what cannot be read, with the reason."""
        self._next = next
        self._dropped = dropped
        self._attributes: dict[str, str] = {}
        self._actions: Actions | None = None
        self._map: ResourceMap[None] = ResourceMap(self._change)

    def set(self, attributes: Mapping[str, str]) -> None:
        """The attributes from now on."""
        self._attributes = dict(attributes)
        actions = [ActionBlock(key=key, value=value, action="insert") for key, value in attributes.items()]
        self._actions = Actions(actions) if actions else None
        self._map.clear()

    async def consume(self, batch: AnyBatch) -> None:
        """As `Consumer.consume`."""
        if self._attributes:
            batch = self._columns(batch) if isinstance(batch, MetricBatch) else self._bytes(batch)
        await self._next.consume(batch)

    def _bytes(self, batch: Batch) -> Batch:
        try:
            return self._map.apply(batch, None)
        except ValueError as error:
            self._dropped("malformed", batch.count)
            raise Refused("malformed", f"the payload is not valid OTLP: {error}", permanent=True) from None

    def _columns(self, batch: MetricBatch) -> MetricBatch:
        return MetricBatch(
            [
                Samples(g.series, g.values, g.timestamp_ms, {**self._attributes, **(g.resource or {})}, g.exemplars)
                for g in batch.groups
            ]
        )

    def _change(self, resource: bytes, key: None) -> bytes:
        assert self._actions is not None
        return self._actions.apply(resource, edit.RESOURCE)
