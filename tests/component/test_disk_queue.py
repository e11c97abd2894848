"""`sending_queue.storage`: the disk is an owner. What it took is delivered once, over outages, stops and starts, or counted."""

from __future__ import annotations

import asyncio
import errno
import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kofagent.component.checkpoints import MemoryStore
from kofagent.component.disk_queue import AT_HAND_BYTES
from kofagent.component.requests import Rejected
from kofagent.component.sending import Sending
from kofagent.component.splitting import OtlpRequest, otlp_requests
from kofagent.component.stored import Entry
from kofagent.config.blocks import QueueBlock, RetryBlock
from kofagent.extensions.file_storage import COMPONENT as FILE_STORAGE
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from tests.support.components import FakeHost, eventually, make_context, validated


class Disk(MemoryStore):
    """A store that outlives its closing; `full` makes writing fail, `gate` makes it wait."""

    def __init__(self) -> None:
        super().__init__()
        self.full = False
        self.unreadable = False
        self.gate: asyncio.Event | None = None
        self.opened = ""
        self.writes = 0

    async def open_store(self, kind: str, id: str, name: str = "") -> Disk:
        self.opened = f"{kind} {id} {name}"
        return self

    async def get(self, key: str) -> bytes | None:
        if self.unreadable:
            raise OSError(errno.EIO, "Input/output error")
        return await super().get(key)

    async def apply(self, changes: Mapping[str, bytes | None]) -> None:
        self.writes += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        await super().apply(changes)


class Backend:
    """Takes payloads while `up`; answers with `answer` when that is set; `gate` makes it wait."""

    def __init__(self, up: bool = True) -> None:
        self.up = up
        self.answer: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.taken: list[Batch] = []
        self.tries = 0

    async def send(self, request: OtlpRequest) -> Rejected | None:
        self.tries += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.answer is not None:
            raise self.answer
        if not self.up:
            raise Refused("http 503")
        self.taken.append(request.batch)
        return None

    @property
    def payloads(self) -> list[bytes]:
        return [batch.payload for batch in self.taken]


def logs(payload: bytes, metadata: dict[str, tuple[str, ...]] | None = None) -> Batch:
    return Batch(Signal.LOGS, payload, len(payload), metadata)


def make(
    backend: Backend, disk: Any, host: FakeHost, merge: int = 0, retry: dict[str, Any] | None = None, **queue: Any
) -> Sending[Batch, OtlpRequest]:
    host.extensions["file_storage"] = disk
    options = {"initial_interval": "1ms", "max_interval": "2ms", "max_elapsed_time": 0, **(retry or {})}
    return Sending(
        make_context("exporters", "otlphttp", host),
        lambda batch, drop: otlp_requests(batch, 0),
        backend.send,
        merge_items=merge,
        queue=QueueBlock.model_validate({"storage": "file_storage", **queue}),
        retry=RetryBlock.model_validate(options),
    )


def queued(host: FakeHost) -> float:
    return host.ledger.total("otelcol_exporter_queue_size", exporter="otlphttp")


async def test_the_answer_comes_when_it_is_on_disk_and_a_restart_goes_on() -> None:
    backend, disk, host = Backend(up=False), Disk(), FakeHost()
    it = make(backend, disk, host)
    await it.start()
    assert disk.opened == "exporters otlphttp "
    for payload in (b"a", b"bb", b"ccc"):
        await it.consume(logs(payload, {"tenant": ("x", "y")} if payload == b"bb" else None))
    assert queued(host) == 3
    await eventually(lambda: backend.tries > 3)
    await it.stop()
    assert not backend.taken and len(disk.values) == 3 and host.reserved == 0
    assert host.ledger.total("otelcol_exporter_send_failed_log_records_total", exporter="otlphttp") == 0

    host = FakeHost()
    backend.up = True
    it = make(backend, disk, host, num_consumers=1)
    await it.start()
    await eventually(lambda: len(backend.taken) == 3)
    await it.consume(logs(b"dddd"))
    await eventually(lambda: len(backend.taken) == 4 and not disk.values)
    assert backend.payloads == [b"a", b"bb", b"ccc", b"dddd"]
    assert [batch.metadata for batch in backend.taken] == [None, {"tenant": ("x", "y")}, None, None]
    assert host.ledger.total("otelcol_exporter_sent_log_records_total", exporter="otlphttp") == 10
    assert queued(host) == 0 and host.reserved == 0
    await it.stop()


