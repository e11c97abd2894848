"""`groupbyattrs`: moves attributes of records and data points to their resource, so that what has the same values shares one.

What has none of the `keys` keeps its resource. Resources, scopes and metrics that are equal become one, also without any `keys`.
Records that keep their attributes keep their bytes. A malformed payload is refused and counted as dropped (`malformed`).
Differences: what differs in its schema URL, its scope's attributes, its unit or its temporality is never merged, since that would
lose which is which; resources keep their schema URLs. Upstream: processor/groupbyattrsprocessor.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Generator
from typing import Any

from pydantic import Field

from kofagent.component.mapping import PIECE, Changed, Mapper
from kofagent.component.protocols import Context, Processor
from kofagent.component.turns import at_once, in_turns
from kofagent.config.base import ComponentConfig
from kofagent.memory.memo import Memo
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.signal import Signal
from kofagent.transform.attribute_keys import keys_of
from kofagent.wire import edit, otlp
from kofagent.wire.attributes import encode_text

_UPSTREAM = {Signal.LOGS: ("logs", "log"), Signal.METRICS: ("metrics", "metric"), Signal.TRACES: ("spans", "span")}
"""What upstream's own metrics call the items."""

STEP = 100
"""Records that are sorted without a break, in a batch that is worked on in steps."""
Moved = tuple[bytes, ...]
"""KeyValue messages that go to the resource."""


class Config(ComponentConfig):
    """Options of groupbyattrs."""

    keys: list[str] = Field([], description="Attributes to move to the resource; without any, equal resources are merged only.")


class _Grouped:
    """The resources of one output: `records[identity][scope]` are the records, or the metrics, of a resource and scope.

    `parts` counts the resources, scopes and metrics of the input.
    """

    __slots__ = ("headers", "parts", "records")

    def __init__(self) -> None:
        self.records: dict[tuple[Any, ...], dict[tuple[bytes, bytes], list[bytes]]] = {}
        self.headers: dict[tuple[Any, ...], bytes] = {}
        self.parts = 0

    def merged(self, metrics: bool) -> bool:
        """Whether there are fewer parts than before; asked where nothing moved."""
        scopes = [records for scopes in self.records.values() for records in scopes.values()]
        left = len(self.records) + len(scopes) + (sum(map(len, scopes)) if metrics else 0)
        return left != self.parts

    def payload(self) -> Generator[None, None, bytes]:
        out = []
        for identity, scopes in self.records.items():
            built = [otlp.build_scope(records, scope, url) for (scope, url), records in scopes.items()]
            out.append(otlp.build_resource(built, self.headers[identity], identity[0]))
            yield
        return b"".join(out)


