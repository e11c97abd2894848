"""Changing batches: what comes in goes out, is filtered, is dropped, or goes back."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, LogsData, ResourceLogs, ScopeLogs

from kofagent.component.mapping import Change, Left, Mapper, Unusable
from kofagent.component.protocols import Processor
from kofagent.config.base import ComponentConfig
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from tests.support.components import FakeHost, make
from tests.support.scripted import Defect, Scripted

BATCH = Batch(Signal.LOGS, b"abc", 3)


class Options(ComponentConfig):
    """No options."""


class Changing(Processor[Options]):
    """A processor with the change of a test."""

    async def consume(self, batch: Batch) -> None:
        raise NotImplementedError


class Made:
    """A mapper over a scripted consumer."""

    def __init__(self, change: Change, mood: str = "take", *, by_record: bool = False) -> None:
        self.host, self.next = FakeHost(), Scripted(mood)
        processor = make(Changing, kind="processor", id="p", host=self.host)
        processor.signal, processor.next = Signal.LOGS, self.next
        self.upstream = 0.0
        self.mapper = Mapper(processor, change, self._count, by_record=by_record)

    def _count(self, items: float) -> None:
        self.upstream += items

    def account(self) -> tuple[float, ...]:
        """(incoming, outgoing, filtered, dropped)."""
        ledger, labels = self.host.ledger, {"processor": "p", "otel_signal": "logs"}
        return (
            ledger.total("otelcol_processor_incoming_items_total", **labels),
            ledger.total("otelcol_processor_outgoing_items_total", **labels),
            ledger.sum("kofagent_filtered_items_total"),
            ledger.sum("kofagent_dropped_items_total"),
        )


def upper(batch: Batch) -> Batch:
    return Batch(batch.signal, batch.payload.upper(), batch.count)


async def upper_later(batch: Batch) -> Batch:
    await asyncio.sleep(0)
    return upper(batch)


def two_less(batch: Batch) -> Left:
    return Left(Batch(batch.signal, b"a", 1), {"rule a": 1, "rule b": 1})


async def nothing_left(batch: Batch) -> Left:
    return Left(None, {"rule a": 3})


@pytest.mark.parametrize("change", [upper, upper_later])
async def test_a_changed_batch_goes_on(change: Change) -> None:
    made = Made(change)
    await made.mapper.consume(BATCH)
    assert [b.payload for b in made.next.calls if isinstance(b, Batch)] == [b"ABC"]
    assert made.account() == (3, 3, 0, 0)


async def test_a_batch_that_did_not_change_is_the_same_object() -> None:
    made = Made(lambda batch: batch)
    await made.mapper.consume(BATCH)
    assert made.next.calls[0] is BATCH


async def test_what_was_left_out_is_filtered_by_its_rule() -> None:
    made = Made(two_less)
    await made.mapper.consume(BATCH)
    assert made.account() == (3, 1, 2, 0)
    assert made.host.ledger.total("kofagent_filtered_items_total", component="p", signal="logs", rule="rule b") == 1
    assert made.upstream == 2


async def test_when_nothing_is_left_nothing_goes_on() -> None:
    made = Made(nothing_left)
    await made.mapper.consume(BATCH)
    assert made.account() == (3, 0, 3, 0) and made.next.calls == []


@pytest.mark.parametrize("change", [upper, upper_later, two_less])
async def test_a_refusal_goes_up_as_it_is_and_is_not_counted(change: Change) -> None:
    made = Made(change, "refuse")
    with pytest.raises(Refused) as error:
        await made.mapper.consume(BATCH)
    assert (error.value.reason, error.value.permanent, error.value.retry_after) == ("sending queue full", False, 0.01)
    assert made.account() == (3, 0, 0, 0), "it comes again"
    assert made.upstream == 0


async def test_what_is_refused_for_good_does_not_come_again() -> None:
    made = Made(two_less, "never")
    with pytest.raises(Refused) as error:
        await made.mapper.consume(BATCH)
    assert error.value.permanent
    assert made.account() == (3, 0, 2, 0) and made.next.lost == 1, "two were filtered, one was counted by who refused it"


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("error, reason", [(ValueError("no"), "malformed"), (Unusable("condition error", "no"), "condition error")])
async def test_what_cannot_be_worked_on_is_dropped(error: Exception, reason: str, later: bool) -> None:
    def change(batch: Batch) -> Batch:
        raise error

    async def change_later(batch: Batch) -> Batch:
        await asyncio.sleep(0)
        raise error

    made = Made(change_later if later else change)
    with pytest.raises(Refused) as refused:
        await made.mapper.consume(BATCH)
    assert refused.value.permanent and refused.value.reason == reason
    assert made.account() == (3, 0, 0, 3)
    assert made.host.ledger.total("kofagent_dropped_items_total", component="p", signal="logs", reason=reason) == 3


async def test_a_defect_goes_up() -> None:
    made = Made(upper, "defect")
    with pytest.raises(Defect):
        await made.mapper.consume(BATCH)
    assert made.account() == (3, 0, 0, 0)


async def test_a_value_error_downstream_is_not_taken_for_a_malformed_batch() -> None:
    made = Made(upper, "value error")
    with pytest.raises(ValueError, match="by the script"):
        await made.mapper.consume(BATCH)
    assert made.account() == (3, 0, 0, 0)


def many(items: int) -> Batch:
    records = [LogRecord(body=AnyValue(int_value=n)) for n in range(items)]
    scopes = [ScopeLogs(log_records=records[: items // 3]), ScopeLogs(log_records=records[items // 3 :])]
    data = LogsData(resource_logs=[ResourceLogs(scope_logs=scopes[:1]), ResourceLogs(scope_logs=scopes[1:])])
    return Batch(Signal.LOGS, data.SerializeToString(), items)


def payload_of(made: Made) -> bytes:
    (batch,) = made.next.calls
    assert isinstance(batch, Batch)
    return batch.payload


def numbers(payload: bytes) -> list[int]:
    data = LogsData.FromString(payload)
    return [r.body.int_value for rl in data.resource_logs for sl in rl.scope_logs for r in sl.log_records]


@pytest.mark.parametrize("later", [False, True])
async def test_a_batch_of_very_many_items_is_changed_in_pieces(later: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kofagent.component.mapping.PIECE", 10)
    seen: list[int] = []
    returned: list[int] = []

    def change(batch: Batch) -> Batch | Left:
        items = numbers(batch.payload)
        seen.append(len(items))
        if items[0] == 0:
            return batch
        kept = Batch(batch.signal, LogsData.FromString(batch.payload).SerializeToString(), batch.count - 1)
        return Left(kept, {"rule": 1}, {"malformed": 2}, lambda: returned.append(items[0]))

    async def change_later(batch: Batch) -> Batch | Left:
        await asyncio.sleep(0)
        return change(batch)

    made = Made(change_later if later else change, by_record=True)
    await made.mapper.consume(many(45))
    assert seen == [10, 10, 10, 10, 5] and numbers(payload_of(made)) == list(range(45))
    assert made.account() == (45, 41, 4, 8) and not returned
    back = Made(change, "refuse", by_record=True)
    with pytest.raises(Refused):
        await back.mapper.consume(many(45))
    assert returned == [10, 20, 30, 40] and back.account() == (45, 0, 0, 0)


async def test_pieces_that_did_not_change_are_the_same_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kofagent.component.mapping.PIECE", 10)
    made, batch = Made(lambda batch: batch, by_record=True), many(45)
    await made.mapper.consume(batch)
    assert made.next.calls[-1] is batch


async def test_of_pieces_nothing_is_left_or_one_of_them_cannot_be_worked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kofagent.component.mapping.PIECE", 10)
    empty = Made(lambda batch: Left(None, {"rule": batch.count}), by_record=True)
    await empty.mapper.consume(many(45))
    assert empty.account() == (45, 0, 45, 0) and not empty.next.calls
    returned: list[int] = []

    def bad_end(batch: Batch) -> Left:
        if numbers(batch.payload)[0] == 20:
            raise ValueError("no")
        return Left(batch, {}, {}, lambda: returned.append(1))

    bad = Made(bad_end, by_record=True)
    with pytest.raises(Refused) as error:
        await bad.mapper.consume(many(45))
    assert error.value.reason == "malformed" and bad.account() == (45, 0, 0, 45) and returned == [1, 1]
