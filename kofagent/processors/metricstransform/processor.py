"""The processor `metricstransform`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from kofagent.component.log_limit import LogLimit
from kofagent.component.mapping import Left, Mapper
from kofagent.component.protocols import Context, Processor
from kofagent.config.re2 import Match, compile_search, compile_test, expand
from kofagent.ottl.messages import read
from kofagent.processors.metricstransform.config import Config, Transform
from kofagent.processors.metricstransform.operations import (
    Impossible,
    aggregate,
    compile_operation,
    label,
    points,
    put_label,
)
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.signal import Signal
from kofagent.wire import edit, otlp
from kofagent.wire.attributes import decode_text
from kofagent.wire.lens import lenses, parse

_Named = lenses("kofagent.metricstransform", {"Metric": {"name": (1, "bytes")}})["Metric"]


class Item:
    """A metric: its bytes until something has to look into it, then a message."""

    __slots__ = ("_record", "message", "name")

    def __init__(self, record: bytes) -> None:
        self._record = record
        self.name = decode_text(parse(_Named, record).name)
        self.message: Any = None

    def open(self) -> Any:
        """The message. ValueError if malformed."""
        if self.message is None:
            self.message = read("metric", self._record)
        return self.message

    def record(self) -> bytes:
        """The bytes, as they were where nothing looked into them."""
        return self._record if self.message is None else self.message.SerializeToString()

    @classmethod
    def of(cls, message: Any) -> Item:
        """A new metric."""
        item = cls.__new__(cls)
        item.message, item.name, item._record = message, message.name, b""
        return item


class CompiledTransform:
    """One transform, ready to be run on the metrics of a scope."""

    def __init__(self, block: Transform, place: str) -> None:
        self.block = block
        self.place = place
        self._operations = [compile_operation(each) for each in block.operations]
        regexp = block.match_type == "regexp"
        self._search: Callable[[str], Match | None] | None = compile_search(block.include) if regexp else None
        self._labels: list[tuple[str, Callable[[str], bool]]] = [
            (key, compile_test(value) if regexp else value.__eq__) for key, value in block.experimental_match_labels.items()
        ]

    def names(self, name: str) -> bool:
        """Whether metrics of this name match."""
        return name == self.block.include if self._search is None else self._search(name) is not None

    def matches(self, point: Any) -> bool:
        """Whether a point has the labels."""
        for key, test in self._labels:
            value = label(point, key)
            if not test("" if value is None else value.string_value):
                return False
        return True

    def some(self, item: Item) -> bool:
        """Whether the metric matches with one of its points at least; one without points does."""
        if not self.names(item.name):
            return False
        data = points(item.open()) if self._labels else ()
        return not data or any(map(self.matches, data))

    def extracted(self, item: Item) -> Any:
        """A copy of the metric with the points that match; None without any."""
        if not self.names(item.name):
            return None
        message = item.open()
        copy = type(message)()
        copy.CopyFrom(message)
        data = points(copy)
        kept = {i for i, point in enumerate(data) if self.matches(point)}
        if not kept and data:
            return None
        for i in range(len(data) - 1, -1, -1):
            if i not in kept:
                del data[i]
        return copy

    def change(self, metric: Any) -> bool:
        """Renames, and applies the operations; False when all its points are gone. Impossible."""
        empty = not points(metric)
        whole = self.block.action != "update" or all(map(self.matches, points(metric)))
        if self.block.new_name and whole:
            found = self._search(metric.name) if self._search is not None else None
            metric.name = (expand(self.block.new_name, found) if found is not None else "") or self.block.new_name
        for apply in self._operations:
            apply(metric, self.matches, whole)
        return empty or bool(points(metric))

    def combined(self, metrics: list[Any]) -> Any:
        """One metric of the points of all. Impossible where they differ too much."""
        _check_alike(metrics)
        first = metrics[0]
        new = type(first)()
        new.CopyFrom(first)
        data = points(new)
        del data[:]
        for metric in metrics:
            found = self._search(metric.name) if self._search is not None else None
            labels = self._groups(found) if found is not None else []
            for point in points(metric):
                for key, text in labels:
                    put_label(point, key, text)
            data.extend(points(metric))
        new.name = self.block.new_name
        aggregate(new, self.block.aggregation_type)
        return new

    def _groups(self, found: Match) -> list[tuple[str, str]]:
        """Labels of the groups: by their names, `$1` and so on where they have none; what matched nothing is left out."""
        named = {number: name for name, number in found.re.groupindex.items()}  # type: ignore[attr-defined]
        case = {"lower": str.lower, "upper": str.upper}.get(self.block.submatch_case, str)
        return [(named.get(i, f"${i}"), case(text)) for i, text in enumerate(found.groups(), 1) if text]


def _check_alike(metrics: list[Any]) -> None:
    """Impossible unless the metrics can be one."""
    first = metrics[0]
    if any(metric.WhichOneof("data") == "summary" for metric in metrics):
        raise Impossible("summaries cannot be combined")
    for other in metrics[1:]:
        kind = first.WhichOneof("data")
        if other.WhichOneof("data") != kind:
            raise Impossible("metrics of different types cannot be combined")
        if other.unit != first.unit:
            raise Impossible("metrics with different units cannot be combined")
        if _labels_of(other) != _labels_of(first):
            raise Impossible("metrics with different labels cannot be combined")
        for name in ("aggregation_temporality", "is_monotonic"):
            if kind and getattr(getattr(first, kind), name, None) != getattr(getattr(other, kind), name, None):
                raise Impossible(f"metrics that differ in {name} cannot be combined")


def _labels_of(metric: Any) -> set[str]:
    return {item.key for point in points(metric) for item in point.attributes}


class MetricsTransformProcessor(Processor[Config]):
    """One instance per pipeline."""

    signals = frozenset({Signal.METRICS})

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._transforms = [CompiledTransform(block, f"transforms[{i}]") for i, block in enumerate(config.transforms)]
        self._log = LogLimit()

    def explain(self) -> str:
        """The transforms, a line each."""
        lines = []
        for transform in self._transforms:
            block = transform.block
            of = [each.action for each in block.operations]
            new = f" to {block.new_name}" if block.new_name else ""
            lines.append(f"{transform.place}: {block.action} {block.include}{new}{': ' if of else ''}{', '.join(of)}\n")
        return "".join(lines)

    async def start(self) -> None:
        self._mapper = Mapper(self, self._changed)

    def consume(self, batch: Batch) -> Coroutine[Any, Any, None]:
        return self._mapper.consume(batch)

    def _changed(self, batch: Batch) -> Batch | Left:
        request, removed, groups = otlp.parse_request(batch.payload), Counter[str](), list[bytes]()
        touched = False
        for i in range(len(request.resources) - 1, -1, -1):
            entry = request.resources[i]
            of_scopes: list[list[bytes]] = []
            for j in range(len(entry.scopes) - 1, -1, -1):
                scope = entry.scopes[j]
                old = [Item(record) for record in scope.records]
                moved: list[bytes] = []
                new = self._scope(list(old), entry, scope, moved, removed)
                of_scopes.append(moved)
                if len(new) == len(old) and all(a is b and a.message is None for a, b in zip(new, old, strict=True)):
                    continue
                touched = True
                if new:
                    otlp.replace(scope.records, [item.record() for item in new])
                else:
                    del entry.scopes[j]
            groups[:0] = [group for moved in reversed(of_scopes) for group in moved]
            if not entry.scopes:
                del request.resources[i]
                touched = True
        if not touched:
            return batch
        payload = request.SerializeToString() + b"".join(groups)
        left = otlp.count("metrics", payload)
        changed = Batch(batch.signal, payload, left, batch.metadata) if left or not batch.count else None
        return Left(changed, removed) if removed else changed or Left(None, {})

    def _scope(self, items: list[Item], entry: Any, scope: Any, moved: list[bytes], removed: Counter[str]) -> list[Item]:
        """The metrics of a scope after all transforms; `moved` gets payloads of resources that groups make."""
        for transform in self._transforms:
            action = transform.block.action
            if action == "update":
                items = self._update(transform, items, removed)
            elif action == "insert":
                for item in list(items):
                    new = transform.extracted(item)
                    if new is not None and self._change(transform, new):
                        items.append(Item.of(new))
            elif action == "combine":
                items = self._combine(transform, items, removed)
            else:
                items = _group(transform, items, entry, scope, moved)
        return items

    def _update(self, transform: CompiledTransform, items: list[Item], removed: Counter[str]) -> list[Item]:
        out = []
        for item in items:
            if not transform.some(item):
                out.append(item)
                continue
            before = len(points(item.open()))
            kept = self._change(transform, item.open())
            item.name = item.open().name
            gone = before - len(points(item.open()))
            if gone:
                removed[transform.place] += gone
            if kept:
                out.append(item)
        return out

    def _combine(self, transform: CompiledTransform, items: list[Item], removed: Counter[str]) -> list[Item]:
        parts, chosen = list[Any](), set[int]()
        for i, item in enumerate(items):
            part = transform.extracted(item)
            if part is not None:
                parts.append(part)
                chosen.add(i)
        if not parts:
            return items
        before = sum(len(points(part)) for part in parts)
        try:
            new = transform.combined(parts)
        except Impossible as error:
            self._failed(transform, error)
            return items
        out = []
        for i, item in enumerate(items):
            rest = _rest(transform, item) if i in chosen else item
            if rest is not None:
                out.append(rest)
        kept = self._change(transform, new)
        if kept:
            out.append(Item.of(new))
        if gone := before - len(points(new)):
            removed[transform.place] += gone
        return out

    def _change(self, transform: CompiledTransform, metric: Any) -> bool:
        try:
            return transform.change(metric)
        except Impossible as error:
            self._failed(transform, error)
            return True

    def _failed(self, transform: CompiledTransform, error: Impossible) -> None:
        if self._log.due((transform.place, str(error))):
            self.context.log.warning("%s: %s (further cases are not logged)", transform.place, error)


def _rest(transform: CompiledTransform, item: Item) -> Item | None:
    """What is left of a metric of which the points that match were taken out; None when nothing is."""
    data = points(item.open())
    for i in range(len(data) - 1, -1, -1):
        if transform.matches(data[i]):
            del data[i]
    return item if data else None


def _group(transform: CompiledTransform, items: list[Item], entry: Any, scope: Any, moved: list[bytes]) -> list[Item]:
    """Moves the metrics that match to a resource with more attributes."""
    out: list[Item] = []
    taken: list[bytes] = []
    for item in items:
        if not transform.names(item.name):
            out.append(item)
            continue
        part = transform.extracted(item)
        if part is None:
            out.append(item)
            continue
        taken.append(part.SerializeToString())
        rest = _rest(transform, item)
        if rest is not None:
            out.append(rest)
    if taken:
        resource = edit.patch(entry.resource, edit.RESOURCE, upsert=transform.block.group_resource_labels or {})
        moved.append(otlp.build_resource([otlp.build_scope(taken, scope.scope, scope.schema_url)], resource, entry.schema_url))
    return out
