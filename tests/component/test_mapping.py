"""Changing batches: what comes in goes out, is filtered, is dropped, or goes back."""

from __future__ import annotations

import asyncio

import pytest

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

    def __init__(self, change: Change, mood: str = "take") -> None:
        self.host, self.next = FakeHost(), Scripted(mood)
        processor = make(Changing, kind="processor", id="p", host=self.host)
        processor.signal, processor.next = Signal.LOGS, self.next
        self.upstream = 0.0
        self.mapper = Mapper(processor, change, self._count)

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
