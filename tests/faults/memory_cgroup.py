"""A memory cgroup for one process, v1 or v2, where the machine lets us make one."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_V1 = Path("/sys/fs/cgroup/memory")
_V2 = Path("/sys/fs/cgroup")


class Cgroup:
    """`enter` is called in the process that is to be in it."""

    def __init__(self, folder: Path, v1: bool) -> None:
        self.folder = folder
        self._peak = "memory.max_usage_in_bytes" if v1 else "memory.peak"

    def enter(self) -> None:
        """Moves the calling process into the cgroup."""
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    @property
    def peak(self) -> int:
        """The most bytes that it ever held, file pages included; -1 where the kernel does not say (v2 before 5.19)."""
        try:
            return int((self.folder / self._peak).read_text())
        except OSError:
            return -1


@contextmanager
def cgroup(limit: int) -> Iterator[Cgroup | None]:
    """A cgroup with this limit, bytes; None where none can be made."""
    name = f"kofagent-test-{uuid.uuid4().hex[:8]}"
    made = None
    for root, file, v1 in ((_V1, "memory.limit_in_bytes", True), (_V2, "memory.max", False)):
        folder = root / name
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            (folder / file).write_text(str(limit))
        except OSError:  # not a memory cgroup: the controller is not delegated to us
            folder.rmdir()
            continue
        made = Cgroup(folder, v1)
        break
    try:
        yield made
    finally:
        if made is not None:
            made.folder.rmdir()
