"""Collecting on a timer: on time, never twice at once, whatever fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from kofagent.component import polling
from kofagent.component.polling import Polling
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.signal import Signal
from tests.support.components import FakeHost, make_context

BATCH = Batch(Signal.METRICS, b"", 1)
STATUS = "receiver/r"


class Clock:
    """Offers that are recorded, with an event for the n-th."""

    def __init__(self) -> None:
        self.offered: list[Batch] = []
        self.gate: asyncio.Event | None = None
        self._changed = asyncio.Event()

    async def offer(self, batch: Batch) -> None:
        self.offered.append(batch)
        self._changed.set()
        if self.gate is not None:
            await self.gate.wait()

    async def count(self, n: int) -> None:
        async with asyncio.timeout(20):
            while len(self.offered) < n:
                self._changed.clear()
                await self._changed.wait()


async def one() -> Batch:
    return BATCH


async def test_collections_are_due_at_multiples_of_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times of a loop whose clock is ours: what a collection takes does not move the next ones."""
    loop = asyncio.get_running_loop()
    now, slept, times = [100.0], [], []
    monkeypatch.setattr(loop, "time", lambda: now[0])
    ended: asyncio.Future[None] = loop.create_future()

    async def sleep(seconds: float) -> None:
        if len(slept) == 5:
            ended.set_result(None)
            await asyncio.Event().wait()
        slept.append(seconds)
        now[0] += max(seconds, 0)

    takes = iter([1.0, 0.0, 25.0, 10.0, 0.5])

    async def collect() -> None:
        times.append(now[0] - 100)
        now[0] += next(takes)

    real = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", sleep)
    clock = Clock()
    it = Polling(make_context("receiver", "r"), collect, clock.offer, interval=10, initial_delay=3)
    it.start()
    await ended
    monkeypatch.setattr(asyncio, "sleep", real)
    await it.stop()
    # One that takes 25 s leaves out two times, one that takes exactly the interval leaves out none.
    assert times == pytest.approx([3, 13, 23, 53, 63])


async def test_nothing_is_offered_when_nothing_was_collected() -> None:
    clock, rounds = Clock(), 0

    async def collect() -> Batch | None:
        nonlocal rounds
        rounds += 1
        return BATCH if rounds == 3 else None

    it = Polling(make_context("receiver", "r"), collect, clock.offer, interval=0.001)
    it.start()
    await clock.count(1)
    await it.stop()
    assert rounds >= 3 and len(clock.offered) == 1


async def test_two_collections_never_overlap_and_an_offer_holds_up_the_next() -> None:
    clock, within, most = Clock(), 0, 0

    async def collect() -> Batch:
        nonlocal within, most
        within += 1
        most = max(most, within)
        await asyncio.sleep(0.003)
        within -= 1
        return BATCH

    it = Polling(make_context("receiver", "r"), collect, clock.offer, interval=0.001)
    it.start()
    await clock.count(5)
    await it.stop()
    assert most == 1


async def test_several_batches_are_offered_one_after_the_other() -> None:
    clock, settled = Clock(), []

    async def collect() -> AsyncIterator[Batch]:
        for i in range(3):
            yield Batch(Signal.METRICS, b"", i)
            settled.append((i, len(clock.offered)))

    it = Polling(make_context("receiver", "r"), collect, clock.offer, interval=1000)
    it.start()
    await clock.count(3)
    await it.stop()
    assert [b.count for b in clock.offered] == [0, 1, 2]
    assert settled[:2] == [(0, 1), (1, 2)], "what is after a yield runs when its batch was offered"


