"""`SmallDisk`, a file system that is soon full, and `BreakingDisk`, one whose device fails, where the machine lets us mount them."""

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


class BreakingDisk:
    """An ext4 on a file, which the kernel makes read-only under open files, as after an error of the device. Used within `with`."""

    def __init__(self, folder: Path, mib: int) -> None:
        self.folder = folder
        self._image = folder.with_suffix(".img")
        self._mib = mib

    def __enter__(self) -> BreakingDisk:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._image.open("wb") as file:
            file.truncate(self._mib << 20)
        for command in (["mkfs.ext4", "-q", "-F", str(self._image)], self._mount()):
            try:
                done = subprocess.run(command, capture_output=True, text=True, check=False)
            except OSError as error:
                raise Absent(f"no {command[0]}: {error.strerror}") from None
            if done.returncode:
                raise Absent(f"{command[0]}: {done.stderr.strip()}")
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], capture_output=True, check=False)

    def _mount(self) -> list[str]:
        return ["mount", "-o", "loop", str(self._image), str(self.folder)]

    def fail(self) -> None:
        """What was written until now is on the device, nothing can be written from now on; what is open stays open."""
        subprocess.run(["sync", "-f", str(self.folder)], capture_output=True, check=True)
        subprocess.run(["mount", "-o", "remount,abort", str(self.folder)], capture_output=True, check=True)

    def repair(self) -> None:
        """Nobody may have files open there."""
        subprocess.run(["umount", str(self.folder)], capture_output=True, check=True)
        done = subprocess.run(["e2fsck", "-y", str(self._image)], capture_output=True, check=False)
        assert done.returncode <= 1, f"e2fsck ended with {done.returncode}"
        subprocess.run(self._mount(), capture_output=True, check=True)
