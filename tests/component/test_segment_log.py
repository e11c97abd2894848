"""`SegmentLog`: what it took is there after a crash, what is damaged is counted and never delivered, and space comes back."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kofagent.component.disk import Disk
from kofagent.component.records import HEADER_BYTES, MAGIC, Header
from kofagent.component.segment_log import InUse, Record, SegmentLog
from kofagent.telemetry.signal import Signal

SIGNALS = [Signal.LOGS, Signal.TRACES, Signal.METRICS]


def add(log: SegmentLog, *bodies: bytes, signal: Signal = Signal.LOGS) -> list[Record]:
    headers = [Header(0, signal, len(body) % 7 + 1, len(body), False, 0, len(body), 0, 0) for body in bodies]
    return log.append(headers, bodies)


def opened(folder: Path | str, **options: Any) -> tuple[SegmentLog, list[Record], Counter[Signal]]:
    log = SegmentLog(str(folder), timeout=0, **options)
    found = log.open(10**9, lambda header: None)
    return log, found.first, found.lost


def items(records: list[Record]) -> Counter[Signal]:
    out: Counter[Signal] = Counter()
    for record in records:
        out[record.header.signal] += record.header.items
    return out


def test_what_was_kept_is_there_in_order_and_a_folder_has_one_owner(tmp_path: Path) -> None:
    log, found, _ = opened(tmp_path / "q")
    assert not found
    records = add(log, b"a", b"", b"c" * 100_000)
    assert [log.read(record) for record in records] == [b"a", b"", b"c" * 100_000]
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "q").iterdir()} == {0o600}, "nobody else may read them"
    with pytest.raises(InUse):
        opened(tmp_path / "q")
    log.done([records[1]])
    log.close()
    log, found, lost = opened(tmp_path / "q", fsync=True)
    assert [log.read(record) for record in found] == [b"a", b"c" * 100_000] and not lost
    assert add(log, b"d")[0].header.number > found[-1].header.number, "numbers go on"
    log.done(found)
    log.close()
    log, found, lost = opened(tmp_path / "q")
    assert [log.read(record) for record in found] == [b"d"] and not lost
    log.done(found)
    log.close()
    assert [file.name for file in (tmp_path / "q").iterdir()] == ["state"], "space comes back"


@pytest.mark.parametrize("seed", range(6))
def test_a_copy_at_any_time_is_what_a_kill_leaves(tmp_path: Path, seed: int) -> None:
    """A model: whatever was added and not taken out when the copy was made is in the copy, nothing else is, and nothing is lost."""
    choose = random.Random(seed)
    log, _, _ = opened(tmp_path / "q", segment_bytes=2000)
    waiting: list[tuple[Record, bytes]] = []
    for step in range(60):
        bodies = [bytes([choose.randrange(256)]) * choose.choice([0, 1, 50, 700, 3000]) for _ in range(choose.randint(1, 4))]
        waiting += zip(add(log, *bodies, signal=choose.choice(SIGNALS)), bodies, strict=True)
        while waiting and choose.random() < (0.85 if step % 20 > 8 else 0.2):
            gone = waiting.pop(0 if choose.random() < 0.8 else choose.randrange(len(waiting)))
            log.done([gone[0]])
        assert [log.read(r) for r, _ in waiting[:3]] == [body for _, body in waiting[:3]]
        middle = len(waiting) // 2
        assert log.scan(waiting[middle - 1][0] if middle else None, 5) == [r for r, _ in waiting[middle : middle + 5]]
        if choose.random() < 0.2:
            copy = tmp_path / f"copy{step}"
            shutil.copytree(tmp_path / "q", copy)
            other, found, lost = opened(copy)
            assert [(r.header, other.read(r)) for r in found] == [(r.header, body) for r, body in waiting]
            assert not lost
            other.close()
            if choose.random() < 0.5:
                log.close()
                shutil.rmtree(tmp_path / "q")
                copy.rename(tmp_path / "q")
                log, found, _ = opened(tmp_path / "q", segment_bytes=2000)
                waiting = [(r, body) for r, (_, body) in zip(found, waiting, strict=True)]
    log.done([record for record, _ in waiting])
    assert log.size <= 2000 + 3 * 4 * (3000 + HEADER_BYTES)
    log.close()


def test_what_was_being_written_at_the_kill_was_promised_to_nobody(tmp_path: Path) -> None:
    log, _, _ = opened(tmp_path / "q")
    add(log, b"a" * 100)
    state = (tmp_path / "q" / "state").read_bytes()
    add(log, b"b" * 100)
    log.close()
    (file,) = tmp_path.glob("q/*.seg")
    whole = file.read_bytes()
    for end in range(100 + HEADER_BYTES, len(whole), 7):
        file.write_bytes(whole[:end])
        (tmp_path / "q" / "state").write_bytes(state)
        log, found, lost = opened(tmp_path / "q")
        assert [log.read(record) for record in found] == [b"a" * 100] and not lost
        log.close()


DAMAGES = {
    "a bit": lambda raw, choose: _flip(raw, choose, 1),
    "bytes": lambda raw, choose: _flip(raw, choose, 64),
    "a page of zeros": lambda raw, choose: _page(raw, choose.randrange(len(raw))),
    "cut": lambda raw, choose: raw[: choose.randrange(len(raw))],
    "emptied": lambda raw, choose: b"",
}


def _flip(raw: bytes, choose: random.Random, length: int) -> bytes:
    out, at = bytearray(raw), choose.randrange(len(raw))
    for place in range(at, min(len(raw), at + length)):
        out[place] ^= 1 << choose.randrange(8)
    return bytes(out)


def _page(raw: bytes, at: int) -> bytes:
    begin = at // 4096 * 4096
    end = min(len(raw), begin + 4096)
    return raw[:begin] + bytes(end - begin) + raw[end:]


@pytest.mark.parametrize("what", DAMAGES)
@pytest.mark.parametrize("file", ["state", "segment", "removed"])
def test_damage_costs_what_it_hits_and_is_counted(tmp_path: Path, what: str, file: str) -> None:
    """At random places: the start succeeds, all that is delivered is as it was written, and the count is what is missing."""
    log, _, _ = opened(tmp_path / "whole", segment_bytes=9_000)
    bodies = {}
    for n in range(200):
        (record,) = add(log, f"<{n}>".encode() * (n % 90), signal=SIGNALS[n % 3])
        bodies[record.header.number] = (record, log.read(record))
    log.done([bodies.pop(n)[0] for n in range(40)])
    log.close()
    assert len(list(tmp_path.glob("whole/*.seg"))) > 3
    for seed in range(12 if file != "removed" else 2):
        choose = random.Random(seed)
        folder = tmp_path / f"{seed}"
        shutil.copytree(tmp_path / "whole", folder)
        hit = folder / "state" if file == "state" else choose.choice(sorted(folder.glob("*.seg")))
        if file == "removed":
            hit.unlink()
        else:
            hit.write_bytes(DAMAGES[what](hit.read_bytes(), choose))
        log, found, lost = opened(folder)
        good: list[Record] = []
        for record in found:
            try:
                assert log.read(record) == bodies[record.header.number][1]
                good.append(record)
            except ValueError:
                lost[record.header.signal] += record.header.items
        again = {r.header.number for r in good}
        missing = items([record for number, (record, _) in bodies.items() if number not in again])
        assert lost == missing, "a damaged state loses nothing, and what is lost of a segment is counted"
        assert len(missing) == 0 or file != "state"
        numbers = [r.header.number for r in good]
        assert numbers == sorted(numbers)
        add(log, b"goes on")
        log.done(found)
        log.close()
        shutil.rmtree(folder)


@pytest.mark.parametrize("page", [0, 1])
def test_with_either_copy_of_the_state_losses_are_counted(tmp_path: Path, page: int) -> None:
    log, _, _ = opened(tmp_path, segment_bytes=100)
    records = add(log, b"a" * 100) + add(log, b"b" * 101)
    log.close()
    state = (tmp_path / "state").read_bytes()
    (tmp_path / "state").write_bytes(_page(state, page * 4096))
    sorted(tmp_path.glob("*.seg"))[0].unlink()
    log, found, lost = opened(tmp_path)
    assert found == records[1:] and lost == items(records[:1])
    log.close()


def test_what_a_file_held_before_it_was_written_again_never_comes_back(tmp_path: Path) -> None:
    log, _, _ = opened(tmp_path)
    old = add(log, b"a" * 50, b"b" * 50, b"c" * 50)
    log.done(old)
    new = add(log, b"x" * 50)
    assert new[0].segment == old[0].segment and new[0].at == 0, "no space is needed for it"
    (file,) = tmp_path.glob("*.seg")
    raw = bytearray(file.read_bytes())
    raw[old[2].at + 4] ^= 1  # now it says that it waits
    file.write_bytes(raw)
    log.close()
    log, found, lost = opened(tmp_path)
    assert found == new and not lost
    log.close()


def test_a_flipped_status_sends_again_but_loses_nothing(tmp_path: Path) -> None:
    log, _, _ = opened(tmp_path)
    records = add(log, b"a", b"b")
    log.done(records[:1])
    (file,) = tmp_path.glob("*.seg")
    raw = bytearray(file.read_bytes())
    raw[4] ^= 1
    raw[HEADER_BYTES + 1 + 4] ^= 1
    file.write_bytes(raw)
    log.close()
    log, found, lost = opened(tmp_path)
    assert [log.read(record) for record in found] == [b"a", b"b"] and not lost
    log.close()


def test_time_to_find_the_next_record_is_linear_in_what_is_damaged(tmp_path: Path) -> None:
    def seconds(size: int) -> float:
        folder = tmp_path / str(size)
        log, _, _ = opened(folder)
        records = add(log, MAGIC * (size // 4), b"next")
        log.close()
        (file,) = folder.glob("*.seg")
        with open(file, "r+b") as raw:
            raw.write(b"x")
        best = 9.0
        for _ in range(3):
            begin = time.process_time()
            log, found, _ = opened(folder)
            best = min(best, time.process_time() - begin)
            assert found == records[1:]
            log.close()
            (folder / "state").unlink()
        return best

    assert seconds(160_000) / seconds(40_000) < 8


def test_a_file_that_cannot_be_read_does_not_stop_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, _, _ = opened(tmp_path, segment_bytes=100)
    records = add(log, b"a" * 100) + add(log, b"b" * 100) + add(log, b"c" * 100)
    log.close()
    real = os.pread

    def pread(fd: int, length: int, at: int) -> bytes:
        if os.readlink(f"/proc/self/fd/{fd}").endswith(f"{records[1].segment:016x}.seg"):
            raise OSError(5, "Input/output error")
        return real(fd, length, at)

    monkeypatch.setattr(os, "pread", pread)
    log, found, lost = opened(tmp_path)
    assert found == [records[0], records[2]] and lost == items([records[1]])
    log.done(found)
    log.close()
    assert [path.suffix for path in tmp_path.iterdir() if path.name != "state"] == [".unreadable"]


@pytest.mark.parametrize("fails", ["write", "state", "mark"])
def test_a_failing_disk_and_then_it_goes_on(tmp_path: Path, fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    log, _, _ = opened(tmp_path)
    (first,) = add(log, b"first")
    broken = [True]
    real_pwrite, real_pwritev = os.pwrite, os.pwritev

    def pwrite(fd: int, raw: bytes, at: int) -> int:
        if broken[0] and (fails == "mark" if len(raw) == 1 else fails == "state"):
            raise OSError(5, "Input/output error")
        return real_pwrite(fd, raw, at)

    def pwritev(fd: int, pieces: list[bytes], at: int) -> int:
        if broken[0] and fails == "write":
            real_pwrite(fd, b"".join(pieces)[:-1], at)  # most of it is there
            raise OSError(28, "No space left on device")
        return real_pwritev(fd, pieces, at)

    monkeypatch.setattr(os, "pwrite", pwrite)
    monkeypatch.setattr(os, "pwritev", pwritev)
    if fails == "write":
        with pytest.raises(OSError):
            add(log, b"second", b"third")
        shutil.copytree(tmp_path, tmp_path / "copy")
        other, found, _ = opened(tmp_path / "copy")
        assert found == [first], "the second was refused, so its sender will offer it again"
        other.close()
    elif fails == "mark":
        with pytest.raises(OSError):
            log.done([first])
        assert log.behind
    else:
        add(log, b"second")
        with pytest.raises(OSError):
            log.done([first])
        assert log.behind
    broken[0] = False
    log.settle()
    assert not log.behind
    add(log, b"last")
    log.close()
    log, found, lost = opened(tmp_path)
    left = {"write": [b"first", b"last"], "mark": [b"last"], "state": [b"second", b"last"]}[fails]
    assert [log.read(record) for record in found] == left and not lost
    log.close()


async def test_what_could_not_be_opened_is_closed_once_more_without_harm(tmp_path: Path) -> None:
    owner, _, _ = opened(tmp_path / "q")
    disk = Disk(SegmentLog(str(tmp_path / "q"), timeout=0))
    with pytest.raises(InUse):
        await disk.open(10, lambda header: None)
    assert await disk.close() == 0
    owner.close()
