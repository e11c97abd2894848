"""`SmallDisk`: a file system that is soon full, where the machine lets us mount one; `Absent` says why not."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path


class Absent(Exception):
    """This machine, or this account, does not allow it."""


class SmallDisk:
    """A file system of a few MiB (tmpfs). Used within `with`."""

    def __init__(self, folder: Path, mib: int) -> None:
        self.folder = folder
        self._mib = mib
        self._filling = folder / "somebody-else"

    def __enter__(self) -> SmallDisk:
        self.folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={self._mib}m", "kofagent-faults", str(self.folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Absent(f"no file system may be mounted: {done.stderr.strip()}")
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], capture_output=True, check=False)

    def fill(self) -> None:
        """Takes all the space there is."""
        with self._filling.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        """Gives it back."""
        self._filling.unlink(missing_ok=True)

    def read_only(self, on: bool) -> None:
        """Remounts; `Absent` when the kernel does not (files are open for writing)."""
        done = subprocess.run(
            ["mount", "-o", f"remount,{'ro' if on else 'rw'}", str(self.folder)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Absent(f"cannot be remounted: {done.stderr.strip()}")
