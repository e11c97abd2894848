"""disk: counters of every block device, from /proc/diskstats (kernel documentation admin-guide/iostats)."""

from __future__ import annotations

from typing import NamedTuple

from kofagent.receivers.hostmetrics.config import DiskOptions, wanted
from kofagent.receivers.hostmetrics.recorder import Recorder
from kofagent.receivers.hostmetrics.roots import Roots
from kofagent.receivers.hostmetrics.scrapers import LINUX, Round, Scrape

SECTOR = 512
"""Bytes; /proc/diskstats counts in these whatever the device's own sectors are."""


class _Device(NamedTuple):
    name: str
    reads: int
    reads_merged: int
    read_bytes: int
    read_ms: int
    writes: int
    writes_merged: int
    write_bytes: int
    write_ms: int
    pending: int | None = None
    io_ms: int | None = None
    weighted_ms: int | None = None


def scraper(options: DiskOptions, roots: Roots) -> Scrape:
    """All devices, partitions included, that `include` and `exclude` leave."""
    keep = wanted(options.include, options.exclude)

    def scrape(out: Recorder, round: Round) -> None:
        for d in _diskstats(roots) if LINUX else _psutil_devices():
            if keep is not None and not keep(d.name):
                continue
            out.add("system.disk.io", d.read_bytes, d.name, "read")
            out.add("system.disk.io", d.write_bytes, d.name, "write")
            out.add("system.disk.operations", d.reads, d.name, "read")
            out.add("system.disk.operations", d.writes, d.name, "write")
            out.add("system.disk.operation_time", d.read_ms / 1000, d.name, "read")
            out.add("system.disk.operation_time", d.write_ms / 1000, d.name, "write")
            if d.io_ms is not None:
                out.add("system.disk.io_time", d.io_ms / 1000, d.name)
            if d.pending is not None:
                out.add("system.disk.pending_operations", d.pending, d.name)
            if d.weighted_ms is not None:
                out.add("system.disk.weighted_io_time", d.weighted_ms / 1000, d.name)
                out.add("system.disk.merged", d.reads_merged, d.name, "read")
                out.add("system.disk.merged", d.writes_merged, d.name, "write")

    return scrape


def _diskstats(roots: Roots) -> list[_Device]:
    devices = []
    for line in roots.read_proc("diskstats").splitlines():
        columns = line.split()
        if len(columns) < 14:
            continue
        n = [int(c) for c in columns[3:14]]
        if not any(n):
            continue  # loop0 and its like without a file behind them; upstream leaves them out too
        devices.append(_Device(columns[2], n[0], n[1], n[2] * SECTOR, n[3], n[4], n[5], n[6] * SECTOR, n[7], n[8], n[9], n[10]))
    return devices


def _psutil_devices() -> list[_Device]:
    import psutil

    return [
        _Device(name, c.read_count, 0, c.read_bytes, c.read_time, c.write_count, 0, c.write_bytes, c.write_time)
        for name, c in (psutil.disk_io_counters(perdisk=True) or {}).items()
    ]
