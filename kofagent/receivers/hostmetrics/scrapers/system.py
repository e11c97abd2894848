"""system: the time since the boot, from /proc/uptime."""

from __future__ import annotations

import time

from kofagent.receivers.hostmetrics.config import SystemOptions
from kofagent.receivers.hostmetrics.recorder import Recorder
from kofagent.receivers.hostmetrics.roots import Roots
from kofagent.receivers.hostmetrics.scrapers import LINUX, Round, Scrape


def scraper(options: SystemOptions, roots: Roots) -> Scrape:
    """Seconds."""

    def scrape(out: Recorder, round: Round) -> None:
        if LINUX:
            out.add("system.uptime", float(roots.read_proc("uptime").split()[0]))
        else:
            import psutil

            out.add("system.uptime", time.time() - psutil.boot_time())

    return scrape
