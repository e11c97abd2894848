"""RE2 patterns that Python's `re` searches with the same outcome, and how to write them so that it is fast.

Only patterns with a small bound on the steps of a search from one place qualify (`_work`; bounds of nested and neighbouring
repetitions multiply, so that a bound for each would not do), made of ASCII literals and classes,
alternatives, groups, bounded repetitions, `^`, `$`, `\\b`, and `(?i)` in front. Everything else stays with RE2. Both engines
prefer the leftmost match, the earlier alternative and the longer (or, with `?`, shorter) repetition, so spans are equal:
held by a property test.
"""

from __future__ import annotations

import re
from typing import Any

from kofagent.config.compat import regex_tree
from kofagent.operators.regex import Pattern

# Constructs RE2 and Python read differently, or one of them does not know.
_FOREIGN = re.compile(r"\\[^dws.\-/\[\](){}|*+?^$\"':,;=<>@#%&!~`_ b\\]|\[\[:|[*+?}]\+|\{,|\(\?(?!:|P<)|\[\^|\[[^\]]*\[")
_WORD = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_DIGIT = frozenset(b"0123456789")
_SPACE = frozenset(b"\t\n\f\r ")
# Letters whose case folding leaves ASCII: RE2's (?i)s matches the long s, (?i)k the Kelvin sign, in UTF-8.
_FOLDS = {ord("s"): b"\xc5\xbf", ord("k"): b"\xe2\x84\xaa"}
_MAX_BRANCHES = 64
_MAX_WORK = 256
"""Most steps from one place in the data, a literal or class each; three times what KOF's own patterns can take."""


class SimpleSearch:
    """`search(data)` of Python's `re` on bytes, of `data.lower()` when `lower`; `groups` are the numbers of the named groups.

    `whole`: the one named group is the whole match. `re2_source` is the pattern for RE2 without groups then.
    """

    def __init__(self, source: bytes, lower: bool, groups: list[int], whole: bool, re2_source: str) -> None:
        self.source = source
        self.lower = lower
        self.groups = groups
        self.whole = whole
        self.re2_source = re2_source
        self.search = re.compile(source).search


class _NotSimple(Exception):
    pass


def simple_search(pattern: Pattern) -> SimpleSearch | None:
    """The pattern for Python's `re`, or None where that would not be the same."""
    source = pattern.source
    ignore_case = source.startswith("(?i)")
    if ignore_case:
        source = source[4:]
    if not source.isascii() or _FOREIGN.search(source):
        return None
    try:
        tree = regex_tree(source)
        if _work(list(tree))[0] > _MAX_WORK:
            return None
        writer = _Writer(ignore_case)
        whole = _is_whole(tree, pattern)
        # Where the match is all that is wanted, groups would only cost time.
        writer.groups = not whole
        text = writer.sequence(list(tree))
        search = SimpleSearch(text, ignore_case, [n for _, n in pattern.names], whole, "")
    except (_NotSimple, re.error, RecursionError, OverflowError):
        return None
    if search.whole:
        search.re2_source = ("(?i)" if ignore_case else "") + _Plain().sequence(list(tree)).decode()
    return search


def _is_whole(tree: Any, pattern: Pattern) -> bool:
    """Whether the only named group is all of the pattern."""
    items = list(tree)
    return (
        len(pattern.names) == 1 and len(items) == 1 and str(items[0][0]) == "SUBPATTERN" and items[0][1][0] == pattern.names[0][1]
    )


def _work(items: list[Any]) -> tuple[int, int]:
    """Bounds of what a search that backtracks does from one place: its steps, and the ways in which the items can match.

    What follows an item is tried once for every way in which the item can match. Saturates above _MAX_WORK.
    """
    steps, ways = 1, 1
    for op, value in items:
        name = str(op)
        if name == "BRANCH":
            branches = [_work(list(b)) for b in value[1]]
            item_steps, item_ways = sum(s for s, _ in branches), sum(w for _, w in branches)
        elif name == "SUBPATTERN":
            item_steps, item_ways = _work(list(value[3]))
        elif name in ("MAX_REPEAT", "MIN_REPEAT"):
            item_steps, item_ways = _repeated(*value)
        else:
            item_steps, item_ways = 1, 1
        steps = min(steps + ways * item_steps, _MAX_WORK + 1)
        ways = min(ways * item_ways, _MAX_WORK + 1)
    return steps, ways


