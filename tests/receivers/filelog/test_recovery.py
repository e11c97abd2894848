"""Files that were rotated out of `include` while nobody read: renamed, compressed, several at once, deleted."""

from __future__ import annotations

import asyncio
import gzip
import os
from pathlib import Path
from typing import Any

import pytest

from kofagent.receivers.filelog.recovery import Found, Recovery
from kofagent.receivers.filelog.rotated import mark_of
from kofagent.telemetry.batch import AnyBatch
from tests.receivers.filelog.support import Store, Tailing, attributes
from tests.receivers.filelog.test_tailing import append
from tests.support.components import Sink


def container(tmp_path: Path) -> Path:
    """A container's log file as the kubelet lays it out."""
    folder = tmp_path / "pods" / "work_web-0_uid" / "main"
    folder.mkdir(parents=True)
    return folder / "0.log"


def tailing(path: Path, store: Store | None, **options: Any) -> Tailing:
    return Tailing({"include": [f"{path.parents[2]}/*/*/*.log"], "fingerprint_size": 64, **options}, store=store)


def line(n: int) -> str:
    return f"2026-11-21T10:00:00.{n:09d}Z line {n} of a container's log, longer than a fingerprint of 64 bytes"


def text(*numbers: int) -> str:
    return "".join(line(n) + "\n" for n in numbers)


def lines(*numbers: int) -> list[str]:
    return [line(n) for n in numbers]


def pack(path: Path) -> Path:
    """As the kubelet: compressed beside, under its final name only when it is whole."""
    packed = Path(f"{path}.gz")
    Path(f"{packed}.tmp").write_bytes(gzip.compress(path.read_bytes()))
    os.rename(f"{packed}.tmp", packed)
    path.unlink()
    return packed


def lost(t: Tailing, what: str, reason: str) -> float:
    return t.host.ledger.total(f"kofagent_filelog_lost_{what}_total", receiver="filelog", reason=reason)


async def test_rotated_three_times_while_nobody_read(tmp_path: Path) -> None:
    store, path = Store(), container(tmp_path)
    path.write_text(text(1, 2))
    async with tailing(path, store) as t:
        assert await t.poll() == lines(1, 2)
    append(path, text(3))
    packed = pack(path.rename(f"{path}.20261121-100000"))
    path.write_text(text(4, 5))
    pack(path.rename(f"{path}.20261121-100001"))
    path.write_text(text(6))
    path.rename(f"{path}.20261121-100002")
    path.write_text(text(7))
    async with tailing(path, store, include_file_path=True) as t:
        assert await t.poll() == lines(3, 4, 5, 6, 7)
        assert {attributes(r)["log.file.path"] for r in t.records()} == {str(path)}
        append(path, text(8))
        assert await t.poll() == lines(8)
        await t.poll(11)
        assert t.host.ledger.total("otelcol_fileconsumer_open_files_ratio", receiver="filelog") == 1
    assert packed.exists()
    async with tailing(path, store) as t:
        assert await t.poll() == []
        assert t.host.ledger.sum("kofagent_filelog_lost_files_total") == 0


async def test_rotated_away_without_a_new_file(tmp_path: Path) -> None:
    store, path = Store(), container(tmp_path)
    path.write_text(text(1))
    async with tailing(path, store) as t:
        assert await t.poll() == lines(1)
    append(path, text(2))
    path.rename(f"{path}.20261121-100000")
    async with tailing(path, store) as t:
        assert await t.poll() == lines(2)
        path.write_text(text(3))
        assert await t.poll() == lines(3)


async def test_restarted_again_while_the_rest_of_a_compressed_file_is_read(tmp_path: Path) -> None:
    store, path = Store(), container(tmp_path)
    path.write_text(text(1))
    async with tailing(path, store) as t:
        assert await t.poll() == lines(1)
    append(path, text(*range(2, 3000)))
    pack(path.rename(f"{path}.20261121-100000"))
    path.write_text(text(3000))
    got: list[str] = []
    t = tailing(path, store)
    await t.receiver.open()
    t.receiver.look(t.now)
    [tail] = [tail for tail in t.receiver._tracker.tails.values() if tail.rotated]
    t.receiver._step(tail)
    t.receiver._ready.clear()
    await t.receiver.stop()
    got += t.lines()
    assert 0 < len(got) < 2999
    async with tailing(path, store) as t:
        got += await t.poll()
    assert got == lines(*range(2, 3001))


