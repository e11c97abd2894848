"""memory: /proc/meminfo by state. `used` is what is not available (MemAvailable), as upstream counts it since 0.137."""

from __future__ import annotations

import os

from kofagent.receivers.hostmetrics.config import MemoryOptions
from kofagent.receivers.hostmetrics.recorder import Recorder
from kofagent.receivers.hostmetrics.roots import Roots, ratio
from kofagent.receivers.hostmetrics.scrapers import LINUX, Round, Scrape


def scraper(options: MemoryOptions, roots: Roots) -> Scrape:
    """Bytes by state; page cache includes reclaimable slab, as free(1) shows it."""
    page_size = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096

    def scrape(out: Recorder, round: Round) -> None:
        total, states = _linux(out, roots) if LINUX else _psutil_memory()
        if total <= 0:
            raise ValueError("the total of the memory is not known")
        for state, size in states.items():
            out.add("system.memory.usage", size, state)
            out.add("system.memory.utilization", ratio(size, total), state)
        out.add("system.memory.limit", total)
        out.add("system.memory.page_size", page_size)

    return scrape


def meminfo(roots: Roots) -> dict[str, int]:
    """/proc/meminfo as bytes where it says kB, else as counts."""
    out: dict[str, int] = {}
    for line in roots.read_proc("meminfo").splitlines():
        key, colon, rest = line.partition(":")
        words = rest.split()
        if colon and words and words[0].isdigit():
            out[key] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
    return out


def _linux(out: Recorder, roots: Roots) -> tuple[int, dict[str, int]]:
    info = meminfo(roots)
    get = info.get
    total, free, buffers = get("MemTotal", 0), get("MemFree", 0), get("Buffers", 0)
    cached = get("Cached", 0) + get("SReclaimable", 0)
    available = get("MemAvailable", free + cached)
    out.add("system.linux.memory.available", available)
    out.add("system.linux.memory.dirty", get("Dirty", 0))
    out.add("system.memory.linux.shared", get("Shmem", 0))
    pages, pages_free = get("HugePages_Total", 0), get("HugePages_Free", 0)
    state = "system.memory.linux.hugepages."
    out.add(state + "page_size", get("Hugepagesize", 0))
    out.add(state + "limit", pages)
    out.add(state + "reserved", get("HugePages_Rsvd", 0))
    out.add(state + "surplus", get("HugePages_Surp", 0))
    for name, value in (("free", pages_free), ("used", pages - pages_free)):
        out.add(state + "usage", value, name)
        if pages:
            out.add(state + "utilization", ratio(value, pages), name)
    return total, {
        "used": total - available,
        "free": free,
        "buffered": buffers,
        "cached": cached,
        "slab_reclaimable": get("SReclaimable", 0),
        "slab_unreclaimable": get("SUnreclaim", 0),
    }


def _psutil_memory() -> tuple[int, dict[str, int]]:
    import psutil

    m = psutil.virtual_memory()
    states = {"used": m.used, "free": m.free}
    if hasattr(m, "inactive"):
        states["inactive"] = m.inactive
    return m.total, states
