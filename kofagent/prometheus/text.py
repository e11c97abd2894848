"""The text formats a target may answer in: Prometheus text 0.0.4 (and 1.0.0) and OpenMetrics 1.0. No I/O.

The complete, strict tokenizer. It accepts what Prometheus' own lexers accept and refuses what they refuse:
prometheus.io/docs/instrumenting/exposition_formats and the OpenMetrics 1.0.0 specification. `scan` reads a whole page;
`page.py` remembers what it found and asks again only for lines it has not seen.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

TYPES_TEXT = {b"counter": "counter", b"gauge": "gauge", b"histogram": "histogram", b"summary": "summary", b"untyped": "unknown"}
TYPES_OPENMETRICS = {
    b"counter": "counter",
    b"gauge": "gauge",
    b"histogram": "histogram",
    b"gaugehistogram": "gaugehistogram",
    b"summary": "summary",
    b"info": "info",
    b"stateset": "stateset",
    b"unknown": "unknown",
}


Labels = tuple[tuple[str, str], ...]
"""Names and values of labels."""


class PageError(ValueError):
    """A page that must not be used. `total` and `kept` count its samples up to what is wrong, before and after relabelling."""

    total = kept = 0


class ParseError(PageError):
    """The page is not in the format it claims; the message has the line number and a short piece of the line."""


class SeriesError(PageError):
    """A series that fails its page: a label limit, an invalid name."""


class Meta(NamedTuple):
    """A `# HELP`, `# TYPE` or `# UNIT` line: `kind` is `help`, `type` or `unit`, `text` is unescaped."""

    kind: str
    family: str
    text: str


class ExemplarText(NamedTuple):
    """An exemplar as it stands on the page; `timestamp_ms` is None without one."""

    labels: Labels
    value: float
    timestamp_ms: int | None


class Sample(NamedTuple):
    """A sample line. `raw` is the text of name and labels; `labels` are in page order, `__name__` first, none empty."""

    raw: bytes
    labels: Labels
    value: float
    timestamp_ms: int | None
    exemplar: ExemplarText | None


_NAME = re.compile(rb"[a-zA-Z_:][a-zA-Z0-9_:]*")
_QUOTED = rb'"((?:[^\\"]++|\\[^\n])*+)"'
_QUOTED_LINE = rb'"((?:[^\\"\n]++|\\[^\n])*+)"'
_META_NAME = re.compile(rb"([a-zA-Z_:][a-zA-Z0-9_:]*)|" + _QUOTED)
_LABEL_NAME = re.compile(rb"([a-zA-Z_][a-zA-Z0-9_]*)|" + _QUOTED)
_LABEL_VALUE = re.compile(_QUOTED)
_LABEL_VALUE_LINE = re.compile(_QUOTED_LINE)
_BLANKS = re.compile(rb"[ \t]*")
_TEXT_VALUE = re.compile(rb"[^{ \t\n]+")
_TEXT_META = re.compile(rb"#[ \t]+(HELP|TYPE)[ \t]+")
_TOKEN = re.compile(rb"[^ \n]+")
_DIGITS = re.compile(rb"[0-9]+")
_NUMBER = re.compile(rb"(?i:[+-]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?[0-9]+)?|inf(?:inity)?)|nan)\Z")
_SIMPLE = re.compile(
    rb'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*="[^"\\\n]*"(?:,|(?=\})))*)\})?'
    rb" ([^ \t{\n]+)\Z"
)
_PAIR = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="([^"]*)"')
_INT64 = 1 << 63
MOST_BYTES = 1 << 20
"""Bytes of a sample's line, and of a `# HELP` line; more fails its page."""
_TOO_LONG = f"more than {MOST_BYTES >> 20} MiB in one line"
MOST_LABELS = 4096
"""Most labels of a series or an exemplar, whatever `label_limit` is: what one line costs is bounded."""
_NARROW = 4 * MOST_LABELS
"""Bytes of a line that cannot have more labels: each takes four at least."""
_TOO_MANY = f"more than {MOST_LABELS} labels"
NEVER = -_INT64
"""Milliseconds of an OpenMetrics time beyond 64 bits: what Go's conversion, and so Prometheus, makes of it."""