async def test_files_of_before_the_first_run_are_nobody_s_business(tmp_path: Path) -> None:
    store, path = Store(), container(tmp_path)
    path.write_text(text(1))
    pack(path.rename(f"{path}.20261120-000000"))
    path.write_text(text(2))
    path.rename(f"{path}.20261120-000001")
    path.write_text(text(3))
    async with tailing(path, store) as t:
        assert await t.poll() == lines(3)
    path.rename(f"{path}.20261121-000000")
    path.write_text(text(4))
    async with tailing(path, store) as t:
        assert await t.poll() == lines(4)
        path.unlink()
        assert await t.poll() == []


async def test_many_old_files_of_a_new_path_are_not_all_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, path = Store(), container(tmp_path)
    path.write_text(text(1))
    async with tailing(path, store) as t:
        assert await t.poll() == lines(1)
    new = path.parents[1] / "other" / "0.log"
    new.parent.mkdir()
    for n in range(100):
        old = Path(f"{new}.20251121-{n:06d}")
        old.write_text(text(n))
        os.utime(old, (n + 1, n + 1))
    new.write_text(text(200))
    opened: list[str] = []
    real = os.open

    def counted(file: Any, *arguments: Any, **more: Any) -> int:
        opened.append(str(file))
        return real(file, *arguments, **more)

    monkeypatch.setattr(os, "open", counted)
    async with tailing(path, store) as t:
        assert await t.poll() == lines(200)
    assert len(opened) < 25


async def test_a_pod_that_came_and_rotated_while_nobody_read(tmp_path: Path) -> None:
    store, path = Store(), container(tmp_path)
    path.write_text(text(1))
    async with tailing(path, store) as t:
        assert await t.poll() == lines(1)
    new = path.parents[1] / "other" / "0.log"
    new.parent.mkdir()
    new.write_text(text(2))
    new.rename(f"{new}.20261121-100000")
    new.write_text(text(3))
    async with tailing(path, store) as t:
        assert await t.poll() == lines(2, 3)


@pytest.mark.parametrize("gone_at_once", [True, False])
async def test_a_file_that_came_and_went_between_two_polls(tmp_path: Path, gone_at_once: bool) -> None:
    path = container(tmp_path)
    path.write_text(text(1))
    async with tailing(path, None) as t:
        assert await t.poll() == lines(1)
        append(path, text(2))
        path.rename(f"{path}.20261121-100000")
        path.write_text(text(3))
        path.rename(f"{path}.20261121-100001")
        if not gone_at_once:
            path.write_text(text(4))
        assert await t.poll() == lines(2, 3) + ([] if gone_at_once else lines(4))
        await t.poll(11)
        assert await t.poll() == []


class Hanging(Sink):
    """Takes some batches and then never answers again."""

    def __init__(self, takes: int) -> None:
        super().__init__()
        self.takes = takes

    async def consume(self, batch: AnyBatch) -> None:
        if self.takes <= 0:
            await asyncio.Event().wait()
        self.takes -= 1
        await super().consume(batch)


async def killed(t: Tailing) -> None:
    """The process is gone: nothing is handed on and nothing is saved any more."""
    receiver: Any = t.receiver
    tracker, receiver._tracker = receiver._tracker, None
    for task in list(receiver._delivery._tasks):
        task.cancel()
    await t.settle()
    tracker.close()


