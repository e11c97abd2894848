"""load: the load averages, from /proc/loadavg."""

from __future__ import annotations

import os

from kofagent.receivers.hostmetrics.config import LoadOptions
from kofagent.receivers.hostmetrics.recorder import Recorder
from kofagent.receivers.hostmetrics.roots import Roots
from kofagent.receivers.hostmetrics.scrapers import LINUX, Round, Scrape
from kofagent.receivers.hostmetrics.scrapers.cpu import logical_count


def scraper(options: LoadOptions, roots: Roots) -> Scrape:
    """`cpu_average` divides by the host's logical CPUs."""

    def scrape(out: Recorder, round: Round) -> None:
        if LINUX:
            loads = [float(value) for value in roots.read_proc("loadavg").split()[:3]]
            if len(loads) != 3:
                raise ValueError(f"{roots.proc}/loadavg has fewer than three numbers")
        else:
            loads = list(os.getloadavg()) if hasattr(os, "getloadavg") else _psutil_loads()
        divisor = logical_count(roots) or 1 if options.cpu_average else 1
        for name, value in zip(("1m", "5m", "15m"), loads, strict=True):
            out.add(f"system.cpu.load_average.{name}", value / divisor)

    return scrape


def _psutil_loads() -> list[float]:
    import psutil

    return list(psutil.getloadavg())
