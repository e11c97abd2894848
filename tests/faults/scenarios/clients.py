"""Hostile clients and targets beside good ones."""

from __future__ import annotations

import asyncio
import gzip
import sys
from pathlib import Path
from typing import Any

from tests.faults.trial import Trial


async def hostile(trial: Trial) -> None:
    """2000 idle connections, slow clients, 64 MiB bodies, gzip bombs and a page that explodes, beside good traffic."""
    trial.pages.extra = {
        "/bomb": gzip.compress(b"a 1\n" * (10 << 18), 9),
        "/newlines": gzip.compress(b"\n" * (30 << 20), 9),
        "/labels": gzip.compress(b"a{" + b",".join(b'l%d="v"' % n for n in range(100_000)) + b"} 1\n", 9),
    }
    source = trial.pod("pod", 300, 4000)
    await trial.begin(lambda config: _add_targets(config, trial))
    for one in (source, trial.spans):
        one.start()
    await trial.until(lambda: trial.sink.lines.count and trial.sink.spans.count and trial.sink.samples.count, 30)
    trial.spans.times.clear()
    before = trial.agent.descriptors()
    connections = 400 if trial.short else 2000
    command = [sys.executable, "-m", "tests.faults.hostile", str(trial.http), str(connections)]
    clients = await asyncio.create_subprocess_exec(*command, cwd=Path(__file__).parents[3])
    trial.say("clients are hostile")
    await asyncio.sleep(12 if trial.short else 120)
    most = trial.agent.descriptors()
    trial.check(clients.returncode is None, f"the hostile clients ended with {clients.returncode}")
    if clients.returncode is None:
        clients.kill()
    await clients.wait()
    times = sorted(trial.spans.times)
    p99 = times[int(len(times) * 0.99)] if times else 99.0
    trial.figure(f"{len(times)} good calls, p99 {p99:.2f} s, {trial.spans.refused} refused; descriptors {before}, at most {most}")
    trial.check(len(times) > 10, f"only {len(times)} good calls were answered")
    trial.check(p99 < (3 if trial.short else 1), f"p99 of good calls {p99:.2f} s")
    trial.check(trial.pages.longest_gap() <= 5, f"{trial.pages.longest_gap():.1f} s between two scrapes of a target")
    # A scrape that failed is an `up 0`, which arrives.
    await trial.settle(30, may_be_lost={"samples": trial.sink.failed_scrapes * trial.pages.series})
    trial.figure(f"{trial.sink.failed_scrapes} good scrapes failed")


def _add_targets(config: dict[str, Any], trial: Trial) -> None:
    scrape = config["receivers"]["prometheus"]["config"]["scrape_configs"]
    targets = [{"targets": [f"127.0.0.1:{trial.pages.port}"], "labels": {"__metrics_path__": path}} for path in trial.pages.extra]
    scrape.append({"job_name": "hostile", "scrape_interval": "2s", "scrape_timeout": "2s", "static_configs": targets})
