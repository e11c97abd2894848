"""Globs with upstream's (doublestar's) meaning, and a finder that asks the disk only about what changed.

`*` any run without `/`, `?` one character, `[a-z]` `[^a-z]` `[!a-z]` classes, `{a,b}` alternatives, `**` as a whole
component any number of directories, `\\` makes the next character plain. Names that start with a dot are matched.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator
from itertools import pairwise

from kofagent.memory.memo import Memo

_MAGIC = re.compile(r"[*?\[{\\]")
_SETTLED_S = 3.0
"""A listing of a directory modified this shortly before may miss a name (coarse file times): it is read again."""
_TRUST_S = 10.0
"""Listings are read again after this even if the directory looks unchanged: some file systems keep no directory times."""
_MAX_DEPTH = 64


class Glob:
    """One pattern. ValueError where it cannot be read."""

    def __init__(self, pattern: str) -> None:
        if not pattern:
            raise ValueError("an empty glob matches nothing; remove it")
        if "\0" in pattern:
            raise ValueError("a glob cannot contain a NUL character; remove it")
        self.pattern = pattern
        self.alternatives = [alternative.split("/") for alternative in _braces(pattern)]
        self.regex = re.compile("|".join(f"(?:{_path_regex(parts)})" for parts in self.alternatives), re.DOTALL)

    def roots(self) -> list[str]:
        """The directories below which all that matches is: what is in front of the first wildcard, without the file's name."""
        out = []
        for parts in self.alternatives:
            fixed = next((i for i, part in enumerate(parts[:-1]) if _MAGIC.search(part)), len(parts) - 1)
            out.append("/".join([_unescape(part) for part in parts[:fixed]]) or ("/" if parts[0] == "" else "."))
        return out

    def matches(self, path: str) -> bool:
        """True when the whole path matches."""
        return self.regex.fullmatch(path) is not None


def _braces(pattern: str) -> list[str]:
    """The patterns without `{a,b}` that `pattern` stands for."""
    depth, start, cut, at = 0, -1, [], 0
    while at < len(pattern):
        char = pattern[at]
        if char == "\\":
            at += 2
            continue
        if char == "[":
            at = _class_end(pattern, at)
            continue
        if char == "{":
            depth += 1
            if depth == 1:
                start, cut = at, [at]
        elif char == "," and depth == 1:
            cut.append(at)
        elif char == "}":
            if depth == 0:
                raise ValueError(f"glob {pattern!r}: '}}' without '{{'; close what was opened or write \\}}")
            depth -= 1
            if depth == 0:
                cut.append(at)
                middles = [pattern[a + 1 : b] for a, b in pairwise(cut)]
                return [p for middle in middles for p in _braces(pattern[:start] + middle + pattern[at + 1 :])]
        at += 1
    if depth:
        raise ValueError(f"glob {pattern!r}: '{{' is not closed; add '}}' or write \\{{")
    return [pattern]


def _class_end(pattern: str, at: int) -> int:
    """The offset behind the class that starts at `at`."""
    end = at + 1
    if pattern[end : end + 1] in ("^", "!"):
        end += 1
    first = end
    while end < len(pattern) and (pattern[end] != "]" or end == first):
        end += 2 if pattern[end] == "\\" else 1
    if end >= len(pattern):
        raise ValueError(f"glob {pattern!r}: '[' is not closed; add ']' or write \\[")
    return end + 1


def _component_regex(component: str) -> str:
    out, at = [], 0
    while at < len(component):
        char = component[at]
        if char == "*":
            out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "[":
            end = _class_end(component, at)
            out.append(_class_regex(component[at + 1 : end - 1], component))
            at = end
            continue
        elif char == "\\":
            if at + 1 == len(component):
                raise ValueError(f"glob {component!r} ends with a backslash; write \\\\ for a plain one")
            at += 1
            out.append(re.escape(component[at]))
        else:
            out.append(re.escape(char))
        at += 1
    return "".join(out)


def _class_regex(body: str, component: str) -> str:
    negated = body[:1] in ("^", "!")
    if negated:
        body = body[1:]
    out, at = [], 0
    while at < len(body):
        char = body[at]
        if char == "\\" and at + 1 < len(body):
            at += 1
            out.append(re.escape(body[at]))
        elif char == "-" and out and at + 1 < len(body):
            out.append("-")
        else:
            out.append(re.escape(char))
        at += 1
    text = ("[^/" if negated else "[") + "".join(out) + "]"
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"glob {component!r}: bad class: {error}") from None
    return text


def _path_regex(parts: list[str]) -> str:
    out = []
    last = len(parts) - 1
    for i, part in enumerate(parts):
        if part == "**":
            out.append("(?:[^/]+/)*" if i < last else ".*")
        else:
            out.append(_component_regex(part) + ("/" if i < last else ""))
    return "".join(out)


def _unescape(component: str) -> str:
    return re.sub(r"\\(.)", r"\1", component)


MAX_EXCLUDED = 100_000
"""Paths of which it is remembered whether they are excluded."""


class _Directory:
    """A listing and what the directory looked like when it was read."""

    __slots__ = ("entries", "key", "read_at", "settled")

    def __init__(self) -> None:
        self.key: tuple[int, int, int] | None = None
        self.read_at = 0.0
        self.settled = False
        self.entries: list[tuple[str, bool | None]] = []  # name, is it a directory (None: a link, ask each time)


