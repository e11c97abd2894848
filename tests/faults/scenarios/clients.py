"""Hostile clients and targets beside good ones."""

from __future__ import annotations

import asyncio
import gzip
import sys
from pathlib import Path
from typing import Any

from tests.faults.canaries import Canaries
from tests.faults.trial import Trial


async def hostile(trial: Trial) -> None:
    """2000 idle connections, slow clients, 64 MiB bodies, gzip bombs and a page that explodes, beside good traffic."""
    trial.pages.extra = {
        "/bomb": gzip.compress(b"a 1\n" * (10 << 18), 9),
        "/newlines": gzip.compress(b"\n" * (30 << 20), 9),
        "/labels": gzip.compress(b"a{" + b",".join(b'l%d="v"' % n for n in range(100_000)) + b"} 1\n", 9),
    }
    source = trial.pod("pod", 300, 4000)
    canaries = Canaries()
    trial.agent.environment.update(canaries.environment)
    await trial.begin(lambda config: _add_targets(config, trial, canaries))
    for one in (source, trial.spans):
        one.start()
    await trial.until(lambda: trial.sink.lines.count and trial.sink.spans.count and trial.sink.samples.count, 30)
    trial.spans.times.clear()
    before = trial.agent.descriptors()
    connections = 400 if trial.short else 2000
    command = [sys.executable, "-m", "tests.faults.hostile", str(trial.http), str(connections), canaries.arguments()]
    clients = await asyncio.create_subprocess_exec(*command, cwd=Path(__file__).parents[3])
    trial.say("clients are hostile")
    await asyncio.sleep(trial.lasts(12, 120))
    most = trial.agent.descriptors()
    await _no_canaries(trial, canaries)
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
    trial.check(not (seen := canaries.found({}, [trial.agent.log])), f"secrets in the log: {seen}")
    trial.figure(f"{trial.sink.failed_scrapes} good scrapes failed")


async def _no_canaries(trial: Trial, canaries: Canaries) -> None:
    """No secret is in the log, on a page or in a queue's file; and the agent does use them."""
    pages = await canaries.public(await trial.agent.page())
    files = [trial.agent.log, *(path for path in trial.state.rglob("*"))]
    seen = canaries.found(pages, files)
    trial.check(not seen, f"secrets are seen: {seen}")
    for place in ("exporter-header", "exporter-token", "environment"):
        trial.check(
            any(canaries.of[place] in value for value in trial.sink.headers), f"the secret {place} is not sent to the backend"
        )
    trial.check(len(trial.pages.credentials) == 3, "targets are not asked with password and token")
    trial.figure(f"{len(seen)} of {len(canaries.of)} canary secrets seen in {len(pages)} pages and {len(files)} files")


def _add_targets(config: dict[str, Any], trial: Trial, canaries: Canaries) -> None:
    canaries.plant(config, f"127.0.0.1:{trial.pages.port}")
    scrape = config["receivers"]["prometheus"]["config"]["scrape_configs"]
    targets = [{"targets": [f"127.0.0.1:{trial.pages.port}"], "labels": {"__metrics_path__": path}} for path in trial.pages.extra]
    scrape.append({"job_name": "hostile", "scrape_interval": "2s", "scrape_timeout": "2s", "static_configs": targets})