async def test_a_failure_is_the_status_until_a_collection_works(caplog: pytest.LogCaptureFixture) -> None:
    host, clock, fails = FakeHost(), Clock(), 3

    async def collect() -> Batch:
        nonlocal fails
        fails -= 1
        if fails >= 0:
            raise ValueError("secret")
        return BATCH

    failed = asyncio.Event()

    def report(error: str | None) -> None:
        host.report(STATUS, error)
        failed.set()

    it = Polling(make_context("receiver", "r", host), collect, clock.offer, interval=0.001, report=report)
    it.start()
    await failed.wait()
    assert host.statuses[STATUS] == "a collection failed: ValueError"
    await clock.count(2)
    assert host.statuses[STATUS] is None
    await it.stop()
    assert caplog.text.count("a collection failed; the next one comes as usual") == 1


async def test_a_collection_that_takes_longer_than_the_timeout_is_given_up() -> None:
    host, clock, first, ended = FakeHost(), Clock(), True, []

    async def collect() -> Batch:
        nonlocal first
        if first:
            first = False
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(1)
        return BATCH

    it = Polling(make_context("receiver", "r", host), collect, clock.offer, interval=0.001, timeout=0.01)
    it.start()
    await clock.count(1)
    assert ended == [1]
    await it.stop()


async def test_the_timeout_is_not_for_offers() -> None:
    clock = Clock()
    clock.gate = asyncio.Event()
    it = Polling(make_context("receiver", "r"), one, clock.offer, interval=1000, timeout=0.001)
    it.start()
    await clock.count(1)
    await asyncio.sleep(0.01)
    stopping = asyncio.create_task(it.stop())
    clock.gate.set()
    await stopping
    assert len(clock.offered) == 1


async def test_stop_lets_an_offer_end_and_no_other_collection_begins() -> None:
    clock, ended = Clock(), []
    clock.gate = asyncio.Event()

    async def offer(batch: Batch) -> None:
        await clock.offer(batch)
        ended.append(batch)

    it = Polling(make_context("receiver", "r"), one, offer, interval=0.001)
    it.start()
    await clock.count(1)
    stopping = asyncio.create_task(it.stop())
    await asyncio.sleep(0)
    clock.gate.set()
    await stopping
    await it.stop()
    assert ended == [BATCH] == clock.offered


async def test_stop_begins_no_further_batch_of_a_collection() -> None:
    clock = Clock()
    clock.gate = asyncio.Event()

    async def collect() -> AsyncIterator[Batch]:
        while True:
            yield BATCH

    it = Polling(make_context("receiver", "r"), collect, clock.offer, interval=1)
    it.start()
    await clock.count(1)
    stopping = asyncio.create_task(it.stop())
    await asyncio.sleep(0)
    clock.gate.set()
    async with asyncio.timeout(20):
        await stopping
    assert len(clock.offered) == 1


async def test_stop_waits_only_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "GRACE", 0.01)
    clock, withdrawn = Clock(), []
    clock.gate = asyncio.Event()

    async def offer(batch: Batch) -> None:
        try:
            await clock.offer(batch)
        except asyncio.CancelledError:
            withdrawn.append(batch)
            raise

    it = Polling(make_context("receiver", "r"), one, offer, interval=0.001)
    it.start()
    await clock.count(1)
    async with asyncio.timeout(20):
        await it.stop()
    assert withdrawn == [BATCH]


async def test_stop_ends_a_collection_at_once_also_after_offers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "GRACE", 1000.0)
    clock, second = Clock(), asyncio.Event()

    async def collect() -> Batch:
        if clock.offered:
            second.set()
            await asyncio.Event().wait()
        return BATCH

    it = Polling(make_context("receiver", "r"), collect, clock.offer, interval=0.001)
    it.start()
    await second.wait()
    async with asyncio.timeout(20):
        await it.stop()
    assert len(clock.offered) == 1


async def test_stop_ends_a_collection_at_once() -> None:
    begun, ended = asyncio.Event(), []

    async def collect() -> AsyncIterator[Batch]:
        try:
            begun.set()
            await asyncio.Event().wait()
            yield BATCH
        finally:
            ended.append(1)

    it = Polling(make_context("receiver", "r"), collect, Clock().offer, interval=1)
    it.start()
    await begun.wait()
    async with asyncio.timeout(20):
        await it.stop()
    assert ended == [1]
