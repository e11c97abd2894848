"""batch: joining, splitting, answers that wait for an owner."""

import asyncio
from typing import Any

import pytest

from kofagent.component.splitting import split_columns
from kofagent.processors.batch import BatchProcessor
from kofagent.telemetry.batch import AnyBatch, Batch, MetricBatch, Samples
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.series import Series
from kofagent.telemetry.signal import Signal
from tests.support.components import FakeHost, Sink, eventually, make


def batch(payload: bytes, count: int = 1, **metadata: tuple[str, ...]) -> Batch:
    return Batch(Signal.TRACES, payload, count, metadata or None)


async def started(options: dict[str, Any], sink: Sink, host: FakeHost | None = None) -> BatchProcessor:
    it: BatchProcessor = make(BatchProcessor, options, kind="processor", id="batch", host=host)
    it.next, it.signal = sink, Signal.TRACES
    await it.start()
    return it


async def test_joins_what_arrives_together_and_answers_after_delivery() -> None:
    sink, host = Sink(), FakeHost()
    sink.gate = asyncio.Event()
    it = await started({"timeout": "50ms"}, sink, host)
    tasks = [asyncio.create_task(it.consume(batch(b"\x0a\x00", 2))) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(t.done() for t in tasks)
    sink.gate.set()
    await asyncio.gather(*tasks)
    assert [(b.payload, b.count) for b in sink.batches] == [(b"\x0a\x00" * 3, 6)]
    assert host.ledger.total("otelcol_processor_batch_timeout_trigger_send_total", processor="batch") == 1
    await it.stop()


async def test_size_triggers_at_once() -> None:
    sink, host = Sink(), FakeHost()
    it = await started({"timeout": "1h", "send_batch_size": 10}, sink, host)
    tasks = [asyncio.create_task(it.consume(batch(b"", 5))) for _ in range(2)]
    await asyncio.wait_for(asyncio.gather(*tasks), 5)
    assert sink.count == 10
    assert host.ledger.total("otelcol_processor_batch_batch_size_trigger_send_total", processor="batch") == 1
    await it.stop()


async def test_a_lone_sender_does_not_wait_for_the_whole_timeout() -> None:
    sink = Sink()
    it = await started({"timeout": "1s"}, sink)
    async with asyncio.timeout(20):  # twenty full timeouts would not fit under 20 s together with anything else
        for _ in range(20):
            await it.consume(batch(b""))
    assert len(sink.batches) == 20
    await it.stop()


async def test_refusal_reaches_every_sender() -> None:
    sink = Sink()
    sink.refuse = Refused("sending queue full", retry_after=3)
    it = await started({"timeout": "5ms"}, sink)
    answers = await asyncio.gather(*[it.consume(batch(b"")) for _ in range(3)], return_exceptions=True)
    assert all(isinstance(a, Refused) and a.retry_after == 3 for a in answers)
    await it.stop()


AGAIN, NEVER = Refused("http 503", retry_after=0.01), Refused("http 400", permanent=True)


class InTurn(Sink):
    """Answers what it is offered, one after the other, as told."""

    def __init__(self, *answers: Refused | None) -> None:
        super().__init__()
        self.answers = list(answers)
        self.offered: list[list[float]] = []

    async def consume(self, batch: AnyBatch) -> None:
        assert isinstance(batch, MetricBatch)
        self.offered.append([v for g in batch.groups for v in g.values])
        self.refuse = self.answers.pop(0)
        await super().consume(batch)


@pytest.mark.parametrize(
    "answers, wanted, offered",
    [
        ((None, None), None, "ab"),
        ((AGAIN,), AGAIN, "a"),
        ((None, AGAIN, AGAIN, None), None, "abbb"),
        ((NEVER, AGAIN, None), None, "abb"),
        ((NEVER, NEVER), NEVER, "ab"),
        ((NEVER, None), None, "ab"),
        ((None, NEVER), None, "ab"),
    ],
)
async def test_one_answer_for_all_parts(
    answers: tuple[Refused | None, ...], wanted: Refused | None, offered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For good only when nothing was taken. A part that was taken, or lost and counted, is never offered again."""
    monkeypatch.setattr("kofagent.component.parts.FIRST_WAIT", 0.01)
    sink = InTurn(*answers)
    it = await started({"timeout": "5ms", "send_batch_size": 2, "send_batch_max_size": 2}, sink)
    series = [Series((("__name__", f"m{i}"),)) for i in range(4)]
    (answer,) = await asyncio.gather(it.consume(MetricBatch([Samples(series, [0.0, 1.0, 2.0, 3.0], 1)])), return_exceptions=True)
    assert str(answer) == str(wanted)
    assert sink.answers == []
    assert sink.offered == [[0.0, 1.0] if part == "a" else [2.0, 3.0] for part in offered]
    await it.stop()


async def test_a_stop_ends_the_wait_for_the_other_parts() -> None:
    sink = InTurn(None, Refused("http 503", retry_after=50), Refused("http 503"))
    it = await started({"timeout": "5ms", "send_batch_size": 2, "send_batch_max_size": 2}, sink)
    series = [Series((("__name__", f"m{i}"),)) for i in range(4)]
    call = asyncio.create_task(it.consume(MetricBatch([Samples(series, [0.0, 1.0, 2.0, 3.0], 1)])))
    await eventually(lambda: len(sink.offered) == 2)
    async with asyncio.timeout(5):
        await it.stop()
    with pytest.raises(Refused):
        await call


async def test_senders_are_answered_by_what_became_of_their_own_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kofagent.component.parts.HELD_AT_MOST", 0.05)
    monkeypatch.setattr("kofagent.component.parts.FIRST_WAIT", 0.01)
    sink = InTurn(None, *[AGAIN] * 100)
    it = await started({"timeout": "5s", "send_batch_size": 6, "send_batch_max_size": 6}, sink)
    series = [Series((("__name__", f"m{i}"),)) for i in range(4)]
    batches = [MetricBatch([Samples(series, [float(n)] * 4, 1)]) for n in range(2)]
    it.config.send_batch_size = 16
    batches += [MetricBatch([Samples(series, [float(n)] * 4, 1)]) for n in range(2, 4)]
    answers = await asyncio.gather(*map(it.consume, batches), return_exceptions=True)
    assert [answer is None for answer in answers] == [True, False, False, False], "the first six items were taken"
    assert len({id(answer) for answer in answers}) == 4
    await it.stop()


async def test_parts_are_not_held_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kofagent.component.parts.HELD_AT_MOST", 0.05)
    monkeypatch.setattr("kofagent.component.parts.FIRST_WAIT", 0.01)
    sink = InTurn(None, *[AGAIN] * 100)
    it = await started({"timeout": "5ms", "send_batch_size": 2, "send_batch_max_size": 2}, sink)
    series = [Series((("__name__", f"m{i}"),)) for i in range(4)]
    with pytest.raises(Refused):
        await it.consume(MetricBatch([Samples(series, [0.0, 1.0, 2.0, 3.0], 1)]))
    await it.stop()


async def test_metadata_keys_never_mix_and_are_limited() -> None:
    sink = Sink()
    it = await started({"timeout": "10s", "metadata_keys": ["X-Tenant"], "metadata_cardinality_limit": 2}, sink)
    tasks = [asyncio.create_task(it.consume(batch(name.encode(), 1, **{"x-tenant": (name,)}))) for name in ("a", "b", "a")]
    await asyncio.sleep(0)
    with pytest.raises(Refused, match="cardinality"):
        await it.consume(batch(b"c", 1, **{"x-tenant": ("c",)}))
    await it.stop()
    await asyncio.gather(*tasks)
    assert sorted(b.payload for b in sink.batches if isinstance(b, Batch)) == [b"aa", b"b"]


async def test_cancelled_before_the_batch_left_is_withdrawn() -> None:
    sink = Sink()
    it = await started({"timeout": "10s"}, sink)
    keep, drop = (asyncio.create_task(it.consume(batch(p))) for p in (b"keep", b"drop"))
    await asyncio.sleep(0)
    drop.cancel()
    await asyncio.gather(drop, return_exceptions=True)
    await it.stop()
    await keep
    assert [b.payload for b in sink.batches if isinstance(b, Batch)] == [b"keep"]


async def test_cancelled_while_the_batch_is_under_way_changes_nothing_for_the_next() -> None:
    sink = Sink()
    sink.gate = asyncio.Event()
    it = await started({"timeout": "1h", "send_batch_size": 2}, sink)
    under_way = asyncio.create_task(it.consume(batch(b"one", 2)))
    await sink.called.wait()
    waiting = asyncio.create_task(it.consume(batch(b"two", 1)))
    await asyncio.sleep(0)
    under_way.cancel()
    await asyncio.gather(under_way, return_exceptions=True)
    assert under_way.cancelled()
    sink.gate.set()
    async with asyncio.timeout(20):
        await it.stop()
        await waiting
    assert [b.payload for b in sink.batches if isinstance(b, Batch)] == [b"one", b"two"]


@pytest.mark.parametrize("options", [{"send_batch_size": 0, "timeout": "1h"}, {"timeout": "0s"}])
async def test_without_a_size_or_a_timeout_all_is_sent_at_once(options: dict[str, Any]) -> None:
    sink = Sink()
    it = await started(options, sink)
    async with asyncio.timeout(20):
        for _ in range(3):
            await it.consume(batch(b"", 1))
    assert [b.count for b in sink.batches] == [1, 1, 1]
    await it.stop()


async def test_columns_are_joined_apart_and_split_by_size() -> None:
    sink = Sink()
    it: BatchProcessor = make(BatchProcessor, {"timeout": "5ms", "send_batch_size": 2, "send_batch_max_size": 2}, id="batch")
    it.next, it.signal = sink, Signal.METRICS
    await it.start()
    series = [Series((("__name__", f"m{i}"),)) for i in range(5)]
    await it.consume(MetricBatch([Samples(series, [float(i) for i in range(5)], 7)]))
    assert [b.count for b in sink.batches] == [2, 2, 1]
    values = [v for b in sink.batches if isinstance(b, MetricBatch) for g in b.groups for v in g.values]
    assert values == [0, 1, 2, 3, 4]
    await it.stop()


def test_split_columns_keeps_times_and_exemplars_in_place() -> None:
    series = [Series((("__name__", f"m{i}"),)) for i in range(3)]
    exemplar: Any = object()
    parts = split_columns(MetricBatch([Samples(series, [1.0, 2.0, 3.0], [10, 20, 30], None, {2: exemplar})]), 2)
    assert [list(g.timestamps()) for p in parts for g in p.groups] == [[10, 20], [30]]
    assert parts[1].groups[0].exemplars == {0: exemplar}


def test_options() -> None:
    with pytest.raises(ValueError, match="greater than or equal"):
        BatchProcessor.Config.model_validate({"send_batch_size": 10, "send_batch_max_size": 5})
    with pytest.raises(ValueError, match="more than once"):
        BatchProcessor.Config.model_validate({"metadata_keys": ["a", "A"]})
