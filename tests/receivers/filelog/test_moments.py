"""Rotations whose steps fall between any two looks of one poll: a busy machine does that. Each line comes once."""

from __future__ import annotations

import gzip
import os
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from tests.receivers.filelog.moments import Moments
from tests.receivers.filelog.support import Tailing


class Writer:
    """A log file and the rotations of it, in steps between which somebody may look."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "0.log"
        self._file = self.path.open("a")
        self._numbers = count()
        self.written: list[str] = []

    def write(self, lines: int = 3) -> None:
        text = [f"line {next(self._numbers):04d} {'x' * 60}" for _ in range(lines)]
        self._file.write("".join(f"{line}\n" for line in text))
        self._file.flush()
        self.written += text

    def steps(self, how: str, number: int) -> list[Callable[[], object]]:
        """Those of one rotation."""
        copy = self.path.with_name("0.log.1" if how.startswith("copy") else f"0.log.{number}")
        data = b""

        def half() -> None:
            nonlocal data
            data = self.path.read_bytes()
            copy.write_bytes(data[: len(data) // 2])

        def open_anew() -> None:
            self._file.close()
            self._file = self.path.open("a")

        def compress() -> None:
            copy.with_name(f"{copy.name}.gz").write_bytes(gzip.compress(copy.read_bytes()))

        copied: list[Callable[[], object]] = [half, lambda: copy.write_bytes(data), lambda: self._file.truncate(0), self.write]
        moved: list[Callable[[], object]] = [lambda: os.rename(self.path, copy), open_anew, self.write]
        compressed: list[Callable[[], object]] = [compress, lambda: os.remove(copy)]
        return (copied if how.startswith("copy") else moved) + (compressed if how.endswith("gzip") else [])


async def rotate(folder: Path, moments: Moments, how: str, options: dict[str, object], plan: list[int] | None) -> int:
    """Two rotations, the second one with its steps at these calls of a poll (None: before it); how many calls that made."""
    writer = Writer(folder)
    async with Tailing(options) as t:
        writer.write(10)
        await t.poll()
        for step in writer.steps(how, 1):
            step()
        for _ in range(3):
            await t.poll()
        writer.write()
        await t.poll()
        steps = writer.steps(how, 2)
        with moments.during(list(zip(plan or [0] * len(steps), steps, strict=True))):
            await t.poll()
        for after in (0.2, 0.2, 0.2, 11, 1, 0.2):
            await t.poll(after)
        assert Counter(t.lines()) == Counter(writer.written), f"steps at the calls {plan}"
    return moments.calls


@pytest.mark.parametrize("included", [False, True])
@pytest.mark.parametrize(
    ("how", "stride"), [("copytruncate", 1), ("rename", 3), ("copytruncate and gzip", 3), ("rename and gzip", 3)]
)
async def test_at_any_moment_of_a_poll(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, stride: int, included: bool
) -> None:
    moments, numbers = Moments(monkeypatch), count()

    async def tried(plan: list[int] | None) -> int:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        options: dict[str, object] = {"include": [f"{folder}/*" if included else f"{folder}/*.log"], "compression": "auto"}
        return await rotate(folder, moments, how, options, plan)

    calls = await tried(None)
    total = len(Writer(tmp_path).steps(how, 1))
    for first in range(1, total + 1):  # so many steps at one call, the others at a later one
        for one in range(0, calls, stride):
            for two in range(one, calls, 3 * stride):
                await tried([one] * first + [two] * (total - first))
    assert next(numbers) > 20
