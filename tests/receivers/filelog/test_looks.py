"""Rotations at random moments of polls, and files that change between the look at them and what is done about it."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kofagent.receivers.filelog.find import Disk
from kofagent.receivers.filelog.source import PlainSource
from kofagent.receivers.filelog.tail import Tail
from tests.receivers.filelog.support import Tailing

Moment = Callable[[], None]


class Looks:
    """What happens at moments of a poll: once the paths were listed, and before each look at an open file and each read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.listed: Moment | None = None
        self.each: Moment | None = None
        self.reading: Moment | None = None
        find, read_head, intact, read = Disk.find, Tail.read_head, Tail.intact, PlainSource.read

        def found(disk: Disk, tails: Any) -> Any:
            seen = find(disk, tails)
            if seen is not None:
                self.listed, do = None, self.listed
                if do is not None:
                    do()
            return seen

        def before(method: Callable[..., Any]) -> Callable[..., Any]:
            def at_this_moment(tail: Tail, *args: Any) -> Any:
                if self.each is not None:
                    self.each()
                return method(tail, *args)

            return at_this_moment

        def about_to_read(source: PlainSource, size: int) -> bytes:
            self.reading, do = None, self.reading
            for moment in (do, self.each):
                if moment is not None:
                    moment()
            return read(source, size)

        monkeypatch.setattr(Disk, "find", found)
        monkeypatch.setattr(PlainSource, "read", about_to_read)
        monkeypatch.setattr(Tail, "read_head", before(read_head))
        monkeypatch.setattr(Tail, "intact", before(intact))


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    return Looks(monkeypatch)


def tailing(tmp_path: Path, include_copy: bool) -> Tailing:
    return Tailing({"include": [f"{tmp_path}/{'*' if include_copy else '*.log'}"]})


@pytest.mark.parametrize("include_copy", [True, False])
async def test_copied_over_the_last_copy_and_truncated_once_the_paths_were_listed(
    tmp_path: Path, looks: Looks, include_copy: bool
) -> None:
    path, copy = tmp_path / "a.log", tmp_path / "a.log.1"
    path.write_text("a 1\na 2\n")
    async with tailing(tmp_path, include_copy) as t:

        def rotate() -> None:
            shutil.copyfile(path, copy)
            os.truncate(path, 0)

        await t.poll()
        with path.open("a") as writer:
            writer.write("a 3\n")
        rotate()
        await t.poll()  # the copy is open now: it had a line more
        path.write_text("b 1\nb 2\nb 3\n")
        await t.poll()
        looks.listed = rotate
        await t.poll()
        await t.poll()
        assert sorted(t.lines()) == ["a 1", "a 2", "a 3", "b 1", "b 2", "b 3"]


@pytest.mark.parametrize("include_copy", [True, False])
async def test_truncated_once_the_paths_were_listed_beside_a_copy_that_waits(
    tmp_path: Path, looks: Looks, include_copy: bool
) -> None:
    path, copy = tmp_path / "a.log", tmp_path / "a.log.1"
    path.write_text("a 1\na 2\n")
    async with tailing(tmp_path, include_copy) as t:
        await t.poll()
        path.open("a").write("a 3\n")
        shutil.copyfile(path, copy)
        os.truncate(path, 0)
        await t.poll()
        path.write_text("b 1\nb 2\nb 3\n")
        await t.poll()
        shutil.copyfile(path, copy)
        await t.poll()
        copy.touch()  # something is to be looked at
        looks.listed = lambda: os.truncate(path, 0)
        await t.poll()
        await t.poll()
        assert sorted(t.lines()) == ["a 1", "a 2", "a 3", "b 1", "b 2", "b 3"]


async def test_written_anew_and_grown_past_the_offset_when_it_is_about_to_be_read(tmp_path: Path, looks: Looks) -> None:
    path = tmp_path / "a.log"
    path.write_text("a 1\na 2\n")
    async with tailing(tmp_path, include_copy=False) as t:
        await t.poll()
        path.open("a").write("a 3\n")
        looks.reading = lambda: path.write_text("b 1\nb 2\nb 3\n") and None
        await t.poll()
        await t.poll()
        assert t.lines() == ["a 1", "a 2", "b 1", "b 2", "b 3"]  # a 3 was in its file for less than a poll


@pytest.mark.parametrize("include_copy", [True, False])
@pytest.mark.parametrize("seed", [9, 14, 19])
async def test_steps_of_rotations_at_any_moments(tmp_path: Path, looks: Looks, include_copy: bool, seed: int) -> None:
    """Lines that lived in their file for a poll come once, whatever a poll was looking at while the file was copied and emptied."""
    random_ = random.Random(seed)
    path, copy = tmp_path / "a.log", tmp_path / "a.log.1"
    number, step, content = 0, 0, b""
    owed: set[int] = set()
    path.touch()

    def write() -> None:
        nonlocal number
        with path.open("a") as file:
            for _ in range(random_.choice((1, 5, 60))):
                file.write(f"{number} {'x' * 20}\n")
                number += 1

    def rotate_on() -> None:
        """The next of the steps: open the copy, write half of it, all of it, empty the file."""
        nonlocal step, content
        if step == 0:
            content = path.read_bytes()
            if content:
                copy.write_bytes(b"")
                step = 1
        elif step == 3:
            os.truncate(path, 0)
            step = 0
        else:
            copy.open("r+b").write(content[: len(content) * step // 2])
            step += 1

    def perhaps() -> None:
        if random_.random() < 0.25:
            rotate_on()

    async with tailing(tmp_path, include_copy) as t:
        for _ in range(25):
            if step == 0:
                write()
            if random_.random() < 0.6:
                owed.update(int(line.split()[0]) for line in path.read_text().splitlines())
                await t.poll(random_.choice((0.2, 20)))
            looks.each, looks.listed = perhaps, perhaps
            await t.poll(random_.choice((0.2, 20)))
            looks.each = looks.listed = None
        while step:
            rotate_on()
        for _ in range(3):
            await t.poll()
        numbers = [int(line.split()[0]) for line in t.lines()]
        assert len(numbers) == len(set(numbers)), sorted({n for n in numbers if numbers.count(n) > 1})
        assert not owed.difference(numbers)
