"""processes: how many processes there are in each state, and how many were ever created."""

from __future__ import annotations

import os
from collections import Counter

from kofagent.receivers.hostmetrics.config import ProcessesOptions
from kofagent.receivers.hostmetrics.recorder import Recorder
from kofagent.receivers.hostmetrics.roots import Roots, read_text
from kofagent.receivers.hostmetrics.scrapers import LINUX, Round, Scrape

STATES = {
    "R": "running",
    "S": "sleeping",
    "D": "blocked",
    "U": "blocked",
    "T": "stopped",
    "t": "stopped",
    "Z": "zombies",
    "I": "idle",
    "W": "paging",
    "L": "locked",
    "A": "daemon",
    "E": "detached",
    "O": "orphan",
    "Y": "system",
}
_PSUTIL_STATES = {
    "running": "running",
    "sleeping": "sleeping",
    "disk-sleep": "blocked",
    "stopped": "stopped",
    "tracing-stop": "stopped",
    "zombie": "zombies",
    "idle": "idle",
    "locked": "locked",
    "waiting": "paging",
}


def scraper(options: ProcessesOptions, roots: Roots) -> Scrape:
    """Running and blocked are the kernel's own counts, which include threads."""

    def scrape(out: Recorder, round: Round) -> None:
        if not LINUX:
            for status, number in _psutil_states().items():
                out.add("system.processes.count", number, status)
            return
        stat = dict(line.split(" ", 1) for line in roots.read_proc("stat").splitlines() if line.startswith("proc"))
        out.add("system.processes.created", int(stat["processes"]))
        if not out.on("system.processes.count"):
            return
        counts, total = process_states(roots)
        counts["blocked"] = int(stat.get("procs_blocked", 0))
        counts["running"] = int(stat.get("procs_running", 0))
        if total > counts.total():
            counts["unknown"] = total - counts.total()
        for status, number in counts.items():
            out.add("system.processes.count", number, status)

    return scrape


def pids(roots: Roots) -> list[str]:
    """The process ids, as text. OSError without /proc."""
    return [name for name in os.listdir(roots.proc) if name.isdigit()]


def process_states(roots: Roots) -> tuple[Counter[str], int]:
    """Number of processes by state, and of all; processes that end during the collection are in neither."""
    counts: Counter[str] = Counter()
    total = 0
    for pid in pids(roots):
        try:
            stat = read_text(f"{roots.proc}/{pid}/stat")
        except OSError:
            continue
        total += 1
        # pid (comm) state ...; comm may hold anything, brackets and spaces too.
        counts[STATES.get(stat[stat.rfind(")") + 2 : stat.rfind(")") + 3], "unknown")] += 1
    return counts, total


def _psutil_states() -> Counter[str]:
    import psutil

    return Counter(_PSUTIL_STATES.get(p.info["status"], "unknown") for p in psutil.process_iter(["status"]))
