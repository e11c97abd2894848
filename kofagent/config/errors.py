"""What is wrong with a configuration, with the file and line it stands in: every error of a run, never only the first."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class ConfigError:
    """One mistake, or one warning. `line` counts from 1; 0 where no line is to blame. `message` and `hint` hold no secrets."""

    file: str
    line: int
    path: Path
    message: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        text = f"{where}: {show_path(self.path)}: {self.message}"
        return f"{text}; {self.hint}" if self.hint else text


class ConfigErrors(Exception):
    """All mistakes of a configuration; as text one per line, `FILE:LINE: path.to.key: what is wrong; what to do`."""

    def __init__(self, errors: Iterable[ConfigError]) -> None:
        seen: dict[str, ConfigError] = {}
        for error in errors:
            seen.setdefault(str(error), error)
        self.errors = sorted(seen.values(), key=lambda e: (e.file, e.line))
        super().__init__("\n".join(map(str, self.errors)))


def without_login(text: str) -> str:
    """A URL, or what was meant as one, without the password in it."""
    return re.sub(r"((?:^|//)[^/:@\s]*):(?!\$\{)[^/@\s]+@", r"\1:***@", text)


def suggest(word: str, known: Iterable[str], *, limit: int = 16) -> str:
    """`did you mean 'batch'?` for a near miss, else what is known, else nothing."""
    names = sorted(set(known))
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6) or [n for n in names if n.lower() == word.lower()]
    if near:
        return f"did you mean {near[0]!r}?"
    if not names:
        return ""
    if len(names) > limit:
        return "known are " + ", ".join(names[:limit]) + " and others"
    return "known: " + ", ".join(names)