def number(text: bytes) -> float:
    """A value as Go's `ParseFloat` reads it; ValueError for anything else, also beyond the range of a double."""
    if not _NUMBER.match(text):
        raise ValueError(f"{text[:50].decode('utf-8', 'replace')!r} is not a number")
    value = float(text)
    if math.isinf(value) and text.lstrip(b"+-")[:1] not in b"iI":
        raise ValueError(f"{text[:50].decode('utf-8', 'replace')!r} is out of range")
    return value


def scan(page: bytes, openmetrics: bool) -> Iterator[Meta | Sample]:
    """The metadata and samples of a page in order. ParseError at the first thing that is wrong."""
    at = 0
    reader = _OpenMetrics(page) if openmetrics else _Text(page if page.endswith(b"\n") else page + b"\n")
    data, end = reader.data, len(reader.data)
    try:
        while at < end:
            item, at = reader.next(at)
            if item is not None:
                yield item
        reader.finish()
    except ValueError as error:
        line = data.count(b"\n", 0, at) + 1
        piece = data[at:].split(b"\n", 1)[0][:60].decode("utf-8", "replace")
        raise ParseError(f"line {line}: {error} in {piece!r}") from None


def _unescape(text: bytes) -> str:
    value = text.decode("utf-8")
    if "\\" in value:
        # Backslashes pair off from the left, so what is between pairs has only the other escapes.
        value = "\\".join([part.replace('\\"', '"').replace("\\n", "\n") for part in value.split("\\\\")])
    return value


def _decode(text: bytes, what: str) -> str:
    try:
        return _unescape(text)
    except UnicodeDecodeError:
        raise ValueError(f"{what} is not UTF-8") from None


class _Reader:
    """What the two formats share. `next` reads one item at an offset and returns it with the offset behind it."""

    value_pattern = _LABEL_VALUE

    def __init__(self, data: bytes) -> None:
        self.data = data

    def next(self, at: int) -> tuple[Meta | Sample | None, int]:
        raise NotImplementedError

    def finish(self) -> None:
        """Called at the end of the page."""

    def blanks(self, at: int) -> int:
        """The offset behind what may stand between two tokens."""
        return at

    def byte(self, at: int) -> bytes:
        return self.data[at : at + 1]

    def series(self, at: int) -> tuple[bytes, tuple[tuple[str, str], ...], int]:
        """Name and labels at `at`: raw text, pairs, and the offset behind."""
        start = at
        match = _NAME.match(self.data, at)
        name: str | None = None
        pairs: list[tuple[str, str]] = []
        if match is not None:
            name, at = match[0].decode(), match.end()
            brace = self.blanks(at)
        elif self.byte(at) == b"{":
            brace = at
        else:
            raise ValueError("expected a metric name")
        if self.byte(brace) == b"{":
            name, at = self.labels(brace + 1, name, pairs, True)
        if name is None:
            raise ValueError("a sample without a metric name")
        raw = self.data[start:at]
        seen = {"__name__"}
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"label name {key[:50]!r} is not unique")
            seen.add(key)
        return raw, (("__name__", name), *[pair for pair in pairs if pair[1]]), at

    def labels(self, at: int, name: str | None, pairs: list[tuple[str, str]], may_name: bool) -> tuple[str | None, int]:
        """The inside of braces, with the closing one. A lone quoted string is the metric name."""
        last = at + MOST_BYTES
        while True:
            at = self.blanks(at)
            if self.byte(at) == b"}":
                return name, at + 1
            match = _LABEL_NAME.match(self.data, at, last)
            if match is None:
                if at >= last or self.too_long(at, last):
                    raise ValueError(_TOO_LONG)
                raise ValueError("expected a label name")
            key = match[1].decode() if match[1] is not None else _decode(match[2], "a name")
            at = self.blanks(match.end())
            follows = self.byte(at)
            if match[1] is None and may_name and follows in (b",", b"}") and follows:
                if name is not None:
                    raise ValueError("the metric name is given twice")
                name = key
                if follows == b"}":
                    return name, at + 1
                at += 1
                continue
            if follows != b"=":
                raise ValueError("expected = after a label name")
            at = self.blanks(at + 1)
            value = self.value_pattern.match(self.data, at, last)
            if value is None:
                if self.too_long(at, last):
                    raise ValueError(_TOO_LONG)
                raise ValueError("expected a quoted label value")
            pairs.append((key, _decode(value[1], "a label value")))
            if len(pairs) > MOST_LABELS:
                raise ValueError(_TOO_MANY)
            at = self.after_value(value.end())

    def too_long(self, at: int, last: int) -> bool:
        """Whether what is quoted at `at` reaches beyond `last`."""
        lines = self.value_pattern is _LABEL_VALUE
        return len(self.data) > last and self.byte(at) == b'"' and (lines or self.data.find(b"\n", at, last) < 0)

    def after_value(self, at: int) -> int:
        raise NotImplementedError