async def test_what_the_backend_never_takes_is_dropped_and_counted() -> None:
    backend, disk, host = Backend(), Disk(), FakeHost()
    backend.answer = Refused("http 400", permanent=True)
    it = make(backend, disk, host)
    await it.start()
    await it.consume(logs(b"abc"))
    await eventually(lambda: not disk.values)
    assert host.ledger.total("kofagent_dropped_items_total", component="otlphttp", signal="logs", reason="http 400") == 3
    assert queued(host) == 0
    await it.stop()


@pytest.mark.parametrize("retry", [{"max_elapsed_time": "20ms"}, {"enabled": False}])
async def test_out_of_retries_is_a_counted_drop_for_nobody_else_has_it(
    retry: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    backend, disk, host = Backend(up=False), Disk(), FakeHost()
    it = make(backend, disk, host, retry=retry)
    await it.start()
    await it.consume(logs(b"abc"))
    await eventually(lambda: not disk.values)
    assert host.statuses == {"exporters/otlphttp": "http 503"}
    consequence = "sending failed, will try again" if "enabled" not in retry else "dropped 3 log_records, out of retries"
    assert caplog.messages == [f"{consequence}: http 503"], "once for each reason"
    assert host.ledger.total("kofagent_dropped_items_total", component="otlphttp", signal="logs", reason="http 503") == 3
    assert host.ledger.total("otelcol_exporter_send_failed_log_records_total", exporter="otlphttp") == 3
    await it.stop()


async def test_a_full_disk_refuses_and_then_goes_on() -> None:
    backend, disk, host = Backend(), Disk(), FakeHost()
    it = make(backend, disk, host)
    await it.start()
    disk.full = True
    with pytest.raises(Refused) as refused:
        await it.consume(logs(b"abc"))
    assert not refused.value.permanent and "No space left" in str(refused.value)
    assert host.ledger.total("otelcol_exporter_enqueue_failed_log_records_total", exporter="otlphttp") == 3
    assert queued(host) == 0
    disk.full = False
    await it.consume(logs(b"abc"))
    await eventually(lambda: backend.payloads == [b"abc"])
    await it.stop()


async def test_batches_that_come_at_once_are_written_together_and_each_has_its_answer() -> None:
    backend, disk, host = Backend(up=False), Disk(), FakeHost()
    it = make(backend, disk, host)
    await it.start()
    disk.gate = asyncio.Event()
    calls = [asyncio.create_task(it.consume(logs(b"x" * n))) for n in range(1, 21)]
    await eventually(lambda: queued(host) == 20)
    disk.full = True
    disk.gate.set()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(answer, Refused) for answer in answers)
    assert disk.writes <= 2
    assert queued(host) == 0 and not disk.values
    disk.full = False
    await asyncio.gather(*(it.consume(logs(b"x" * n)) for n in range(1, 21)))
    assert disk.writes <= 5 and len(disk.values) == 20
    backend.up = True
    await eventually(lambda: not disk.values)
    assert sorted(backend.payloads) == [b"x" * n for n in range(1, 21)]
    await it.stop()


async def test_a_full_queue_refuses_and_what_an_earlier_run_left_counts() -> None:
    backend, disk, host = Backend(up=False), Disk(), FakeHost()
    it = make(backend, disk, host, sizer="items", queue_size=5)
    await it.start()
    await it.consume(logs(b"abc"))
    await it.stop()
    it = make(backend, disk, host, sizer="items", queue_size=5)
    await it.start()
    assert queued(host) == 3
    with pytest.raises(Refused, match="sending queue full"):
        await it.consume(logs(b"def"))
    await it.consume(logs(b"de"))
    await it.stop()


