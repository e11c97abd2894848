"""Files that are deleted and written anew: a new file has all its lines, also if it begins as the old one, or is the same."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from kofagent.receivers.filelog import tail as tail_module
from tests.receivers.filelog.support import Store, Tailing
from tests.receivers.filelog.test_recovery import killed, lost
from tests.receivers.filelog.test_tailing import append

BEFORE = "header\n1\n2\n"
ANEW = [BEFORE, BEFORE + "3\n", "header\n1\n", "header\n1\n2\n2\n"]


def tailing(path: Path, store: Store | None = None, **options: Any) -> Tailing:
    return Tailing({"include": [str(path)], **options}, store=store)


def replace(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


@pytest.mark.parametrize("text", ANEW)
@pytest.mark.parametrize("wait", [None, 0.2, 11.0, 60.0])
async def test_a_file_is_written_anew(tmp_path: Path, text: str, wait: float | None) -> None:
    path = tmp_path / "a.log"
    path.write_text(BEFORE)
    async with tailing(path) as t:
        assert await t.poll() == BEFORE.split()
        if wait is None:
            replace(path, text)
        else:
            path.unlink()
            assert await t.poll(wait) == await t.poll() == []
            path.write_text(text)
        await t.poll()
        await t.poll(11)
        await t.poll(11)
        assert t.lines() == BEFORE.split() + text.split()
        replace(path, text)
        await t.poll()
        assert t.lines() == BEFORE.split() + 2 * text.split()


@pytest.mark.parametrize("text", ANEW)
@pytest.mark.parametrize("crash", [True, False])
async def test_a_file_is_written_anew_while_nobody_reads(
    tmp_path: Path, text: str, crash: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path, store = tmp_path / "a.log", Store()
    path.write_text(BEFORE)
    t = tailing(path, store)
    await t.receiver.open()
    assert await t.poll() == BEFORE.split()
    await t.poll()
    await (killed(t) if crash else t.receiver.stop())
    append(path, "never seen\n")
    replace(path, text)  # ext4 gives it the same inode
    async with tailing(path, store) as t:
        assert await t.poll() == text.split()
        assert await t.poll(11) == []
        # how much was written to the old file last nobody knows
        assert lost(t, "files", "gone, end unknown") == 1
        assert f"{path} from byte {len(BEFORE)} on (gone, end unknown)" in caplog.text
    async with tailing(path, store) as t:
        assert await t.poll() == []
        assert t.host.ledger.sum("kofagent_filelog_lost_files_total") == 0


async def test_a_file_that_was_restored_is_the_old_one(tmp_path: Path) -> None:
    path, store = tmp_path / "a.log", Store()
    path.write_text(BEFORE)
    async with tailing(path, store) as t:
        assert await t.poll() == BEFORE.split()
    shutil.copy2(path, tmp_path / "backup")
    path.unlink()
    (tmp_path / "backup").rename(path)
    async with tailing(path, store) as t:
        assert await t.poll() == []
        append(path, "3\n")
        assert await t.poll() == ["3"]


@pytest.mark.parametrize("restart", [True, False])
async def test_where_the_file_system_has_no_generations(tmp_path: Path, restart: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail_module, "generation", lambda fd: 0)
    path, store = tmp_path / "a.log", Store()
    path.write_text(BEFORE)
    async with tailing(path, store) as t:
        assert await t.poll() == BEFORE.split()
        if not restart:
            path.unlink()
            assert await t.poll(11) == await t.poll(11) == []
            path.write_text(BEFORE)
            assert await t.poll() == BEFORE.split()
    if restart:  # its inodes may not be stable, so the bytes decide
        shutil.copyfile(path, tmp_path / "other")
        (tmp_path / "other").rename(path)
        append(path, "3\n")
        async with tailing(path, store) as t:
            assert await t.poll() == ["3"]


@pytest.mark.parametrize(("polls", "archive", "known"), [(2, 0, True), (4, 0, False), (4, 10, True)])
async def test_bytes_alone_tell_a_file_for_some_polls(tmp_path: Path, polls: int, archive: int, known: bool) -> None:
    one, two = tmp_path / "job-one", tmp_path / "job-two"
    one.write_text(BEFORE)
    async with tailing(tmp_path / "job-*", Store(), polls_to_archive=archive) as t:
        assert await t.poll() == BEFORE.split()
        one.unlink()
        await t.poll(11)
        await t.poll(11)
        for _ in range(polls - 1):
            await t.poll()
        two.write_text(BEFORE)
        assert await t.poll() == ([] if known else BEFORE.split())


@pytest.mark.parametrize("name", ["a.log.1", "a.log-20260101"])
async def test_the_name_tells_a_copy_for_as_long_as_it_is_remembered(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.log"
    path.write_text(BEFORE)
    async with tailing(tmp_path / "*") as t:
        assert await t.poll() == BEFORE.split()
        shutil.copyfile(path, tmp_path.parent / name)
        path.unlink()
        for _ in range(10):
            await t.poll(11)
        (tmp_path.parent / name).rename(tmp_path / name)
        assert await t.poll() == []


@pytest.mark.parametrize("width", [1, 3, 5])
async def test_numbers_that_count_up_are_read_oldest_first(tmp_path: Path, width: int) -> None:
    path, store = tmp_path / "a.log", Store()
    lines = [f"line {n} of the log" for n in range(15)]
    path.write_text(lines[0] + "\n")
    async with tailing(path, store) as t:
        assert await t.poll() == lines[:1]
    for n in range(1, 15):
        os.utime(path, ns=(n * 10**9, n * 10**9))
        path.rename(f"{path}.{n:0{width}}")
        path.write_text(lines[n] + "\n")
    async with tailing(path, store) as t:
        assert await t.poll() == lines[1:]
        # and while it is read
        for n in range(15, 18):
            append(path, "")
            path.rename(f"{path}.{n:0{width}}")
            path.write_text(f"line {n}\n")
        assert await t.poll() == [f"line {n}" for n in range(15, 18)]
        assert t.host.ledger.sum("kofagent_filelog_lost_files_total") == 0


async def test_compressing_a_file_after_the_next_one_was_written_does_not_hide_that_one(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("line 1\n")
    async with tailing(path) as t:
        assert await t.poll() == ["line 1"]
        rotated = path.rename(f"{path}.000099")
        path.write_text("line 2\n")
        os.utime(path, ns=(10**9, 10**9))
        Path(f"{rotated}.gz").write_bytes(gzip.compress(rotated.read_bytes()))
        rotated.unlink()
        path.rename(f"{path}.000199")
        path.write_text("line 3\n")
        assert await t.poll() == ["line 2", "line 3"]


@pytest.mark.parametrize("names", ["app-{:03}.log", "app.log.{}", "targets/{}.log", "log.INFO.2026010{}-100000.77"])
@pytest.mark.parametrize("down", [True, False])
async def test_a_link_that_is_pointed_at_one_file_after_the_other(tmp_path: Path, names: str, down: bool) -> None:
    link, store = tmp_path / "app.log", Store()
    (tmp_path / "targets").mkdir()

    def point(n: int) -> Path:
        target = tmp_path / names.format(n)
        target.write_text(f"line 1 of file {n}\n")
        (tmp_path / "new").symlink_to(target)
        (tmp_path / "new").rename(link)
        return target

    (tmp_path / names.format(1)).write_text("of before\n")
    first = point(2)
    t = tailing(link, store)
    await t.receiver.open()
    assert await t.poll() == ["line 1 of file 2"]
    if down:
        await t.receiver.stop()
    append(first, "line 2 of file 2\n")
    point(3)
    point(4)
    point(5)
    if down:
        t = tailing(link, store)
        await t.receiver.open()
    before = len(t.lines())
    await t.poll()
    assert t.lines()[before:] == ["line 2 of file 2", *[f"line 1 of file {n}" for n in (3, 4, 5)]]
    point(6)
    assert await t.poll() == ["line 1 of file 6"]
    await t.receiver.stop()
    assert t.host.ledger.sum("kofagent_filelog_lost_files_total") == 0


async def test_a_link_to_a_container_s_file_is_not_another_container_s(tmp_path: Path) -> None:
    """/var/log/containers: 1.log is the next container's, which has a link of its own."""
    (tmp_path / "pod").mkdir()
    first, second, link = tmp_path / "pod" / "0.log", tmp_path / "pod" / "1.log", tmp_path / "web-0.log"
    store = Store()
    first.write_text("1\n")
    link.symlink_to(first)
    async with tailing(link, store) as t:
        assert await t.poll() == ["1"]
    second.write_text("other\n")
    append(first, "2\n")
    async with tailing(link, store) as t:
        assert await t.poll() == ["2"]
