"""What is in the files comes once and in order, while they grow, are rotated, copied and deleted, and over restarts."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from kofagent.receivers.journald import cursor, receiver
from kofagent.telemetry.refused import Refused
from tests.receivers.journald.support import Following, read
from tests.support.components import Sink
from tests.support.drivers import Store
from tests.support.journal_files import FLAG, JournalWriter, write

OTHER_BOOT = bytes.fromhex("33" * 16)


def journal(path: Path, *messages: str, **options: Any) -> JournalWriter:
    return write(path / "system.journal", messages, **options)


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize("compression", FLAG)
async def test_every_form_of_the_format_is_read(tmp_path: Path, compact: bool, compression: str) -> None:
    messages = [f"{i} " + "x" * 100 for i in range(50)]
    journal(tmp_path, *messages, compact=compact, compression=compression)
    assert [b["MESSAGE"] for b in await read(tmp_path)] == messages


async def test_an_entry_is_the_map_that_journalctl_shows(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "system.journal")
    writer.append(
        "MESSAGE=hello\tthere\nyou",
        "PRIORITY=6",
        "FOO=1",
        "FOO=2",
        "LONG=" + "x" * 4091,
        "FITS=" + "x" * 4090,
        b"BYTES=\x1b[1m\xff",
        "CONTROL=a\x85b",
        "NO_CHARACTER=a\ufdd0",
        "EMPTY=",
        "lower=no field",
        "no field",
        "_BOOT_ID=" + "44" * 16,
    )
    (body,) = await read(tmp_path)
    assert body == {
        "__REALTIME_TIMESTAMP": "1700000001000000",
        "__MONOTONIC_TIMESTAMP": "1000000",
        "__CURSOR": body["__CURSOR"],
        "_BOOT_ID": "11" * 16,
        "MESSAGE": "hello\tthere\nyou",
        "PRIORITY": "6",
        "FOO": ["1", "2"],
        "LONG": None,
        "FITS": "x" * 4090,
        "BYTES": [27, 91, 49, 109, 255],
        "CONTROL": [97, 194, 133, 98],
        "NO_CHARACTER": [97, 239, 183, 144],
        "EMPTY": "",
    }
    place = cursor.parse(body["__CURSOR"])
    assert (place.seqnum_id, place.seqnum, place.boot_id) == (writer.seqnum_id, 1, writer.boot)


async def test_long_values_and_messages_of_bytes(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "system.journal", compression="zstd")
    writer.append(b"MESSAGE=\x1b[1m\xff", "LONG=" + "x" * 100_000)
    writer.append("MESSAGE=" + "y" * 70_000, "TOO_LONG=" + "z" * (5 << 20))
    first, second = await read(tmp_path, all=True, convert_message_bytes=True)
    assert first["MESSAGE"] == "\x1b[1m\ufffd" and first["LONG"] == "x" * 100_000
    assert second["MESSAGE"] == "y" * 70_000 and second["TOO_LONG"] is None
    first, second = await read(tmp_path)
    assert first["MESSAGE"] == [27, 91, 49, 109, 255] and first["LONG"] is None and second["MESSAGE"] is None


async def test_what_is_written_is_followed_over_rotations(tmp_path: Path) -> None:
    writer = journal(tmp_path, "1", "2")
    async with Following({"directory": str(tmp_path)}) as f:
        assert await f.poll() == ["1", "2"]
        expected = 3
        for _ in range(4):
            for _ in range(7):
                writer.append(f"MESSAGE={expected}", "PRIORITY=6")
                expected += 1
            writer = writer.rotate()
            writer.append(f"MESSAGE={expected}", "PRIORITY=6")
            expected += 1
            await f.poll()
        await f.poll()
        assert [b["MESSAGE"] for b in f.bodies()] == [str(i) for i in range(1, expected)]
        assert len(f.receiver._journal.tails) == 1, "rotated files that were read are closed"


async def test_a_file_that_is_deleted_is_read_to_its_end(tmp_path: Path) -> None:
    writer = journal(tmp_path, "1")
    async with Following({"directory": str(tmp_path)}) as f:
        await f.poll()
        for i in range(2, 5):
            writer.append(f"MESSAGE={i}", "PRIORITY=6")
        os.unlink(writer.path)
        assert await f.poll() == ["2", "3", "4"]
        await f.poll()
        assert not f.receiver._journal.tails
        journal(tmp_path, "5")
        assert await f.poll() + await f.poll() == ["5"]


async def test_what_is_deleted_is_let_go_beside_what_cannot_be_read(tmp_path: Path) -> None:
    writer = journal(tmp_path, "1")
    async with Following({"files": [str(writer.path), str(tmp_path / "missing.journal")]}) as f:
        assert await f.poll() == ["1"]
        os.unlink(writer.path)
        await f.poll()
        assert not f.receiver._journal.tails


async def test_a_new_file_with_the_inode_of_one_that_was_done_is_another_one(tmp_path: Path) -> None:
    writer = journal(tmp_path, "1")
    path = writer.archive()
    async with Following({"directory": str(tmp_path)}) as f:
        assert await f.poll() + await f.poll() == ["1"]
        assert not f.receiver._journal.tails
        key = next(iter(f.receiver._journal._done))
        other = write(tmp_path / "other.journal", ["2"])
        content = other.path.read_bytes()
        os.unlink(other.path)
        path.write_bytes(content)  # keeps the inode, as a file system that gives it again
        assert (path.stat().st_dev, path.stat().st_ino) == key
        assert await f.poll() + await f.poll() == ["2"]


async def test_files_that_one_journald_writes_come_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    system = JournalWriter(tmp_path / "system.journal")
    user = JournalWriter(tmp_path / "user-1000.journal", seqnum_id=system.seqnum_id)
    third = JournalWriter(tmp_path / "user-1001.journal", seqnum_id=system.seqnum_id)
    rng = random.Random(1)
    number = 0
    async with Following({"directory": str(tmp_path)}) as f:
        for _ in range(20):
            for _ in range(rng.randrange(12)):
                number += 1
                # clocks that jump change nothing
                rng.choice([system, user, third]).append(
                    f"MESSAGE={number}", "PRIORITY=6", seqnum=number, realtime=10**15 + rng.randrange(1000), monotonic=number
                )
            await f.poll()
        await f.poll()
        assert [b["MESSAGE"] for b in f.bodies()] == [str(i + 1) for i in range(number)]


async def test_what_is_written_between_two_looks_at_the_files_does_not_overtake(tmp_path: Path) -> None:
    """The header of one file is read before that of the other, in which a later entry is by then."""
    system = JournalWriter(tmp_path / "system.journal")
    user = JournalWriter(tmp_path / "user-1000.journal", seqnum_id=system.seqnum_id)
    system.append("MESSAGE=1", "PRIORITY=6", seqnum=1)
    async with Following({"directory": str(tmp_path)}) as f:
        assert await f.poll() == ["1"]
        tails = {os.path.basename(t.file.path): t for t in f.receiver._journal.tails.values()}
        refresh = tails["user-1000.journal"].file.refresh
        calls = []

        def raced() -> bool:
            if not calls:
                calls.append(1)
                system.append("MESSAGE=2", "PRIORITY=6", seqnum=2)
                user.append("MESSAGE=3", "PRIORITY=6", seqnum=3)
            return refresh()

        tails["user-1000.journal"].file.refresh = raced
        names = [os.path.basename(t.file.path) for t in f.receiver._journal.tails.values()]
        got = await f.poll() + await f.poll()
        assert got == ["2", "3"], names


async def test_journals_of_several_are_merged_by_the_clock(tmp_path: Path) -> None:
    one = JournalWriter(tmp_path / "a.journal")
    two = JournalWriter(tmp_path / "b.journal")
    for second in range(1, 20):
        (one if second % 3 else two).append(f"MESSAGE={second}", "PRIORITY=6", realtime=10**15 + second, monotonic=second)
    later = JournalWriter(tmp_path / "c.journal", boot=OTHER_BOOT)
    later.append("MESSAGE=20", "PRIORITY=6", realtime=10**15 + 20, monotonic=1)
    assert [b["MESSAGE"] for b in await read(tmp_path)] == [str(i) for i in range(1, 21)]


async def test_a_copy_of_a_file_brings_nothing_twice(tmp_path: Path) -> None:
    writer = journal(tmp_path, "1", "2", "3")
    shutil.copy(writer.path, tmp_path / "copy.journal")
    async with Following({"directory": str(tmp_path)}) as f:
        assert await f.poll() == ["1", "2", "3"]
        shutil.copy(writer.path, tmp_path / "later.journal")
        writer.append("MESSAGE=4", "PRIORITY=6")
        assert await f.poll() + await f.poll() == ["4"]


async def test_entries_that_say_the_same_at_the_same_time_are_two(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "system.journal")
    for _ in range(2):
        writer.append("MESSAGE=again", "PRIORITY=6", realtime=10**15, monotonic=5)
    assert [b["MESSAGE"] for b in await read(tmp_path)] == ["again", "again"]


@pytest.mark.parametrize("renumbered", [True, False])
async def test_what_is_flushed_from_run_to_var_comes_once(tmp_path: Path, renumbered: bool) -> None:
    """journald copies all entries; newer ones number them on, older ones begin with other numbers of another journald."""
    volatile = journal(tmp_path, "1", "2", "3")
    async with Following({"directory": str(tmp_path)}) as f:
        assert await f.poll() == ["1", "2", "3"]
        volatile.append("MESSAGE=4", "PRIORITY=6", "_HOSTNAME=node-1")
        assert await f.poll() == ["4"]
        new = JournalWriter(
            tmp_path / "var.journal", seqnum_id=volatile.seqnum_id if renumbered else None, seqnum=4 if renumbered else 0
        )
        for i in range(1, 5):
            new.append(
                f"MESSAGE={i}", "PRIORITY=6", "_HOSTNAME=node-1", realtime=1_700_000_000_000_000 + i * 10**6, monotonic=i * 10**6
            )
        os.unlink(volatile.path)
        new.append("MESSAGE=5", "PRIORITY=6", realtime=1_700_000_010_000_000, monotonic=10**7)
        assert await f.poll() + await f.poll() == ["5"]


async def test_at_the_end_only_what_comes_is_read(tmp_path: Path) -> None:
    writer = journal(tmp_path, *map(str, range(100)))
    async with Following({"directory": str(tmp_path), "start_at": "end"}) as f:
        assert await f.poll() == []
        writer.append("MESSAGE=new", "PRIORITY=6")
        assert await f.poll() + await f.poll() == ["new"]
        # a file that comes later is new as a whole
        write(tmp_path / "later.journal", ["later"])
        assert await f.poll() + await f.poll() == ["later"]


async def test_a_restart_goes_on_behind_what_was_taken(tmp_path: Path) -> None:
    store = Store()
    writer = journal(tmp_path, "1", "2")
    options = {"directory": str(tmp_path)}
    async with Following(options, store=store) as f:
        assert await f.poll() == ["1", "2"]
    assert (await store.get("lastReadCursor") or b"").startswith(b"s=" + writer.seqnum_id.hex().encode() + b";i=2;")
    writer.append("MESSAGE=3", "PRIORITY=6")
    writer = writer.rotate()
    writer.append("MESSAGE=4", "PRIORITY=6")
    other = write(tmp_path / "other.journal", [])
    # of another journald: what is older than the newest entry that was taken was there before, what is newer was not
    other.append("MESSAGE=old", "PRIORITY=6", boot=OTHER_BOOT, realtime=1_600_000_000_000_000)
    other.append("MESSAGE=5", "PRIORITY=6", boot=OTHER_BOOT, realtime=1_800_000_000_000_000)
    async with Following(options, store=store) as f:
        assert await f.poll() + await f.poll() == ["3", "4", "5"]
    async with Following(options, store=store) as f:
        assert await f.poll() + await f.poll() == []
        writer.append("MESSAGE=6", "PRIORITY=6")
        assert await f.poll() + await f.poll() == ["6"]


async def test_after_a_restart_another_journald_goes_on_by_the_clock_of_the_boot(tmp_path: Path) -> None:
    """Such as that of /var, to which entries were copied from /run while nobody read."""
    store = Store()
    writer = journal(tmp_path, "1", "2")
    async with Following({"directory": str(tmp_path)}, store=store) as f:
        assert await f.poll() == ["1", "2"]
    os.unlink(writer.path)
    # the clock of the day went back; that of the boot tells
    other = JournalWriter(tmp_path / "var.journal")
    for i in range(1, 5):
        other.append(f"MESSAGE={i}", "PRIORITY=6", realtime=1_500_000_000_000_000 + i, monotonic=i * 10**6)
    async with Following({"directory": str(tmp_path)}, store=store) as f:
        assert await f.poll() + await f.poll() == ["3", "4"]


async def test_what_this_boot_says_is_new_after_a_restart_whatever_the_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A volatile journal is another one after each boot, and the clock may be wrong until it is set."""
    store = Store()
    writer = journal(tmp_path, "1")
    async with Following({"directory": str(tmp_path)}, store=store) as f:
        assert await f.poll() == ["1"]
    os.unlink(writer.path)
    (tmp_path / "boot").write_text(OTHER_BOOT.hex())
    monkeypatch.setattr(receiver, "BOOT_ID", str(tmp_path / "boot"))
    other = JournalWriter(tmp_path / "next.journal", boot=OTHER_BOOT)
    other.append("MESSAGE=2", "PRIORITY=6", realtime=1, monotonic=1)
    async with Following({"directory": str(tmp_path)}, store=store) as f:
        assert await f.poll() + await f.poll() == ["2"]


