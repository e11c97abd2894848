"""Which files are the journal: those in the directories of systemd, or in one that is named, or files that are named."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

DIRECTORIES = ("/var/log/journal", "/run/log/journal")
"""What is kept over a reboot, and what is not."""
_SUFFIXES = (".journal", ".journal~")
_SUBDIRECTORY = re.compile(r"([0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:\.(.+))?")
MOST_FILES = 2000
"""Files that are read; journald keeps a hundred of each kind."""


class Found(NamedTuple):
    """A file of the journal. `key` stays the same when it gets another name."""

    path: str
    key: tuple[int, int]
    changed: int
    """When it was last changed, in nanoseconds; renaming counts."""


class Search:
    """Finds the files. `problems` are those of the last time: directories that cannot be read, and files that are not there."""

    def __init__(self, root: str, directory: str | None, files: Sequence[str], namespace: str, merge: bool) -> None:
        self._root = root
        self._directory = None if directory is None else under(root, directory)
        self._files = [under(root, path) for path in files]
        self._namespace = namespace
        self._all_machines = merge or directory is not None
        self.problems: dict[str, str] = {}

    def directories(self) -> list[str]:
        """The directories that are looked into; below each the machines' own."""
        return [self._directory] if self._directory is not None else [under(self._root, path) for path in DIRECTORIES]

    def find(self) -> list[Found]:
        """The files there are now, in no order."""
        self.problems = {}
        if self._directory is None and self._files:
            return self._named()
        found: dict[tuple[int, int], Found] = {}
        missing: list[str] = []
        machine = "" if self._all_machines else self._machine()
        for top in self.directories():
            below: list[tuple[str, str]] = []
            for entry in self._scan(top, missing):
                if entry.name.endswith(_SUFFIXES):
                    self._add(found, entry)
                elif match := _SUBDIRECTORY.fullmatch(entry.name):
                    below.append((entry.path, match[1].replace("-", "")))
            volatile = top.startswith(under(self._root, "/run/"))
            if machine and not volatile and any(name == machine for _, name in below):
                below = [(path, name) for path, name in below if name == machine]
            for path, _ in below:
                if self._wanted(os.path.basename(path)):
                    for entry in self._scan(path, missing):
                        if entry.name.endswith(_SUFFIXES):
                            self._add(found, entry)
        if missing and len(missing) == len(self.directories()):
            self.problems.update(dict.fromkeys(missing, "does not exist"))
        return list(found.values())

    def _named(self) -> list[Found]:
        import glob

        found: dict[tuple[int, int], Found] = {}
        for pattern in self._files:
            for path in glob.iglob(pattern) if glob.has_magic(pattern) else [pattern]:
                try:
                    status = os.stat(path)
                except OSError as error:
                    self.problems[path] = error.strerror or str(error)
                    continue
                self._keep(found, path, status)
        return list(found.values())

    def _wanted(self, name: str) -> bool:
        """Whether a directory is of the namespace: `*` is all, `+name` that one and the default."""
        _, _, namespace = name.partition(".")
        wanted = self._namespace
        if wanted == "*":
            return True
        if wanted.startswith("+"):
            return namespace in ("", wanted[1:])
        return namespace == wanted

    def _machine(self) -> str:
        """The id of the machine; empty when it is not known."""
        try:
            with open(under(self._root, "/etc/machine-id")) as file:
                return file.read(64).strip().replace("-", "").lower()
        except (OSError, ValueError):
            return ""

    def _scan(self, path: str, missing: list[str]) -> Iterable[os.DirEntry[str]]:
        try:
            with os.scandir(path) as entries:
                return list(entries)
        except FileNotFoundError:
            missing.append(path)
        except OSError as error:
            self.problems[path] = error.strerror or str(error)
        return ()

    def _add(self, found: dict[tuple[int, int], Found], entry: os.DirEntry[str]) -> None:
        try:
            status = entry.stat()
        except OSError:
            return  # gone, or a link to nothing
        self._keep(found, entry.path, status)

    def _keep(self, found: dict[tuple[int, int], Found], path: str, status: os.stat_result) -> None:
        if len(found) < MOST_FILES:
            key = (status.st_dev, status.st_ino)
            found.setdefault(key, Found(path, key, status.st_ctime_ns))
        else:
            self.problems[os.path.dirname(path)] = f"there are more than {MOST_FILES} files, the others are not read"


def under(root: str, path: str) -> str:
    """`path` below `root`, as a process would see it whose root directory that is."""
    return os.path.join(root, path.lstrip("/")) if root.strip("/") else path