class Finder:
    """The files that match `include` and not `exclude`, sorted. Listings are cached by the directory's modification time.

    `errors` maps a directory that could not be listed to a sentence; it is of the last `find`.
    """

    def __init__(self, include: list[str], exclude: list[str]) -> None:
        self.include = [Glob(p) for p in include]
        self.exclude = [Glob(p) for p in exclude]
        self.errors: dict[str, str] = {}
        self._cache: dict[str, _Directory] = {}
        self._seen: set[str] = set()
        globs = self.exclude
        self._excluded: Memo[str, bool] = Memo(
            "filelog.excluded", lambda path: any(glob.matches(path) for glob in globs), entries=MAX_EXCLUDED, size=32 << 20
        )
        self._regexes: dict[str, re.Pattern[str]] = {}
        self._absent: list[str] = []
        self._literal: dict[str, tuple[int, int] | None] = {}
        self._last: list[str] = []

    def find(self) -> list[str]:
        """The paths of now. Symbolic links to directories are followed; directories are no files.

        The same list object as the last time when nothing but the files' contents changed (and targets of links to files).
        """
        now = time.time()
        if self._same(now):
            return self._last
        self.errors = {}
        self._seen = set()
        self._absent = []
        self._literal = {}
        found: set[str] = set()
        for glob in self.include:
            for parts in glob.alternatives:
                if parts[0] == "" and len(parts) > 1:
                    found.update(self._walk("/", parts[1:], now, 0))
                else:
                    found.update(self._walk("", parts, now, 0))
        if self.exclude:
            found = {path for path in found if not self._excluded[path]}
        for path in [p for p in self._cache if p not in self._seen]:
            del self._cache[path]
        self._last = sorted(found)
        return self._last

    def _same(self, now: float) -> bool:
        """True when no directory, and no file a pattern names without a glob, changed since the last time."""
        # hot: log_idle, 2.5 ms a poll of 200 directories: one stat each and nothing else
        if self.errors or not self._seen:
            return False
        stat_of = os.stat
        oldest = now - _TRUST_S
        try:
            for path, directory in self._cache.items():
                if not directory.settled or directory.read_at < oldest:
                    return False
                status = stat_of(path)
                if (status.st_dev, status.st_ino, status.st_mtime_ns) != directory.key:
                    return False
        except OSError:
            return False
        return not any(map(os.path.lexists, self._absent)) and all(_file_key(path) == key for path, key in self._literal.items())

    def _walk(self, base: str, parts: list[str], now: float, depth: int) -> Iterator[str]:
        """Paths below `base` (empty, or with a slash at its end) that match `parts`."""
        part = parts[0]
        rest = parts[1:]
        if part == "**":
            if depth > _MAX_DEPTH:
                return
            if rest:
                yield from self._walk(base, rest, now, depth)
            for name, kind in self._list(base, now):
                path = base + name
                directory = os.path.isdir(path) if kind is None else kind
                if directory:
                    # A link to a directory above would go round for ever; names of such a length end it (ELOOP, depth).
                    if kind is None and _leads_up(path, base):
                        continue
                    yield from self._walk(path + "/", parts, now, depth + 1)
                elif not rest:
                    yield path
            return
        if not _MAGIC.search(part) or (part.find("\\") >= 0 and not re.search(r"(?<!\\)[*?\[]", part)):
            name = _unescape(part)
            if rest:
                yield from self._walk(base + name + "/", rest, now, depth)
            else:
                key = self._literal[base + name] = _file_key(base + name)
                if key is not None:
                    yield base + name
            return
        regex = self._regexes.get(part)
        if regex is None:
            regex = self._regexes[part] = re.compile(_component_regex(part), re.DOTALL)
        match = regex.fullmatch
        for name, kind in self._list(base, now):
            if match(name) is None:
                continue
            if rest:
                if kind is not False:
                    yield from self._walk(base + name + "/", rest, now, depth)
            elif kind is False or (kind is None and not os.path.isdir(base + name)):
                yield base + name

    def _list(self, base: str, now: float) -> list[tuple[str, bool | None]]:
        path = base or "."
        cached = self._cache.get(path)
        if cached is not None and path in self._seen:
            return cached.entries
        self._seen.add(path)
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            self._cache.pop(path, None)
            self._absent.append(path)
            return []
        except OSError as error:
            self._cache.pop(path, None)
            self.errors[path] = error.strerror or str(error)
            return []
        key = (status.st_dev, status.st_ino, status.st_mtime_ns)
        if cached is not None and cached.key == key and cached.settled and now - cached.read_at < _TRUST_S:
            return cached.entries
        if not stat.S_ISDIR(status.st_mode):
            return []
        directory = _Directory()
        try:
            with os.scandir(path) as entries:
                directory.entries = [(e.name, None if e.is_symlink() else e.is_dir(follow_symlinks=False)) for e in entries]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            self._cache.pop(path, None)
            self.errors[path] = error.strerror or str(error)
            return []
        directory.key = key
        directory.read_at = now
        directory.settled = not 0 <= now - status.st_mtime < _SETTLED_S
        self._cache[path] = directory
        return directory.entries


def _file_key(path: str) -> tuple[int, int] | None:
    """Device and inode of what is no directory; (0, 0) for what is there and cannot be looked at."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError:
        return 0, 0
    return None if stat.S_ISDIR(status.st_mode) else (status.st_dev, status.st_ino)


def _leads_up(link: str, base: str) -> bool:
    """True when the link points at a directory it is in."""
    target = os.path.realpath(link)
    here = os.path.realpath(base or ".")
    return here == target or here.startswith(target.rstrip("/") + "/")
