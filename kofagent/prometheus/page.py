"""What is remembered of a target's page from scrape to scrape: raw text of name and labels -> finished `Series`.

A page nearly always has the same lines as the page before, in the same order, with other values: then it is read by the
shape of the page before (`shape.py`), which costs a comparison of bytes where values stayed the same and a hash lookup and
a `float` where not. A line is taken apart only when its text was never seen. `PageReader.read` is all or nothing: a page
that is not in its format raises `ParseError` and changes nothing but the cache.

A large page is read in parts (`parts.py`), its lines are not remembered, and limits hold after each part: what is beyond
`sample_limit` is counted and not kept.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from itertools import compress, islice
from typing import TypeVar

from kofagent.component.turns import at_once
from kofagent.memory.account import ACCOUNT
from kofagent.memory.pressure import PRESSURE
from kofagent.prometheus import parts
from kofagent.prometheus.budgets import Share
from kofagent.prometheus.columns import Columns, make_series
from kofagent.prometheus.families import Families
from kofagent.prometheus.shape import (
    AHEAD_MS,
    BEYOND,
    DROPPED,
    Entry,
    PlainShape,
    Scraped,
    Shape,
    TimedShape,
    UnevenShape,
    floats,
    parted,
)
from kofagent.prometheus.text import (
    NEVER,
    ExemplarText,
    Labels,
    Meta,
    PageError,
    ParseError,
    Sample,
    SeriesError,
    number,
    scan,
    scan_line,
)
from kofagent.telemetry.series import Exemplar, Family, Series

STEP = 100
"""New lines that are read without a break: some 3 ms."""
STEP_BYTES = 16 << 10
"""Bytes of new lines that are read without a break: where they are all labels, some 30 ms."""
FREE = 1000
"""New lines of a page for which no room is asked."""
_OURS = 3
"""References to an object that only we have: the tuple it is in, a local variable, and the argument of getrefcount."""
T = TypeVar("T")
Reading = Generator[None, None, T]
"""Yields where it may be interrupted, and returns what was read."""
_Keys = list[bytes] | None
"""The raw text of each line; None of a large page, whose texts are looked up and not kept a second time."""
_Columns = tuple[list[Entry], list[float], list[int | None] | None, dict[int, ExemplarText], _Keys]
"""Entries, values, times (None: no line has one), exemplars by index, raw texts."""


class SampleLimitError(ValueError):
    """More samples than `sample_limit` after relabelling; `total` and `kept` count them."""

    def __init__(self, total: int, kept: int) -> None:
        super().__init__("sample limit exceeded")
        self.total = total
        self.kept = kept


class NoRoom(ValueError):
    """A page that does not fit into the memory that is left."""


class Pace:
    """Says when it is time for a break: before the first line, and after each STEP lines or STEP_BYTES."""

    __slots__ = ("_bytes", "_lines")

    def __init__(self) -> None:
        self._bytes = self._lines = 0

    def __call__(self, size: int) -> bool:
        """Before a line of this many bytes."""
        self._lines -= 1
        self._bytes -= size
        if self._lines >= 0 and self._bytes >= 0:
            return False
        self._lines, self._bytes = STEP - 1, STEP_BYTES - size
        return True


class PageReader:
    """Reads the pages of one target.

    `finish` makes final labels of a page's labels, None where relabelling drops them; it may raise SeriesError, which
    fails the page. `fits` says whether so many bytes more of lines and series may be kept. `share` is what the target has of its
    namespace's budget of series: those beyond it are left out.
    """

    name = "page_caches"
    limit = 0

    def __init__(
        self,
        finish: Callable[[Labels], Labels | None],
        *,
        honor_timestamps: bool = True,
        track_timestamps: bool = False,
        sample_limit: int = 0,
        fits: Callable[[int], bool] = PRESSURE.fits,
        share: Share | None = None,
    ) -> None:
        self._finish = finish
        self._fits = fits
        self._share = share
        # The texts of series for which the budget of the namespace had no room; their entries are DROPPED.
        self._over: set[bytes] = set()
        self._honor = honor_timestamps
        self._track = track_timestamps
        self._limit = sample_limit
        self.families = Families()
        self._format: bool | None = None
        self._raw: dict[bytes, Entry] = {}
        # Series made since the last good page.
        self._fresh: set[Series] = set()
        # Final labels to series, while a page with unknown lines is read.
        self._interned: dict[Labels, Series] | None = None
        self._comments: list[bytes] | None = None
        self._tracked: Sequence[Series] = ()
        # Series whose text was forgotten because a type changed; they continue under their labels.
        self._retyped: set[Series] = set()
        # The name on the page of series that relabelling has renamed; families are looked up by it.
        self._renamed: dict[Series, str] = {}
        # What series were before the metadata of the page changed: those that ended with it still are.
        self._former: dict[Series, Family | None] = {}
        self._good = 0
        # The shape of the last good page; None: the next page is read line by line.
        self._shape: Shape | None = None
        # Bytes of a line of the last page, on average; whether this page has more than its limit already.
        self._length = 0
        self._beyond = False
        # Lines that were known when the page came, and new ones for which there is room.
        self._before = self._paid = 0
        # Bytes that were forgotten for want of room, what was in use then, and one of the series.
        self._forgotten: tuple[int, int, Series | None] | None = None
        ACCOUNT.join_budget(self)

    @property
    def used(self) -> int:
        """Bytes that are remembered of the page, estimated: for the account of memory."""
        return len(self._raw) * (parts.SERIES_BYTES + parts.PER_BYTE * self._length)

    @property
    def known(self) -> int:
        """Lines that need no more memory: their text is known, or there is room where what was forgotten has been."""
        return len(self._raw) + self._spare()

    def _spare(self) -> int:
        """New lines for which the interpreter has kept the memory of what `_pay` made the reader forget: it is still measured.

        None as long as somebody else has a series of that page, as a queue has with the markers of their ends.
        """
        if self._forgotten is None:
            return 0
        size, used, witness = self._forgotten
        if witness is not None and sys.getrefcount(witness) > _OURS:
            return 0
        return max(0, size - max(0, used - PRESSURE.used)) // parts.new_bytes(self._length)

    def read(self, page: bytes, openmetrics: bool, now_ms: int) -> Scraped:
        """The samples of a page. ParseError or ValueError when it must not be used; call `fail` then."""
        return at_once(self.reading(page, openmetrics, now_ms))

    def reading(self, page: bytes, openmetrics: bool, now_ms: int) -> Reading[Scraped]:
        """As `read`, in steps of some milliseconds where lines are new: others may have their turn between them."""
        if openmetrics is not self._format:
            self._format = openmetrics
            self._raw = {}
            self._comments = self._shape = None
        if self._over:
            self._reconsider()
        self._before, self._paid = len(self._raw), max(FREE, self._spare())
        try:
            if parts.is_large(page):
                return (yield from self._in_parts(page, openmetrics, now_ms))
            lines = page.split(b"\n")
            scraped = None if self._shape is None else self._shape.read(lines, now_ms)
            if scraped is None:
                scraped = yield from self._known(page, lines, openmetrics, now_ms)
            return scraped
        except ValueError as error:
            if self._former:
                self._comments = None  # series are given back what they were; the next page is to describe them again
            if isinstance(error, PageError):
                error.total, error.kept = yield from self._up_to(page, openmetrics)
            raise
        finally:
            self._interned = None
            self._beyond = False

    @property
    def over(self) -> int:
        """Samples of the last good page that were left out, as the budget of the namespace is used up."""
        return len(self._over)

    def _reconsider(self) -> None:
        """Forgets as many of the texts that are over the budget as there is room for by now: they are read again."""
        again = list(islice(self._over, self._share.room)) if self._share is not None else []
        for text in again:
            self._over.discard(text)
            self._raw.pop(text, None)
            self._shape = None

    def close(self) -> None:
        """The target is gone: its part of the namespace's budget is free."""
        if self._share is not None:
            self._share.settle(0)

    def _up_to(self, page: bytes, openmetrics: bool) -> Reading[tuple[int, int]]:
        """Samples of a page that cannot be used, up to what is wrong: all, and those left after relabelling."""
        total = kept = 0
        try:
            pace = Pace()
            for item in scan(page, openmetrics):
                if isinstance(item, Sample):
                    total += 1
                    kept += self._finish(item.labels) is not None
                    if pace(len(item.raw)):
                        yield
        except ValueError:
            pass
        return total, kept

    def fail(self) -> Sequence[Series]:
        """The scrape failed: all series of the last page end now. What is known of their text is kept."""
        stale = self._tracked
        self._ended(stale)
        self._tracked = ()
        self._shape = None
        if self._overgrown():
            self._raw = {}
            self._fresh = set()
        if not self._raw:
            self._over.clear()
            self.close()
        return stale

    def _ended(self, series: Iterable[Series]) -> None:
        """What ends is of the family that it was of, also where the page no longer describes it."""
        if self._former:
            for one in series:
                one.family = self._former.get(one, one.family)
            self._former = {}

    def _overgrown(self) -> bool:
        """True when far more texts are known than the last page that was settled had lines."""
        return len(self._raw) > 2 * self._good + 1000

    def has(self, labels: Labels) -> bool:
        """Whether a series with these final labels was on the last good page."""
        return any(entry.labels == labels for entry in self._raw.values() if isinstance(entry, Series))

    # hot: scrape, 0.5 us/line where every value changed: split, rpartition, lookup and float each run as one C-level pass.
    # Plain twin: tests/reference/page.py.
    def _known(self, page: bytes, lines: list[bytes], openmetrics: bool, now_ms: int) -> Reading[Scraped]:
        samples, comments = parted(lines)
        self._length = len(page) // len(lines)
        try:
            if openmetrics and not _openmetrics_frame(lines, comments):
                raise ValueError("blank line or missing # EOF")
            yield from self._comment(comments, openmetrics)
            entries, values, stamps, exemplars, keys = yield from self._columns(samples, openmetrics)
        except (SeriesError, NoRoom):
            raise
        except ValueError:
            # The verdict, with its line number, is the complete tokenizer's; it also knows labels that span lines.
            self._comments = None
            items = []
            pace = Pace()
            for item in scan(page, openmetrics):
                items.append(item)
                if pace(_size(item)):
                    yield
            entries, values, stamps, exemplars, keys = yield from self._scan(lambda: items)
            samples = []
        if self._limit and len(entries) > self._limit:
            kept = len(entries) - entries.count(DROPPED)
            if kept > self._limit:
                raise SampleLimitError(len(entries), kept)
        plain = lines if samples and stamps is None else None
        return self._made((entries, values, stamps, exemplars, keys), plain, now_ms)

    def _in_parts(self, page: bytes, openmetrics: bool, now_ms: int) -> Reading[Scraped]:
        """As `_known`, of a large page."""
        lines = page.count(b"\n") + 1
        known = self.known
        need = parts.cost(len(page), lines, known, self._limit)
        if not self._fits(need):
            raise NoRoom(f"the page needs {need >> 20} MiB to be read")
        self._paid += max(0, lines - known)
        self._length = len(page) // lines
        shape = self._shape
        try:
            comments = parts.comments(page)
            if openmetrics and not parts.framed(page, comments):
                raise ValueError("blank line or missing # EOF")
            if isinstance(shape, TimedShape) and comments == self._comments:
                again = shape.read_parts(parts.samples(page), now_ms)
                if again is not None:
                    return again
            yield from self._comment(comments, openmetrics)
            entries, values, stamps, exemplars = yield from self._joined(parts.samples(page), openmetrics)
        except (SeriesError, NoRoom):
            raise
        except ValueError:
            self._comments = None
            entries, values, stamps, exemplars, _ = yield from self._scan(lambda: scan(page, openmetrics))
        if self._beyond:
            raise SampleLimitError(len(entries), len(entries) - entries.count(DROPPED))
        return self._made((entries, values, stamps, exemplars, None), None, now_ms)

    def _joined(
        self, samples: Iterable[list[bytes]], openmetrics: bool
    ) -> Reading[tuple[list[Entry], list[float], list[int | None] | None, dict[int, ExemplarText]]]:
        """The columns of all parts."""
        entries: list[Entry] = []
        values: list[float] = []
        stamps: list[int | None] | None = None
        exemplars: dict[int, ExemplarText] = {}
        kept = 0
        for part in samples:
            at = len(entries)
            yield
            found, numbers, times, pinned, _ = yield from self._columns(part, openmetrics)
            if times is not None and stamps is None:
                stamps = [None] * at
            if stamps is not None:
                stamps += times if times is not None else [None] * len(found)
            entries += found
            values += numbers
            exemplars.update({at + i: exemplar for i, exemplar in pinned.items()})
            if self._limit:
                kept += len(found) - found.count(DROPPED)
                self._beyond = kept > self._limit
        return entries, values, stamps, exemplars

    def _pay(self) -> None:
        """Before the next STEP: asks for room where the page has more new lines than it was given room for, as with churn.

        The series of the page before are still there then. NoRoom where they do not fit together; all is forgotten, so that the
        next page does.
        """
        if len(self._raw) - self._before + STEP <= self._paid:
            return
        if self._fits(FREE * parts.new_bytes(self._length)):
            self._paid += FREE
            return
        self._forgotten = self.used, PRESSURE.used, self._tracked[0] if self._tracked else None
        self._raw, self._fresh, self._shape = {}, set(), None
        raise NoRoom("the new series of the page do not fit beside those that they replace")

    def _comment(self, comments: list[bytes], openmetrics: bool) -> Reading[None]:
        """Takes the comments of a page where they are not those of the last one."""
        if comments != self._comments:
            yield from self._describe(scan_line(line, openmetrics) for line in comments if line != b"# EOF")
            self._comments = comments

    def _made(self, columns: _Columns, lines: list[bytes] | None, now_ms: int) -> Scraped:
        """A page of these columns; `lines` where the next one can be compared with them."""
        entries, values, stamps, exemplars, keys = columns
        if not self._honor:
            stamps = None
        if stamps is None and not exemplars:
            return self._plain(entries, values, keys, lines)
        return self._uneven(entries, values, keys, stamps, exemplars, now_ms)

    def _columns(self, samples: list[bytes], openmetrics: bool) -> Reading[_Columns]:
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
            pace = Pace()
            for i in missing:
                if found[i] is not None:
                    continue
                if pace(len(samples[i])):
                    self._pay()
                    yield
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
                if found[i] is not BEYOND:
                    self._raw[keys[i]] = found[i]  # type: ignore[assignment]
        values = floats(texts)
        if values is None:
            values = [number(text) for text in texts]
        return found, values, stamps, exemplars, keys  # type: ignore[return-value]

    def _timed(
        self, found: list[Entry | None], keys: list[bytes], texts: list[bytes], missing: list[int]
    ) -> list[int | None] | None:
        """Recognizes lines of known series that have timestamps, as all of cadvisor's do.

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

    def _scan(self, items: Callable[[], Iterable[Meta | Sample]]) -> Reading[_Columns]:
        """The same columns by the complete tokenizer alone; `items` is what it finds, asked for twice."""
        yield from self._describe(items())
        entries: list[Entry] = []
        values: list[float] = []
        stamps: list[int | None] = []
        keys: list[bytes] = []
        exemplars: dict[int, ExemplarText] = {}
        kept = 0
        pace = Pace()
        for item in items():
            if not isinstance(item, Sample):
                continue
            entry = self._entry(item)
            if entry is not BEYOND:
                self._raw[item.raw] = entry
                keys.append(item.raw)
            if item.exemplar is not None:
                exemplars[len(entries)] = item.exemplar
            entries.append(entry)
            values.append(item.value)
            stamps.append(item.timestamp_ms)
            kept += entry is not DROPPED
            self._beyond = 0 < self._limit < kept
            if pace(len(item.raw)):
                self._pay()
                yield
        return entries, values, stamps if any(t is not None for t in stamps) else None, exemplars, keys

    def _entry(self, sample: Sample) -> Entry:
        entry = self._raw.get(sample.raw)
        if entry is not None:
            return entry
        labels = self._finish(self.families.canonical(sample.labels))
        if labels is None:
            return DROPPED
        if self._beyond:
            return BEYOND
        if self._interned is None:
            self._interned = {known.labels: known for known in self._all()}
        series = self._interned.get(labels)
        if series is None:
            if self._share is not None and not self._share.take():
                self._over.add(sample.raw)
                return DROPPED
            old, new = sample.labels[0][1], _name(labels)
            series = make_series(labels, self.families.renamed(old, new))
            if old != new:
                self._renamed[series] = old
            self._interned[series.labels] = series
            self._fresh.add(series)
        return series

    def _all(self) -> set[Series]:
        """Every series that may still be referenced."""
        known = {entry for entry in self._raw.values() if isinstance(entry, Series)}
        known.update(self._tracked, self._retyped)
        return known

    def _describe(self, items: Iterable[Meta | Sample | None]) -> Reading[None]:
        """Takes the metadata of a page."""
        described: dict[str, dict[str, str]] = {}
        pace = Pace()
        for item in items:
            if isinstance(item, Meta):
                described.setdefault(item.family, {})[item.kind] = item.text
            if pace(0 if item is None else _size(item)):
                yield
        if self.families.describe(described):
            # How bounds are written depends on the type, so what is known of the lines does too.
            self._retyped = self._all()
            self._raw, self._before = {}, 0
        self._shape = None
        for series in self._all():
            name = series.name
            family = self.families.renamed(self._renamed.get(series, name), name)
            if family is not series.family:
                self._former.setdefault(series, series.family)
                series.family = family

    def _plain(self, entries: list[Entry], values: list[float], keys: _Keys, lines: list[bytes] | None) -> Scraped:
        """A page without times and exemplars."""
        shape = self._shape
        if isinstance(shape, PlainShape) and not self._overgrown():
            again = shape.fill(entries, values, keys or [], lines)
            if again is not None:
                return again
        mask = [entry is not DROPPED for entry in entries]
        series = Columns(compress(entries, mask))  # type: ignore[arg-type]
        if len(set(series)) != len(series):
            return self._uneven(entries, values, keys, None, {}, 0)
        shape = PlainShape(series, entries, None if all(mask) else mask)
        scraped = shape.fill(entries, values, keys or [], lines)
        assert scraped is not None, "a page has its own shape"
        self._settle(scraped, series, keys, entries)
        self._shape = shape
        return scraped

    def _uneven(
        self,
        entries: list[Entry],
        values: list[float],
        keys: _Keys,
        stamps: list[int | None] | None,
        exemplars: dict[int, ExemplarText],
        now_ms: int,
    ) -> Scraped:
        """A page with timestamps, exemplars or duplicates: sample by sample."""
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
            if stamp is not None and (stamp > now_ms + AHEAD_MS or stamp == NEVER):
                scraped.out_of_bounds += 1
                continue
            if stamp is None or self._track:
                tracked[entry] = None
            exemplar = exemplars.get(i)
            if exemplar is not None and exemplar.timestamp_ms != NEVER and (exemplar.timestamp_ms or 0) <= now_ms + AHEAD_MS:
                pinned[len(series)] = Exemplar(*exemplar)
            series.append(entry)
            scraped.values.append(values[i])
            times.append(stamp)
        if stamps is not None:
            scraped.timestamps = times
        scraped.exemplars = pinned or None
        before = self._shape.series if isinstance(self._shape, TimedShape | UnevenShape) else None
        column = before if before == series and not self._former else Columns(series)
        scraped.series = column
        if column is not before or list(tracked) != self._tracked or self._overgrown():
            self._settle(scraped, list(tracked), keys, entries)
        # Text pages with a time on every line and no series twice are read by their shape the next time.
        regular = stamps is not None and None not in stamps and len(series) == scraped.kept and not self._format
        if regular and self._comments is not None:
            self._shape = TimedShape(column, entries, self._raw, self._comments)
        else:
            self._shape = UnevenShape(column)
        return scraped

    def _settle(self, scraped: Scraped, tracked: Sequence[Series], keys: _Keys, entries: list[Entry]) -> None:
        """Finds what is new and what ended, and forgets the text of series that are gone."""
        live = set(tracked)
        scraped.stale = [series for series in self._tracked if series not in live]
        self._ended(scraped.stale)
        if self._renamed:
            kept = live.union(entries)
            self._renamed = {series: name for series, name in self._renamed.items() if series in kept}
            self.families.settle(series.family for series in self._renamed)
        if self._fresh:
            scraped.added = len(self._fresh.intersection(scraped.series))
            self._fresh = set()
        self._tracked = tracked
        self._forgotten = None
        self._retyped = set()
        self._good = len(entries)
        if keys is not None:
            self._raw = dict(zip(keys, entries, strict=True))
        else:
            there = set(entries)
            self._raw = {key: entry for key, entry in self._raw.items() if entry in there}
        self._over &= self._raw.keys()
        if self._share is not None:
            self._share.settle(len({entry for entry in entries if isinstance(entry, Series)}))
        if keys is None and self._overgrown():  # many texts of the same series
            self._retyped = self._all()
            self._raw = {}


def _size(item: Meta | Sample) -> int:
    """Bytes of a line, about."""
    return len(item.raw) if isinstance(item, Sample) else len(item.text)


def _name(labels: Labels) -> str:
    for key, value in labels:
        if key == "__name__":
            return value
    return ""


def _openmetrics_frame(lines: list[bytes], comments: list[bytes]) -> bool:
    """Whether blank lines and `# EOF` are only where OpenMetrics has them."""
    last = len(lines) - 1 if lines[-1] else len(lines) - 2
    return last >= 0 and lines[last] == b"# EOF" and comments.count(b"# EOF") == 1 and lines.count(b"") == len(lines) - 1 - last


__all__ = ["AHEAD_MS", "DROPPED", "NoRoom", "PageReader", "ParseError", "SampleLimitError", "Scraped", "SeriesError"]