class GroupByAttrsProcessor(Processor[Config]):
    """One instance per pipeline, each with its own memo."""

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._wanted = list(dict.fromkeys([encode_text(key) for key in config.keys]))
        self._known: Memo[tuple[bytes, Moved], tuple[bytes, Moved]] = Memo(
            "groupbyattrs.resources", self._resource, entries=8192, size=8 << 20
        )

    def explain(self) -> str:
        """The attributes that move."""
        return f"to the resource: {', '.join(self.config.keys)}\n" if self._wanted else "equal resources are merged\n"

    async def start(self) -> None:
        ledger, id = self.context.ledger, self.context.id
        items, item = _UPSTREAM[self.signal]
        name = f"otelcol_processor_groupbyattrs_num_grouped_{items}"
        self._grouped = ledger.counter(name, "Items that had attributes to move.", processor=id)
        name = f"otelcol_processor_groupbyattrs_num_non_grouped_{items}"
        self._not_grouped = ledger.counter(name, "Items that had no attributes to move.", processor=id)
        name = f"otelcol_processor_groupbyattrs_{item}_groups"
        self._groups = ledger.histogram(name, "Resources of a batch afterwards.", processor=id)
        self._mapper = Mapper(self, self._changed)

    def consume(self, batch: Batch) -> Coroutine[Any, Any, None]:
        return self._mapper.consume(batch)

    def _changed(self, batch: Batch) -> Changed | Awaitable[Changed]:
        steps = self._grouping(batch)
        return in_turns(steps) if batch.count > PIECE else at_once(steps)

    def _grouping(self, batch: Batch) -> Generator[None, None, Batch]:
        into = _Grouped()
        moved = yield from (self._points if batch.signal is Signal.METRICS else self._records)(batch, into)
        self._grouped(moved)
        self._not_grouped(batch.count - moved)
        self._groups(len(into.records))
        self._known.counts.lookups += batch.count
        if not moved and not into.merged(batch.signal is Signal.METRICS):
            return batch
        return Batch(batch.signal, (yield from into.payload()), batch.count, batch.metadata)

    def _records(self, batch: Batch, into: _Grouped) -> Generator[None, None, int]:
        """Sorts the records; returns how many had something to move."""
        field = edit.LOG_RECORD if batch.signal is Signal.LOGS else edit.SPAN
        moved = 0
        for entry in otlp.resources(batch.payload):
            resource, url = entry.resource, entry.schema_url
            into.parts += 1 + len(entry.scopes)
            for scope in entry.scopes:
                target = (scope.scope, scope.schema_url)
                lists: dict[Moved, list[bytes]] = {}
                for n, record in enumerate(scope.records):
                    if not n % STEP:
                        yield
                    taken, rest = self._taken(record, field)
                    if taken:
                        moved += 1
                    found = lists.get(taken)
                    if found is None:
                        found = lists[taken] = self._list(into, resource, url, taken, target)
                    found.append(rest)
        return moved

    def _points(self, batch: Batch, into: _Grouped) -> Generator[None, None, int]:
        moved = 0
        metrics: dict[tuple[int, bytes], tuple[Any, list[bytes]]] = {}
        for entry in otlp.resources(batch.payload):
            resource, url = entry.resource, entry.schema_url
            into.parts += 1 + len(entry.scopes)
            for scope in entry.scopes:
                target = (scope.scope, scope.schema_url)
                into.parts += len(scope.records)
                for record in scope.records:
                    moved += yield from self._metric(record, into, (resource, url, target), metrics)
        # Until now the lists hold places of metrics; those are written when all their points are known.
        for metric, points in metrics.values():
            yield
            data = getattr(metric, metric.WhichOneof("data"))
            data.points.extend(points)
        for scopes in into.records.values():
            for records in scopes.values():
                yield
                records[:] = [metrics[id(records), shell][0].SerializeToString() for shell in records]
        return moved

    def _metric(
        self,
        record: bytes,
        into: _Grouped,
        around: tuple[bytes, bytes, tuple[bytes, bytes]],
        metrics: dict[tuple[int, bytes], tuple[Any, list[bytes]]],
    ) -> Generator[None, None, int]:
        metric = otlp.parse_metric(record)
        kind = metric.WhichOneof("data")
        if kind is None:
            return 0
        field, data, moved = edit.POINT_ATTRIBUTES[kind], getattr(metric, kind), 0
        points = list(data.points)
        del data.points[:]
        data.SetInParent()
        shell: bytes = metric.SerializeToString()
        lists: dict[Moved, list[bytes]] = {}
        resource, url, target = around
        for n, point in enumerate(points):
            if not n % STEP:
                yield
            taken, rest = self._taken(point, field)
            if taken:
                moved += 1
            found = lists.get(taken)
            if found is None:
                shells = self._list(into, resource, url, taken, target)
                if (id(shells), shell) not in metrics:
                    shells.append(shell)
                    metrics[id(shells), shell] = (otlp.parse_metric(shell), [])
                found = lists[taken] = metrics[id(shells), shell][1]
            found.append(rest)
        return moved

    def _taken(self, message: bytes, field: int) -> tuple[Moved, bytes]:
        """What moves out of a record or point, in the order of the keys, and the rest of it."""
        pairs = edit.attributes(message, field) if self._wanted else []
        keys = keys_of(pairs)
        taken = tuple([pairs[keys.index(key)] for key in self._wanted if key in keys])
        if not taken:
            return taken, message
        rest = [pair for key, pair in zip(keys, pairs, strict=True) if key not in self._wanted]
        return taken, edit.with_attributes(message, field, rest)

    def _list(self, into: _Grouped, resource: bytes, url: bytes, taken: Moved, target: tuple[bytes, bytes]) -> list[bytes]:
        """The list of a resource and scope of the output that records are added to."""
        header, sorted_attributes = self._known[resource, taken]
        identity = (url, *sorted_attributes)
        scopes = into.records.get(identity)
        if scopes is None:
            scopes = into.records[identity] = {}
            into.headers[identity] = header
        found = scopes.get(target)
        if found is None:
            found = scopes[target] = []
        return found

    def _resource(self, key: tuple[bytes, Moved]) -> tuple[bytes, Moved]:
        """A resource with what moves to it, and its attributes in an order that does not depend on how it was written."""
        resource, taken = key
        pairs = edit.attributes(resource, edit.RESOURCE)
        at = {name: i for i, name in reversed(list(enumerate(keys_of(pairs))))}
        for name, pair in zip(keys_of(taken), taken, strict=True):
            if name in at:
                pairs[at[name]] = pair
            else:
                pairs.append(pair)
        header = edit.with_attributes(resource, edit.RESOURCE, pairs) if taken else resource
        return header, tuple(sorted(pairs))


COMPONENT = GroupByAttrsProcessor
