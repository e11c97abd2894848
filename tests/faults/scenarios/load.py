"""More than there is room for."""

from __future__ import annotations

import asyncio
import gzip
import time
from typing import Any

from tests.faults.owed import left
from tests.faults.trial import Trial

STEPS = 10


async def load(trial: Trial) -> None:
    """A backlog of 500 files, 1 to 10 times the spans, pages with churn and a growing label while the backend is down: all accepted arrives."""
    files, series = (50, 20_000) if trial.short else (500, 100_000)
    each, step = int(trial.lasts(1000, 10_000)), trial.lasts(1.5, 30)
    for n in range(files):
        source = trial.pod(f"pod-{n}", 1, 1 << 30)
        await source.make(each)
    for road in trial.roads.values():
        await road.close()
    trial.pages.extra = await asyncio.to_thread(_pages, 0, series)
    await trial.begin(lambda config: _add_targets(config, trial))
    trial.spans.start()
    for times in range(1, STEPS + 1):
        trial.spans.rate = 500 * times
        trial.pages.extra = await asyncio.to_thread(_pages, times, series)
        await asyncio.sleep(step)
    trial.say(f"{len(trial.spans.acknowledged)} spans accepted, {trial.spans.refused} requests refused")
    for road in trial.roads.values():
        await road.open()
    trial.pages.extra = {path: gzip.compress(b"a 1\n") for path in trial.pages.extra}
    back = time.monotonic()
    trial.spans.rate = 500
    accepted = set(trial.spans.acknowledged)
    count = len(accepted)
    # Normal again: what comes now is accepted.
    normal = await trial.until(lambda: len(trial.spans.acknowledged) > count, 30)
    trial.check(normal, "no span is accepted 30 s after the backend was back")
    trial.figure(f"accepting {time.monotonic() - back:.1f} s after the backend was back")
    waiting = {"spans": accepted}
    await trial.until(lambda: not left(waiting, trial.sink) and not trial.missing()["lines"], 120 if trial.short else 900)
    trial.figure(f"{files * each} lines and {count} spans arrived {time.monotonic() - back:.1f} s after the backend was back")
    trial.figure(f"{trial.spans.refused} requests refused")
    # A scrape for which there is no room is an `up 0`, which arrives.
    await trial.settle(60, may_be_lost={"samples": trial.sink.failed_scrapes * trial.pages.series})
    trial.figure(f"{trial.sink.failed_scrapes} good scrapes failed")


def _pages(turn: int, series: int) -> dict[str, bytes]:
    """A page whose series are others in each turn, and one with a label that doubles."""
    churn = "".join(f'churn{{pod="web-{turn}-{n}",path="/api/{n % 97}"}} {turn}\n' for n in range(series))
    return {"/churn": gzip.compress(churn.encode(), 1), "/label": gzip.compress(f'a{{b="{"x" * (1024 << turn)}"}} 1\n'.encode(), 1)}


def _add_targets(config: dict[str, Any], trial: Trial) -> None:
    scrape = config["receivers"]["prometheus"]["config"]["scrape_configs"]
    targets = [{"targets": [f"127.0.0.1:{trial.pages.port}"], "labels": {"__metrics_path__": path}} for path in trial.pages.extra]
    scrape.append({"job_name": "large", "scrape_interval": "5s", "scrape_timeout": "5s", "static_configs": targets})
