"""`Owed`: what has to arrive and has not yet, brought up to date in time proportional to what is new and what is missing."""

from __future__ import annotations

from collections.abc import Sequence

from tests.faults.sink import Key, Sink
from tests.faults.sources import Numbered, Pages, Spans

Window = tuple[float, float]


def left(mark: dict[str, set[Key]], sink: Sink) -> bool:
    """Whether any line or span of `mark` has not arrived; what has is taken out of it."""
    arrived = {"lines": sink.lines.count, "spans": sink.spans.count}
    for kind, keys in mark.items():
        keys.difference_update([key for key in keys if key in arrived[kind]])
    return any(mark.values())


class Owed:
    """Lines that were written, spans that were acknowledged, samples of pages that were scraped in peace."""

    def __init__(self, sink: Sink, spans: Spans, pages: Pages) -> None:
        self._sink, self._spans, self._pages = sink, spans, pages
        self._looked_at: tuple[object, ...] = ()
        self._missing: dict[str, set[Key]] = {}
        self._written: dict[str, int] = {}
        self._acknowledged = self._served = 0

    def missing(self, lines: Sequence[Numbered], not_within: Sequence[Window]) -> dict[str, set[Key]]:
        """What of that has not arrived. Pages that were served within these times are not owed."""
        sink = self._sink
        arrived = {"lines": sink.lines, "spans": sink.spans, "samples": sink.samples}
        if self._looked_at != tuple(arrived.values()):  # the sink has forgotten
            self._looked_at = tuple(arrived.values())
            self._missing = {kind: set() for kind in arrived}
            self._written, self._acknowledged, self._served = {}, 0, 0
        for source in lines:
            known = self._written.get(source.name, 0)
            self._missing["lines"].update((source.name, n) for n in range(known, source.number))
            self._written[source.name] = source.number
        acknowledged, served = self._spans.in_order, self._pages.in_order
        self._missing["spans"].update(acknowledged[self._acknowledged :])
        self._acknowledged = len(acknowledged)
        for target, number in served[self._served :]:
            self._missing["samples"].update((f"{target}/{s}", number) for s in range(self._pages.series))
        self._served = len(served)
        for kind, keys in self._missing.items():
            keys.difference_update([key for key in keys if key in arrived[kind].count])
        missing = dict(self._missing)
        if not_within and missing["samples"]:
            missing["samples"] = {key for key in missing["samples"] if not self._within(key, not_within)}
        doubtful = [source.in_doubt for source in lines if source.in_doubt]
        return missing | {"lines": missing["lines"].difference(*doubtful)}

    def total(self, lines: Sequence[Numbered]) -> dict[str, int]:
        """How many there are in all, what is in doubt included."""
        return {
            "lines": sum(source.number for source in lines),
            "spans": len(self._spans.in_order),
            "samples": len(self._pages.in_order) * self._pages.series,
        }

    def _within(self, key: Key, windows: Sequence[Window]) -> bool:
        at = self._pages.served[key[0].partition("/")[0], key[1]]
        return any(begin <= at <= end for begin, end in windows)
