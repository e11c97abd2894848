"""`sending_queue.storage`: the disk is an owner. What it took is delivered once, over outages, stops and starts, or counted."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kofagent.component.disk_queue import AT_HAND_BYTES
from kofagent.component.requests import Rejected
from kofagent.component.sending import Sending
from kofagent.component.splitting import OtlpRequest, otlp_requests
from kofagent.config.blocks import QueueBlock, RetryBlock
from kofagent.extensions.file_storage import COMPONENT as FILE_STORAGE
from kofagent.memory.pressure import PRESSURE, Level
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from tests.support.components import FakeHost, eventually, make_context, validated
from tests.support.memory import MIB, memory
from tests.support.queue_disk import Disk


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


def inherited(host: FakeHost) -> float:
    return host.ledger.total("kofagent_exporter_inherited_items_total", exporter="otlphttp", signal="logs")


def items_queued(host: FakeHost) -> float:
    return host.ledger.total("kofagent_exporter_queue_items", exporter="otlphttp", signal="logs", queue="disk")


def dropped(host: FakeHost, reason: str) -> float:
    return host.ledger.total("kofagent_dropped_items_total", component="otlphttp", signal="logs", reason=reason)


async def test_the_answer_comes_when_it_is_on_disk_and_a_restart_goes_on() -> None:
    backend, disk, host = Backend(up=False), Disk(), FakeHost()
    it = make(backend, disk, host)
    await it.start()
    assert disk.opened == "exporters otlphttp"
    for payload in (b"a", b"bb", b"ccc"):
        await it.consume(logs(payload, {"tenant": ("x", "y")} if payload == b"bb" else None))
    assert queued(host) == 3
    await eventually(lambda: backend.tries > 3)
    await it.stop()
    assert not backend.taken and len(disk.waiting) == 3 and host.reserved == 0
    assert host.ledger.total("otelcol_exporter_send_failed_log_records_total", exporter="otlphttp") == 0

    host = FakeHost()
    backend.up = True
    it = make(backend, disk, host, num_consumers=1)
    await it.start()
    await eventually(lambda: len(backend.taken) == 3)
    await it.consume(logs(b"dddd"))
    await eventually(lambda: len(backend.taken) == 4 and not disk.waiting)
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
    await eventually(lambda: not disk.waiting)
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
    await eventually(lambda: not disk.waiting)
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
    disk.gate = threading.Event()
    calls = [asyncio.create_task(it.consume(logs(b"x" * n))) for n in range(1, 21)]
    await eventually(lambda: queued(host) == 20)
    disk.full = True
    disk.gate.set()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(answer, Refused) for answer in answers)
    assert disk.writes <= 2
    assert queued(host) == 0 and not disk.waiting
    disk.full = False
    await asyncio.gather(*(it.consume(logs(b"x" * n)) for n in range(1, 21)))
    assert disk.writes <= 5 and len(disk.waiting) == 20
    backend.up = True
    await eventually(lambda: not disk.waiting)
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
    "at, kept",
    [(range(4), b""), (range(20, 24), b""), (range(48, 60), b""), (range(60, 63), b""), (range(4, 5), b"abc"), (range(0), b"abc")],
    ids=["magic", "header", "metadata", "payload", "status", "nothing"],
)
async def test_a_damaged_record_is_counted_and_the_others_go_on(at: range, kept: bytes) -> None:
    backend, disk, host = Backend(up=False), Disk(), FakeHost()
    it = make(backend, disk, host)
    await it.start()
    await it.consume(logs(b"abc", {"a": ("b",)}))
    await it.consume(logs(b"z"))
    await it.stop()
    assert disk.waiting[0][2].length == 15
    disk.flip(0, at)
    backend.up, host = True, FakeHost()
    it = make(backend, disk, host)
    await it.start()
    await eventually(lambda: b"z" in backend.payloads and queued(host) == 0)
    assert sorted(backend.payloads) == sorted(p for p in (kept, b"z") if p)
    assert dropped(host, "queue on disk damaged") == (0 if kept else 3)
    assert inherited(host) == 4
    await it.stop()
    assert not disk.waiting


async def test_a_disk_that_cannot_be_read_for_a_while_loses_nothing() -> None:
    backend, disk, host = Backend(up=False), Disk(), FakeHost(budget=0)
    it = make(backend, disk, host)
    await it.start()
    disk.unreadable = True
    await it.consume(logs(b"abc"))
    await eventually(lambda: "Input/output error" in (host.statuses.get("exporters/otlphttp") or ""))
    await it.stop()
    assert len(disk.waiting) == 1
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
    await eventually(lambda: not disk.waiting)
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
    await eventually(lambda: not disk.waiting)
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
    disk.gate = threading.Event()
    call = asyncio.create_task(it.consume(logs(b"abc")))
    await eventually(lambda: queued(host) == 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    disk.gate.set()
    await eventually(lambda: queued(host) == 0)
    await it.stop()
    assert not disk.waiting and not backend.taken


async def test_a_stop_does_not_wait_for_a_backend_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kofagent.component.sending.SHUTDOWN_SECONDS", 0.05)
    backend, disk, host = Backend(), Disk(), FakeHost()
    backend.gate = asyncio.Event()
    it = make(backend, disk, host)
    await it.start()
    await it.consume(logs(b"abc"))
    await eventually(lambda: backend.tries == 1)
    await it.stop()
    assert len(disk.waiting) == 1
    backend.gate = None
    it = make(backend, disk, host)
    await it.start()
    await eventually(lambda: backend.payloads == [b"abc"])
    await it.stop()


@pytest.mark.parametrize("seed", range(20))
async def test_each_batch_once_over_outages_and_restarts(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model: real files, random outages, stops and starts; what was promised arrives once."""
    choose = random.Random(seed)
    monkeypatch.setattr("kofagent.component.disk_queue.WINDOW", choose.choice([3, 1000]))
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
    assert len(disk.waiting) == 1