async def test_what_is_gone_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store, path = Store(), container(tmp_path)
    path.write_text(text(*range(8000)))
    t = Tailing({"include": [str(path)]}, store=store, sink=Hanging(1))
    await t.receiver.open()
    await t.poll()
    await t.poll()
    owned = len(text(*range(len(t.lines()))))
    assert 0 < owned < path.stat().st_size
    await killed(t)
    rest = path.stat().st_size - owned
    path.rename(tmp_path / "elsewhere")
    path.write_text(text(9000))
    async with tailing(path, store) as t:
        assert await t.poll() == lines(9000)
        assert lost(t, "files", "gone") == 1
        assert lost(t, "bytes", "gone") == rest
        assert f"{path} from byte {owned} on (gone, at least {rest} bytes)" in caplog.text
    async with tailing(path, store) as t:
        await t.poll()
        assert t.host.ledger.sum("kofagent_filelog_lost_files_total") == 0


async def test_what_may_have_come_to_a_file_that_is_gone_is_counted_as_unknown(tmp_path: Path) -> None:
    store, path = Store(), container(tmp_path)
    path.write_text(text(1))
    async with tailing(path, store) as t:
        assert await t.poll() == lines(1)
    path.unlink()
    async with tailing(path, store) as t:
        assert await t.poll() == []
        assert lost(t, "files", "gone, end unknown") == 1
        assert lost(t, "bytes", "gone, end unknown") == 0


async def test_a_file_that_is_compressed_while_it_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, path = Store(), container(tmp_path)
    path.write_text(text(1))
    async with tailing(path, store) as t:
        assert await t.poll() == lines(1)
    append(path, text(2))
    rotated = path.rename(f"{path}.20261121-100000")
    opened = os.open

    def pack_first(file: Any, *arguments: Any, **more: Any) -> int:
        if str(file) == str(rotated) and rotated.exists():
            pack(rotated)
        return opened(file, *arguments, **more)

    monkeypatch.setattr(os, "open", pack_first)
    async with tailing(path, store) as t:
        assert await t.poll() == lines(2)
        assert t.host.ledger.sum("kofagent_filelog_lost_files_total") == 0


