"""The guard: on with a limit, says who gives way, lets memos shrink and collects garbage, off when it is switched off."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
from functools import partial

import pytest

from kofagent.config.model import MemoryConfig
from kofagent.memory import usage
from kofagent.memory.account import ACCOUNT
from kofagent.memory.pressure import SHARES, Level, Pressure
from kofagent.net.budget import ByteBudget
from kofagent.pipeline import guard as module
from kofagent.pipeline.guard import GIVES_WAY, Guard
from tests.support.components import eventually

MIB = 1 << 20


class Kernel:
    """What is in use."""

    used = 10 * MIB


def _is(pressure: Pressure, level: Level) -> bool:
    return pressure.level is level


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> tuple[Guard, Pressure, Kernel]:
    """A guard of 100 MiB, measured as the test says."""
    monkeypatch.setattr(module, "CALM_SECONDS", 0.002)
    monkeypatch.setattr(module, "SHORT_SECONDS", 0.002)
    monkeypatch.setattr(usage, "keep_little", lambda: None)
    kernel = Kernel()
    pressure = Pressure(lambda: kernel.used, lambda: kernel.used)
    return Guard(MemoryConfig(limit=100 * MIB), pressure), pressure, kernel


async def test_each_level_is_logged_once_and_its_end(
    short: tuple[Guard, Pressure, Kernel], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kofagent.memory")
    guard, pressure, kernel = short
    guard.start()
    for percent, level in ((71, Level.MEMOS), (76, Level.QUEUES), (81, Level.TAILS), (86, Level.REQUESTS), (91, Level.SCRAPES)):
        kernel.used = percent * MIB
        await eventually(partial(_is, pressure, level))
    kernel.used = 50 * MIB
    await eventually(lambda: pressure.level is Level.CALM)
    for used, level in ((71, Level.MEMOS), (50, Level.CALM)):
        kernel.used = used * MIB
        await eventually(partial(_is, pressure, level))
    await guard.stop()
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].startswith("memory: 10 of 100 MiB in use; from 70% caches are reduced, from 75% ")
    assert [line.rpartition(": ")[2] for line in lines[1:]] == [*GIVES_WAY.values(), "nothing gives way any more"]
    assert lines[1] == "memory: 71 of 100 MiB in use (71 %): caches are reduced"
    assert list(GIVES_WAY) == list(SHARES)
    assert pressure.limit == 0, "nothing gives way after the stop"


async def test_what_is_remembered_and_garbage_go_first(
    short: tuple[Guard, Pressure, Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    guard, pressure, kernel = short
    collected: list[int] = []

    def collect() -> int:
        kernel.used -= 5 * MIB
        collected.append(kernel.used)
        return 0

    def relieve() -> int:
        kernel.used -= 5 * MIB
        return 5 * MIB

    monkeypatch.setattr(gc, "collect", collect)
    monkeypatch.setattr(ACCOUNT, "relieve", relieve)
    guard.start()
    kernel.used = 76 * MIB
    await eventually(lambda: collected)
    await guard.stop()
    assert collected == [66 * MIB], "and not again at once"
    assert pressure.level is Level.CALM


async def test_it_is_off_without_a_limit_and_when_it_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    for options, cgroup, limit in (
        (MemoryConfig(), None, 0),
        (MemoryConfig(), 128 * MIB, 128 * MIB),
        (MemoryConfig(guard=False), 128 * MIB, 0),
        (MemoryConfig(guard=False, limit=64 * MIB), None, 0),
        (MemoryConfig(limit=64 * MIB), 128 * MIB, 64 * MIB),
    ):
        monkeypatch.setattr(usage, "cgroup_limit", lambda cgroup=cgroup: cgroup)
        monkeypatch.setattr(usage, "keep_little", lambda: None)
        pressure = Pressure(lambda: 0, lambda: 0)
        guard = Guard(options, pressure)
        guard.start()
        assert pressure.limit == limit
        await asyncio.sleep(0)
        await guard.stop()


async def test_what_large_requests_took_is_returned_without_a_limit_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The C library keeps what is free between blocks in use: 75 MiB at rest instead of 45, for an agent that needs 39."""
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("not tested: this C library has no malloc_trim")
    monkeypatch.setattr(usage, "cgroup_limit", lambda: None)
    monkeypatch.setattr(module, "REST_SECONDS", 0.002)
    held = ByteBudget().open()
    held.take(2 * MIB)
    parts = [bytes(64 * 1024) for _ in range(512)]
    del parts[1::2], parts[1::2], parts[1::2]  # one of eight stays
    full = usage.process_anonymous()
    guard = Guard(MemoryConfig())
    guard.start()
    held.close()
    await eventually(lambda: usage.process_anonymous() < full - 16 * MIB)
    await guard.stop()
    assert len(parts) == 64