class _Text(_Reader):
    """Prometheus text format 0.0.4."""

    def blanks(self, at: int) -> int:
        match = _BLANKS.match(self.data, at)
        assert match is not None
        return match.end()

    def after_value(self, at: int) -> int:
        at = self.blanks(at)
        return at + 1 if self.byte(at) == b"," else at

    def next(self, at: int) -> tuple[Meta | Sample | None, int]:
        at = self.blanks(at)
        first = self.byte(at)
        if first in (b"\n", b""):
            return None, at + 1
        if first == b"\0":
            return None, len(self.data)
        if first == b"#":
            return self.comment(at)
        raw, labels, at = self.series(at)
        value = _TEXT_VALUE.match(self.data, self.blanks(at))
        if value is None:
            raise ValueError("expected a value")
        amount = number(value[0])
        at = self.blanks(value.end())
        timestamp = None
        digits = _DIGITS.match(self.data, at)
        if digits is not None:
            timestamp = int(digits[0])
            if timestamp >= _INT64:
                raise ValueError("the timestamp is out of range")
            at = self.blanks(digits.end())
        if self.byte(at) != b"\n":
            raise ValueError("expected a timestamp or the end of the line")
        return Sample(raw, labels, amount, timestamp, None), at + 1

    def comment(self, at: int) -> tuple[Meta | None, int]:
        end = self.data.find(b"\n", at)
        match = _TEXT_META.match(self.data, at)
        if match is None or match.end() > end:
            return None, end + 1
        name = _META_NAME.match(self.data, match.end())
        if name is None:
            raise ValueError(f"expected a metric name after {match[1].decode()}")
        end = self.data.find(b"\n", name.end())
        if end - at > MOST_BYTES:
            raise ValueError(_TOO_LONG)
        family = name[1].decode() if name[1] is not None else _decode(name[2], "a name")
        text = self.data[name.end() + 1 : end]
        if match[1] == b"TYPE":
            kind = TYPES_TEXT.get(text)
            if kind is None:
                raise ValueError(f"invalid metric type {text[:30].decode('utf-8', 'replace')!r}")
            return Meta("type", family, kind), end + 1
        return Meta("help", family, _help(text)), end + 1


def _help(text: bytes) -> str:
    try:
        return "\\".join([part.replace("\\n", "\n") for part in text.decode("utf-8").split("\\\\")])
    except UnicodeDecodeError:
        raise ValueError("a help text is not UTF-8") from None


