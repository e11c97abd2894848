"""What the local region stores: samples, log records and spans, bounded. The oldest are removed first, and counted."""

from __future__ import annotations

import math
import re
import struct
from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Any

from kofagent.telemetry.series import STALE_BITS
from kofagent.wire.remote_write_reader import Labels

_SELECTOR = re.compile(r"\s*+([A-Za-z_:][\w:]*)?\s*+(?:\{(.*)\})?\s*", re.DOTALL)
_MATCHER = re.compile(r'\s*([A-Za-z_]\w*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)')


class SampleStore:
    """The last samples of every series: at most `series` of them, `depth` samples each."""

    def __init__(self, series: int = 50_000, depth: int = 60) -> None:
        self._most, self._depth = series, depth
        self._series: OrderedDict[Labels, deque[tuple[int, float]]] = OrderedDict()
        self.taken = 0
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._series)

    def add(self, labels: Labels, samples: list[tuple[int, float]]) -> None:
        """Keeps samples of a series; the series that was not written for longest is removed when there are too many."""
        kept = self._series.get(labels)
        if kept is None:
            if len(self._series) >= self._most:
                self._series.popitem(last=False)
                self.forgotten += 1
            kept = self._series[labels] = deque(maxlen=self._depth)
        else:
            self._series.move_to_end(labels)
        kept.extend(samples)
        self.taken += len(samples)

    def select(self, selector: str) -> Iterator[tuple[dict[str, str], list[tuple[int, float]]]]:
        """Series that match `name{label="value",...}` with their samples. ValueError for anything else."""
        matched = _SELECTOR.fullmatch(selector)
        if matched is None or not selector.strip():
            raise ValueError('the local region answers selectors only, such as up{job="node"}')
        matchers = [("__name__", "=", matched[1])] if matched[1] else []
        rest = matched[2] or ""
        while rest.strip():
            one = _MATCHER.match(rest)
            if one is None:
                raise ValueError(f"not a label matcher: {rest.strip()!r}")
            matchers.append((one[1], one[2], re.sub(r"\\(.)", r"\1", one[3])))
            rest = rest[one.end() :]
        for labels, samples in self._series.items():
            have = dict(labels)
            if all(_matches(have.get(name, ""), operator, value) for name, operator, value in matchers):
                yield have, list(samples)


def _matches(have: str, operator: str, value: str) -> bool:
    if operator in ("=", "!="):
        return (have == value) == (operator == "=")
    return (re.fullmatch(value, have) is not None) == (operator == "=~")


def is_stale(value: float) -> bool:
    """Whether a value is the staleness marker."""
    return math.isnan(value) and struct.pack("<d", value) == struct.pack("<Q", STALE_BITS)


class LogStore:
    """The newest log records as flat dicts, at most `most_bytes` bytes, roughly counted."""

    def __init__(self, most_bytes: int = 32 * 1024 * 1024) -> None:
        self._most = most_bytes
        self._records: deque[tuple[int, dict[str, str]]] = deque()
        self._bytes = 0
        self.taken = 0
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: dict[str, str]) -> None:
        """Keeps a record, removes the oldest ones beyond the limit."""
        size = 100 + sum(len(k) + len(v) for k, v in record.items())
        self._records.append((size, record))
        self._bytes += size
        self.taken += 1
        while self._bytes > self._most and len(self._records) > 1:
            self._bytes -= self._records.popleft()[0]
            self.forgotten += 1

    def select(self, query: str, limit: int) -> list[dict[str, str]]:
        """The newest records in which every word of the query is found; `field:word` looks into one field, `*` matches all."""
        words = [w for w in re.findall(r'[\w.\-/]+:"[^"]*"|"[^"]*"|\S+', query) if w != "*"]
        out: list[dict[str, str]] = []
        for _, record in reversed(self._records):
            if all(_has(record, word) for word in words):
                out.append(record)
                if len(out) >= limit:
                    break
        return out


def _has(record: dict[str, str], word: str) -> bool:
    field, colon, rest = word.partition(":")
    if colon and field in record and not word.startswith('"'):
        return rest.strip('"').lower() in record[field].lower()
    text = word.strip('"').lower()
    return text in record.get("_msg", "").lower()


class SpanStore:
    """Spans by trace id in Jaeger's JSON, at most `most` traces."""

    def __init__(self, most: int = 5_000, spans_per_trace: int = 2_000) -> None:
        self._most, self._deep = most, spans_per_trace
        self._traces: OrderedDict[str, list[dict[str, Any]]] = OrderedDict()
        self.taken = 0
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._traces)

    def add(self, span: dict[str, Any]) -> None:
        """Keeps a span; the trace that was not written for longest is removed when there are too many."""
        self.taken += 1
        spans = self._traces.setdefault(span["traceID"], [])
        self._traces.move_to_end(span["traceID"])
        if len(spans) < self._deep:
            spans.append(span)
        else:
            self.forgotten += 1
        while len(self._traces) > self._most:
            self.forgotten += len(self._traces.popitem(last=False)[1])

    def services(self) -> list[str]:
        """Names of all services."""
        return sorted({span["process"]["serviceName"] for spans in self._traces.values() for span in spans})

    def select(self, service: str | None, limit: int) -> list[tuple[str, list[dict[str, Any]]]]:
        """The newest traces in which a service took part."""
        out = []
        for id, spans in reversed(self._traces.items()):
            if service is None or any(span["process"]["serviceName"] == service for span in spans):
                out.append((id, spans))
                if len(out) >= limit:
                    break
        return out

    def trace(self, id: str) -> list[dict[str, Any]]:
        """The spans of one trace."""
        return self._traces.get(id, [])
