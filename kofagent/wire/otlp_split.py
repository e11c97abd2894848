"""OTLP payloads cut into smaller ones: between records, and metrics between their data points."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kofagent.wire.otlp import ResourceView, ScopeView, count, new_request, parse_metric, parse_request, replace

# Bytes that tag and length of the enclosing messages can grow by; a limit on bytes is met with this much to spare.
_SLACK = 24
_NO_LIMIT = 1 << 62


def split(signal: str, payload: bytes, max_items: int = 0, max_bytes: int = 0) -> list[tuple[bytes, int]]:
    """The payload as several, in order: (payload, items) each of at most `max_items` items and `max_bytes` bytes; 0: no limit.

    Resource and scope are repeated in every part that has records of them; a metric is cut between data points and its
    identity repeated. A record that is longer than `max_bytes` alone makes a part by itself, so nothing is lost. A payload
    within the limits comes back as the same object. ValueError if malformed.
    """
    if max_items <= 0 and max_bytes <= 0:
        return [(payload, count(signal, payload))]
    total = count(signal, payload)
    if (max_items <= 0 or total <= max_items) and (max_bytes <= 0 or len(payload) <= max_bytes):
        return [(payload, total)]
    limit_items = max_items if max_items > 0 else _NO_LIMIT
    limit_bytes = max_bytes if max_bytes > 0 else _NO_LIMIT
    parts = _Parts(limit_items, limit_bytes)
    for entry in parse_request(payload).resources:
        parts.resource(entry)
        for scope in entry.scopes:
            parts.scope(scope)
            if signal != "metrics" and max_bytes <= 0:
                parts.records(list(scope.records))
                continue
            for record in scope.records:
                if signal == "metrics":
                    for piece, items in _metric_pieces(record, parts.room):
                        parts.record(piece, items)
                else:
                    parts.record(record, 1)
    return parts.done()


class _Parts:
    """Fills requests up to the limits; opens a resource and a scope in a part when its first record comes."""

    def __init__(self, max_items: int, max_bytes: int) -> None:
        self._max_items, self._max_bytes = max_items, max_bytes
        self._parts: list[tuple[bytes, int]] = []
        self._request = new_request()
        self._entry_source: ResourceView
        self._scope_source: ScopeView
        self._entry: ResourceView | None = None
        self._scope: ScopeView | None = None
        self._items = self._bytes = self._entry_cost = self._scope_cost = 0

    def resource(self, entry: ResourceView) -> None:
        """What follows belongs to this resource."""
        self._entry_source, self._entry = entry, None
        self._entry_cost = len(entry.resource) + len(entry.schema_url) + _SLACK

    def scope(self, scope: ScopeView) -> None:
        """What follows belongs to this scope."""
        self._scope_source, self._scope = scope, None
        self._scope_cost = len(scope.scope) + len(scope.schema_url) + _SLACK

    def _cost(self) -> int:
        """Bytes that the next record needs in addition to its own."""
        return (self._entry_cost if self._entry is None else 0) + (self._scope_cost if self._scope is None else 0)

    def room(self, size: int) -> tuple[int, int]:
        """Items and bytes that the part takes into which the next record of at least `size` bytes goes."""
        items, free = self._max_items - self._items, self._max_bytes - self._bytes - self._cost() - 6
        if items > 0 and size <= free:
            return items, free
        return self._max_items, self._max_bytes - self._entry_cost - self._scope_cost - 6

    def record(self, record: bytes, items: int) -> None:
        """Puts a record into the current part, or the next one where it would pass a limit."""
        size = len(record) + 6
        if self._bytes and (self._items + items > self._max_items or self._bytes + self._cost() + size > self._max_bytes):
            self._close()
        cost = self._cost()
        self._open().records.append(record)
        self._items += items
        self._bytes += cost + size

    def records(self, records: list[bytes]) -> None:
        """The same for many of one item each, where there is no limit on bytes."""
        at = 0
        while at < len(records):
            if self._items >= self._max_items:
                self._close()
            end = at + self._max_items - self._items
            self._open().records.extend(records[at:end])
            self._items += min(end, len(records)) - at
            self._bytes += 1
            at = end

    def _open(self) -> ScopeView:
        """The scope in the current part that takes records."""
        entry = self._entry
        if entry is None:
            source = self._entry_source
            entry = self._entry = self._request.resources.add()
            if source.HasField("resource"):
                entry.resource = source.resource
            if source.HasField("schema_url"):
                entry.schema_url = source.schema_url
            self._scope = None
        scope = self._scope
        if scope is None:
            of = self._scope_source
            scope = self._scope = entry.scopes.add()
            if of.HasField("scope"):
                scope.scope = of.scope
            if of.HasField("schema_url"):
                scope.schema_url = of.schema_url
        return scope

    def _close(self) -> None:
        self._parts.append((self._request.SerializeToString(), self._items))
        self._request = new_request()
        self._entry = self._scope = None
        self._items = self._bytes = 0

    def done(self) -> list[tuple[bytes, int]]:
        """The parts."""
        if self._bytes:
            self._close()
        return self._parts


def _metric_pieces(record: bytes, room: Callable[[int], tuple[int, int]]) -> Iterator[tuple[bytes, int]]:
    """The metric as one or several with the same identity, the first one filling the room that is left.

    `room(size)` gives the items and bytes that the part takes into which the next record of at least `size` bytes goes.
    """
    metric = parse_metric(record)
    kind = metric.WhichOneof("data")
    all_points = [] if kind is None else list(getattr(metric, kind).points)
    if len(all_points) <= 1:
        yield record, len(all_points)
        return
    data = getattr(metric, kind)
    del data.points[:]
    shell = metric.ByteSize() + _SLACK
    at = 0
    while at < len(all_points):
        free_items, free_bytes = room(shell + len(all_points[at]) + 6)
        if at == 0 and len(all_points) <= free_items and len(record) <= free_bytes:
            yield record, len(all_points)
            return
        start, size = at, shell
        while at < len(all_points) and at - start < free_items:
            size += len(all_points[at]) + 6
            if at > start and size > free_bytes:
                break
            at += 1
        replace(data.points, all_points[start:at])
        yield metric.SerializeToString(), at - start
