"""What is remembered of a target's page from scrape to scrape: raw text of name and labels -> finished `Series`.

A page nearly always has the same lines as the page before, in the same order, with other values. So a line is taken apart
only when its text was never seen; otherwise it costs a hash lookup and a `float`, and where most values stayed the same
only a comparison of bytes. `PageReader.read` is all or nothing: a page that is not in its format raises `ParseError` and
changes nothing but the cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import compress
from operator import ne

from kofagent.prometheus.columns import Columns, make_series
from kofagent.prometheus.text import ExemplarText, Meta, ParseError, Sample, number, scan, scan_line
from kofagent.telemetry.series import Exemplar, Family, Series

AHEAD_MS = 600_000
"""A sample whose own time is further in the future is left out, as Prometheus does."""
_PLAIN = b"0123456789.+-eEINFanfi"
_SUFFIXES = {
    "counter": ("_total", "_created"),
    "histogram": ("_bucket", "_sum", "_count", "_created"),
    "summary": ("_sum", "_count", "_created"),
    "gaugehistogram": ("_bucket", "_gsum", "_gcount"),
    "info": ("_info",),
}


class _Dropped:
    """The series of a line that metric_relabel_configs leave out."""

    def __repr__(self) -> str:
        return "<dropped>"


DROPPED = _Dropped()
Entry = Series | _Dropped
Labels = tuple[tuple[str, str], ...]
_Columns = tuple[list[Entry], list[float], list[int | None] | None, dict[int, ExemplarText], list[bytes]]
"""Entries, values, times (None: no line has one), exemplars by index, raw texts."""


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


class SampleLimitError(ValueError):
    """More samples than `sample_limit` after relabelling; `total` and `kept` count them."""

    def __init__(self, total: int, kept: int) -> None:
        super().__init__("sample limit exceeded")
        self.total = total
        self.kept = kept


class PageReader:
    """Reads the pages of one target.

    `finish` makes final labels of a page's labels, None where relabelling drops them; it may raise ValueError, which
    fails the page (a label limit, an invalid name).
    """

    def __init__(
        self,
        finish: Callable[[Labels], Labels | None],
        *,
        honor_timestamps: bool = True,
        track_timestamps: bool = False,
        sample_limit: int = 0,
    ) -> None:
        self._finish = finish
        self._honor = honor_timestamps
        self._track = track_timestamps
        self._limit = sample_limit
        self.families: dict[str, Family] = {}
        self._format: bool | None = None
        self._raw: dict[bytes, Entry] = {}
        # Series made since the last good page.
        self._fresh: set[Series] = set()
        # Final labels to series, while a page with unknown lines is read.
        self._interned: dict[Labels, Series] | None = None
        self._comments: list[bytes] | None = None
        self._tracked: Sequence[Series] = ()
        # Series whose text was forgotten because a type changed; they go on under their labels.
        self._retyped: set[Series] = set()
        self._good = 0
        # The page before, when it was plain (no times, exemplars or duplicates); None otherwise.
        self._lines: list[bytes] | None = None
        self._slots: list[int] = []
        self._line_keys: list[bytes | None] = []
        self._entries: list[Entry] | None = None
        self._mask: list[bool] | None = None
        self._last: Scraped | None = None
        # The series of the last page that was not plain.
        self._uneven = Columns()
        self._timed_entries: list[Entry] | None = None
        self._timed_mask: list[bool] = []

    def read(self, page: bytes, openmetrics: bool, now_ms: int) -> Scraped:
        """The samples of a page. ParseError or ValueError when it must not be used; call `fail` then."""
        if openmetrics is not self._format:
            self._format = openmetrics
            self._raw = {}
            self._comments = self._lines = self._entries = self._timed_entries = None
        lines = page.split(b"\n")
        scraped = self._mostly_unchanged(lines)
        if scraped is None:
            try:
                scraped = self._known(page, lines, openmetrics, now_ms)
            finally:
                self._interned = None
        return scraped

    def fail(self) -> Sequence[Series]:
        """The scrape failed: all series of the last page end now. What is known of their text is kept."""
        stale = self._tracked
        self._tracked = ()
        self._lines = self._entries = self._last = self._timed_entries = None
        if len(self._raw) > 2 * self._good + 1000:
            self._raw = {}
            self._fresh = set()
        return stale

    def has(self, labels: Labels) -> bool:
        """Whether a series with these final labels was on the last good page."""
        return any(entry.labels == labels for entry in self._raw.values() if isinstance(entry, Series))

    # hot: scrape, 0.25 us/line where 30 % of the values changed: one C-level comparison per line, then only the lines that
    # differ are taken apart. Plain twin: tests/reference/page.py.
    def _mostly_unchanged(self, lines: list[bytes]) -> Scraped | None:
        old, last = self._lines, self._last
        if old is None or last is None or len(old) != len(lines):
            return None
        changed = list(compress(range(len(lines)), map(ne, lines, old)))
        if not changed:
            return self._same(last.values)
        if 2 * len(changed) > len(lines):
            return None
        texts, slots = [], self._slots
        values = [*last.values, 0.0]
        keys = self._line_keys
        for i in changed:
            key, _, text = lines[i].rpartition(b" ")
            if key != keys[i]:
                # Another series, a comment, or the same lines in other places.
                self._entries = None
                return None
            texts.append(text)
        fresh = _floats(texts)
        if fresh is None:
            return None
        # Lines that relabelling drops share one slot behind the last value.
        for i, value in zip(changed, fresh, strict=True):
            values[slots[i]] = value
            old[i] = lines[i]
        values.pop()
        return self._same(values)

    def _same(self, values: list[float]) -> Scraped:
        """A page with the series of the page before."""
        last = self._last
        assert last is not None
        scraped = Scraped(last.series, values, last.total, last.kept)
        self._last = scraped
        return scraped

    # hot: scrape, 0.5 us/line where every value changed: split, rpartition, lookup and float each run as one C-level pass.
    # Plain twin: tests/reference/page.py.
    def _known(self, page: bytes, lines: list[bytes], openmetrics: bool, now_ms: int) -> Scraped:
        samples = [line for line in lines if line and line[0] != 35]
        comments = [line for line in lines if line[:1] == b"#"]
        try:
            if openmetrics and not _openmetrics_frame(lines, comments):
                raise ValueError("blank line or missing # EOF")
            if comments != self._comments:
                self._describe([scan_line(line, openmetrics) for line in comments if line != b"# EOF"])
                self._comments = comments
            again = self._timed_again(samples, now_ms)
            if again is not None:
                return again
            entries, values, stamps, exemplars, keys = self._columns(samples, openmetrics)
        except ValueError:
            # The verdict, with its line number, is the complete tokenizer's; it also knows labels that span lines.
            self._comments = None
            entries, values, stamps, exemplars, keys = self._scan(page, openmetrics)
            samples = []
        if self._limit and len(entries) > self._limit:
            kept = len(entries) - entries.count(DROPPED)
            if kept > self._limit:
                raise SampleLimitError(len(entries), kept)
        plain = lines if samples and stamps is None else None
        if not self._honor:
            stamps = None
        if stamps is None and not exemplars:
            if entries == self._entries:
                if self._mask is not None:
                    values = list(compress(values, self._mask))
                self._lines = plain
                return self._same(values)
            return self._new_shape(entries, values, keys, plain)
        return self._irregular(entries, values, keys, stamps, exemplars, now_ms=now_ms)

    # hot: scrape, but of cadvisor, where every line has a time of its own: the same passes as `_known` with one more column.
    # Plain twin: tests/reference/page.py.
    def _timed_again(self, samples: list[bytes], now_ms: int) -> Scraped | None:
        """A page with the lines of the page before, all with times; None for any other."""
        before = self._timed_entries
        if before is None or len(samples) != len(before) or not samples:
            return None
        try:
            keys, texts, stamps = zip(*[line.rsplit(b" ", 2) for line in samples], strict=True)
        except ValueError:
            return None
        if list(map(self._raw.get, keys)) != before or not b"".join(stamps).isdigit() or max(map(len, stamps)) > 15:
            return None
        values = _floats(texts)
        times = list(map(int, stamps))
        if values is None or max(times) > now_ms + AHEAD_MS:
            return None
        scraped = Scraped(self._uneven, list(compress(values, self._timed_mask)), len(before), len(self._uneven))
        scraped.timestamps = list(compress(times, self._timed_mask))
        return scraped

    def _columns(self, samples: list[bytes], openmetrics: bool) -> _Columns:
        if not samples:
            return [], [], None, {}, []
        parts = [line.rpartition(b" ") for line in samples]
        keys, _, texts = map(list, zip(*parts, strict=True))
        found: list[Entry | None] = list(map(self._raw.get, keys))
        values: list[float] | None = None
        stamps: list[int | None] | None = None
        exemplars: dict[int, ExemplarText] = {}
        if None in found:
            missing = [i for i, entry in enumerate(found) if entry is None]
            stamps = None if openmetrics else self._timed(found, keys, texts, missing)
            for i in missing:
                if found[i] is not None:
                    continue
                item = scan_line(samples[i], openmetrics)
                if not isinstance(item, Sample):
                    raise ValueError("not a sample")
                found[i], texts[i] = self._entry(item), b"%r" % item.value
                if item.timestamp_ms is not None or item.exemplar is not None:
                    keys[i] = item.raw
                    if item.timestamp_ms is not None:
                        stamps = stamps or [None] * len(samples)
                        stamps[i] = item.timestamp_ms
                    if item.exemplar is not None:
                        exemplars[i] = item.exemplar
                self._raw[keys[i]] = found[i]  # type: ignore[assignment]
        values = _floats(texts)
        if values is None:
            values = [number(text) for text in texts]
        return found, values, stamps, exemplars, keys  # type: ignore[return-value]

    def _timed(
        self, found: list[Entry | None], keys: list[bytes], texts: list[bytes], missing: list[int]
    ) -> list[int | None] | None:
        """Recognises lines of known series that carry a time of their own, as all of cadvisor's do.

        Fills in their entry, key and value, and returns the times.
        """
        parts = [keys[i].rpartition(b" ") for i in missing]
        entries = list(map(self._raw.get, [part[0] for part in parts]))
        stamps = [texts[i] for i in missing]
        if len(missing) == len(found) and None not in entries and b"".join(stamps).isdigit() and max(map(len, stamps)) < 16:
            found[:] = entries
            keys[:] = [part[0] for part in parts]
            texts[:] = [part[2] for part in parts]
            return list(map(int, stamps))
        out: list[int | None] | None = None
        for i, (key, _, text), entry, stamp in zip(missing, parts, entries, stamps, strict=True):
            if entry is not None and stamp.isdigit() and len(stamp) < 16:
                out = out or [None] * len(found)
                out[i] = int(stamp)
                found[i], keys[i], texts[i] = entry, key, text
        return out

    def _scan(self, page: bytes, openmetrics: bool) -> _Columns:
        """The same columns by the complete tokenizer alone."""
        items = list(scan(page, openmetrics))
        self._describe([item for item in items if isinstance(item, Meta)])
        samples = [item for item in items if isinstance(item, Sample)]
        entries = [self._entry(s) for s in samples]
        for sample, entry in zip(samples, entries, strict=True):
            self._raw[sample.raw] = entry
        stamps = [s.timestamp_ms for s in samples]
        exemplars = {i: s.exemplar for i, s in enumerate(samples) if s.exemplar is not None}
        return (
            entries,
            [s.value for s in samples],
            stamps if any(t is not None for t in stamps) else None,
            exemplars,
            [s.raw for s in samples],
        )

    def _entry(self, sample: Sample) -> Entry:
        entry = self._raw.get(sample.raw)
        if entry is not None:
            return entry
        labels = self._finish(self._bounds(sample.labels))
        if labels is None:
            return DROPPED
        if self._interned is None:
            self._interned = {known.labels: known for known in self._all()}
        series = self._interned.get(labels)
        if series is None:
            series = make_series(labels, self.family_of(_name(labels)))
            self._interned[series.labels] = series
            self._fresh.add(series)
        return series

    def _all(self) -> set[Series]:
        """Every series somebody may still mean."""
        known = {entry for entry in self._raw.values() if isinstance(entry, Series)}
        known.update(self._tracked, self._retyped)
        return known

    def _bounds(self, labels: Labels) -> Labels:
        """`le` and `quantile` written one way (`1`, not `1.0` or `1e0`): formats differ in it, the series must not."""
        for i, (key, value) in enumerate(labels):
            if key == "le" or key == "quantile":  # noqa: PLR1714 - asked for every label of every new line
                family = self.family_of(labels[0][1])
                if family is not None and (family.type, key) in (("histogram", "le"), ("summary", "quantile")):
                    return (*labels[:i], (key, canonical_bound(value)), *labels[i + 1 :])
        return labels

    def family_of(self, name: str) -> Family | None:
        """The family a metric name belongs to: its own, or that of a histogram, summary or counter it is part of."""
        family = self.families.get(name)
        if family is not None:
            return family
        stem, _, last = name.rpartition("_")
        family = self.families.get(stem)
        return family if family is not None and "_" + last in _SUFFIXES.get(family.type, ()) else None

    def _describe(self, items: Sequence[Meta | Sample | None]) -> None:
        """Takes the metadata of a page; families it does not describe are forgotten."""
        described: dict[str, dict[str, str]] = {}
        for item in items:
            if isinstance(item, Meta):
                described.setdefault(item.family, {})[item.kind] = item.text
        types = {name: family.type for name, family in self.families.items()}
        families = {}
        for name, meta in described.items():
            family = self.families.get(name) or Family(name)
            family.type, family.help, family.unit = meta.get("type", "unknown"), meta.get("help", ""), meta.get("unit", "")
            families[name] = family
        self.families = families
        if types != {name: family.type for name, family in families.items()}:
            # How bounds are written depends on the type, so what is known of the lines does too.
            self._retyped = self._all()
            self._raw = {}
        self._entries = self._lines = self._timed_entries = None
        self._uneven = Columns()
        for series in self._all():
            series.family = self.family_of(series.name)

    def _new_shape(self, entries: list[Entry], values: list[float], keys: list[bytes], lines: list[bytes] | None) -> Scraped:
        """A plain page whose series differ from those of the page before."""
        mask = [entry is not DROPPED for entry in entries]
        dropped = not all(mask)
        series = Columns(compress(entries, mask))  # type: ignore[arg-type]
        if len(set(series)) != len(series):
            return self._irregular(entries, values, keys, None, {}, now_ms=0)
        scraped = Scraped(series, list(compress(values, mask)) if dropped else values, len(entries), len(series))
        self._settle(scraped, series, keys, entries)
        self._timed_entries = None
        self._last, self._entries, self._mask, self._lines = scraped, entries, mask if dropped else None, lines
        if lines is not None:
            slots: list[int] = []
            line_keys: list[bytes | None] = []
            at, samples = 0, zip(mask, keys, strict=True)
            for line in lines:
                if not line or line[0] == 35:
                    slots.append(-1)
                    line_keys.append(None)
                    continue
                kept, key = next(samples)
                line_keys.append(key)
                slots.append(at if kept else len(series))
                at += kept
            self._line_keys = line_keys
            self._slots = slots
        return scraped

    def _irregular(
        self,
        entries: list[Entry],
        values: list[float],
        keys: list[bytes],
        stamps: list[int | None] | None,
        exemplars: dict[int, ExemplarText],
        *,
        now_ms: int,
    ) -> Scraped:
        """A page with times of its own, exemplars or duplicates: sample by sample."""
        scraped = Scraped([], [], len(entries), 0)
        series: list[Series] = []
        tracked: dict[Series, None] = {}
        times: list[int | None] = []
        pinned: dict[int, Exemplar] = {}
        for i, entry in enumerate(entries):
            if not isinstance(entry, Series):
                continue
            scraped.kept += 1
            stamp = stamps[i] if stamps is not None else None
            if stamp is None and entry in tracked:
                scraped.duplicates += 1
                continue
            if stamp is not None and stamp > now_ms + AHEAD_MS:
                scraped.out_of_bounds += 1
                continue
            if stamp is None or self._track:
                tracked[entry] = None
            exemplar = exemplars.get(i)
            if exemplar is not None:
                pinned[len(series)] = Exemplar(*exemplar)
            series.append(entry)
            scraped.values.append(values[i])
            times.append(stamp)
        if stamps is not None:
            scraped.timestamps = times
        scraped.exemplars = pinned or None
        same = series == self._uneven
        if not same:
            self._uneven = Columns(series)
        scraped.series = self._uneven
        if not same or list(tracked) != self._tracked:
            self._settle(scraped, list(tracked), keys, entries)
        self._lines = self._entries = self._last = None
        # Next time, the same series in the same order with nothing but times and values changed needs none of the above.
        regular = (
            stamps is not None
            and None not in stamps
            and not exemplars
            and len(series) == scraped.kept
            and not self._tracked
            and not self._format
        )
        self._timed_entries = entries if regular else None
        self._timed_mask = [entry is not DROPPED for entry in entries] if regular else []
        return scraped

    def _settle(self, scraped: Scraped, tracked: Sequence[Series], keys: list[bytes], entries: list[Entry]) -> None:
        """Finds what is new and what ended, and forgets the text of series that are gone."""
        live = set(tracked)
        scraped.stale = [series for series in self._tracked if series not in live]
        if self._fresh:
            scraped.added = len(self._fresh.intersection(scraped.series))
            self._fresh = set()
        self._tracked = tracked
        self._retyped = set()
        self._good = len(entries)
        self._raw = dict(zip(keys, entries, strict=True))


def _name(labels: Labels) -> str:
    for key, value in labels:
        if key == "__name__":
            return value
    return ""


def _openmetrics_frame(lines: list[bytes], comments: list[bytes]) -> bool:
    """Whether blank lines and `# EOF` are only where OpenMetrics has them."""
    last = len(lines) - 1 if lines[-1] else len(lines) - 2
    return last >= 0 and lines[last] == b"# EOF" and comments.count(b"# EOF") == 1 and lines.count(b"") == len(lines) - 1 - last


def _floats(texts: Sequence[bytes]) -> list[float] | None:
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


def canonical_bound(text: str) -> str:
    """A bucket bound or quantile as upstream writes it: shortest digits, no exponent; as it is when it is no number."""
    try:
        value = number(text.encode())
    except ValueError:
        return text
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    short = repr(value)
    if "e" in short:
        short = format(Decimal(short), "f")
    return short.removesuffix(".0")


__all__ = ["DROPPED", "PageReader", "ParseError", "SampleLimitError", "Scraped", "canonical_bound"]