class _OpenMetrics(_Reader):
    """OpenMetrics 1.0: exactly one space between tokens, `# EOF` at the end."""

    value_pattern = _LABEL_VALUE_LINE

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.ended = False

    def after_value(self, at: int) -> int:
        if self.byte(at) == b",":
            return at + 1
        if self.byte(at) != b"}":
            raise ValueError("expected a comma or a closing brace")
        return at

    def finish(self) -> None:
        if not self.ended:
            raise ValueError("data does not end with # EOF")

    def next(self, at: int) -> tuple[Meta | Sample | None, int]:
        data = self.data
        if self.byte(at) == b"#":
            return self.comment(at)
        raw, labels, at = self.series(at)
        value, at = self.token(at, "a value")
        amount = number(value)
        timestamp: int | None = None
        exemplar = None
        if data[at : at + 4] != b" # {" and self.byte(at) == b" ":
            text, at = self.token(at, "a timestamp")
            timestamp = _milliseconds(text)
        if data[at : at + 4] == b" # {":
            exemplar, at = self.exemplar(at + 4)
        if self.byte(at) != b"\n":
            raise ValueError("expected the end of the line" if at < len(data) else "data does not end with # EOF")
        return Sample(raw, labels, amount, timestamp, exemplar), at + 1

    def token(self, at: int, what: str) -> tuple[bytes, int]:
        match = _TOKEN.match(self.data, at + 1) if self.byte(at) == b" " else None
        if match is None:
            raise ValueError(f"expected one space and {what}")
        return match[0], match.end()

    def exemplar(self, at: int) -> tuple[ExemplarText, int]:
        pairs: list[tuple[str, str]] = []
        _, at = self.labels(at, None, pairs, False)
        text, at = self.token(at, "the value of an exemplar")
        amount = number(text)
        timestamp = None
        if self.byte(at) == b" ":
            text, at = self.token(at, "the time of an exemplar")
            timestamp = _milliseconds(text)
        return ExemplarText(tuple(pairs), amount, timestamp), at

    def comment(self, at: int) -> tuple[Meta | None, int]:
        data = self.data
        word = data[at + 2 : at + 7]
        if data[at : at + 5] == b"# EOF":
            rest = data[at + 5 :]
            if rest not in (b"", b"\n"):
                raise ValueError("data after # EOF")
            self.ended = True
            return None, len(data)
        if data[at : at + 2] != b"# " or word not in (b"HELP ", b"TYPE ", b"UNIT "):
            raise ValueError("expected HELP, TYPE, UNIT or EOF after #")
        name = _META_NAME.match(data, at + 7)
        if name is None:
            raise ValueError(f"expected a metric name after {word.decode().strip()}")
        end = data.find(b"\n", name.end())
        if end - at > MOST_BYTES:
            raise ValueError(_TOO_LONG)
        if end < 0 or data[name.end() : name.end() + 1] != b" ":
            raise ValueError(f"expected text after {word.decode().strip()}")
        family = name[1].decode() if name[1] is not None else _decode(name[2], "a name")
        text = data[name.end() + 1 : end]
        if word == b"TYPE ":
            kind = TYPES_OPENMETRICS.get(text)
            if kind is None:
                raise ValueError(f"invalid metric type {text[:30].decode('utf-8', 'replace')!r}")
            return Meta("type", family, kind), end + 1
        if word == b"UNIT ":
            unit = text.decode("utf-8", "replace")
            if unit and not family.endswith("_" + unit):
                raise ValueError(f"unit {unit[:30]!r} is not the end of the metric name {family[:50]!r}")
            return Meta("unit", family, unit), end + 1
        try:
            return Meta("help", family, _unescape(text)), end + 1
        except UnicodeDecodeError:
            raise ValueError("a help text is not UTF-8") from None


def _milliseconds(text: bytes) -> int:
    seconds = number(text)
    if not math.isfinite(seconds):
        raise ValueError("the timestamp is no number")
    milliseconds = seconds * 1000
    return int(milliseconds) if -_INT64 <= milliseconds < _INT64 else NEVER


def _simple(match: re.Match[bytes]) -> Sample:
    """A sample line without escapes, quoted names, time or exemplar: the same in both formats."""
    name, block, text = match.groups()
    pairs = [("__name__", name.decode())]
    if block:
        try:
            pairs += _PAIR.findall(block.decode())
        except UnicodeDecodeError:
            raise ValueError("a label value is not UTF-8") from None
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a label name is not unique")
        if b'=""' in block:
            pairs = [pair for pair in pairs if pair[1]]
    return Sample(match.string[: match.start(3) - 1], tuple(pairs), number(text), None, None)


def scan_line(line: bytes, openmetrics: bool) -> Meta | Sample | None:
    """One line without its newline, by itself; None for a comment or a blank line. ValueError when it is not a whole line."""
    if len(line) > MOST_BYTES and line[:1] != b"#":
        raise ValueError(_TOO_LONG)
    if len(line) <= _NARROW or line.count(b'"') <= 2 * MOST_LABELS:
        match = _SIMPLE.match(line)
        if match is not None:
            return _simple(match)
    reader: _Reader = _OpenMetrics(line + b"\n") if openmetrics else _Text(line + b"\n")
    item, at = reader.next(0)
    if at != len(line) + 1:
        raise ValueError("not one line")
    return item
