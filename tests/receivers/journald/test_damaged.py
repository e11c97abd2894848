"""Damaged and hostile files: whatever is in them, reading ends, memory is bounded, and every entry comes or is counted."""

from __future__ import annotations

import json
import lzma
import os
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kofagent.receivers.journald import fields, file, packed
from kofagent.receivers.journald.header import Damaged
from tests.receivers.journald.support import Following
from tests.support.journal_files import FLAG, JournalWriter
from tests.support.journal_files import packed as pack

COUNT = 40
GOLDEN = Path(__file__).with_name("golden")


def sample(path: Path, **options: Any) -> JournalWriter:
    writer = JournalWriter(path, **options)
    for i in range(COUNT):
        writer.append(f"MESSAGE=message {i} " + "x" * (40 * (i % 4)), "PRIORITY=6", "_HOSTNAME=node", f"N={i % 3}")
    writer.state = 0
    writer._header()
    return writer


async def entries(path: Path) -> tuple[list[Any], float, float]:
    """What a file brings, the entries that are counted as lost, and whether it was not read at all."""
    async with Following({"files": [str(path)], "priority": "debug", "all": True}) as f:
        for _ in range(4):
            await f.poll(5.0)
        unreadable = f.total("kofagent_journald_unreadable_files_total", receiver="journald")
        return f.bodies(), f.damaged, unreadable


_FILES: dict[tuple[bool, str], bytes] = {}


def content(folder: Path, compact: bool, compression: str) -> bytes:
    key = (compact, compression)
    if key not in _FILES:
        writer = sample(folder / "sample", compact=compact, compression=compression)
        _FILES[key] = writer.path.read_bytes()
        writer.close()
    return _FILES[key]


