"""Bodies that wait for room: in order, one comes through, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kofagent.memory.account import ACCOUNT
from kofagent.memory.pressure import PRESSURE
from kofagent.net import budget as budgets
from kofagent.net.budget import ByteBudget, Overloaded, Reservation
from tests.support.components import eventually
from tests.support.memory import MIB, memory

PIECE = 64 << 10


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "AGAIN_SECONDS", 0.03)


class Bodies:
    """Bodies that come in pieces, in turns; `said` is the memory that they take, as the kernel would see it."""

    def __init__(self, room: ByteBudget, said: Any = None) -> None:
        self.room = room
        self._said = said
        self.done: list[str] = []
        self.refused: list[str] = []
        self.most = 0
        self.answer = asyncio.Event()
        self.answer.set()

    async def come(self, name: str, size: int, announced: bool = True) -> None:
        held = self.room.open()
        held.give_way = lambda: None
        held.expected = size if announced else 0
        came = 0
        try:
            while came < size:
                await asyncio.sleep(0)
                await held.hold(PIECE)
                came += PIECE
                if self._said is not None:
                    self._said.used += PIECE
                self.most = max(self.most, self.room.used)
            held.arrived()
            await self.answer.wait()
            self.done.append(name)
        except Overloaded:
            self.refused.append(name)
        finally:
            held.close()
            if self._said is not None:
                self._said.used -= came


@pytest.mark.parametrize("announced", [True, False])
async def test_of_four_large_bodies_at_once_one_comes_through_and_then_the_next(announced: bool) -> None:
    """Each fits alone, in the 128 MiB of a small agent, and no two of them do."""
    with memory(128, 60) as said:
        bodies = Bodies(ByteBudget(64 * MIB), said)
        async with asyncio.TaskGroup() as group:
            for name in "abcd":
                group.create_task(bodies.come(name, 15 * MIB, announced))
        assert bodies.done, "one at least"
        if announced:
            assert (bodies.done, bodies.refused) == (["a", "b", "c", "d"], []), "who says its size waits at the beginning"
        assert bodies.most < 20 * MIB
        for name in bodies.refused:
            await bodies.come(name, 15 * MIB)  # tries again
        assert len(bodies.done) == 4
        assert (bodies.room.used, bodies.room.holding, bodies.room.coming) == (0, 0, 0)
        assert ACCOUNT.owners()["requests"] == 0


async def test_one_that_waits_is_told_to_come_again_when_it_has_waited_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "WAIT_SECONDS", 0.05)
    with memory(128, 60):
        before = PRESSURE.refusals().get("requests", 0)
        bodies = Bodies(ByteBudget(64 * MIB))
        bodies.answer.clear()  # the backend does not answer
        first = asyncio.create_task(bodies.come("first", 15 * MIB))
        await eventually(lambda: bodies.room.used >= 15 * MIB)
        await bodies.come("second", 15 * MIB)
        assert bodies.refused == ["second"]
        assert PRESSURE.refusals()["requests"] == before + 1, "what asks again and again is one that was refused"
        small = bodies.room.open()
        small.take(PIECE)
        small.close()
        bodies.answer.set()
        await first
        assert bodies.done == ["first"]


async def test_what_is_complete_goes_before_what_comes() -> None:
    room = ByteBudget(4 * MIB)
    full = room.open()
    full.take(4 * MIB)
    order: list[str] = []

    async def hold(name: str, held: Reservation) -> None:
        await held.hold(MIB)
        order.append(name)
        held.close()

    coming, complete = room.open(), room.open()
    coming.give_way = lambda: None
    tasks = [asyncio.create_task(hold("coming", coming))]
    await eventually(lambda: len(room._waiting) == 1)
    tasks.append(asyncio.create_task(hold("complete", complete)))
    await eventually(lambda: len(room._waiting) == 2)
    full.close()
    await asyncio.gather(*tasks)
    assert order == ["complete", "coming"]


async def test_only_so_many_wait() -> None:
    room = ByteBudget(MIB)
    full = room.open()
    full.take(MIB)
    waiting = [asyncio.create_task(room.open().hold(MIB)) for _ in range(budgets.MOST_WAITING)]
    await eventually(lambda: len(room._waiting) == budgets.MOST_WAITING)
    with pytest.raises(Overloaded):
        await room.open().hold(MIB)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert not room._waiting


async def test_a_body_that_stops_coming_does_not_hold_up_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "PATIENCE", 0.05)
    with memory(128, 60):
        room = ByteBudget(64 * MIB)
        stopped = room.open()
        stopped.give_way = lambda: None
        stopped.expected = 15 * MIB
        stopped.take(PIECE)
        bodies = Bodies(room)
        await bodies.come("next", 15 * MIB)
        assert bodies.done == ["next"]
        stopped.close()