async def test_a_restart_before_anything_was_taken_begins_where_the_first_start_was(tmp_path: Path) -> None:
    store = Store()
    writer = journal(tmp_path, "1", "2")
    options = {"directory": str(tmp_path), "start_at": "end"}
    async with Following(options, store=store) as f:
        assert await f.poll() == []
    writer.append("MESSAGE=3", "PRIORITY=6")
    async with Following(options, store=store) as f:
        assert await f.poll() + await f.poll() == ["3"]


async def test_nothing_is_lost_or_doubled_while_the_pipeline_takes_nothing(tmp_path: Path) -> None:
    store = Store()
    writer = journal(tmp_path, "1", "2")
    sink = Sink()
    sink.refuse = Refused("sending queue full")
    async with Following({"directory": str(tmp_path)}, store=store, sink=sink) as f:
        await f.poll()
        assert sink.count == 0
    assert await store.keys("cursor/") == []
    writer.append("MESSAGE=3", "PRIORITY=6")
    async with Following({"directory": str(tmp_path)}, store=store) as f:
        assert await f.poll() + await f.poll() == ["1", "2", "3"]
        assert f.total("kofagent_dropped_items_total", component="journald", signal="logs", reason="shutdown") == 0


async def test_what_waits_for_room_at_the_stop_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a storage it is lost then, all of it."""
    monkeypatch.setattr(receiver, "PARCEL_BYTES", 1)
    monkeypatch.setattr(receiver, "_STOP_S", 0.5)
    journal(tmp_path, "1", "2", "3")
    sink = Sink()
    sink.refuse = Refused("sending queue full")
    f = Following({"directory": str(tmp_path)}, sink=sink)
    await f.receiver.start()
    await sink.called.wait()
    await f.receiver.stop()
    seen = f.total("kofagent_dropped_items_total", component="journald", signal="logs", reason="shutdown")
    assert seen == 2, "the batch that was refused and the one that waited; the third was not read"
    assert sink.count == 0


async def test_what_operators_hold_is_read_again_after_a_restart(tmp_path: Path) -> None:
    store = Store()
    writer = journal(tmp_path, "a1", "a2", "b1")
    move = {"type": "move", "from": "body.MESSAGE", "to": "body"}
    join = {"type": "recombine", "combine_field": "body", "is_first_entry": "body endsWith '1'", "force_flush_period": "1h"}
    options = {"directory": str(tmp_path), "operators": [move, join]}
    async with Following(options, store=store) as f:
        assert await f.poll() == ["a1\na2"]
    assert b";i=2;" in (await store.get("lastReadCursor") or b"")
    writer.append("MESSAGE=b2", "PRIORITY=6")
    writer.append("MESSAGE=c1", "PRIORITY=6")
    async with Following(options, store=store) as f:
        assert await f.poll() + await f.poll() == ["b1\nb2"]


async def test_what_was_removed_while_nobody_read_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    writer = journal(tmp_path, "1")
    async with Following({"directory": str(tmp_path)}, store=store) as f:
        await f.poll()
    for i in range(2, 7):
        writer.append(f"MESSAGE={i}", "PRIORITY=6")
    later = writer.rotate()
    for path in tmp_path.glob("*@*"):
        path.unlink()
    later.append("MESSAGE=7", "PRIORITY=6")
    async with Following({"directory": str(tmp_path)}, store=store) as f:
        assert await f.poll() + await f.poll() == ["7"]
    assert "up to 5 entries were removed" in caplog.text
