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


@dataclass(frozen=True)
class Problem:
    """One mistake, or one warning: where in the configuration, what is wrong, what to do. `message` and `hint` hold no secrets.

    Validators know no file: their problems have paths below the value that they check, and get their place when the
    configuration they belong to is known.
    """

    path: Path
    message: str
    hint: str = ""
    place: Place = NOWHERE
    warning: bool = False

    def under(self, path: Path) -> Problem:
        """The same, seen from above: its path begins with `path`."""
        return replace(self, path=(*path, *self.path)) if path else self

    def __str__(self) -> str:
        text = f"{show_path(self.path)}: {without_secrets(self.message)}"
        if self.hint:
            text = f"{text}; {self.hint}"
        return f"{self.place}: {text}" if self.place.file else text


class ConfigErrors(ValueError):
    """All mistakes of a configuration; as text one per line, `FILE:LINE: path.to.key: what is wrong; what to do`.

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
