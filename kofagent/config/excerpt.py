"""Where in a file a character of a string stands: its line, to be shown with a caret below the character.

A validator of an expression knows the string alone (`Spot`). Between it and the file are YAML's quotes, escapes, folding and
indentation, and `$$`. Files are read again for this, once each and only when there is an error, so that nothing is kept for it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import yaml

from kofagent.config.errors import Place, Problem, Spot
from kofagent.config.source import MAX_BYTES

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PARTS = {
    '"': re.compile(r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|\r?\n|.)|\S"),
    "'": re.compile(r"''|\S"),
    None: re.compile(r"\S"),
}
_BLANK_ESCAPES = frozenset(("\\n", "\\t", "\\r", "\\ ", "\\N", "\\_", "\\L", "\\P", "\\v", "\\f", "\\\n", "\\\r\n"))


def in_files(problems: Iterable[Problem]) -> list[Problem]:
    """The problems with the lines of their files instead of the strings that they are about, where those are found there."""
    found = list(problems)
    by_file: defaultdict[str, list[int]] = defaultdict(list)
    for i, problem in enumerate(found):
        if problem.spot is not None and problem.place.line:
            by_file[problem.place.file].append(i)
    for file, indices in by_file.items():
        text = _read(file)
        if text is not None:
            wanted: defaultdict[int, list[int]] = defaultdict(list)
            for i in indices:
                wanted[found[i].place.line].append(i)
            _find(text, file, wanted, found)
    return found


def _read(file: str) -> str | None:
    try:
        with open(file, "rb") as handle:
            return handle.read(MAX_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None


def _find(text: str, file: str, wanted: dict[int, list[int]], found: list[Problem]) -> None:
    try:
        for event in yaml.parse(text, Loader=_Loader):
            if isinstance(event, yaml.ScalarEvent) and event.start_mark is not None:
                line = event.start_mark.line + 1
                for i in wanted.get(line, ()):
                    spot = found[i].spot
                    if spot is not None and found[i].place.line == line:
                        at = _place(text, event, spot)
                        if at is not None:
                            found[i] = _placed(found[i], text, at, file)
    except yaml.YAMLError:
        pass  # the file has changed since


def _placed(problem: Problem, text: str, at: int, file: str) -> Problem:
    begin = text.rfind("\n", 0, at) + 1
    end = text.find("\n", at)
    line = text[begin : end if end >= 0 else len(text)].rstrip("\r")
    return replace(problem, place=Place(file, text.count("\n", 0, at) + 1), spot=Spot(line, at - begin))


def _place(text: str, event: Any, spot: Spot) -> int | None:
    """The offset in the file of a character of the scalar; None where the scalar is another one."""
    collapsed = event.value != spot.text
    if collapsed and event.value.replace("$$", "$") != spot.text:
        return None
    units = _units(text, event, collapsed)
    before = sum(not c.isspace() for c in spot.text[: spot.offset])
    inside = spot.offset < len(spot.text) and not spot.text[spot.offset].isspace()
    last = None
    for number, (begin, end) in enumerate(units):
        if number == before and inside:
            return begin
        if number == before - 1 and not inside:
            return end
        last = begin
    return last


def _units(text: str, event: Any, collapsed: bool) -> Iterator[tuple[int, int]]:
    """Begin and end in the file of each character of the scalar that is no white space."""
    begin, end = event.start_mark.index, event.end_mark.index
    style = event.style or None
    if style in ("|", ">"):
        begin = text.find("\n", begin, end) + 1 or end
    elif style is not None:
        begin, end = begin + 1, end - 1
    dollar = -1
    for match in _PARTS[style if style in ('"', "'") else None].finditer(text, begin, end):
        part = match[0]
        if part in _BLANK_ESCAPES or (part[0] == "\\" and len(part) > 2 and chr(int(part[2:], 16)).isspace()):
            continue
        if collapsed and part == "$" and dollar == match.start():
            dollar = -1
            continue
        dollar = match.end() if part == "$" else -1
        yield match.start(), match.end()
