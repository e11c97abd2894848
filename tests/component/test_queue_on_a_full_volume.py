"""A queue on a volume that is full, by itself or from outside, or read-only: it is emptied all the same, and takes data again.

The volume is a real one of 16 MiB. Where this user may not mount one, these tests are skipped, which is printed. A quota that is used
up (EDQUOT) is not tried for real: root is exempt from quotas. In the code it is one case with a full volume.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kofagent.cli.state import State, find_state
from kofagent.component.protocols import StartError
from kofagent.extensions.file_storage import COMPONENT as FILE_STORAGE
from kofagent.telemetry.refused import Refused
from tests.component.test_disk_queue import Backend, logs, make, queued
from tests.support.components import FakeHost, eventually, make_context, validated
from tests.support.queue_disk import Disk


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """An empty file system of 16 MiB."""
    folder = tmp_path / "volume"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"not tried: this user may not mount a file system ({done.stderr.strip()})")
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


class Agent:
    """A queue in a storage extension on the volume."""

    def __init__(self, folder: Path, backend: Backend, **queue: Any) -> None:
        self.host = FakeHost(budget=0)
        self.storage = FILE_STORAGE(
            validated(FILE_STORAGE, {"directory": str(folder)}), make_context("extensions", "file_storage", self.host)
        )
        self.queue = make(backend, self.storage, self.host, queue_size=100_000, num_consumers=2, **queue)

    async def __aenter__(self) -> Agent:
        await self.storage.start()
        await self.queue.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.queue.stop()
        await self.storage.stop()

    async def offer(self, number: int) -> bool:
        try:
            await self.queue.consume(logs(payload(number)))
        except Refused:
            return False
        return True

    def dropped(self, reason: str) -> float:
        return self.host.ledger.total("kofagent_dropped_items_total", component="otlphttp", signal="logs", reason=reason)


def payload(number: int) -> bytes:
    return b"%08d" % number + b"x" * 99_992


def arrived(backend: Backend) -> list[int]:
    return [int(batch.payload[:8]) for batch in backend.taken]


async def test_filled_by_itself_it_is_emptied_after_a_restart_and_takes_data_again(volume: Path) -> None:
    backend = Backend(up=False)
    async with Agent(volume, backend) as agent:
        taken = [n for n in range(200) if await agent.offer(n)]
        assert 120 < len(taken) < 168 and taken == list(range(len(taken)))
        assert "free on the volume" in str(agent.host.statuses["exporters/otlphttp"])
    (volume / "rest").write_bytes(b"x" * (os.statvfs(volume).f_bavail * 4096))
    assert os.statvfs(volume).f_bavail == 0
    backend.up = True
    async with Agent(volume, backend) as agent:
        await eventually(lambda: queued(agent.host) == 0)
        assert sorted(arrived(backend)) == taken
        assert await agent.offer(500)
        await eventually(lambda: 500 in arrived(backend))
    async with Agent(volume, backend) as agent:
        assert queued(agent.host) == 0
    assert len(backend.taken) == len(taken) + 1, "nothing was sent twice"


async def test_filled_from_outside_it_is_emptied_and_takes_data_when_there_is_room(volume: Path) -> None:
    backend = Backend(up=False)
    async with Agent(volume, backend) as agent:
        assert all([await agent.offer(n) for n in range(10)])
        (volume / "other").write_bytes(b"x" * (os.statvfs(volume).f_bavail * 4096))
        assert not await agent.offer(10)
        backend.up = True
        await eventually(lambda: queued(agent.host) == 0)
        assert not await agent.offer(11)
        (volume / "other").unlink()
        assert await agent.offer(12)
        await eventually(lambda: queued(agent.host) == 0)
    assert sorted(arrived(backend)) == [*range(10), 12]


async def test_a_first_start_on_a_volume_without_room_for_a_file_refuses_data_until_there_is(volume: Path) -> None:
    subprocess.run(["mount", "-o", "remount,nr_inodes=10", str(volume)], check=True)
    backend = Backend()
    for n in range(100):
        try:
            (volume / f"{n}").write_bytes(b"")
        except OSError:
            break
    async with Agent(volume, backend) as agent:
        assert not await agent.offer(0)
        for path in volume.iterdir():
            path.unlink()
        assert await agent.offer(1)
        await eventually(lambda: arrived(backend) == [1])
    async with Agent(volume, backend) as agent:
        assert await agent.offer(2)
        await eventually(lambda: arrived(backend) == [1, 2])


async def test_on_a_read_only_volume_it_does_not_start_with_a_sentence_and_continues_when_it_can_be_written(volume: Path) -> None:
    backend = Backend(up=False)
    async with Agent(volume, backend) as agent:
        assert all([await agent.offer(n) for n in range(5)])
    subprocess.run(["mount", "-o", "remount,ro", str(volume)], check=True)
    assert find_state(str(volume), "node", {}) == State("", f"{volume}/node cannot be used: Read-only file system")
    with pytest.raises(StartError, match=r"is not writable; give this user write permission"):
        await Agent(volume, backend).storage.start()
    backend.up = True
    subprocess.run(["mount", "-o", "remount,rw", str(volume)], check=True)
    async with Agent(volume, backend) as agent:
        await eventually(lambda: queued(agent.host) == 0)
    assert arrived(backend) == list(range(5))


async def test_drop_oldest_makes_room_on_a_full_volume(volume: Path) -> None:
    backend = Backend(up=False)
    async with Agent(volume, backend, storage_when_full="drop_oldest") as agent:
        assert all([await agent.offer(n) for n in range(300)])
        gone = int(agent.dropped("oldest dropped")) // 100_000
        assert 130 < gone < 230
        backend.up = True
        await eventually(lambda: queued(agent.host) == 0)
    got = sorted(arrived(backend))
    assert len(got) + gone == 300
    assert got[-90:] == list(range(210, 300)), "the newest are there"


async def test_what_the_disk_does_not_take_is_tried_again_before_more_is_sent() -> None:
    backend, disk, host = Backend(up=False), Disk(), FakeHost(budget=0)
    it = make(backend, disk, host, num_consumers=2, queue_size=1000)
    await it.start()
    for n in range(20):
        await it.consume(logs(b"%02d" % n))
    disk.readonly, backend.up = True, True
    await eventually(lambda: backend.taken)
    with pytest.raises(Refused, match="queue on disk"):
        await it.consume(logs(b"x"))
    await eventually(lambda: "Read-only" in (host.statuses["exporters/otlphttp"] or ""))
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(backend.taken) <= 2, "as many as there are consumers"
    disk.readonly = False
    await eventually(lambda: queued(host) == 0)
    assert sorted(backend.payloads) == [b"%02d" % n for n in range(20)], "and none twice"
    assert not disk.waiting
    await it.consume(logs(b"x"))
    await eventually(lambda: b"x" in backend.payloads)
    await it.stop()
