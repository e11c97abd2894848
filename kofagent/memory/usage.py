"""How much memory there is and how much is in use: of the process, of its cgroup (v1 and v2), of the machine. Bytes."""

from __future__ import annotations

import os
from pathlib import Path

_V2 = Path("/sys/fs/cgroup")
_V1 = Path("/sys/fs/cgroup/memory")
_UNLIMITED = 1 << 60  # cgroup v1 writes a number near 2**63 where there is no limit


def process_rss() -> int:
    """Resident set of this process."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import psutil

        rss: int = psutil.Process().memory_info().rss
        return rss


def cgroup_limit() -> int | None:
    """The limit of the cgroup this process sees, None without one."""
    for path in (_V2 / "memory.max", _V1 / "memory.limit_in_bytes"):
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text.isdigit() and int(text) < _UNLIMITED:
            return int(text)
    return None


def cgroup_usage() -> int | None:
    """What the kernel would hold against the limit: usage less the file cache it can take back. None outside a cgroup."""
    for usage, stat, key in (
        (_V2 / "memory.current", _V2 / "memory.stat", "inactive_file"),
        (_V1 / "memory.usage_in_bytes", _V1 / "memory.stat", "total_inactive_file"),
    ):
        try:
            used = int(usage.read_text())
            cache = next((int(line.split()[1]) for line in stat.read_text().splitlines() if line.startswith(key + " ")), 0)
        except (OSError, ValueError, IndexError):
            continue
        return max(0, used - cache)
    return None


def machine_total() -> int:
    """Physical memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def total() -> int:
    """What a percentage is of: the cgroup's limit, the machine's memory without one."""
    limit = cgroup_limit()
    return machine_total() if limit is None else min(limit, machine_total())


def in_use() -> int:
    """The process' resident set, or the cgroup's usage where that has a limit and is higher."""
    used = process_rss()
    if cgroup_limit() is not None:
        used = max(used, cgroup_usage() or 0)
    return used


def give_back() -> None:
    """Asks the C library to return freed memory to the operating system, which it does by itself only at the end of its heap.

    Does nothing where it cannot (musl, macOS).
    """
    import ctypes  # when memory is short only

    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        pass
