"""Files that are renamed, replaced, truncated, copied, compressed, deleted, or equal at their beginning."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.receivers.filelog.support import Store, Tailing, attributes
from tests.receivers.filelog.test_tailing import append, log


def every(tmp_path: Path, **options: Any) -> Tailing:
    return Tailing({"include": [f"{tmp_path}/*"], **options})


async def test_rename_and_create(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("1\n")
    async with log(tmp_path, include_file_name=True) as t:
        assert await t.poll() == ["1"]
        append(path, "2\n")
        path.rename(tmp_path / "a.log.1")
        append(tmp_path / "a.log.1", "3\n")
        path.write_text("4\n")
        assert sorted(await t.poll()) == ["2", "3", "4"]
        append(tmp_path / "a.log.1", "5\n")  # its writer has not noticed yet
        append(path, "6\n")
        assert sorted(await t.poll()) == ["5", "6"]
        assert {attributes(r)["log.file.name"] for r in t.records()} == {"a.log"}
        await t.poll(11)
        assert t.host.ledger.total("otelcol_fileconsumer_open_files_ratio", receiver="filelog") == 1


async def test_a_renamed_file_that_still_matches_carries_its_new_name(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("1\n")
    async with every(tmp_path) as t:
        await t.poll()
        path.rename(tmp_path / "a.log.1")
        append(tmp_path / "a.log.1", "2\n")
        path.write_text("new\n")
        assert sorted(await t.poll()) == ["2", "new"]
        assert sorted(attributes(r)["log.file.name"] for r in t.records()) == ["a.log", "a.log", "a.log.1"]


async def test_a_deleted_file_is_read_to_its_end_with_its_partial_line(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("1\n")
    with path.open("a") as writer:
        async with log(tmp_path) as t:
            assert await t.poll() == ["1"]
            writer.write("2\nhalf")
            writer.flush()
            path.unlink()
            assert await t.poll() == ["2"]
            assert await t.poll(0.6) == ["half"]
            assert await t.poll(11) == []
            assert t.host.ledger.total("otelcol_fileconsumer_open_files_ratio", receiver="filelog") == 0


async def test_a_rotated_file_that_is_let_go_with_a_partial_line(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("1\nhalf")
    async with log(tmp_path, force_flush_period="0s") as t:
        assert await t.poll() == ["1"]
        path.unlink()
        assert await t.poll() == []
        assert await t.poll(11) == ["half"]


@pytest.mark.parametrize("include_copy", [True, False])
async def test_copytruncate(tmp_path: Path, include_copy: bool) -> None:
    path, copy = tmp_path / "a.log", tmp_path / "a.log.1"
    path.write_text("1\n2\n")
    async with (every if include_copy else log)(tmp_path) as t:
        assert await t.poll() == ["1", "2"]
        append(path, "3\n")
        shutil.copy(path, copy)
        os.truncate(path, 0)
        append(path, "new 1\n")
        # 3 lived shorter than a poll in the file itself, but it is in the copy
        assert sorted(await t.poll()) == ["3", "new 1"]
        append(path, "new 2\n")
        assert await t.poll() == ["new 2"]


async def test_copytruncate_with_a_poll_between_the_copy_and_the_truncation(tmp_path: Path) -> None:
    path, copy = tmp_path / "a.log", tmp_path / "a.log.1"
    path.write_text("1\n2\n")
    async with every(tmp_path) as t:
        assert await t.poll() == ["1", "2"]
        shutil.copy(path, copy)
        append(copy, "")
        assert await t.poll() == []
        append(path, "3\n")
        assert await t.poll() == ["3"]
        os.truncate(path, 0)
        assert await t.poll() == []
        append(path, "4\n")
        assert await t.poll() == ["4"]


@pytest.mark.parametrize("lines", [2, 200])
@pytest.mark.parametrize("looks", [(), ("empty",), ("half",), ("whole",), ("empty", "half", "whole")])
@pytest.mark.parametrize("include_copy", [True, False])
async def test_a_copy_that_is_written_over_the_last_one(
    tmp_path: Path, include_copy: bool, looks: tuple[str, ...], lines: int
) -> None:
    """As by `cp a.log a.log.1 && : > a.log`, with polls while the copy is made: what is in both files comes once."""
    path, copy = tmp_path / "a.log", tmp_path / "a.log.1"
    want = []
    async with (every if include_copy else log)(tmp_path) as t:
        for turn in range(4):
            text = [f"{turn} {n} {'x' * 20}" for n in range(lines)]
            append(path, "".join(f"{line}\n" for line in text[:-1]))
            await t.poll()
            append(path, f"{text[-1]}\n")  # younger than a poll, perhaps: then it is in the copy alone
            want += text
            content = path.read_bytes()
            for look, size in (("empty", 0), ("half", len(content) // 2 - 3), ("whole", len(content))):
                copy.write_bytes(content[:size])
                if look in looks:
                    await t.poll()
            os.truncate(path, 0)
            await t.poll(0.2 if turn else 20)
        assert sorted(t.lines()) == sorted(want)
        assert t.host.ledger.total("kofagent_filelog_lost_bytes", receiver="filelog") == 0


async def test_a_truncated_file_that_grew_past_its_old_size_within_a_poll(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("old 1\nold 2\n")
    async with log(tmp_path) as t:
        assert await t.poll() == ["old 1", "old 2"]
        os.truncate(path, 0)
        append(path, "new 1\nnew 2\nnew 3\n")
        assert await t.poll() == ["new 1", "new 2", "new 3"]


async def test_a_truncated_file_that_starts_as_before(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    banner = "= banner =\n" * 200
    path.write_text(banner + "old\n")
    async with log(tmp_path) as t:
        await t.poll()
        path.write_text(banner)
        assert await t.poll() == ["= banner ="] * 200
        append(path, "new\n")
        assert await t.poll() == ["new"]


@pytest.mark.parametrize(
    ("on_truncate", "want"), [("ignore", ["5"]), ("read_new", ["3", "4", "5"]), ("read_whole_file", ["#" * 1000, "3", "4", "5"])]
)
async def test_on_truncate_as_upstream_means_it(tmp_path: Path, on_truncate: str, want: list[str]) -> None:
    path = tmp_path / "a.log"
    path.write_text("#" * 1000 + "\n1\n2\n")
    async with log(tmp_path, on_truncate=on_truncate) as t:
        assert len(await t.poll()) == 3
        os.truncate(path, 1001)
        got = await t.poll()
        for line in ("3\n", "4\n", "5\n"):
            append(path, line)
            got += await t.poll()
        assert got == want


async def test_the_copy_of_a_file_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("1\n2\n")
    async with every(tmp_path) as t:
        assert await t.poll() == ["1", "2"]
        shutil.copy(path, tmp_path / "backup")
        (tmp_path / "link").symlink_to(path)
        os.link(path, tmp_path / "hardlink")
        append(path, "3\n")
        assert await t.poll() == ["3"]
        assert await t.poll() == []


async def test_files_with_an_equal_beginning_are_each_read_once_they_differ(tmp_path: Path) -> None:
    one, two = tmp_path / "1.log", tmp_path / "2.log"
    one.write_text("same\n")
    two.write_text("same\n")
    async with log(tmp_path) as t:
        assert await t.poll() == ["same"]
        append(one, "x\n")
        assert await t.poll() == ["x"]
        append(two, "y\n")
        assert await t.poll() == ["same", "y"]


async def test_the_second_of_two_equal_files_goes_on(tmp_path: Path) -> None:
    one, two = tmp_path / "1.log", tmp_path / "2.log"
    one.write_text("same\n")
    two.write_text("same\n")
    async with log(tmp_path) as t:
        assert await t.poll() == ["same"]
        append(two, "y\n")
        assert await t.poll() == ["same", "y"]


async def test_a_copy_that_sorts_before_the_original_is_no_reason_to_stop_reading_after_a_restart(tmp_path: Path) -> None:
    store, path = Store(), tmp_path / "b.log"
    path.write_text("1\n2\n")
    options = {"include": [f"{tmp_path}/*"]}
    async with Tailing(options, store=store) as t:
        assert await t.poll() == ["1", "2"]
    shutil.copy(path, tmp_path / "a.log")
    async with Tailing(options, store=store) as t:
        assert await t.poll() == []
        append(path, "3\n")
        assert await t.poll() == ["3"]


async def test_files_with_an_equal_fingerprint_that_differ_later(tmp_path: Path) -> None:
    banner = "#" * 2000
    (tmp_path / "1.log").write_text(f"{banner}\none\n")
    (tmp_path / "2.log").write_text(f"{banner}\ntwo\n")
    async with log(tmp_path) as t:
        assert sorted(await t.poll()) == [banner, banner, "one", "two"]


async def test_a_new_file_with_the_old_ones_banner_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("banner\n1\n")
    async with log(tmp_path) as t:
        assert await t.poll() == ["banner", "1"]
        path.rename(tmp_path / "old")
        path.write_text("banner\n")
        assert await t.poll() == ["banner"]


async def test_an_editor_that_replaces_the_file_by_a_longer_one(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("1\n2\n")
    async with log(tmp_path) as t:
        assert await t.poll() == ["1", "2"]
        (tmp_path / "new").write_text("1\n2\n3\n")
        (tmp_path / "new").rename(path)
        assert await t.poll() == ["3"]


async def test_gzip_rotation_with_the_compressed_file_included(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    lines = [f"line {i} {'x' * 50}" for i in range(100)]
    path.write_text("".join(line + "\n" for line in lines[:50]))
    async with every(tmp_path, compression="auto") as t:
        got = await t.poll()
        path.rename(tmp_path / "a.log.1")
        append(tmp_path / "a.log.1", "".join(line + "\n" for line in lines[50:]))
        path.write_text("fresh\n")
        got += await t.poll()
        data = gzip.compress((tmp_path / "a.log.1").read_bytes())
        packed = tmp_path / "a.log.1.gz"
        packed.touch()
        got += await t.poll()
        packed.write_bytes(data[:20])
        got += await t.poll()
        packed.write_bytes(data)
        got += await t.poll()
        (tmp_path / "a.log.1").unlink()
        got += await t.poll()
        got += await t.poll(11)
        got += await t.poll(11)
        assert sorted(got) == sorted([*lines, "fresh"])


async def test_gzip_rotation_faster_than_a_poll(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    lines = [f"line {i} {'x' * 50}" for i in range(100)]
    path.write_text("".join(line + "\n" for line in lines[:50]))
    async with every(tmp_path, compression="auto") as t:
        got = await t.poll()
        append(path, "".join(line + "\n" for line in lines[50:]))
        (tmp_path / "a.log.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
        got += await t.poll()  # the rest comes through the open file
        got += await t.poll(11)
        got += await t.poll(11)
        assert got == lines


async def test_a_link_that_is_pointed_at_the_next_file(tmp_path: Path) -> None:
    (tmp_path / "1").write_text("one\n")
    link = tmp_path / "a.log"
    link.symlink_to(tmp_path / "1")
    async with log(tmp_path) as t:
        assert await t.poll() == ["one"]
        (tmp_path / "2").write_text("two\n")
        (tmp_path / "new").symlink_to(tmp_path / "2")
        append(tmp_path / "1", "last\n")
        (tmp_path / "new").rename(link)
        assert sorted(await t.poll()) == ["last", "two"]


async def test_many_rotations_between_two_polls_lose_only_what_lived_shorter(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("0\n")
    async with log(tmp_path) as t:
        assert await t.poll() == ["0"]
        for i in range(1, 4):
            append(path, f"{i}\n")
            path.rename(tmp_path / f"old{i}")
        path.write_text("4\n")
        assert sorted(await t.poll()) == ["1", "4"]