@pytest.mark.parametrize(
    "change, kept",
    [
        (lambda value: value[:-1], b""),
        (lambda value: b"\xff" * len(value), b""),
        (lambda value: b"", b""),
        (lambda value: value, b"abc"),
    ],
)
async def test_a_damaged_entry_is_counted_and_the_others_go_on(change: Any, kept: bytes) -> None:
    backend, disk, host = Backend(up=False), Disk(), FakeHost()
    it = make(backend, disk, host)
    await it.start()
    await it.consume(logs(b"abc", {"a": ("b",)}))
    await it.consume(logs(b"z"))
    await it.stop()
    first = min(disk.values)
    disk.values[first] = change(disk.values[first])
    disk.values["queue/of another version"] = b""
    backend.up = True
    it = make(backend, disk, host)
    await it.start()
    await eventually(lambda: b"z" in backend.payloads and list(disk.values) == ["queue/of another version"])
    assert sorted(backend.payloads) == sorted(p for p in (kept, b"z") if p)
    assert host.ledger.sum("kofagent_dropped_items_total") == (0 if kept else 3)
    assert queued(host) == 0
    await it.stop()


async def test_a_disk_that_cannot_be_read_for_a_while_loses_nothing() -> None:
    backend, disk, host = Backend(up=False), Disk(), FakeHost(budget=0)
    it = make(backend, disk, host)
    await it.start()
    disk.unreadable = True
    await it.consume(logs(b"abc"))
    await eventually(lambda: "Input/output error" in (host.statuses.get("exporters/otlphttp") or ""))
    await it.stop()
    assert len(disk.values) == 1
    backend.up = True
    it = make(backend, disk, host)
    await it.start()
    await eventually(lambda: "Input/output error" in (host.statuses.get("exporters/otlphttp") or ""))
    disk.unreadable = False
    await eventually(lambda: backend.payloads == [b"abc"])
    assert host.ledger.sum("kofagent_dropped_items_total") == 0
    await it.stop()


async def test_what_waits_goes_together_but_not_with_metadata_or_another_signal() -> None:
    backend, disk, host = Backend(), Disk(), FakeHost()
    backend.gate = asyncio.Event()
    it = make(backend, disk, host, merge=6, num_consumers=1)
    await it.start()
    await it.consume(logs(b"first"))
    await eventually(lambda: backend.tries == 1)
    for batch in (
        logs(b"ab"),
        logs(b"cd"),
        logs(b"ef"),
        logs(b"g"),
        logs(b"h", {"t": ("1",)}),
        logs(b"i"),
        Batch(Signal.TRACES, b"t", 1),
    ):
        await it.consume(batch)
    backend.gate.set()
    await eventually(lambda: not disk.values)
    assert backend.payloads == [b"first", b"abcdef", b"g", b"h", b"i", b"t"]
    await it.stop()


