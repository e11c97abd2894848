"""How much memory there is and how much is in use, as the kernel counts before it kills. Bytes.

What counts is what cannot be taken back: anonymous and kernel memory. Pages of files (the interpreter's libraries, logs that are
read) are in the resident set and in a cgroup's usage, and the kernel drops them before it kills anybody.

The cgroup is this process' own one or one above it, whichever has the lowest limit; v1 and v2. In a container its own one is at the
root of what is mounted, in a systemd unit (`MemoryMax=`) far below it.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

_V2 = Path("/sys/fs/cgroup")
_V1 = Path("/sys/fs/cgroup/memory")
_SELF = Path("/proc/self/cgroup")
_UNLIMITED = 1 << 60  # cgroup v1 writes a number near 2**63 where there is no limit
_PAGE = os.sysconf("SC_PAGE_SIZE")


class _Version(NamedTuple):
    """Names of the files of one version of cgroups, and what of `memory.stat` the kernel can take back."""

    limit: str
    usage: str
    reclaimable: frozenset[str]


_FILES_V2 = _Version("memory.max", "memory.current", frozenset(("inactive_file", "active_file", "slab_reclaimable")))
_FILES_V1 = _Version("memory.limit_in_bytes", "memory.usage_in_bytes", frozenset(("total_inactive_file", "total_active_file")))


def process_rss() -> int:
    """Resident set of this process, file pages included."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except OSError:
        import psutil

        rss: int = psutil.Process().memory_info().rss
        return rss


def process_anonymous() -> int:
    """Resident memory of this process that belongs to no file: heap, stacks, arenas."""
    try:
        with open("/proc/self/statm", "rb") as file:
            fields = file.read().split()
        return (int(fields[1]) - int(fields[2])) * _PAGE
    except OSError:
        return process_rss()


def cgroup_limit() -> int | None:
    """The lowest limit of the cgroups that this process is in, None without one."""
    found = _tightest()
    return None if found is None else found[0]


def cgroup_usage() -> int | None:
    """What the kernel holds against that limit and cannot take back. None without a limit."""
    found = _tightest()
    if found is None:
        return None
    _, folder, version = found
    try:
        used = int((folder / version.usage).read_text())
        for line in (folder / "memory.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name in version.reclaimable:
                used -= int(value)
    except (OSError, ValueError):
        return None
    return max(0, used)


def _tightest() -> tuple[int, Path, _Version] | None:
    """The lowest limit with the cgroup that has it. Read each time: a limit can be changed while the agent runs."""
    found = None
    for folder, version in _cgroups(_V2, _V1, _SELF):
        try:
            limit = int((folder / version.limit).read_text())
        except (OSError, ValueError):  # the root has no such file; `max` is not a number
            continue
        if limit < _UNLIMITED and (found is None or limit < found[0]):
            found = limit, folder, version
    return found


@lru_cache(maxsize=4)
def _cgroups(v2: Path, v1: Path, own: Path) -> list[tuple[Path, _Version]]:
    """The cgroups this process is in, from its own one up to the root, as far as they can be seen."""
    inside = {"": "/", "memory": "/"}
    try:
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for controller in controllers.split(","):
                inside[controller] = path
    except (OSError, ValueError):
        pass
    out = []
    for root, path, version in ((v2, inside[""], _FILES_V2), (v1, inside["memory"], _FILES_V1)):
        folder = root / path.strip("/")
        if ".." in folder.parts:  # a cgroup namespace shows what is outside of it so
            folder = root
        for above in (folder, *folder.parents):
            if above.is_dir():
                out.append((above, version))
            if above == root:
                break
    return out


def machine_total() -> int:
    """Physical memory."""
    return _PAGE * os.sysconf("SC_PHYS_PAGES")


def total() -> int:
    """What a percentage is of: the cgroup's limit, the machine's memory without one."""
    limit = cgroup_limit()
    return machine_total() if limit is None else min(limit, machine_total())


def in_use() -> int:
    """What is in use of `total`: of the cgroup where it has a limit, else of this process; file pages left out."""
    used = cgroup_usage()
    return process_anonymous() if used is None else used


def give_back() -> None:
    """Asks the C library to return freed memory to the operating system, which it does by itself only at the end of its heap.

    Does nothing where it cannot (musl, macOS).
    """
    import ctypes  # when memory is short only

    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        pass


def keep_little(threshold: int = 1 << 20) -> None:
    """Tells the C library to give blocks of more than `threshold` bytes back when they are freed.

    By itself it learns from large blocks to keep up to 32 MiB for the next one, and has an arena for each thread. Does nothing
    where it cannot (musl, macOS).
    """
    import ctypes

    try:
        for option, value in ((-3, threshold), (-1, 4 * threshold), (-8, 2)):  # mmap threshold, trim threshold, arenas
            ctypes.CDLL(None).mallopt(option, value)
    except (AttributeError, OSError):
        pass
