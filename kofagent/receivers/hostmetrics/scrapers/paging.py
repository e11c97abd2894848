"""paging: swap devices (/proc/swaps) and counters of pages and faults (/proc/vmstat).

Faults and operations are counts, as their units say; upstream multiplies both by 4096 (gopsutil reads them as bytes).
"""

from __future__ import annotations

from kofagent.receivers.hostmetrics.config import PagingOptions
from kofagent.receivers.hostmetrics.recorder import Recorder
from kofagent.receivers.hostmetrics.roots import Roots
from kofagent.receivers.hostmetrics.scrapers import LINUX, Round, Scrape


def scraper(options: PagingOptions, roots: Roots) -> Scrape:
    """A machine without swap has no usage points."""

    def scrape(out: Recorder, round: Round) -> None:
        if out.on("system.paging.usage", "system.paging.utilization"):
            try:
                for device, used, free in _swaps(roots) if LINUX else _psutil_swap():
                    for state, size in (("used", used), ("free", free)):
                        out.add("system.paging.usage", size, device, state)
                        if used + free:
                            out.add("system.paging.utilization", size / (used + free), device, state)
            except (OSError, ValueError) as error:
                out.failed(2, "cannot read the swap devices", str(error))
        if LINUX and out.on("system.paging.operations", "system.paging.faults"):
            try:
                _vmstat(out, roots)
            except (OSError, ValueError) as error:
                out.failed(2, "cannot read the counters of page operations", str(error))

    return scrape


def _swaps(roots: Roots) -> list[tuple[str, int, int]]:
    header, *lines = roots.read_proc("swaps").splitlines() or [""]
    if header.split()[:1] != ["Filename"]:
        raise ValueError(f"{roots.proc}/swaps does not start with a header")
    out = []
    for line in lines:
        # Name, type, size and used in KiB, priority; spaces in a name are written \040.
        columns = line.split()
        if len(columns) < 4:
            raise ValueError(f"{roots.proc}/swaps: too few columns")
        size, used = int(columns[2]) * 1024, int(columns[3]) * 1024
        out.append((columns[0], used, size - used))
    return out


def _vmstat(out: Recorder, roots: Roots) -> None:
    counters: dict[str, int] = {}
    for line in roots.read_proc("vmstat").splitlines():
        name, _, value = line.partition(" ")
        if name in _VMSTAT:
            counters[name] = int(value)
    for name, (direction, kind) in _OPERATIONS.items():
        if name in counters:
            out.add("system.paging.operations", counters[name], direction, kind)
    if "pgfault" in counters:
        major = counters.get("pgmajfault", 0)
        out.add("system.paging.faults", major, "major")
        out.add("system.paging.faults", counters["pgfault"] - major, "minor")


_OPERATIONS = {
    "pswpin": ("page_in", "major"),
    "pswpout": ("page_out", "major"),
    "pgpgin": ("page_in", "minor"),
    "pgpgout": ("page_out", "minor"),
}
_VMSTAT = {*_OPERATIONS, "pgfault", "pgmajfault"}


def _psutil_swap() -> list[tuple[str, int, int]]:
    import psutil

    swap = psutil.swap_memory()
    return [("", swap.used, swap.free)] if swap.total else []
