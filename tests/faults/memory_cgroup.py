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
        self._v1 = v1
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

    @property
    def anonymous(self) -> int:
        """Bytes now that the kernel cannot take back; pages of files are not among them."""
        return self._numbers("memory.stat").get("total_rss" if self._v1 else "anon", 0)

    @property
    def killed(self) -> int:
        """How many processes the kernel has killed here for memory."""
        return self._numbers("memory.oom_control" if self._v1 else "memory.events").get("oom_kill", 0)

    def _numbers(self, name: str) -> dict[str, int]:
        lines = (self.folder / name).read_text().splitlines()
        return {key: int(value) for key, value in (line.split() for line in lines)}


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
