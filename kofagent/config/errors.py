"""What is wrong with a configuration: `Problem`, the one form from the validator that finds it to the line that the user reads."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from kofagent.config.redact import without_secrets

Path = tuple[str | int, ...]
"""Where a value stands in a configuration: map keys and list indices."""


def show_path(path: Sequence[str | int]) -> str:
    """`receivers.filelog/kube.operators[3].regex` of a path; `configuration` for the whole."""
    out = ""
    for part in path:
        if isinstance(part, int):
            out += f"[{part}]"
        else:
            out += f".{part}" if out else part
    return out or "configuration"


class Place(NamedTuple):
    """A line of a file, counted from 1; 0 where no single line is at fault."""

    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


NOWHERE = Place()


class Spot(NamedTuple):
    """A character of a text, counted from 0: of the string that is wrong or, once it is known, of its line in the file."""

    text: str
    offset: int

    def __str__(self) -> str:
        """The character's line with a caret below it, two lines; empty where the line may have secrets in it."""
        begin = self.text.rfind("\n", 0, self.offset) + 1
        line = self.text[begin:].partition("\n")[0]
        at = min(self.offset - begin, len(line))
        if without_secrets(line) != line:
            return ""
        first = min(len(line) - len(line.lstrip()), at)
        if at - first > SHOWN - 20:
            first = at - SHOWN // 2
        shown = "".join(c if c.isprintable() else " " for c in line[first : first + SHOWN].rstrip())
        left = "..." if line[:first].strip() else ""
        right = "..." if line[first + SHOWN :].strip() else ""
        return f"    {left}{shown}{right}\n    {' ' * (len(left) + at - first)}^"


SHOWN = 120
"""Characters of a line that are shown."""


@dataclass(frozen=True)
class Problem:
    """One mistake, or one warning: where in the configuration, what is wrong, what to do. `message` and `hint` hold no secrets.

    Validators know no file: their problems have paths below the value that they check, and get their place when the
    configuration they belong to is known. `spot` is the character that is wrong, in the string at the path.
    """

    path: Path
    message: str
    hint: str = ""
    place: Place = NOWHERE
    warning: bool = False
    spot: Spot | None = None

    def under(self, path: Path) -> Problem:
        """The same, seen from above: its path begins with `path`."""
        return replace(self, path=(*path, *self.path)) if path else self

    def __str__(self) -> str:
        text = f"{show_path(self.path)}: {without_secrets(self.message)}"
        if self.hint:
            text = f"{text}; {self.hint}"
        if self.place.file:
            text = f"{self.place}: {text}"
        excerpt = str(self.spot) if self.spot is not None else ""
        return f"{text}\n{excerpt}" if excerpt else text


class ConfigErrors(ValueError):
    """All mistakes of a configuration; as text one per line, `FILE:LINE: path.to.key: what is wrong; what to do`, and below it the
    line of the file with a caret where that tells more.

    A validator of an option raises it with paths below the option's value, to report several mistakes or one that is deeper down.
    """

    def __init__(self, errors: Iterable[Problem]) -> None:
        seen: dict[str, Problem] = {}
        for error in errors:
            seen.setdefault(str(error), error)
        self.errors = sorted(seen.values(), key=lambda e: e.place)
        super().__init__("\n".join(map(str, self.errors)))


def suggest(word: str, known: Iterable[str], *, limit: int = 16) -> str:
    """`did you mean 'batch'?` for a near miss; else up to `limit` of the known names; empty without any."""
    names = sorted(set(known))
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6) or [n for n in names if n.lower() == word.lower()]
    if near:
        return f"did you mean {near[0]!r}?"
    if not names or not limit:
        return ""
    if len(names) > limit:
        return f"use one of {', '.join(names[:limit])}, ... ({len(names) - limit} more)"
    return f"use {' or '.join(names)}" if len(names) < 3 else f"use one of {', '.join(names)}"
