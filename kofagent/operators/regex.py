"""RE2 patterns of users, searched in UTF-8 bytes or strings. Patterns are compiled once and shared."""

from __future__ import annotations

import re

from kofagent.config.compat import re2_unanchored
from kofagent.config.re2 import PatternError, compile_bytes
from kofagent.memory.memo import Memo

__all__ = ["UNANCHORED", "Pattern", "PatternError", "pattern"]

_OTHER_SURROGATES = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""Surrogates that stand for no byte."""
UNANCHORED = re2_unanchored()
"""The first argument of `Pattern.match`: a match may begin anywhere."""


class Pattern:
    """A compiled pattern. `names` are its named groups in order: (name, number).

    `match(UNANCHORED, data, start, end)` returns offsets of the leftmost match and its groups, (-1, -1) for an unused one.
    """

    __slots__ = ("match", "names", "source")

    def __init__(self, source: str) -> None:
        regexp = compile_bytes(source)
        self.source = source
        self.match = regexp.Match
        self.names = sorted(
            ((name.decode() if isinstance(name, bytes) else name, number) for name, number in regexp.NamedCapturingGroups()),
            key=lambda pair: pair[1],
        )

    def spans(self, data: bytes) -> list[tuple[int, int]] | None:
        """Offsets of the leftmost match and its groups, (-1, -1) for a group that took no part; None without a match."""
        spans = self.match(UNANCHORED, data, 0, len(data))
        return None if spans[0][0] < 0 else spans

    def test(self, text: str) -> bool:
        """Whether it matches anywhere."""
        return self.spans(text.encode("utf-8", "replace")) is not None

    def groups(self, text: str) -> dict[str, str] | None:
        """The named groups of the leftmost match, an empty string for one that did not take part; None without a match."""
        data = raw = text.encode("utf-8", "replace")
        spans = self.spans(data)
        if spans is None:
            return None
        if len(data) == len(text):
            # ASCII, or surrogates, each a question mark: offsets in bytes are offsets in the text.
            return {name: text[max(spans[number][0], 0) : max(spans[number][1], 0)] for name, number in self.names}
        if b"?" in data:
            # What stands for bytes that are no UTF-8 (`text.part`) is searched as question marks and stays what it is.
            raw = _OTHER_SURROGATES.sub("?", text).encode("utf-8", "surrogateescape")
        out = {}
        for name, number in self.names:
            start, end = spans[number]
            out[name] = raw[start:end].decode("utf-8", "surrogateescape") if start >= 0 else ""
        return out

    def replace(self, text: str, template: str) -> str:
        """All matches replaced by `template` as Go expands it: $1, $name, ${name}, $$; an unknown group is empty."""
        data = text.encode("utf-8", "replace")
        numbers = dict(self.names)
        out = bytearray()
        at = done = 0
        last = -1
        while at <= len(data):
            spans = self.match(UNANCHORED, data, at, len(data))
            start, end = spans[0]
            if start < 0:
                break
            # Go leaves out an empty match right behind the match before it.
            if start < end or start != last:
                out += data[done:start]

                def expand(match: re.Match[str], spans: list[tuple[int, int]] = spans) -> str:
                    name = match[1] or match[2]
                    if match[0] == "$$":
                        return "$"
                    number = int(name) if name.isdigit() else numbers.get(name, -1)
                    if not 0 <= number < len(spans) or spans[number][0] < 0:
                        return ""
                    return data[spans[number][0] : spans[number][1]].decode("utf-8", "replace")

                out += _TEMPLATE.sub(expand, template).encode("utf-8", "replace")
                done = last = end
            at = end if end > start else end + 1
            while at < len(data) and data[at] & 0xC0 == 0x80:
                at += 1
        out += data[done:]
        return out.decode("utf-8", "replace")


_TEMPLATE = re.compile(r"\$\$|\$\{(\w+)\}|\$(\w+)", re.ASCII)


pattern = Memo(
    "operators.patterns", Pattern, entries=512, size=16 << 20, cost=lambda source, _: 40 * len(source) + 8192
).__getitem__
"""The pattern of `source`; PatternError when RE2 refuses it. Expressions may make patterns from data. The cost is a rough one:
programs of RE2, forwards and backwards, and of `re`."""
