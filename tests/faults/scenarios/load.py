"""More than there is room for."""

from __future__ import annotations

import asyncio
import time

from tests.faults.trial import Trial


async def load(trial: Trial) -> None:
    """A backlog of 500 files and 1 to 10 times the spans while the backend is down: refusals can be repeated, all accepted arrives."""
    files, each, step = (50, 1000, 1.5) if trial.short else (500, 10_000, 30)
    for n in range(files):
        source = trial.pod(f"pod-{n}", 1, 1 << 30)
        await source.make(each)
    for road in trial.roads.values():
        await road.close()
    await trial.begin()
    trial.spans.start()
    for times in range(1, 11):
        trial.spans.rate = 500 * times
        await asyncio.sleep(step)
    trial.say(f"{len(trial.spans.acknowledged)} spans accepted, {trial.spans.refused} requests refused")
    for road in trial.roads.values():
        await road.open()
    back = time.monotonic()
    trial.spans.rate = 500
    accepted = set(trial.spans.acknowledged)
    await trial.until(lambda: not accepted - trial.sink.spans.count.keys() and not trial.missing()["lines"], 120)
    trial.figure(
        f"{files * each} lines and {len(accepted)} spans arrived {time.monotonic() - back:.1f} s after the backend was back"
    )
    trial.figure(f"{trial.spans.refused} requests refused")
    await trial.settle(60)