async def test_a_queue_that_an_earlier_version_wrote_is_taken_over(tmp_path: Path) -> None:
    host = FakeHost()
    storage = FILE_STORAGE(validated(FILE_STORAGE, {"directory": str(tmp_path)}), make_context("extensions", "file_storage", host))
    await storage.start()
    old = await storage.open_store("exporters", "otlphttp")
    await old.apply(
        {
            "queue/0000000000000007/logs/3/203": b"\0\0\0\0abc",
            "queue/000000000000000b/traces/1/201/m": b'\0\0\0\x0c{"t": ["1"]}x',
            "queue/of another version": b"",
        }
    )
    await old.close()
    backend = Backend()
    it = make(backend, storage, host, num_consumers=1, batch={"min_size": 100, "flush_timeout": "10ms"})
    await it.start()
    await eventually(lambda: len(backend.taken) == 2)
    assert [(b.signal, b.payload, b.count, b.metadata) for b in backend.taken] == [
        (Signal.LOGS, b"abc", 3, None),
        (Signal.TRACES, b"x", 1, {"t": ("1",)}),
    ]
    assert inherited(host) == 3
    await it.stop()
    await storage.stop()
    assert [file.name for file in tmp_path.iterdir()] == ["exporter_otlphttp_.queue"]


async def test_a_defect_of_the_store_does_not_end_a_consumer() -> None:
    backend, disk, host = Backend(), Disk(), FakeHost(budget=0)
    disk.fails = [RuntimeError("a defect")]
    it = make(backend, disk, host, num_consumers=1)
    await it.start()
    await it.consume(logs(b"abc"))
    await eventually(lambda: backend.payloads == [b"abc"])
    await it.stop()


async def test_of_a_large_backlog_memory_has_the_beginning_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kofagent.component.disk_queue.WINDOW", 10)
    backend, disk, host = Backend(up=False), Disk(), FakeHost()
    it = make(backend, disk, host, num_consumers=1)
    await it.start()
    payloads = [b"%03d" % n for n in range(100)]
    for payload in payloads[:40]:
        await it.consume(logs(payload))
    assert items_queued(host) == 120
    await it.stop()
    it = make(backend, disk, host, num_consumers=1)
    await it.start()
    for payload in payloads[40:70]:
        await it.consume(logs(payload))
    backend.up = True
    for payload in payloads[70:]:
        await it.consume(logs(payload))
        await asyncio.sleep(0)
    await eventually(lambda: queued(host) == 0)
    assert backend.payloads == payloads
    assert items_queued(host) == 0 and inherited(host) == 0, "this process accepted all of them"
    await it.stop()
    assert not disk.waiting


