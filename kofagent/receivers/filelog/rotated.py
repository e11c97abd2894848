"""The rotated files of a path: which files next to it are named after it, and in which order they were written.

Names are those of the kubelet and lumberjack (a time), logrotate (a number, the newest is 1; or a date) and programs that count up
(the newest has the largest number), with or without `.gz`. Which way the numbers go is shown by what is compressed, the oldest
first, and among files of one kind by their modification times. Where the path is a link that is repointed at each new file, rotated
files are those whose names differ from the current one only in numbers.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import NamedTuple

_SEPARATORS = ".-_"
_NUMBER_DIGITS = 6
"""Most digits of a mark that counts rotations; a longer one is a time."""
_LARGE_DIGITS = 4
"""Numbers of as many digits count up where the times of the files do not say it."""
_DATE_DIGITS = 6
_NUMBERS = re.compile("[0-9]{1,20}")
_UNFINISHED = (".tmp", ".swp", ".part")


class Rotated(NamedTuple):
    """A regular file next to a path. `mark` is what rotation added to the name; None: it is not named after the path."""

    path: str
    status: os.stat_result
    mark: str | None

    @property
    def inode(self) -> int:
        return self.status.st_ino

    @property
    def key(self) -> tuple[int, int]:
        return self.status.st_dev, self.status.st_ino

    @property
    def gzip(self) -> bool:
        return self.path.endswith(".gz")


def mark_of(base: str, name: str) -> str | None:
    """What rotation added to the name `base` to make `name`: `3` of `a.log.3.gz`; None when it is not a rotated file of it."""
    plain = name.removesuffix(".gz")
    if plain.endswith(_UNFINISHED):
        return None
    if plain.startswith(base) and plain[len(base) : len(base) + 1] in _SEPARATORS and len(plain) > len(base):
        mark = plain[len(base) + 1 :]
        return mark if any(map(str.isdecimal, mark)) else None
    stem, dot, ending = base.rpartition(".")
    if stem and plain.startswith(stem) and plain.endswith(dot + ending):  # name-TIME.log; a number may be another program's file
        mark = plain[len(stem) : -len(ending) - 1]
        if mark[:1] in ("-", "_", ".") and sum(map(str.isdecimal, mark)) >= _DATE_DIGITS:
            return mark[1:]
    return None


def oldest_first(files: Iterable[Rotated]) -> list[Rotated]:
    """In the order in which they were written. What is not named after the path comes first, by the time of its last change."""
    files = list(files)
    others = sorted((f for f in files if f.mark is None), key=_changed)
    named = [f for f in files if f.mark is not None]
    numbers = [_is_number(f.mark or "") for f in named]
    if all(numbers):
        named.sort(key=lambda f: int(f.mark or 0))
        if not _counts_up(named):
            named.reverse()
    elif any(numbers):
        named.sort(key=_changed)  # renaming and compressing change it, each time the oldest first
    else:
        named.sort(key=lambda f: f.mark or "")
    return others + named


def _is_number(mark: str) -> bool:
    return mark.isdecimal() and len(mark) <= _NUMBER_DIGITS


def _counts_up(files: list[Rotated]) -> bool:
    """Whether the largest number is the newest, of files in the order of their numbers: most neighbours say so.

    A compressed file is older than one that is not, whatever its time: compressing may have set that.
    """
    votes = 0
    for smaller, larger in pairwise(files):
        if smaller.gzip != larger.gzip:
            votes += 1 if smaller.gzip else -1
            continue
        one, two = (f.status for f in (smaller, larger))
        before, after = (one.st_mtime_ns, one.st_ctime_ns), (two.st_mtime_ns, two.st_ctime_ns)
        votes += (before < after) - (before > after)
    return votes > 0 or (votes == 0 and len(files[-1].mark or "" if files else "") >= _LARGE_DIGITS)


def _changed(file: Rotated) -> int:
    return file.status.st_ctime_ns


def _shape(name: str) -> tuple[str, str]:
    """A name without its numbers, and the numbers so that their order is that of the text."""
    plain = name.removesuffix(".gz")
    return _NUMBERS.sub("#", plain), "-".join([number.zfill(20) for number in _NUMBERS.findall(plain)])


class Folders:
    """Listings of directories, each read once. `stale`: a file that is listed was gone when it was looked at."""

    def __init__(self) -> None:
        self._entries: dict[str, list[tuple[str, int]]] = {}
        self._hidden: set[str] = set()
        self.stale = False

    def renew(self) -> None:
        """Directories are read again."""
        self._entries.clear()
        self._hidden.clear()
        self.stale = False

    def hidden(self, path: str) -> bool:
        """Whether the directory of `path` is there and could not be listed, so that nothing is known of the files in it."""
        return (os.path.dirname(path) or ".") in self._hidden

    def beside(self, path: str, wanted: Callable[[int], bool], known: Callable[[int], bool] = lambda inode: False) -> list[Rotated]:
        """The files in the directory of `path`, and of what it links to, that are named after it or whose inode is wanted.

        Of a file and its compressed copy only the file: the copy may not be complete. `known`: inodes of what was at the path.
        """
        out: dict[int, Rotated] = {}
        real = os.path.realpath(path)
        for place in dict.fromkeys((real, path)):
            directory, base = os.path.split(place)
            marks = {name: mark_of(base, name) for name, _ in self._list(directory or ".")}
            if place == real and os.path.islink(path):
                marks.update(self._targets(directory or ".", base, known))
            for name, inode in self._list(directory or "."):
                mark = marks[name]
                if mark is None and not wanted(inode):
                    continue
                if mark is not None and name.endswith(".gz") and marks.get(name.removesuffix(".gz")) is not None:
                    continue
                file = os.path.join(directory, name)
                try:
                    status = os.stat(file, follow_symlinks=False)
                except OSError:
                    self.stale = True
                    continue
                if stat.S_ISREG(status.st_mode):
                    out.setdefault(status.st_ino, Rotated(file, status, mark))
        return oldest_first(out.values())

    def _targets(self, directory: str, base: str, known: Callable[[int], bool]) -> dict[str, str]:
        """The files that a link to `base` was pointed at since it was at a known one: named alike, their numbers from its on."""
        shape, present = _shape(base)
        alike = {name: (_shape(name)[1], inode) for name, inode in self._list(directory) if _shape(name)[0] == shape}
        began = [numbers for name, (numbers, inode) in alike.items() if known(inode) and numbers < present]
        return {name: numbers for name, (numbers, _) in alike.items() if max(began) <= numbers <= present} if began else {}

    def _list(self, directory: str) -> list[tuple[str, int]]:
        entries = self._entries.get(directory)
        if entries is None:
            try:
                with os.scandir(directory) as found:
                    entries = [(e.name, e.inode()) for e in found if e.is_file(follow_symlinks=False)]
            except OSError as error:
                entries = []
                if not isinstance(error, FileNotFoundError | NotADirectoryError):
                    self._hidden.add(directory)
            self._entries[directory] = entries
        return entries