@given(
    compact=st.booleans(),
    compression=st.sampled_from(sorted(FLAG)),
    changes=st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(min_size=1, max_size=9)), max_size=6),
    end=st.none() | st.integers(0, 1 << 16),
)
@settings(deadline=None)
async def test_whatever_is_changed_reading_ends_and_all_is_counted(
    tmp_path_factory: pytest.TempPathFactory, compact: bool, compression: str, changes: list[tuple[int, bytes]], end: int | None
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    data = bytearray(content(folder, compact, compression))
    for place, change in changes:
        place %= len(data)
        data[place : place + len(change)] = change[: len(data) - place]
    path = folder / "a.journal"
    path.write_bytes(data[:end])
    said = int.from_bytes(data[152:160], "little")
    bodies, lost, unreadable = await entries(path)
    if end is None and not changes:
        assert len(bodies) == COUNT
    if not unreadable and said == COUNT and (end is None or end > len(data) // 2):
        assert len(bodies) + lost == COUNT


async def test_one_entry_is_lost_for_each_that_is_damaged(tmp_path: Path) -> None:
    writer = sample(tmp_path / "a.journal")
    for i in (3, 4, 20):
        os.pwrite(writer.fd, b"\xff" * 16, writer.places[i])
    bodies, lost, _ = await entries(writer.path)
    assert lost == 3
    assert [int(b["MESSAGE"].split()[1]) for b in bodies] == [i for i in range(COUNT) if i not in (3, 4, 20)]


async def test_a_value_that_is_damaged_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writer = sample(tmp_path / "a.journal")
    os.pwrite(writer.fd, b"\0", writer.known[b"_HOSTNAME=node"])
    bodies, lost, _ = await entries(writer.path)
    assert len(bodies) == COUNT and lost == 0
    assert all("_HOSTNAME" not in b and b["PRIORITY"] == "6" for b in bodies)
    assert "values of entries cannot be read" in caplog.text


async def test_at_the_end_nothing_old_is_read_of_a_damaged_file(tmp_path: Path) -> None:
    writer = sample(tmp_path / "a.journal")
    os.pwrite(writer.fd, b"\xff" * 16, writer.places[0])
    other = sample(tmp_path / "b.journal")
    os.pwrite(other.fd, b"\xff" * 16, other.first_array)
    async with Following({"directory": str(tmp_path), "start_at": "end"}) as f:
        assert await f.poll(5.0) + await f.poll(5.0) == []
        writer.append("MESSAGE=new", "PRIORITY=6")
        assert await f.poll() + await f.poll() == ["new"]


async def test_an_entry_of_more_values_than_there_can_be_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert file.MOST_ITEMS <= 4096
    monkeypatch.setattr(file, "MOST_ITEMS", 3)
    writer = JournalWriter(tmp_path / "a.journal")
    writer.append("MESSAGE=1", "A=1", "B=1")
    writer.append("MESSAGE=2", "A=1", "B=1", "C=1")
    writer.state = 0
    writer._header()
    bodies, lost, _ = await entries(writer.path)
    assert ([b["MESSAGE"] for b in bodies], lost) == (["1"], 1)


async def test_a_value_at_a_place_where_none_can_be_is_left_out(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "a.journal")
    place = writer.append("MESSAGE=" + "m" * 64, "A=1")
    inner = writer.known[b"MESSAGE=" + b"m" * 64] + 72 + 12
    # what looks like a value, in the midst of another one
    os.pwrite(writer.fd, struct.pack("<BB6xQ", 1, 0, 76) + bytes(56) + b"B=12", inner)
    os.pwrite(writer.fd, struct.pack("<I", inner), place + 64 + 4)
    writer.state = 0
    writer._header()
    bodies, _, _ = await entries(writer.path)
    assert len(bodies) == 1 and "B" not in bodies[0]


def test_bytes_are_numbers_up_to_a_length() -> None:
    assert fields.shown(b"\xff" * fields.LONGEST_NUMBERS) == [255] * fields.LONGEST_NUMBERS
    assert fields.shown(b"\xff" * (fields.LONGEST_NUMBERS + 1)) is None


async def test_arrays_that_make_a_circle_end(tmp_path: Path) -> None:
    writer = sample(tmp_path / "a.journal")
    os.pwrite(writer.fd, struct.pack("<Q", writer.first_array), writer.first_array + 16)
    bodies, lost, _ = await entries(writer.path)
    assert (len(bodies), lost) == (4, COUNT - 4)


async def test_more_entries_than_there_can_be_are_not_waited_for(tmp_path: Path) -> None:
    writer = sample(tmp_path / "a.journal")
    os.pwrite(writer.fd, struct.pack("<Q", 1 << 62), 152)
    size = writer.path.stat().st_size
    bodies, lost, _ = await entries(writer.path)
    assert len(bodies) == COUNT and 0 < lost <= size // 64


async def test_what_is_being_written_is_waited_for(tmp_path: Path) -> None:
    """The header says that there is an entry which is not whole yet."""
    writer = JournalWriter(tmp_path / "a.journal")
    writer.append("MESSAGE=1", "PRIORITY=6")
    async with Following({"files": [str(writer.path)]}) as f:
        assert await f.poll() == ["1"]
        place = writer.append("MESSAGE=2", "PRIORITY=6")
        whole = os.pread(writer.fd, 16, place)
        os.pwrite(writer.fd, bytes(16), place)
        assert await f.poll() + await f.poll() == [] and f.damaged == 0
        os.pwrite(writer.fd, whole, place)
        writer.append("MESSAGE=3", "PRIORITY=6")
        assert await f.poll() + await f.poll() == ["2", "3"] and f.damaged == 0
        place = writer.append("MESSAGE=4", "PRIORITY=6")
        os.pwrite(writer.fd, bytes(16), place)
        writer.append("MESSAGE=5", "PRIORITY=6")
        assert await f.poll() == []
        assert await f.poll(3.0) == ["5"] and f.damaged == 1


async def test_a_file_that_is_not_a_journal_is_counted_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.journal").write_bytes(b"LPKSHHRH" + bytes(100))
    newer = sample(tmp_path / "b.journal")
    os.pwrite(newer.fd, struct.pack("<I", 1 << 9), 12)
    async with Following({"directory": str(tmp_path)}) as f:
        for _ in range(3):
            assert await f.poll(3.0) == []
        assert f.total("kofagent_journald_unreadable_files_total", receiver="journald") == 2
        assert "newer systemd" in caplog.text
        sample(tmp_path / "a.journal")
        assert len(await f.poll() + await f.poll()) == COUNT, "it is tried again"


@pytest.mark.parametrize("compression", ["xz", "lz4", "zstd"])
def test_what_unpacks_to_much_takes_little(compression: str) -> None:
    bomb = pack(compression, b"A=" + bytes(24 << 20))
    flags = FLAG[compression]
    packed.unpack(flags, pack(compression, b"A=1"), 10)  # imported before it is measured
    tracemalloc.start()
    try:
        try:
            plain, whole = packed.unpack(flags, bomb, 4096)
        except Damaged:
            assert compression == "lz4"
        else:
            assert (len(plain), whole) == (4096, False)
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compression", ["xz", "lz4", "zstd"])
@pytest.mark.parametrize("cut", [0, 1, 5, 9, -1, -4])
def test_what_is_cut_off_is_damaged_or_not_whole(compression: str, cut: int) -> None:
    data = pack(compression, b"A=" + os.urandom(100) + bytes(1000))
    try:
        _, whole = packed.unpack(FLAG[compression], data[:cut], 2000)
    except Damaged:
        return
    assert not whole


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.xz")), ids=lambda path: path.name)
async def test_files_that_systemd_wrote(path: Path, tmp_path: Path) -> None:
    """Kept with what journalctl showed of them, so that this needs no systemd."""
    copy = tmp_path / "a.journal"
    copy.write_bytes(lzma.decompress(path.read_bytes()))
    shown = [json.loads(line) for line in path.with_suffix(".json").read_text().splitlines()]
    async with Following({"files": [str(copy)], "priority": "debug"}) as f:
        await f.poll()
        assert f.bodies() == shown


def test_there_are_such_files() -> None:
    assert len(list(GOLDEN.glob("*.xz"))) == 5