async def test_what_is_lost_of_a_large_backlog_is_counted_and_leaves_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kofagent.component.disk_queue.WINDOW", 10)
    backend, disk, host = Backend(up=False), Disk(), FakeHost(budget=0)
    it = make(backend, disk, host, num_consumers=1)
    await it.start()
    for n in range(40):
        await it.consume(logs(b"%03d" % n))
    disk.flip(20, [1])
    disk.flip(30, [50])
    backend.up = True
    await eventually(lambda: queued(host) == 0)
    assert backend.payloads == [b"%03d" % n for n in range(40) if n not in (20, 31)]
    assert dropped(host, "queue on disk damaged") == 6
    assert items_queued(host) == 0
    await it.stop()


@pytest.mark.parametrize("policy", ["refuse", "drop_oldest"])
async def test_it_is_bounded_in_bytes_and_refuses_or_drops_the_oldest(policy: str) -> None:
    backend, disk, host = Backend(up=False), Disk(), FakeHost(budget=0)
    it = make(backend, disk, host, num_consumers=1, storage_max_size="1MiB", storage_when_full=policy)
    await it.start()
    refusals: list[Refused] = []
    for n in range(60):
        try:
            await it.consume(logs(b"%04d" % n * 10_000))
        except Refused as refused:
            refusals.append(refused)
    assert all(r.reason == "sending queue full" and "storage_max_size" in r.detail for r in refusals)
    assert sum(Path(file).stat().st_size for file in disk.files) <= 1 << 20
    backend.up = True
    await eventually(lambda: queued(host) == 0)
    got = [int(payload[:4]) for payload in backend.payloads]
    if policy == "refuse":
        assert got == list(range(60 - len(refusals))) and 20 < len(got) < 40
        assert host.ledger.total("otelcol_exporter_enqueue_failed_log_records_total", exporter="otlphttp") == 40_000 * len(refusals)
    else:
        assert not refusals and got[-20:] == list(range(40, 60))
        assert dropped(host, "oldest dropped") == (60 - len(got)) * 40_000
    await it.consume(logs(b"again"))
    await eventually(lambda: backend.payloads[-1] == b"again")
    await it.stop()


@pytest.mark.parametrize(
    "options, kept",
    [
        ({}, {"x-tenant"}),
        ({"storage_credentials": True}, {"authorization", "x-api-key", "x-tenant", "cookie"}),
        ({"batch": {"flush_timeout": "1ms", "partition": {"metadata_keys": ["X-Api-Key"]}}}, {"x-tenant", "x-api-key"}),
    ],
    ids=["not", "all", "one"],
)
async def test_credentials_are_not_kept_unless_an_option_says_so(options: dict[str, Any], kept: set[str]) -> None:
    given: dict[str, tuple[str, ...]] = {
        "authorization": ("Bearer s3cret",),
        "x-api-key": ("s3cret",),
        "x-tenant": ("7",),
        "cookie": ("s3cret",),
    }
    backend, disk, host = Backend(up=False), Disk(), FakeHost()
    it = make(backend, disk, host, **options)
    await it.start()
    await it.consume(logs(b"abc", given))
    on_disk = b"".join(Path(file).read_bytes() for file in disk.files)
    assert (b"s3cret" in on_disk) == (kept != {"x-tenant"})
    backend.up = True
    await eventually(lambda: backend.taken)
    assert set(backend.taken[0].metadata or {}) == kept
    await it.stop()


async def test_memory_that_is_short_is_given_back_for_what_waits_is_on_disk() -> None:
    host, backend = FakeHost(), Backend(up=False)
    it = make(backend, Disk(), host)
    await it.start()
    with memory(100, 74) as said:
        await it.consume(logs(b"a" * 1000))
        assert host.reserved > 1000
        said.used = 76 * MIB
        assert PRESSURE.look() is Level.QUEUES
        await it.consume(logs(b"b" * 1000))
        assert host.reserved == 0
        backend.up = True
        await eventually(lambda: len(backend.taken) == 2)
    await it.stop()
    assert sorted(backend.payloads) == [b"a" * 1000, b"b" * 1000]
