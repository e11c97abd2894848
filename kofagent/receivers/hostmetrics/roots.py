"""Where the host's /proc, /sys and so on are: `root_path` and the HOST_* variables, and small readers of their files."""

from __future__ import annotations

import os
from collections.abc import Mapping


class Roots:
    """Directories of the host. `HOST_PROC` and its like win over `root_path`, as upstream has it."""

    def __init__(self, root_path: str = "", environ: Mapping[str, str] = os.environ) -> None:
        self.root = "" if root_path == "/" else root_path.rstrip("/")
        self.proc = environ.get("HOST_PROC") or f"{self.root}/proc"
        self.sys = environ.get("HOST_SYS") or f"{self.root}/sys"
        self.etc = environ.get("HOST_ETC") or f"{self.root}/etc"
        self.dev = environ.get("HOST_DEV") or f"{self.root}/dev"
        self.mountinfo = environ.get("HOST_PROC_MOUNTINFO", "")

    def read_proc(self, name: str) -> str:
        """The text of a file under /proc. OSError if it cannot be read."""
        return read_text(f"{self.proc}/{name}")

    def boot_time_ns(self) -> int:
        """When the host was started, Unix nanoseconds. OSError or ValueError where /proc/stat does not say."""
        for line in self.read_proc("stat").splitlines():
            if line.startswith("btime "):
                return int(line.split()[1]) * 1_000_000_000
        raise ValueError(f"{self.proc}/stat has no btime line")


def read_text(path: str) -> str:
    """A small file as text; bytes that are not UTF-8 become surrogates. OSError where it cannot be read."""
    with open(path, "rb", buffering=0) as file:
        return (file.read() or b"").decode("utf-8", "surrogateescape")


def ratio(part: int, whole: int) -> float:
    """`part / whole` rounded to the digits that the larger of them has; NaN of 0/0, infinity of n/0, as Go divides."""
    if not whole:
        return float("nan") if not part else float("inf") if part > 0 else float("-inf")
    digits = max(len(str(max(abs(part), abs(whole)))), 1)
    return round(part / whole, digits)
