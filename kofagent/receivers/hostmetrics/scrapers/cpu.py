"""cpu: time of every CPU by state, from /proc/stat and /proc/cpuinfo (proc(5))."""

from __future__ import annotations

import glob
import os

from kofagent.receivers.hostmetrics.config import CpuOptions
from kofagent.receivers.hostmetrics.recorder import Recorder
from kofagent.receivers.hostmetrics.roots import Roots, read_text
from kofagent.receivers.hostmetrics.scrapers import LINUX, Round, Scrape

STATES = ("user", "nice", "system", "idle", "wait", "interrupt", "softirq", "steal")
"""The columns of a cpu line of /proc/stat, as upstream names them."""

Times = dict[str, dict[str, float]]


def scraper(options: CpuOptions, roots: Roots) -> Scrape:
    """Utilization needs two collections: the first one has none."""
    before: Times = {}

    def scrape(out: Recorder, round: Round) -> None:
        nonlocal before
        now = cpu_times(roots) if LINUX else _psutil_times()
        for cpu, times in now.items():
            for state, seconds in times.items():
                out.add("system.cpu.time", seconds, cpu, state)
        if out.on("system.cpu.utilization"):
            for cpu, old in before.items():
                if cpu in now:
                    _utilization(out, cpu, old, now[cpu])
            before = now
        if out.on("system.cpu.logical.count"):
            out.add("system.cpu.logical.count", logical_count(roots))
        if out.on("system.cpu.physical.count"):
            out.add("system.cpu.physical.count", physical_count(roots))
        if out.on("system.cpu.frequency"):
            for cpu, hertz in _frequencies(roots):
                out.add("system.cpu.frequency", hertz, cpu)

    return scrape


def _utilization(out: Recorder, cpu: str, old: dict[str, float], new: dict[str, float]) -> None:
    elapsed = sum(new.values()) - sum(old.values())
    for state, seconds in new.items():
        out.add("system.cpu.utilization", (seconds - old.get(state, 0.0)) / elapsed if elapsed > 0 else 0.0, cpu, state)


def cpu_times(roots: Roots) -> Times:
    """Seconds by CPU (`cpu0`) and state. OSError without /proc/stat."""
    tick = os.sysconf("SC_CLK_TCK")
    out: Times = {}
    for line in roots.read_proc("stat").splitlines():
        if line.startswith("cpu") and line[3:4].isdigit():
            name, *columns = line.split()
            out[name] = {state: int(value) / tick for state, value in zip(STATES, columns, strict=False)}
    return out


def logical_count(roots: Roots) -> int:
    """The host's logical CPUs that are online."""
    if LINUX:
        return len(cpu_times(roots))
    import psutil

    return psutil.cpu_count(logical=True) or 1


def physical_count(roots: Roots) -> int:
    """The host's physical cores: distinct sets of sibling threads, or what /proc/cpuinfo says."""
    if not LINUX:
        import psutil

        return psutil.cpu_count(logical=False) or 1
    for name in ("core_cpus_list", "thread_siblings_list"):
        siblings = set()
        for path in glob.glob(f"{glob.escape(roots.sys)}/devices/system/cpu/cpu[0-9]*/topology/{name}"):
            try:
                siblings.add(read_text(path).strip())
            except OSError:
                continue  # the CPU went offline
        if siblings:
            return len(siblings)
    cores: dict[str, int] = {}
    for block in cpuinfo(roots):
        if "physical id" in block and "cpu cores" in block:
            cores[block["physical id"]] = int(block["cpu cores"])
    return sum(cores.values()) or logical_count(roots)


def cpuinfo(roots: Roots) -> list[dict[str, str]]:
    """/proc/cpuinfo: one dict per logical CPU."""
    blocks: list[dict[str, str]] = []
    for text in roots.read_proc("cpuinfo").split("\n\n"):
        pairs = [line.split(":", 1) for line in text.splitlines() if ":" in line]
        if pairs:
            blocks.append({key.strip(): value.strip() for key, value in pairs})
    return blocks


def _frequencies(roots: Roots) -> list[tuple[str, float]]:
    if LINUX:
        return [(f"cpu{b['processor']}", float(b["cpu MHz"]) * 1e6) for b in cpuinfo(roots) if "cpu MHz" in b and "processor" in b]
    import psutil

    return [(f"cpu{i}", f.current * 1e6) for i, f in enumerate(psutil.cpu_freq(percpu=True) or ())]


def _psutil_times() -> Times:
    import psutil

    names = {
        "user": "user",
        "nice": "nice",
        "system": "system",
        "idle": "idle",
        "wait": "iowait",
        "interrupt": "irq",
        "softirq": "softirq",
        "steal": "steal",
    }
    return {
        f"cpu{i}": {state: getattr(t, field) for state, field in names.items() if hasattr(t, field)}
        for i, t in enumerate(psutil.cpu_times(percpu=True))
    }
