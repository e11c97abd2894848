"""Where entries start and end in the bytes of a file. No I/O.

Every splitter gets the unread bytes of a file from some offset on and answers with the entries that are complete:
`(start, stop)` offsets into them, and how many bytes are done with. What upstream trims is trimmed by `Trim`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from kofagent.config.re2 import compile_re2
from kofagent.operators.line_formats import PARTIAL
from kofagent.receivers.filelog.config import Config
from kofagent.receivers.filelog.encodings import Encoding

_SPACE = b" \t\r\n"
Spans = list[tuple[int, int, int]]
"""For each entry the offset of its first byte in the file's bytes, and the part of them (start, stop) that is its text."""


class Splitter(Protocol):
    """Finds complete entries."""

    def split(self, data: bytes, more: bool) -> tuple[Spans, int]:
        """The complete entries in `data` and the offset behind the last one. `more`: the file has more bytes already."""
        ...


class Lines:
    """Entries end at a newline; one carriage return before it belongs to the newline."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._return = b"\r" if encoding.utf8 else "\r".encode(encoding.codec)

    def split(self, data: bytes, more: bool) -> tuple[Spans, int]:
        spans: Spans = []
        encoding, width, carriage = self._encoding, self._encoding.width, self._return
        start = 0
        while True:
            after = encoding.after_newline(data, start)
            if not after:
                return spans, start
            stop = after - width
            if data.endswith(carriage, start, stop):
                stop -= len(carriage)
            spans.append((start, start, stop))
            start = after


class Whole:
    """No splitting: what one read brings is one entry (`encoding: nop`)."""

    def split(self, data: bytes, more: bool) -> tuple[Spans, int]:
        if more or not data:
            return [], 0
        return [(0, 0, len(data))], len(data)


class _Pattern:
    """Matches of a regular expression as byte offsets, whatever the encoding."""

    def __init__(self, pattern: str, encoding: Encoding) -> None:
        self._regex = compile_re2(pattern, "(?m)")
        self._encoding = encoding

    def find(self, data: bytes) -> list[tuple[int, int]]:
        """All matches, in order, none overlapping."""
        if self._encoding.utf8:
            return [m.span() for m in self._regex.finditer(data)]
        text = data.decode(self._encoding.codec, "replace")
        out, at, raw = [], 0, 0
        for match in self._regex.finditer(text):
            start, stop = match.span()
            raw += self._length(text[at:start])
            first = raw
            raw += self._length(text[start:stop])
            at = stop
            out.append((min(first, len(data)), min(raw, len(data))))
        return out

    def _length(self, text: str) -> int:
        return len(text.encode(self._encoding.codec, "replace"))


class LineStart:
    """Entries start where the pattern matches; what is before the first match is an entry, too."""

    def __init__(self, pattern: str, omit: bool, encoding: Encoding) -> None:
        self._pattern = _Pattern(pattern, encoding)
        self._omit = omit

    def split(self, data: bytes, more: bool) -> tuple[Spans, int]:
        matches = self._pattern.find(data)
        if not matches:
            return [], 0
        spans: Spans = []
        start, stop = matches[0]
        if start:
            spans.append((0, 0, start))
        for first, last in matches[1:]:
            if first <= stop:  # a match right after the previous one does not start another entry
                continue
            spans.append((start, stop if self._omit else start, first))
            start, stop = first, last
        return spans, start


class LineEnd:
    """Entries end behind a match of the pattern."""

    def __init__(self, pattern: str, omit: bool, encoding: Encoding) -> None:
        self._pattern = _Pattern(pattern, encoding)
        self._omit = omit

    def split(self, data: bytes, more: bool) -> tuple[Spans, int]:
        spans: Spans = []
        start = 0
        for first, last in self._pattern.find(data):
            if last <= start or last == first:
                continue
            if more and last >= len(data) - 1:  # with more bytes the match may become longer
                break
            spans.append((start, start, first if self._omit else last))
            start = last
        return spans, start


def make_splitter(config: Config, encoding: Encoding) -> Splitter:
    """The splitter these options ask for."""
    if encoding.whole:
        return Whole()
    multiline = config.multiline
    if multiline.line_start_pattern:
        return LineStart(multiline.line_start_pattern, multiline.omit_pattern, encoding)
    if multiline.line_end_pattern:
        return LineEnd(multiline.line_end_pattern, multiline.omit_pattern, encoding)
    return Lines(encoding)


class Limit:
    """Entries of at most `size` bytes: a longer one becomes several (`split`) or loses its rest (`truncate`)."""

    def __init__(self, size: int, truncate: bool, encoding: Encoding) -> None:
        self.size = max(size - size % encoding.width, encoding.width)
        self.truncate = truncate
        self._encoding = encoding

    def cut(self, data: bytes, start: int, stop: int) -> int:
        """Where a piece that starts at `start` and is too long for one entry ends; no character is cut."""
        end = min(start + self.size, stop)
        if end < stop:
            end -= self._encoding.unfinished(data[start:end]) % (end - start)
        return end

    def apply(self, data: bytes, spans: Spans) -> Spans:
        """The spans with the long ones cut."""
        size = self.size
        if all(stop - start <= size for _, start, stop in spans):
            return spans
        out: Spans = []
        for offset, start, stop in spans:
            while stop - start > size:
                end = self.cut(data, start, stop)
                out.append((offset, start, end))
                start = offset = end
                if self.truncate:
                    start = stop
            if start < stop:
                out.append((offset, start, stop))
        return out


def trimmer(leading: bool, trailing: bool, containers: bool = False) -> Callable[[bytes], bytes]:
    """What is done to an entry's text; `leading`, `trailing` say that white space there is kept.

    `containers`: the entries are a container runtime's lines. Where one is marked as partial, its end is the middle of what the
    container wrote, so that white space there is kept (upstream loses it).
    """
    if containers and not trailing:
        plain = trimmer(leading, False)
        start = trimmer(leading, True)
        return lambda text: start(text) if PARTIAL.match(text) else plain(text)
    if leading and trailing:
        return _same
    if leading:
        return lambda text: text.rstrip(_SPACE)
    if trailing:
        return lambda text: text.lstrip(_SPACE)
    return lambda text: text.strip(_SPACE)


def _same(text: bytes) -> bytes:
    return text


class Clean:
    """A chunk of whole UTF-8 lines, each ended by a newline, as the operators want it: trimmed, without empty lines."""

    def __init__(self, leading: bool, trailing: bool, containers: bool = False) -> None:
        self._trim = trimmer(leading, trailing, containers)
        self._keeps = leading, trailing
        # bytes.strip strips a little more than upstream (\v, \f): it only says whether there may be something to trim.
        self._probe: Callable[[bytes], bytes] = bytes.rstrip if leading else bytes.lstrip if trailing else bytes.strip

    def chunk(self, text: bytes) -> bytes:
        """The same lines; the same object when nothing had to be done."""
        # hot: log_line, 0.15 us, most of it the split: no Python code per line unless something is to be trimmed
        lines = text.split(b"\n")
        leading, trailing = self._keeps
        if trailing:
            if b"\r\n" in text:
                return self._each(lines)
            if not leading and sum(map(len, map(self._probe, lines))) + len(lines) - 1 != len(text):
                return self._each(lines)
        elif sum(map(len, map(self._probe, lines))) + len(lines) - 1 != len(text):
            return self._each(lines)
        lines.pop()
        if all(lines):
            return text
        return self._joined(lines)

    def _each(self, lines: Sequence[bytes]) -> bytes:
        trim = self._trim
        return self._joined([trim(line.removesuffix(b"\r")) for line in lines])

    @staticmethod
    def _joined(lines: Sequence[bytes]) -> bytes:
        kept = list(filter(None, lines))
        return b"\n".join(kept) + b"\n" if kept else b""
