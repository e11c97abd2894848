"""process where there is no /proc (macOS, Windows, BSD): psutil, best effort."""

from __future__ import annotations

import time
from typing import Any

from kofagent.component.metric_options import selection
from kofagent.receivers.hostmetrics.catalog import RESOURCE_ATTRIBUTES
from kofagent.receivers.hostmetrics.config import ProcessOptions, wanted
from kofagent.receivers.hostmetrics.recorder import Recorder
from kofagent.receivers.hostmetrics.scrapers import Round, Scrape
from kofagent.transform.otlp_metrics import resource_bytes


def scraper(options: ProcessOptions) -> Scrape:
    """A value the system does not give, or not to us, is left out."""
    import psutil

    keep = wanted(options.include, options.exclude)
    on, passes = selection(RESOURCE_ATTRIBUTES, options.resource_attributes)
    before: dict[tuple[int, float], tuple[float, Any]] = {}

    def scrape(out: Recorder, round: Round) -> None:
        nonlocal before
        now_cpu: dict[tuple[int, float], tuple[float, Any]] = {}
        cpus = psutil.cpu_count() or 1
        for process in psutil.process_iter(
            [
                "pid",
                "ppid",
                "name",
                "exe",
                "cmdline",
                "username",
                "create_time",
                "cpu_times",
                "memory_info",
                "num_threads",
                "memory_percent",
            ]
        ):
            info = process.info
            now = time.time()
            if (keep is not None and not keep(info["name"] or "")) or info["create_time"] is None:
                continue
            if now - info["create_time"] < options.scrape_process_delay:
                continue
            resource = _resource(info)
            resource = {name: value for name, value in resource.items() if name in on}
            if passes is not None and not passes(resource):
                continue
            cpu = info["cpu_times"]
            if cpu is not None:
                key = (info["pid"], info["create_time"])
                now_cpu[key] = (now, cpu)
                for state in ("user", "system"):
                    out.add("process.cpu.time", getattr(cpu, state), state)
                    if key in before and now > before[key][0]:
                        used = getattr(cpu, state) - getattr(before[key][1], state)
                        out.add("process.cpu.utilization", used / (now - before[key][0]) / cpus, state)
            if info["memory_info"] is not None:
                out.add("process.memory.usage", info["memory_info"].rss)
                out.add("process.memory.virtual", info["memory_info"].vms)
                out.add("process.memory.utilization", info["memory_percent"] or 0.0)
            if info["num_threads"] is not None:
                out.add("process.threads", info["num_threads"])
            out.add("process.uptime", now - info["create_time"])
            _rare(out, process)
            out.end_resource(resource_bytes(resource.items()), int(info["create_time"] * 1e9), round.time_ns)
        before = now_cpu

    return scrape


def _resource(info: dict[str, Any]) -> dict[str, str | int]:
    command = info["cmdline"] or []
    values: dict[str, str | int] = {
        "process.pid": info["pid"],
        "process.parent_pid": info["ppid"] or 0,
        "process.executable.name": info["name"] or "",
        "process.executable.path": info["exe"] or "",
        "process.command": command[0] if command else "",
        "process.command_line": " ".join(command),
    }
    if info["username"]:
        values["process.owner"] = info["username"]
    return values


def _rare(out: Recorder, process: Any) -> None:
    import psutil

    try:
        if out.on("process.disk.io", "process.disk.operations") and hasattr(process, "io_counters"):
            io = process.io_counters()
            for direction in ("read", "write"):
                out.add("process.disk.io", getattr(io, f"{direction}_bytes"), direction)
                out.add("process.disk.operations", getattr(io, f"{direction}_count"), direction)
        if out.on("process.open_file_descriptors") and hasattr(process, "num_fds"):
            out.add("process.open_file_descriptors", process.num_fds())
        if out.on("process.handles") and hasattr(process, "num_handles"):
            out.add("process.handles", process.num_handles())
    except psutil.Error:
        pass  # ended, or another user's