@pytest.mark.parametrize("packed", [False, True])
async def test_a_file_that_is_rotated_just_after_it_was_opened_hides_none_that_is_older(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    path = container(tmp_path)
    path.write_text(text(1))
    async with tailing(path, None) as t:
        assert await t.poll() == lines(1)
        path.rename(f"{path}.20261121-100000")
        path.write_text(text(2))
        path.rename(f"{path}.20261121-100001")
        path.write_text(text(3))
        search = Recovery.search

        def rotate_first(*arguments: Any) -> Found:
            monkeypatch.undo()
            rotated = path.rename(f"{path}.20261121-100002")
            if packed:
                pack(rotated)
            path.write_text(text(4))
            return search(*arguments)

        monkeypatch.setattr(Recovery, "search", rotate_first)
        assert await t.poll() == lines(2, 3)
        assert await t.poll() == lines(4)


async def test_a_file_let_go_and_then_deleted_is_no_loss(tmp_path: Path) -> None:
    store, path = Store(), container(tmp_path)
    path.write_text(text(1))
    async with tailing(path, store) as t:
        assert await t.poll() == lines(1)
        rotated = path.rename(f"{path}.20261121-100000")
        path.write_text(text(2))
        assert await t.poll() == lines(2)
        await t.poll(11)
        await t.poll()
    rotated.unlink()
    async with tailing(path, store) as t:
        assert await t.poll() == []
        assert t.host.ledger.sum("kofagent_filelog_lost_files_total") == 0


async def test_copytruncate_while_nobody_read(tmp_path: Path) -> None:
    store, path = Store(), container(tmp_path)
    path.write_text(text(1))
    async with tailing(path, store) as t:
        assert await t.poll() == lines(1)
    append(path, text(2))
    Path(f"{path}.1").write_bytes(path.read_bytes())
    os.truncate(path, 0)
    append(path, text(3))
    async with tailing(path, store) as t:
        assert await t.poll() == lines(2, 3)


async def test_copytruncate_between_finding_a_file_and_its_first_read(tmp_path: Path) -> None:
    path = container(tmp_path)
    path.write_text(text(1, 2, 3))
    async with tailing(path, Store()) as t:
        t.receiver.look(t.now)
        Path(f"{path}.1").write_bytes(path.read_bytes())
        os.truncate(path, 0)
        append(path, text(4))
        await t.receiver._rounds()
        await t.poll()
        assert t.lines() == lines(1, 2, 3, 4)
        assert t.host.ledger.sum("kofagent_filelog_lost_files_total") == 0


async def test_a_directory_that_cannot_be_listed_at_a_start(tmp_path: Path) -> None:
    store, path = Store(), container(tmp_path)
    path.write_text(text(1))
    async with tailing(path, store) as t:
        assert await t.poll() == lines(1)
    away = path.parent.rename(tmp_path / "away")
    path.parent.symlink_to(path.parent)  # a loop: not even root can list it
    async with tailing(path, store) as t:
        assert await t.poll() == []
        assert t.host.ledger.sum("kofagent_filelog_lost_files_total") == 0
    path.parent.unlink()
    away.rename(path.parent)
    append(path, text(2))
    async with tailing(path, store) as t:
        assert await t.poll() == lines(2)


async def test_a_damaged_compressed_file_is_counted(tmp_path: Path) -> None:
    store, path = Store(), container(tmp_path)
    path.write_text(text(1))
    async with tailing(path, store) as t:
        assert await t.poll() == lines(1)
    append(path, text(*range(2, 3000)))
    packed = pack(path.rename(f"{path}.20261121-100000"))
    packed.write_bytes(packed.read_bytes()[:-100])
    path.write_text(text(3000))
    async with tailing(path, store) as t:
        got = await t.poll()
        assert got[0] == line(2)
        assert got[-1] == line(3000)
        await t.poll(11)
        await t.poll()
        assert lost(t, "files", "damaged gzip, end unknown") == 1


async def test_a_link_to_the_file(tmp_path: Path) -> None:
    store, path = Store(), container(tmp_path)
    link = tmp_path / "web-0_work_main.log"
    link.symlink_to(path)
    options = {"include": [f"{tmp_path}/*.log"], "include_file_path": True, "include_file_path_resolved": True}
    path.write_text(text(1))
    async with Tailing(options, store=store) as t:
        assert await t.poll() == lines(1)
    append(path, text(2))
    pack(path.rename(f"{path}.20261121-100000"))
    async with Tailing(options, store=store) as t:
        assert await t.poll() == lines(2)
        assert attributes(t.records()[0])["log.file.path"] == str(link)
        assert attributes(t.records()[0])["log.file.path_resolved"] == str(path)


@pytest.mark.parametrize(
    ("base", "name", "mark"),
    [
        ("0.log", "0.log.20261121-100000", "20261121-100000"),
        ("0.log", "0.log.20261121-100000.gz", "20261121-100000"),
        ("0.log", "0.log.20261121-100000.gz.tmp", None),
        ("0.log", "0.log.20261121-100000.tmp", None),
        ("0.log", "0.log", None),
        ("0.log", "10.log", None),
        ("1.log", "10.log.1", None),
        ("a.log", "a.log.3.gz", "3"),
        ("a.log", "a.log-20261121", "20261121"),
        ("a.log", "a-2026-11-21T10-00-00.000.log.gz", "2026-11-21T10-00-00.000"),
        ("a.log", "a-2.log", None),
        ("a.log", "a.log.bak", None),
        ("a.log", "a.logs", None),
        ("messages", "messages-20261121", "20261121"),
        ("a.log", "a.log.gz", None),
    ],
)
def test_names_of_rotated_files(base: str, name: str, mark: str | None) -> None:
    assert mark_of(base, name) == mark


async def test_logrotate_numbers_are_read_oldest_first(tmp_path: Path) -> None:
    store, path = Store(), container(tmp_path)
    path.write_text(text(1))
    async with tailing(path, store) as t:
        assert await t.poll() == lines(1)
    for n in (2, 3, 4):
        for number in (2, 1):
            if Path(f"{path}.{number}").exists():
                os.rename(f"{path}.{number}", f"{path}.{number + 1}")
        path.rename(f"{path}.1")
        path.write_text(text(n))
    async with tailing(path, store) as t:
        assert await t.poll() == lines(2, 3, 4)
