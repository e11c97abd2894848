"""Who owns the records: refusals, retries, order, checkpoints, stop and restart."""

from __future__ import annotations

import asyncio
import gzip
import os
from pathlib import Path
from typing import Any

import pytest

from kofagent.component.backoff import Backoff
from kofagent.component.delivering import Delivery, Parcel
from kofagent.memory.pressure import PRESSURE, Level
from kofagent.receivers.filelog.config import Config
from kofagent.telemetry.batch import AnyBatch, Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from tests.receivers.filelog.support import Store, Tailing
from tests.receivers.filelog.test_tailing import append, log
from tests.support.components import FakeHost, Sink, eventually, make_context
from tests.support.memory import MIB, memory
from tests.support.scripted import Scripted

ONE = {"receiver": "filelog", "transport": ""}


class Moody(Sink):
    """Refuses the first offers as told, in order."""

    def __init__(self, *answers: Refused | None) -> None:
        super().__init__()
        self.answers = list(answers)
        self.offers = 0

    async def consume(self, batch: AnyBatch) -> None:
        self.offers += 1
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer
        await super().consume(batch)


async def test_a_refused_batch_is_dropped_and_counted_by_default(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("1\n2\n")
    async with log(
        tmp_path,
    ) as t:
        t.sink.refuse = Refused("sending queue full")
        assert await t.poll() == []
        t.sink.refuse = None
        append(path, "3\n")
        assert await t.poll() == ["3"]
        total = t.host.ledger.total
        assert total("otelcol_receiver_refused_log_records_total", **ONE) == 2
        assert total("otelcol_receiver_accepted_log_records_total", **ONE) == 1
        assert total("kofagent_dropped_items_total", component="filelog", signal="logs", reason="sending queue full") == 2


async def test_a_permanent_refusal_was_counted_by_who_raised_it(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("1\n")
    async with log(tmp_path, retry_on_failure={"enabled": True}) as t:
        t.sink.refuse = Refused("rejected", permanent=True)
        await t.poll()
        t.sink.refuse = None
        assert await t.poll() == []
        assert t.host.ledger.sum("kofagent_dropped_items_total") == 0
        assert t.host.ledger.total("otelcol_receiver_refused_log_records_total", **ONE) == 1


@pytest.mark.parametrize("keep", [False, True])
async def test_a_refused_batch_is_offered_again(tmp_path: Path, keep: bool) -> None:
    host = FakeHost()
    host.keep_retrying = keep
    sink = Moody(*[Refused("sending queue full")] * 3)
    retry = (
        {"initial_interval": "1ms", "max_interval": "2ms"}
        if keep
        else {"enabled": True, "initial_interval": "1ms", "max_interval": "2ms"}
    )
    (tmp_path / "a.log").write_text("1\n2\n")
    async with Tailing({"include": [f"{tmp_path}/*"], "retry_on_failure": retry}, host=host, sink=sink) as t:
        await t.poll()
        await eventually(lambda: t.lines() == ["1", "2"])
        assert sink.offers == 4
        assert host.ledger.sum("kofagent_dropped_items_total") == 0
        assert host.reserved == 0


async def test_retrying_gives_up_after_max_elapsed_time(tmp_path: Path) -> None:
    sink = Moody(*[Refused("sending queue full")] * 1000)
    retry = {"enabled": True, "initial_interval": "1ms", "max_interval": "2ms", "max_elapsed_time": "20ms"}
    (tmp_path / "a.log").write_text("1\n2\n")
    async with Tailing({"include": [f"{tmp_path}/*"], "retry_on_failure": retry}, sink=sink) as t:
        await t.poll()
        await eventually(lambda: t.host.ledger.sum("kofagent_dropped_items_total") == 2)


async def test_a_bug_downstream_is_counted_and_does_not_stop_the_tailing(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("1\n")
    async with log(tmp_path) as t:
        t.sink.refuse = ZeroDivisionError()  # type: ignore[assignment]
        await t.poll()
        t.sink.refuse = None
        append(path, "2\n")
        assert await t.poll() == ["2"]
        assert t.host.ledger.sum("kofagent_dropped_items_total") == 1


async def test_reading_runs_ahead_of_a_slow_pipeline_within_a_bound(tmp_path: Path) -> None:
    from kofagent.receivers.filelog import receiver

    line = "x" * 1000 + "\n"
    (tmp_path / "a.log").write_text(line * 40000)  # 40 MB
    sink = Sink()
    sink.gate = asyncio.Event()
    async with Tailing({"include": [f"{tmp_path}/*"]}, sink=sink) as t:
        reading = asyncio.create_task(t.receiver.poll_once(t.now))
        await eventually(lambda: not t.receiver._delivery._room(receiver.PARCEL_BYTES))
        assert not reading.done()
        assert 1 << 20 < t.host.reserved <= 9 << 20
        sink.gate.set()
        await reading
        await eventually(lambda: sink.count == 40000)
        assert t.host.reserved == 0


async def test_lines_wait_in_their_files_while_memory_is_short(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("1\n2\n")
    with memory(100, 79) as said:
        async with Tailing({"include": [f"{tmp_path}/*"]}) as t:
            assert await t.poll() == ["1", "2"]
            said.used = 81 * MIB
            assert PRESSURE.look() is Level.TAILS
            append(path, "3\n")
            assert await t.poll() == [] and await t.poll() == []
            said.used = 76 * MIB
            assert PRESSURE.look() is Level.QUEUES
            assert await t.poll() == ["3"]


class Asked(FakeHost):
    """Counts how often memory is asked for."""

    asked = 0

    def reserve(self, size: int) -> bool:
        self.asked += 1
        return super().reserve(size)


async def test_no_room_in_the_memory_budget_waits(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("1\n")
    host = Asked(budget=10)
    async with Tailing({"include": [f"{tmp_path}/*"]}, host=host) as t:
        reading = asyncio.create_task(t.receiver.poll_once(t.now))
        await eventually(lambda: host.asked >= 3)
        assert t.lines() == [] and not reading.done()
        host.budget = 10000
        await reading
        await t.settle()
        assert t.lines() == ["1"]


async def test_a_batch_holds_the_records_of_several_files(tmp_path: Path) -> None:
    for i in range(50):
        (tmp_path / f"{i}.log").write_text(f"{i}\n")
    async with log(tmp_path) as t:
        assert len(await t.poll()) == 50
        assert len(t.sink.batches) == 1


# Restarts


async def test_a_restart_goes_on_where_the_last_run_stopped(tmp_path: Path) -> None:
    store, path = Store(), tmp_path / "a.log"
    path.write_text("1\npart")
    async with Tailing({"include": [str(path)]}, store=store) as t:
        assert await t.poll() == ["1"]
    append(path, "ial\n2\n")
    (tmp_path / "b.log").write_text("b\n")
    async with Tailing({"include": [str(path)], "start_at": "end"}, store=store) as t:
        assert await t.poll() == ["partial", "2"]


async def test_a_restart_with_start_at_end_reads_what_came_meanwhile(tmp_path: Path) -> None:
    store, old, empty = Store(), tmp_path / "old.log", tmp_path / "empty.log"
    old.write_text("before\n")
    empty.touch()
    async with Tailing({"include": [f"{tmp_path}/*"], "start_at": "end"}, store=store) as t:
        assert await t.poll() == []
    append(old, "meanwhile\n")
    append(empty, "first\n")
    (tmp_path / "new.log").write_text("new\n")
    async with Tailing({"include": [f"{tmp_path}/*"], "start_at": "end"}, store=store) as t:
        assert sorted(await t.poll()) == ["first", "meanwhile", "new"]


@pytest.mark.parametrize("matching", [True, False])
async def test_a_file_rotated_while_nobody_read_is_read_to_its_end(tmp_path: Path, matching: bool) -> None:
    store, path = Store(), tmp_path / "a.log"
    include = {"include": [f"{tmp_path}/*" if matching else str(path)]}
    path.write_text("1\n")
    async with Tailing(include, store=store) as t:
        assert await t.poll() == ["1"]
    append(path, "2\n")
    path.rename(tmp_path / "a.log.1")
    path.write_text("3\n")
    async with Tailing(include, store=store) as t:
        assert sorted(await t.poll() + await t.poll()) == ["2", "3"]


async def test_a_file_truncated_or_compressed_while_nobody_read(tmp_path: Path) -> None:
    store, cut, packed = Store(), tmp_path / "cut.log", tmp_path / "packed.log"
    cut.write_text("1\n2\n")
    packed.write_text("a\nb\n")
    options = {"include": [f"{tmp_path}/*"], "compression": "auto"}
    async with Tailing(options, store=store) as t:
        assert len(await t.poll()) == 4
    cut.write_text("3\n")
    append(packed, "c\n")
    (tmp_path / "packed.log.gz").write_bytes(gzip.compress(packed.read_bytes()))
    packed.unlink()
    async with Tailing(options, store=store) as t:
        assert sorted(await t.poll()) == ["3", "c"]


async def test_record_numbers_and_headers_survive_a_restart(tmp_path: Path) -> None:
    store, path = Store(), tmp_path / "a.log"
    options: dict[str, Any] = {
        "include": [str(path)],
        "include_file_record_number": True,
        "header": {"pattern": "^#", "metadata_operators": [{"type": "regex_parser", "regex": "^# (?P<name>.*)$"}]},
    }
    path.write_text("# x\n1\n")
    async with Tailing(options, store=store) as t:
        await t.poll()
    append(path, "2\n")
    async with Tailing(options, store=store) as t:
        await t.poll()
        [record] = t.records()
        assert {a.key: a.value.string_value or a.value.int_value for a in record.attributes} == {
            "log.file.name": "a.log",
            "log.file.record_number": 2,
            "name": "x",
        }


async def test_the_checkpoint_moves_only_when_somebody_owns_the_records(tmp_path: Path) -> None:
    store, path = Store(), tmp_path / "a.log"
    path.write_text("1\n")
    sink = Sink()
    first = Tailing({"include": [str(path)]}, store=store, sink=sink)
    await first.receiver.open()
    await first.poll()
    sink.gate = asyncio.Event()  # takes nothing any more
    append(path, "2\n")
    await first.poll()
    kept = dict(store.values)
    first.receiver._delivery._tasks.copy().pop().cancel()  # as a crash would
    await first.settle()
    store.values = kept
    async with Tailing({"include": [str(path)]}, store=store) as t:
        assert await t.poll() == ["2"]
    first.receiver._tracker.close()


async def test_stop_without_storage_hands_out_the_partial_line(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("1\npartial")
    async with log(tmp_path) as t:
        await t.poll()
    assert t.lines() == ["1", "partial"]


async def test_stop_counts_what_nobody_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kofagent.receivers.filelog import receiver

    monkeypatch.setattr(receiver, "_STOP_S", 0.05)
    (tmp_path / "a.log").write_text("1\n2\n")
    sink = Sink()
    sink.gate = asyncio.Event()
    async with Tailing({"include": [f"{tmp_path}/*"]}, sink=sink) as t:
        await t.poll()
    assert t.host.ledger.total("kofagent_dropped_items_total", component="filelog", signal="logs", reason="shutdown") == 2
    assert t.host.reserved == 0


async def test_started_and_stopped_for_real(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    t = Tailing({"include": [str(path)], "poll_interval": "10ms", "force_flush_period": "30ms"})
    await t.receiver.start()
    path.write_text("1\n")
    await t.sink.wait_for(lambda s: s.count == 1)
    append(path, "2")
    await t.sink.wait_for(lambda s: s.count == 2)
    await t.receiver.stop()
    await t.receiver.stop()
    assert t.lines() == ["1", "2"]
    assert not any(
        os.readlink(f"/proc/self/fd/{fd}").startswith(str(tmp_path))
        for fd in os.listdir("/proc/self/fd")
        if os.path.islink(f"/proc/self/fd/{fd}")
    )


async def test_a_store_that_fails_is_tried_again(tmp_path: Path) -> None:
    class Failing(Store):
        broken = True

        async def apply(self, changes: Any) -> None:
            if self.broken:
                raise OSError("disk full")
            await super().apply(changes)

    store, path = Failing(), tmp_path / "a.log"
    path.write_text("1\n")
    async with Tailing({"include": [str(path)]}, store=store) as t:
        assert await t.poll() == ["1"]
        store.broken = False
        await t.poll()
    async with Tailing({"include": [str(path)]}, store=store) as t:
        assert await t.poll() == []


async def test_the_checkpoint_follows_a_file_whose_operators_always_hold_an_entry(tmp_path: Path) -> None:
    """recombine by first entries holds the last series at any time; a crash repeats a read at most, and loses nothing."""
    store, path = Store(), tmp_path / "a.log"
    options = {
        "include": [str(path)],
        "operators": [{"type": "recombine", "combine_field": "body", "is_first_entry": "body startsWith 'E'", "combine_with": " "}],
    }
    t = Tailing(options, store=store)
    await t.receiver.open()
    path.write_text("E1\n1\n")
    got = await t.poll()
    for i in range(2, 30):
        append(path, f"E{i}\n{i}\n")
        got += await t.poll()
    assert got == [f"E{i} {i}" for i in range(1, 29)]
    await t.poll()  # what was owned at a poll is saved at the next
    kept = dict(store.values)
    t.receiver._tracker.close()  # a crash: no flush, no last save
    crashed = Store()
    crashed.values = kept
    async with Tailing(options, store=crashed) as again:
        append(path, "E30\n")
        assert await again.poll() == ["E29 29"]
    await t.receiver.stop()


async def test_a_stop_hands_out_what_operators_hold(tmp_path: Path) -> None:
    store, path = Store(), tmp_path / "a.log"
    options = {
        "include": [str(path)],
        "operators": [{"type": "recombine", "combine_field": "body", "is_first_entry": "body startsWith 'E'", "combine_with": " "}],
    }
    path.write_text("E1\n1\nE2\n")
    async with Tailing(options) as t:
        assert await t.poll() == ["E1 1"]
    assert t.lines() == ["E1 1", "E2"]
    async with Tailing(options, store=store) as t:
        assert await t.poll() == ["E1 1"]
    assert t.lines() == ["E1 1"], "with storage it is read again, with what belongs to it"
    append(path, "2\nE3\n")
    async with Tailing(options, store=store) as t:
        assert await t.poll() == ["E2 2"]
        path.unlink()
        await t.poll()
    assert t.lines() == ["E2 2", "E3"], "it cannot be read again"


async def test_recombine_hands_out_after_its_flush_period_in_wall_time(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    options = {
        "include": [str(path)],
        "poll_interval": "10ms",
        "operators": [
            {"type": "recombine", "combine_field": "body", "is_first_entry": "body startsWith 'E'", "force_flush_period": "50ms"}
        ],
    }
    t = Tailing(options)
    path.write_text("E1\n1\n")
    await t.receiver.start()
    await t.sink.wait_for(lambda s: s.count == 1)
    assert t.lines() == ["E1\n1"]
    await t.receiver.stop()


async def test_order_is_kept_when_batches_are_refused_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kofagent.receivers.filelog import receiver

    monkeypatch.setattr(receiver, "PARCEL_BYTES", 1)  # a batch for each chunk
    lines = [f"{i} {'x' * 1000}" for i in range(4000)]
    (tmp_path / "a.log").write_text("".join(line + "\n" for line in lines))
    sink = Moody(*[Refused("sending queue full")] * 30)
    retry = {"enabled": True, "initial_interval": "1ms", "max_interval": "2ms"}
    async with Tailing({"include": [f"{tmp_path}/*"], "retry_on_failure": retry}, sink=sink) as t:
        reading = asyncio.create_task(t.receiver.poll_once(t.now))
        await eventually(lambda: sink.offers >= 20)
        assert t.receiver._delivery.waiting < 5, "nothing new is started while a batch is refused"
        await reading
        await eventually(lambda: sink.count == len(lines))
        assert t.lines() == lines
        tail = next(iter(t.receiver._tracker.tails.values()))
        assert tail.acked == tail.fed == (tmp_path / "a.log").stat().st_size


async def test_of_several_refused_batches_the_oldest_is_offered_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when its wait is the longer one: two were under way before either was refused."""
    waits = [0.05, 0.0]
    monkeypatch.setattr(Backoff, "next", lambda self, at_least=None: waits.pop(0) if waits else 0.0)
    consumer = Scripted("stall")
    options = Config.model_validate({"include": ["/a"], "retry_on_failure": {"enabled": True, "max_elapsed_time": "0s"}})
    delivery = Delivery(consumer, make_context("receiver", "filelog"), options.retry_on_failure, lambda mark: None)
    first, second = Batch(Signal.LOGS, b"1", 1), Batch(Signal.LOGS, b"2", 1)
    for batch in (first, second):
        await delivery.offer(Parcel(batch, []))
    await consumer.wait_for(lambda c: c.within == 2)
    consumer.mood = "refuse"
    consumer.gate.set()
    await eventually(lambda: consumer.refused == 2)
    consumer.mood = "take"
    await eventually(lambda: consumer.taken == 2)
    assert consumer.calls[2:] == [first, second]
    assert await delivery.drain(1) == 0
