"""The disk of the queues is full, read-only, or damaged."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from pathlib import Path
from typing import Any

from tests.faults import books
from tests.faults.small_disk import Absent, BreakingDisk, SmallDisk
from tests.faults.trial import Trial


async def full(trial: Trial) -> None:
    """The queues fill their volume while the backend is away, somebody else fills the rest; then there is space and a backend again."""
    try:
        small = SmallDisk(trial.folder / "volume", 16)
        with small:
            await _full(trial, small)
    except Absent as why:
        trial.untested(f"a full disk: {why}")


async def _full(trial: Trial, small: SmallDisk) -> None:
    trial.state = small.folder / "state"
    lines = [trial.pod(f"pod-{n}", 500, 5000) for n in range(2)]
    await trial.begin()
    for source in [*lines, trial.spans]:
        source.start()
    await trial.until(lambda: trial.sink.lines.count and trial.sink.spans.count and trial.sink.samples.count, 30)
    for road in trial.roads.values():
        await road.close()
    await asyncio.sleep(3)
    small.fill()
    trial.say("the disk is full, the backend away")
    await asyncio.sleep(trial.lasts(10, 300))
    free = shutil.disk_usage(small.folder).free
    trial.check(free < 1 << 20, f"the disk is not full: {free} bytes")
    for road in trial.roads.values():
        await road.open()
    trial.say("the backend is back, the disk still full")
    before = len(trial.sink.lines.count)
    trial.check(await trial.until(lambda: len(trial.sink.lines.count) > before, 30), "a queue on a full disk does not drain")
    small.free()
    space = time.monotonic()
    acknowledged = len(trial.spans.acknowledged)
    trial.check(
        await trial.until(lambda: len(trial.spans.acknowledged) > acknowledged, 30), "no span is accepted 30 s after there is space"
    )
    trial.figure(f"accepting {time.monotonic() - space:.1f} s after there was space")
    trial.figure(f"{trial.spans.refused} requests refused meanwhile")
    # Scrapes of a full queue are lost, and counted; lines wait in their files, clients keep their spans.
    dropped = books.read(await trial.agent.page())["metrics"].lost
    await trial.settle(60 if trial.short else 240, may_be_lost={"samples": dropped})


async def broken(trial: Trial) -> None:
    """The device of the queues fails under a running agent, which stays up; then it is repaired and the agent started again."""
    try:
        with BreakingDisk(trial.folder / "volume", 64) as disk:
            await _broken(trial, disk)
    except Absent as why:
        trial.untested(f"a device that fails: {why}")


async def _broken(trial: Trial, disk: BreakingDisk) -> None:
    trial.state = disk.folder / "state"
    source = trial.pod("pod", 500, 5000)
    await trial.begin()
    for one in (source, trial.spans):
        one.start()
    await trial.until(lambda: trial.sink.lines.count and trial.sink.spans.count and trial.sink.samples.count, 30)
    disk.fail()
    trial.say("the device has failed")
    accepted = len(trial.spans.acknowledged)
    await asyncio.sleep(trial.lasts(8, 300))
    refused = trial.spans.refused
    trial.figure(f"{refused} requests refused, {len(trial.spans.acknowledged) - accepted} spans accepted meanwhile")
    trial.check(trial.agent.running, "the agent ended")
    # Scrapes that no queue takes are lost, and counted; those after this look are not.
    dropped = int(await trial.dropped("metrics"))
    code, took = await trial.agent.stop()
    trial.check(code == 0 and took <= 10, f"SIGTERM: exit {code} after {took:.1f} s")
    disk.repair()
    trial.say("the device is repaired")
    await trial.agent.start()
    await asyncio.sleep(2)
    await trial.settle(60 if trial.short else 180, may_be_lost={"samples": dropped + 2 * trial.pages.targets * trial.pages.series})


async def read_only(trial: Trial) -> None:
    """The volume of the queues is read-only at a start, which says so, and writable at the next."""
    try:
        with SmallDisk(trial.folder / "volume", 64) as small:
            await _read_only(trial, small)
    except Absent as why:
        trial.untested(f"a read-only disk: {why}")


async def _read_only(trial: Trial, small: SmallDisk) -> None:
    trial.state = small.folder / "state"
    source = trial.pod("pod", 500, 5000)
    await trial.begin()
    for one in (source, trial.spans):
        one.start()
    await trial.until(lambda: trial.sink.lines.count and trial.sink.spans.count, 30)
    await trial.agent.stop()
    small.read_only(True)
    try:
        await trial.agent.start()
        trial.say("started on a read-only disk")
        await asyncio.sleep(trial.lasts(5, 300))
    except AssertionError as error:
        trial.figure("does not start on a read-only disk")
        trial.check("ead-only" in str(error), f"does not say why it does not start: {error}")
    if trial.agent.running:
        await trial.agent.stop()
    small.read_only(False)
    await trial.agent.start()
    await asyncio.sleep(2)
    await trial.settle(60, may_be_lost={"samples": len(trial.pages.served) * trial.pages.series})


async def damage(trial: Trial) -> None:
    """Files of waiting queues are truncated or changed at random places between two runs: it starts, and counts what it cannot read."""
    rounds = 5 if trial.short else 100
    chance = random.Random(9)
    trial.spans.rate = 2000
    await trial.begin()
    for road in trial.roads.values():
        await road.close()
    trial.spans.start()
    await trial.until(lambda: len(trial.spans.acknowledged) >= 20 * trial.spans.PIECE, 60)
    await trial.spans.stop()
    await trial.agent.kill()
    whole = trial.folder / "whole"
    shutil.copytree(trial.state, whole)
    accepted = len(trial.spans.acknowledged)
    kinds: dict[str, int] = {}
    for n in range(rounds):
        shutil.rmtree(trial.state)
        shutil.copytree(whole, trial.state)
        files = sorted(path for path in trial.state.rglob("*") if path.is_file() and path.stat().st_size)
        path = chance.choice(files)
        what = _damage(path, chance)
        trial.sink.forget()
        try:
            took = await trial.agent.start()
        except AssertionError as error:
            trial.check(False, f"does not start after {what}: {error}")
            continue
        for road in trial.roads.values():
            await road.open()
        wrong = await _counted_equals_lost(trial, accepted)
        trial.check(not wrong, f"after {what}: {wrong}")
        kinds[what.split(" ")[0]] = kinds.get(what.split(" ")[0], 0) + 1
        trial.say(f"{n + 1} of {rounds}: {what}, started in {took:.1f} s, {len(trial.sink.spans.count)} of {accepted} spans")
        await trial.agent.kill()
        for road in trial.roads.values():
            await road.close()
    trial.figure(f"{rounds} damaged starts ({kinds}), {accepted} spans waiting in each")
    for road in trial.roads.values():
        await road.open()
    shutil.rmtree(trial.state)
    shutil.copytree(whole, trial.state)
    trial.sink.forget()
    await trial.agent.start()
    await trial.settle(30, may_be_lost={"samples": 1 << 30})


def _damage(path: Path, chance: random.Random) -> str:
    """Truncates the file or changes some of its bytes; what was done."""
    content = bytearray(path.read_bytes())
    at = chance.randrange(len(content))
    if chance.random() < 0.4:
        path.write_bytes(content[:at])
        return f"truncating {path.name} at {at} of {len(content)}"
    for place in range(at, min(at + chance.choice((1, 16, 4096)), len(content))):
        content[place] ^= chance.randrange(1, 256)
    path.write_bytes(content)
    return f"flipping {path.name} at {at} of {len(content)}"


async def _counted_equals_lost(trial: Trial, accepted: int) -> str:
    """Waits for empty queues; what is wrong with the count of spans that were lost, or nothing."""
    book: Any = None
    for _ in range(100):
        book = books.read(await trial.agent.page())["traces"]
        if not book.of["queued"]:
            break
        await asyncio.sleep(0.2)
    lost = accepted - len(trial.sink.spans.count)
    if trial.sink.spans.twice:
        return f"{trial.sink.spans.twice} spans twice"
    if lost < 0:
        return f"{-lost} spans that nobody sent"
    return "" if lost == book.of["dropped"] else f"{lost} spans lost, {book.of['dropped']:.0f} counted: {book}"
