"""Log files are rotated in every way while they are written, and while no agent runs."""

from __future__ import annotations

import asyncio

from tests.faults.trial import Trial

PODS = {"kubelet": 20, "logrotate": 10, "copytruncate": 10, "recreate": 5, "symlink": 5}
"""Of 50."""
NOTHING_LOST = ("kubelet", "logrotate", "symlink")


async def rotation(trial: Trial) -> None:
    """50 pods of 200 lines/s: kubelet's rename and gzip, logrotate, copytruncate, delete and recreate, a link; with a restart."""
    rate = trial.lasts(40, 200)
    every = int(10 * rate) if rate > 40 else 200
    pods = {
        how: [trial.pod(f"{how}-{n}", rate, every, how) for n in range(count // 5 if trial.short else count)]
        for how, count in PODS.items()
    }
    await trial.begin()
    for source in trial.lines:
        source.start()
    await asyncio.sleep(trial.lasts(9, 120))
    for how in ("copytruncate", "recreate"):
        for source in pods[how]:
            source.hold = True  # what nobody reads is lost by these two while no agent runs
    await asyncio.sleep(1)
    trial.say("restart")
    await trial.agent.stop()
    await asyncio.sleep(trial.lasts(2, 20))
    await trial.agent.start()
    await trial.until(lambda: not any(trial.missing()["lines"]), 3 if trial.short else 120)
    await asyncio.sleep(1)
    for how in ("copytruncate", "recreate"):
        for source in pods[how]:
            source.hold = False
    await asyncio.sleep(trial.lasts(6, 120))
    await trial.settle(30 if trial.short else 180)
    arrived = trial.sink.lines.count
    for how, sources in pods.items():
        keys = {key for source in sources for key in source.written()}
        lost = len(keys - arrived.keys())
        twice = sum(arrived[key] - 1 for key in keys if key in arrived)
        rotations = sum(source.rotations for source in sources)
        trial.figure(f"{how}: {rotations} rotations, {len(keys)} lines, {lost} lost, {twice} twice")
        if how in NOTHING_LOST:
            trial.check(lost == 0, f"{how}: {lost} lines lost")
        trial.check(twice == 0, f"{how}: {twice} lines twice")
