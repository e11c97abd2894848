"""`link_targets`: which files may be read through links. Whoever can write to a folder of logs can make links in it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from kofagent.receivers.filelog.globs import Glob

_DELETED = " (deleted)"


class Confined(OSError):
    """A link leads to a file outside of the directories that may be read."""

    def __init__(self) -> None:
        super().__init__(0, "a link leads out of the directories that may be read; link_targets has the others")


class Confinement:
    """Files in the directories that `include` names up to its first wildcard, and in `targets`; any file where that is None.

    A file is judged once it is open, by what was opened: nobody can exchange it in between.
    """

    def __init__(self, include: Sequence[str], targets: Sequence[str] | None) -> None:
        roots = [] if targets is None else [root for pattern in include for root in Glob(pattern).roots()] + list(targets)
        self._roots = None if targets is None else list(dict.fromkeys(os.path.abspath(root) for root in roots))

    def check(self, fd: int, path: str) -> None:
        """Confined for a file that may not be read; `path` is where it was opened."""
        if self._roots is None:
            return
        try:
            real = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            real = os.path.realpath(path)
        if os.fstat(fd).st_nlink == 0:
            real = real.removesuffix(_DELETED)
        for root in self._roots:
            place = os.path.realpath(root)
            if real == place or real.startswith(place.rstrip("/") + "/"):
                return
        raise Confined
