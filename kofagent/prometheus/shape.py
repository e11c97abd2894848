"""The shape of a target's page: which series its lines are, so that the next page with the same lines is only numbers.

A `PlainShape` reads pages without timestamps, a `TimedShape` pages where every line has one (cadvisor's); any other
page leaves an `UnevenShape`, which only keeps its column of series. `read` gives the next page, or None when it has another
shape: then the page is to be read line by line, and makes a new one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import compress
from operator import ne
from typing import Protocol

from kofagent.prometheus.columns import Columns
from kofagent.prometheus.text import number
from kofagent.telemetry.series import Exemplar, Series

AHEAD_MS = 600_000
"""A sample whose own time is further in the future is left out, as Prometheus does."""
_HASH = ord("#")
_PLAIN = b"0123456789.+-eEINFanfi"


class _Dropped:
    """What a line stands for that is not kept."""

    def __init__(self, why: str) -> None:
        self._why = why

    def __repr__(self) -> str:
        return f"<{self._why}>"


DROPPED = _Dropped("dropped")
"""Of a line that metric_relabel_configs drop."""
BEYOND = _Dropped("beyond the limit")
"""Of a line beyond `sample_limit`, whose page is refused."""
Entry = Series | _Dropped
"""What a sample line stands for."""


class Scraped:
    """A page: parallel columns of what is left after relabelling, and the numbers Prometheus reports about it.

    `total` counts sample lines, `kept` those left after relabelling (duplicates included), `added` series not seen before.
    `stale` are the series of the page before that ended with this one. `duplicates` and `out_of_bounds` were left out.
    """

    __slots__ = ("added", "duplicates", "exemplars", "kept", "out_of_bounds", "series", "stale", "timestamps", "total", "values")

    def __init__(self, series: Sequence[Series], values: list[float], total: int, kept: int) -> None:
        self.series = series
        self.values = values
        self.timestamps: list[int | None] | None = None
        self.exemplars: dict[int, Exemplar] | None = None
        self.total = total
        self.kept = kept
        self.added = self.duplicates = self.out_of_bounds = 0
        self.stale: Sequence[Series] = ()


class Shape(Protocol):
    """What is remembered of the last page."""

    def read(self, lines: list[bytes], now_ms: int) -> Scraped | None:
        """The page with these lines; None when its shape differs. Raises nothing."""
        ...


class PlainShape:
    """A page without times, exemplars or duplicates. `series` are the kept ones of `entries`, in the same order."""

    def __init__(self, series: Columns, entries: list[Entry], mask: list[bool] | None) -> None:
        """`mask` says which entries are kept; None: all."""
        self._series = series
        self._entries = entries
        self._mask = mask
        self._values: list[float] = []
        # The lines of the last page, the key (name and labels) of each, None for comments and blank lines, and where its
        # value belongs. Lines that relabelling drops share one slot behind the last value.
        self._lines: list[bytes] | None = None
        self._keys: list[bytes | None] = []
        self._slots: list[int] = []

    # hot: scrape, 0.25 us/line where 30 % of the values changed: one C-level comparison per line, then only the lines that
    # differ are taken apart. Plain twin: tests/reference/page.py.
    def read(self, lines: list[bytes], now_ms: int) -> Scraped | None:
        old = self._lines
        if old is None or len(old) != len(lines):
            return None
        changed = list(compress(range(len(lines)), map(ne, lines, old)))
        if not changed:
            return self._scraped(self._values)
        if 2 * len(changed) > len(lines):
            return None
        texts, slots, keys = [], self._slots, self._keys
        values = [*self._values, 0.0]
        for i in changed:
            key, _, text = lines[i].rpartition(b" ")
            if key != keys[i]:
                # Another series, a comment, or the same lines in other places.
                self._lines = None
                return None
            texts.append(text)
        fresh = floats(texts)
        if fresh is None:
            return None
        for i, value in zip(changed, fresh, strict=True):
            values[slots[i]] = value
            old[i] = lines[i]
        values.pop()
        return self._scraped(values)

    def fill(self, entries: list[Entry], values: list[float], keys: list[bytes], lines: list[bytes] | None) -> Scraped | None:
        """The page with these samples, one entry, value and key each; None when they are not of this shape.

        `lines`: the lines of the page, each sample on one; None when the next page cannot be compared with them.
        """
        if entries != self._entries:
            return None
        if lines is None or self._lines is None or len(lines) != len(self._lines):
            self._lay_out(lines, keys)
        else:
            self._lines = lines  # where lines have other places now, `read` finds out by their keys
        return self._scraped(values if self._mask is None else list(compress(values, self._mask)))

    def _lay_out(self, lines: list[bytes] | None, keys: list[bytes]) -> None:
        self._lines = lines
        self._keys, self._slots = [], []
        if lines is None:
            return
        at, samples = 0, zip(self._mask or [True] * len(keys), keys, strict=True)
        for line in lines:
            if not line or line[0] == _HASH:
                self._slots.append(-1)
                self._keys.append(None)
                continue
            kept, key = next(samples)
            self._keys.append(key)
            self._slots.append(at if kept else len(self._series))
            at += kept

    def _scraped(self, values: list[float]) -> Scraped:
        self._values = values
        return Scraped(self._series, values, len(self._entries), len(self._series))


class UnevenShape:
    """A page with duplicates, exemplars or times on some lines: read sample by sample each time."""

    def __init__(self, series: Columns) -> None:
        self.series = series

    def read(self, lines: list[bytes], now_ms: int) -> Scraped | None:
        return None


class TimedShape:
    """A page where every line has a timestamp and no series appears twice."""

    def __init__(self, series: Columns, entries: list[Entry], known: Mapping[bytes, Entry], comments: list[bytes]) -> None:
        """`known` has the entry of each line's text of name and labels."""
        self.series = series
        self._entries = entries
        self._mask = [entry is not DROPPED for entry in entries]
        self._known = known
        self._comments = comments

    # hot: scrape, but of cadvisor, where every line has a timestamp: the same passes as `PageReader` has for new
    # lines, with one more column. Plain twin: tests/reference/page.py.
    def read(self, lines: list[bytes], now_ms: int) -> Scraped | None:
        samples, comments = parted(lines)
        if len(samples) != len(self._entries) or comments != self._comments:
            return None
        return self.read_parts((samples,), now_ms)

    def read_parts(self, parts: Iterable[list[bytes]], now_ms: int) -> Scraped | None:
        """As `read`, of the lines of samples in several parts; the comments are those of the last page."""
        before, known = self._entries, self._known
        values: list[float] = []
        times: list[int] = []
        at = 0
        try:
            for samples in parts:
                if not samples:
                    continue
                keys, texts, stamps = zip(*[line.rsplit(b" ", 2) for line in samples], strict=True)
                end = at + len(keys)
                if list(map(known.get, keys)) != before[at:end] or not b"".join(stamps).isdigit() or max(map(len, stamps)) > 15:
                    return None
                found = floats(texts)
                if found is None:
                    return None
                values += found
                times += map(int, stamps)
                at = end
        except ValueError:
            return None
        if not at or at != len(before) or max(times) > now_ms + AHEAD_MS:
            return None
        scraped = Scraped(self.series, list(compress(values, self._mask)), len(before), len(self.series))
        scraped.timestamps = list(compress(times, self._mask))
        return scraped


def parted(lines: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    """The lines of samples and the comments of a page."""
    return [line for line in lines if line and line[0] != _HASH], [line for line in lines if line[:1] == b"#"]


def floats(texts: Sequence[bytes]) -> list[float] | None:
    """All texts as numbers, or None when one of them needs a closer look (`number` has the rules)."""
    try:
        values = list(map(float, texts))
    except ValueError:
        return None
    # `float` takes more than the formats do: blanks, underscores, signed NaN, and it makes 1e999 infinite.
    if b"".join(texts).translate(None, _PLAIN):
        return None
    total = sum(values)
    if total - total != 0:
        try:
            return [number(text) for text in texts]
        except ValueError:
            return None
    return values