async def test_a_large_backlog_is_on_disk_and_not_in_memory() -> None:
    backend, disk, host = Backend(up=False), Disk(), FakeHost()
    it = make(backend, disk, host, num_consumers=1)
    await it.start()
    payloads = [bytes([65 + i]) * (AT_HAND_BYTES // 4) for i in range(8)]
    for payload in payloads:
        await it.consume(logs(payload))
    assert 0 < host.reserved <= AT_HAND_BYTES
    backend.up = True
    await eventually(lambda: not disk.values)
    assert backend.payloads == payloads
    assert host.reserved == 0
    backend.up = False
    for payload in payloads:
        await it.consume(logs(payload))
    assert host.reserved > 0, "there is room in memory again"
    await it.stop()


async def test_without_memory_to_spare_it_takes_data_all_the_same() -> None:
    backend, disk, host = Backend(up=False), Disk(), FakeHost(budget=0)
    it = make(backend, disk, host)
    await it.start()
    await it.consume(logs(b"abc"))
    backend.up = True
    await eventually(lambda: backend.payloads == [b"abc"])
    await it.stop()


async def test_who_gives_up_waiting_for_the_disk_was_promised_nothing() -> None:
    backend, disk, host = Backend(), Disk(), FakeHost()
    it = make(backend, disk, host)
    await it.start()
    disk.gate = asyncio.Event()
    call = asyncio.create_task(it.consume(logs(b"abc")))
    await eventually(lambda: queued(host) == 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    disk.gate.set()
    await eventually(lambda: queued(host) == 0)
    await it.stop()
    assert not disk.values and not backend.taken


async def test_a_stop_does_not_wait_for_a_backend_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kofagent.component.sending.SHUTDOWN_SECONDS", 0.05)
    backend, disk, host = Backend(), Disk(), FakeHost()
    backend.gate = asyncio.Event()
    it = make(backend, disk, host)
    await it.start()
    await it.consume(logs(b"abc"))
    await eventually(lambda: backend.tries == 1)
    await it.stop()
    assert len(disk.values) == 1
    backend.gate = None
    it = make(backend, disk, host)
    await it.start()
    await eventually(lambda: backend.payloads == [b"abc"])
    await it.stop()


@pytest.mark.parametrize("seed", range(20))
async def test_each_batch_once_over_outages_and_restarts(tmp_path: Path, seed: int) -> None:
    """A model: real files, random outages, stops and starts; what was promised arrives once."""
    choose = random.Random(seed)
    backend, host = Backend(), FakeHost(budget=choose.choice([0, 1 << 20]))
    promised: Counter[bytes] = Counter()
    reasons: set[str] = set()
    number = 0

    async def run(steps: int) -> None:
        nonlocal number
        storage = FILE_STORAGE(
            validated(FILE_STORAGE, {"directory": str(tmp_path)}), make_context("extensions", "file_storage", host)
        )
        await storage.start()
        it = make(
            backend,
            storage,
            host,
            num_consumers=choose.randint(1, 4),
            queue_size=choose.choice([3, 1000]),
            merge=choose.choice([0, 50]),
        )
        await it.start()
        for _ in range(steps):
            if choose.random() < 0.3:
                backend.up = not backend.up
            number += 1
            payload = b"<%d>" % number
            try:
                await it.consume(logs(payload))
            except Refused as refused:
                reasons.add(refused.reason)
            else:
                promised[payload] += 1
            if choose.random() < 0.3:
                await asyncio.sleep(0)
        if not steps:
            await eventually(lambda: queued(host) == 0)
        await it.stop()
        await storage.stop()

    for _ in range(4):
        await run(choose.randint(1, 12))
    backend.up = True
    await run(0)
    assert reasons <= {"sending queue full"}
    assert Counter(b"<" + p for batch in backend.taken for p in batch.payload.split(b"<")[1:]) == promised
    assert host.reserved == 0


async def test_a_stop_ends_the_wait_for_room() -> None:
    backend, disk, host = Backend(up=False), Disk(), FakeHost()
    it = make(backend, disk, host, queue_size=1, block_on_overflow=True)
    await it.start()
    await it.consume(logs(b"a"))
    blocked = asyncio.create_task(it.consume(logs(b"b")))
    await eventually(lambda: backend.tries > 1)
    assert not blocked.done()
    await it.stop()
    async with asyncio.timeout(5):
        with pytest.raises(Refused, match="shutdown"):
            await blocked
    assert len(disk.values) == 1


async def test_a_queue_that_an_earlier_version_wrote_is_read() -> None:
    backend, disk, host = Backend(), Disk(), FakeHost()
    disk.values = {
        "queue/0000000000000007/logs/3/203": b"\0\0\0\0abc",
        "queue/000000000000000b/traces/1/201/m": b'\0\0\0\x0c{"t": ["1"]}x',
    }
    it = make(backend, disk, host, num_consumers=1, batch={"min_size": 100, "flush_timeout": "10ms"})
    await it.start()
    await eventually(lambda: not disk.values)
    assert [(b.signal, b.payload, b.count, b.metadata) for b in backend.taken] == [
        (Signal.LOGS, b"abc", 3, None),
        (Signal.TRACES, b"x", 1, {"t": ("1",)}),
    ]
    await it.consume(logs(b"z"))
    assert [Entry.parse(name).number for name in disk.values] == [12], "numbers go on"
    await it.stop()


async def test_a_defect_of_the_store_does_not_end_a_consumer(monkeypatch: pytest.MonkeyPatch) -> None:
    backend, disk, host = Backend(), Disk(), FakeHost(budget=0)
    failures = [RuntimeError("a defect")]
    get = disk.get

    async def fails(key: str) -> bytes | None:
        if failures:
            raise failures.pop()
        return await get(key)

    monkeypatch.setattr(disk, "get", fails)
    it = make(backend, disk, host, num_consumers=1)
    await it.start()
    await it.consume(logs(b"abc"))
    await eventually(lambda: backend.payloads == [b"abc"])
    await it.stop()


def test_keys_sort_as_the_batches_came() -> None:
    keys = [Entry.of(number, logs(b"x")).name for number in (0, 9, 10, 255, 256, 1 << 40)]
    assert keys == sorted(keys)
    assert [Entry.parse(key).number for key in keys] == [0, 9, 10, 255, 256, 1 << 40]
