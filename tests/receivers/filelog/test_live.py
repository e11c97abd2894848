"""A live writer that rotates its files, against the receiver in its own time; and a reader that is killed."""

from __future__ import annotations

import asyncio
import gzip
import os
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.receivers.filelog.support import Tailing
from tests.support.components import eventually


class LiveWriter(threading.Thread):
    """Writes numbered lines to some files, now and then rotating one; `done` says how many of each it wrote.

    It opens a new file right after a rename, as container runtimes do, and leaves time between rotations of one file.
    """

    def __init__(self, root: Path, rotate: Callable[[Path, int], None], files: int = 3, lines: int = 1500) -> None:
        super().__init__(daemon=True)
        self.root, self.rotate, self.files, self.lines = root, rotate, files, lines
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            handles = {i: (self.root / f"{i}.log").open("a") for i in range(self.files)}
            for n in range(self.lines):
                for i, handle in handles.items():
                    handle.write(f"{i} {n} {'x' * (n % 200)};\n")
                    if n % 7 == 0:
                        handle.flush()
                if n % 50 == 0:
                    time.sleep(0.01)
                if n % 700 == 699:
                    time.sleep(0.15)
                    for i, handle in handles.items():
                        handle.flush()
                        if self.rotate is not copytruncate:
                            handle.close()
                        else:
                            time.sleep(0.1)  # longer than a poll: what is older than that is owed
                        self.rotate(self.root / f"{i}.log", n)
                        if self.rotate is not copytruncate:
                            handles[i] = (self.root / f"{i}.log").open("a")
            for handle in handles.values():
                handle.close()
        except BaseException as error:
            self.error = error


def rename(path: Path, n: int) -> None:
    path.rename(f"{path}.{n}")


def compress(path: Path, n: int) -> None:
    rotated = Path(f"{path}.{n}")
    path.rename(rotated)
    Path(f"{rotated}.gz").write_bytes(gzip.compress(rotated.read_bytes()))
    rotated.unlink()


def delete(path: Path, n: int) -> None:
    path.unlink()


def copytruncate(path: Path, n: int) -> None:
    shutil.copy(path, f"{path}.{n}")
    os.truncate(path, 0)


@pytest.mark.parametrize("rotate", [rename, compress, delete, copytruncate])
@pytest.mark.parametrize("include", ["*.log", "*"])
async def test_every_line_of_a_live_writer_arrives_once_and_in_order(
    tmp_path: Path, rotate: Callable[[Path, int], None], include: str
) -> None:
    t = Tailing({"include": [f"{tmp_path}/{include}"], "poll_interval": "20ms", "compression": "auto" if include == "*" else ""})
    await t.receiver.start()
    writer = LiveWriter(tmp_path, rotate)
    writer.start()
    want = writer.files * writer.lines
    try:
        await eventually(lambda: t.sink.count >= want, 30, "not all lines came")
        await asyncio.to_thread(writer.join)
        (tmp_path / "marker.log").write_text("marker\n")  # found by a later poll, which would find a line twice as well
        await eventually(lambda: "marker" in t.lines())
    finally:
        writer.join()
        await t.receiver.stop()
    assert writer.error is None
    lines = [line for line in t.lines() if line != "marker"]
    assert len(lines) == want
    for i in range(writer.files):
        mine = [line for line in lines if line.startswith(f"{i} ")]
        if rotate is compress and include == "*":
            mine.sort(key=lambda line: int(line.split()[1]))  # the end of a file may come by its compressed copy
        assert mine == [f"{i} {n} {'x' * (n % 200)};" for n in range(writer.lines)]


@pytest.mark.parametrize(("include", "rotate"), [("*", rename), ("*.log", rename), ("*.log", compress)])
@pytest.mark.slow
async def test_a_reader_that_is_killed_again_and_again_loses_nothing(
    tmp_path: Path, include: str, rotate: Callable[[Path, int], None]
) -> None:
    logs, output = tmp_path / "logs", tmp_path / "output"
    logs.mkdir()
    writer = LiveWriter(logs, rotate, lines=12_000)
    arguments = [
        sys.executable,
        "-m",
        "tests.receivers.filelog.reader_process",
        f"{logs}/{include}",
        str(output),
        str(tmp_path / "store"),
    ]
    want = {f"{i} {n} {'x' * (n % 200)};" for i in range(writer.files) for n in range(writer.lines)}
    size = sum(len(line) + 1 for line in want)
    kills = 0
    got: Counter[str] = Counter()
    while True:
        process = await asyncio.create_subprocess_exec(*arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        assert await process.stdout.readline() == b"started\n"
        if not writer.ident:  # what was rotated away before the first run is nobody's business
            writer.start()
        if kills < 4:
            await asyncio.sleep(0.25)
            process.kill()
            kills += 1
            await process.wait()
            continue
        await asyncio.to_thread(writer.join)
        try:
            await eventually(
                lambda: output.stat().st_size >= size and want <= set(output.read_text().split("\n")), 30, "lines were lost"
            )
        finally:
            process.stdin.close()  # type: ignore[union-attr]
            assert await process.wait() == 0
        break
    got = Counter(output.read_text().split("\n")[:-1])
    assert set(got) == want
    # What was owned and not yet saved at a kill comes again, once. How many lines that are depends on the machine: a reader that
    # starts late finds more of them, and reads ahead of what is owned.
    assert max(got.values()) <= 1 + kills
