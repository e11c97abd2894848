"""`validations` of a target: what the body of an answer is checked for, in linear time."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable

from kofagent.config.re2 import compile_test
from kofagent.receivers.httpcheck.config import Validation
from kofagent.receivers.httpcheck.json_path import Missing, equals, find, parse
from kofagent.wire.foreign_json import read_json

LIMIT = 1 << 20
"""Bytes of a body that are read."""


class Body:
    """A body of an answer, of which no more than `LIMIT` bytes are there."""

    def __init__(self, content: bytes) -> None:
        self.whole = len(content) <= LIMIT
        self.size = len(content)
        """A byte more than `LIMIT` for one that is longer, whatever its length."""
        self.content = content
        self.text = content.decode("utf-8", "replace")

    @functools.cached_property
    def document(self) -> object:
        """What it is as JSON, read once for all paths; `Missing` itself where it is none, so that no path leads anywhere."""
        try:
            return read_json(self.content) if self.whole else Missing
        except ValueError:
            return Missing


class Validations:
    """The checks of one target by their kinds: `contains`, `not_contains`, `json_path`, `size` and `regex`."""

    def __init__(self, options: Iterable[Validation]) -> None:
        self._checks: list[tuple[str, Callable[[Body], bool]]] = []
        for each in options:
            self._checks += _checks(each)

    def __bool__(self) -> bool:
        return bool(self._checks)

    def __call__(self, body: Body) -> tuple[Counter[str], Counter[str]]:
        """How many passed and how many failed, by kind."""
        passed: Counter[str] = Counter()
        failed: Counter[str] = Counter()
        for kind, check in self._checks:
            good = check(body) and (body.whole or kind == "size")
            (passed if good else failed)[kind] += 1
        return passed, failed


def _checks(each: Validation) -> Iterable[tuple[str, Callable[[Body], bool]]]:
    if each.contains:
        wanted = each.contains.encode()
        yield "contains", lambda body: wanted in body.content
    if each.not_contains:
        unwanted = each.not_contains.encode()
        yield "not_contains", lambda body: unwanted not in body.content
    if each.json_path:
        steps, text = parse(each.json_path), each.equals
        yield "json_path", lambda body: _at(body, steps, text)
    if each.max_size is not None:
        most = each.max_size
        yield "size", lambda body: body.size <= most
    if each.min_size is not None:
        least = each.min_size
        yield "size", lambda body: body.size >= least
    if each.regex:
        test = compile_test(each.regex)
        yield "regex", lambda body: test(body.text)


def _at(body: Body, steps: tuple[str, ...], text: str) -> bool:
    try:
        value = find(body.document, steps)
    except Missing:
        return False
    return not text or equals(value, text)
