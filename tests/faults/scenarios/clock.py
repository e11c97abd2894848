"""The machine's clock is set."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil

from tests.faults.small_disk import Absent
from tests.faults.stepped_clock import SteppedClock
from tests.faults.trial import Trial

HOUR = 3600
INTERVAL = 1.0
"""Seconds between scrapes, and within which batches are flushed."""


async def clock(trial: Trial) -> None:
    """The clock is set by an hour forward, back, back again and forward: no busy loop, nothing stalls, no time of a series goes back."""
    try:
        stepped = SteppedClock(trial.folder)
    except Absent as why:
        trial.untested(f"steps of the clock: {why}")
        return
    trial.agent.environment.update(stepped.environment)
    source = trial.pod("pod", 200, 1000)
    trial.spans.rate = 200
    await trial.begin(_flush)
    for one in (source, trial.spans):
        one.start()
    await trial.until(lambda: trial.sink.lines.count and trial.sink.spans.count and trial.sink.samples.count, 30)
    each = trial.lasts(6, 45)
    quiet = await _phase(trial, "as it is", each)
    for name, shift in (("an hour ahead", HOUR), ("set back to the truth", 0), ("an hour behind", -HOUR), ("true again", 0)):
        stepped.set(shift)
        used = await _phase(trial, name, each)
        trial.check(used <= max(2 * quiet, quiet + 0.2), f"{name}: {used:.2f} s of CPU a second, {quiet:.2f} before")
    gap = trial.pages.longest_gap()
    trial.figure(f"scrapes at most {gap:.1f} s apart")
    trial.check(gap <= 2 * INTERVAL, f"{gap:.1f} s between two scrapes of a target")
    trial.check("the clock was set back by" in trial.agent.output(), "the log does not tell that the clock was set back")
    await trial.settle(30)


def _flush(config: dict[str, Any]) -> None:
    config["processors"]["batch"]["timeout"] = f"{INTERVAL:.0f}s"


async def _phase(trial: Trial, name: str, seconds: float) -> float:
    """Waits; CPU seconds that the agent used in a second. Every signal has to arrive within two intervals all the time."""
    assert trial.agent.process is not None
    process = psutil.Process(trial.agent.process.pid)
    arrived = {"lines": trial.sink.lines, "spans": trial.sink.spans, "samples": trial.sink.samples}
    gaps = [_gap(lambda kind=kind: len(arrived[kind].count)) for kind in arrived]  # type: ignore[misc]
    before, began = sum(process.cpu_times()[:2]), time.monotonic()
    longest = dict.fromkeys(arrived, 0.0)
    while time.monotonic() - began < seconds:
        for kind, gap in zip(arrived, gaps, strict=True):
            longest[kind] = max(longest[kind], next(gap))
        await asyncio.sleep(0.05)
    used = (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - began)
    for kind, gap_s in longest.items():
        trial.check(gap_s <= 2 * INTERVAL, f"{name}: no {kind} arrived for {gap_s:.1f} s")
    trial.figure(f"{name}: {used:.2f} CPU, arrivals at most {max(longest.values()):.1f} s apart")
    trial.say(trial.result.figures[-1])
    return used


def _gap(count: Callable[[], int]) -> Iterator[float]:
    """Seconds since the count last moved."""
    last, at = count(), time.monotonic()
    while True:
        now = count()
        if now != last:
            last, at = now, time.monotonic()
        yield time.monotonic() - at