def _repeated(low: int, high: int, inner: Any) -> tuple[int, int]:
    once_steps, once_ways = _work(list(inner))
    steps = ways = 0
    before = 1
    for count in range(high + 1):
        if count >= low:
            ways += before
        if count < high:
            steps += before * once_steps
        before *= once_ways
        if steps > _MAX_WORK or before > _MAX_WORK:
            return _MAX_WORK + 1, _MAX_WORK + 1
    return steps, ways


class _Writer:
    """Writes a tree of `re._parser` as a bytes pattern; with `fold` for text in lower case."""

    def __init__(self, fold: bool, groups: bool = True) -> None:
        self.fold = fold
        self.groups = groups

    def sequence(self, items: list[Any]) -> bytes:
        return b"".join([self.item(str(op), value) for op, value in items])

    def item(self, op: str, value: Any) -> bytes:
        if op == "LITERAL":
            return self.literal(value)
        if op == "IN":
            return self.members(self.characters(value))
        if op == "BRANCH":
            return self.branch([list(b) for b in value[1]])
        if op == "SUBPATTERN":
            group, add, remove, inner = value
            if add or remove:
                raise _NotSimple
            return self.group(group, self.sequence(list(inner)))
        if op in ("MAX_REPEAT", "MIN_REPEAT"):
            low, high, inner = value
            # Nothing unbounded, nothing that can match the empty text over and over.
            if high > 100 or inner.getwidth()[0] == 0 or any(str(o) == "SUBPATTERN" and v[0] for o, v in inner):
                raise _NotSimple
            count = b"?" if (low, high) == (0, 1) else b"{%d,%d}" % (low, high)
            return b"(?:" + self.sequence(list(inner)) + b")" + count + (b"?" if op == "MIN_REPEAT" else b"")
        if op == "AT":
            at = {"AT_BEGINNING": b"^", "AT_END": rb"\Z", "AT_BOUNDARY": rb"\b"}.get(str(value))
            if at is not None:
                return self.at(at)
        raise _NotSimple

    def at(self, text: bytes) -> bytes:
        return text

    def group(self, number: int | None, inner: bytes) -> bytes:
        return (b"(" if number is not None and self.groups else b"(?:") + inner + b")"

    def literal(self, code: int) -> bytes:
        if code > 127:
            raise _NotSimple
        low = ord(chr(code).lower()) if self.fold else code
        text = re.escape(bytes([low]))
        if self.fold and low in _FOLDS:
            return b"(?:" + text + b"|" + _FOLDS[low] + b")"
        return text

    def characters(self, members: list[Any]) -> set[int]:
        out: set[int] = set()
        for op, value in members:
            name = str(op)
            if name == "LITERAL":
                out.add(value)
            elif name == "RANGE":
                out.update(range(value[0], value[1] + 1))
            elif name == "CATEGORY" and str(value) in ("CATEGORY_DIGIT", "CATEGORY_WORD", "CATEGORY_SPACE"):
                out |= {"CATEGORY_DIGIT": _DIGIT, "CATEGORY_WORD": _WORD, "CATEGORY_SPACE": _SPACE}[str(value)]
            else:
                raise _NotSimple
        if not out or max(out) > 127:
            raise _NotSimple
        return {ord(chr(c).lower()) for c in out} if self.fold else out

    def members(self, codes: set[int]) -> bytes:
        text = b"[" + b"".join([b"\\x%02x" % c for c in sorted(codes)]) + b"]"
        extra = [_FOLDS[c] for c in sorted(codes) if c in _FOLDS] if self.fold else []
        return b"(?:" + b"|".join([text, *extra]) + b")" if extra else text

    def branch(self, branches: list[list[Any]]) -> bytes:
        out: list[bytes] = []
        for items in branches:
            first = self.characters(items[0][1]) if items and str(items[0][0]) == "IN" else set()
            if 0 < len(first) <= 8:
                # One alternative a letter: `re` looks at the first byte of each before it tries it.
                rest = self.sequence(items[1:])
                out += [self.literal(c) + rest for c in sorted(first)]
            else:
                out.append(self.sequence(items))
        if len(out) > _MAX_BRANCHES:
            raise _NotSimple
        return b"(?:" + b"|".join(out) + b")"


class _Plain(_Writer):
    """Writes the tree for RE2 again, without groups."""

    def __init__(self) -> None:
        super().__init__(False, False)

    def at(self, text: bytes) -> bytes:
        return {b"\\Z": rb"\z"}.get(text, text)
