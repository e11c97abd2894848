"""The line of batches that wait: order, consumers that are cancelled, closing."""

from __future__ import annotations

import asyncio

import pytest

from kofagent.component.line import Grouping, Line


class Entry:
    def __init__(self, number: int) -> None:
        self.number = number
        self.items = self.size = 1
        self.key: object = "one"
        self.since = 0.0


async def taken(line: Line[Entry]) -> list[int] | None:
    entries = await line.take()
    return None if entries is None else [entry.number for entry in entries]


@pytest.mark.parametrize("enough", [0, 1])
async def test_a_consumer_that_is_cancelled_takes_no_wake_up_along(enough: int) -> None:
    line: Line[Entry] = Line(Grouping(enough=enough))
    first, second = (asyncio.create_task(taken(line)) for _ in range(2))
    await asyncio.sleep(0)
    line.add(Entry(1))
    first.cancel()  # when it was woken already
    assert await second == [1]
    third, fourth = (asyncio.create_task(taken(line)) for _ in range(2))
    await asyncio.sleep(0)
    third.cancel()
    line.add(Entry(2))  # before it knows that it is cancelled
    assert await fourth == [2]
    assert [task.cancelled() for task in (first, third)] == [True, True]


@pytest.mark.parametrize("enough", [0, 1])
async def test_first_in_first_out_and_what_comes_back_is_first_again(enough: int) -> None:
    line: Line[Entry] = Line(Grouping(enough=enough))
    entries = [Entry(n) for n in range(3)]
    for entry in entries:
        line.add(entry)
    assert await line.take() == [entries[0]]
    line.put_back(entries[:1])
    assert [await taken(line) for _ in range(3)] == [[0], [1], [2]]


@pytest.mark.parametrize("enough", [0, 1])
@pytest.mark.parametrize("drain", [True, False])
async def test_closing_ends_all_consumers(enough: int, drain: bool) -> None:
    line: Line[Entry] = Line(Grouping(enough=enough))
    waiting = [asyncio.create_task(taken(line)) for _ in range(3)]
    await asyncio.sleep(0)
    line.add(Entry(1))
    line.close(drain)
    answers = await asyncio.gather(*waiting)
    assert sorted(map(str, answers)) == (["None", "None", "[1]"] if drain else ["None"] * 3)
    assert [entry.number for entry in line.rest()] == ([] if drain else [1])
