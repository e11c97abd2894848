"""What a receiver does with a batch: three policies, one account."""

from __future__ import annotations

import asyncio
import logging

import pytest

from kofagent.component import offering
from kofagent.component.offering import Offer
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from tests.support.components import FakeHost, make_context
from tests.support.scripted import Scripted

BATCH = Batch(Signal.LOGS, b"", 3)


class Made:
    """An offer over a scripted consumer."""

    def __init__(self, mood: str = "take", transport: str = "") -> None:
        self.host = FakeHost()
        self.consumer = Scripted(mood)
        self.offer = Offer(make_context("receiver", "r", self.host), self.consumer, Signal.LOGS, transport)
        self.transport = transport

    def account(self) -> tuple[float, float, dict[str, float]]:
        """(accepted, refused, dropped by reason)."""
        labels = {"receiver": "r", "transport": self.transport}
        total = self.host.ledger.total
        dropped = {
            sample.labels["reason"]: sample.value
            for metric in self.host.ledger.registry.collect()
            for sample in metric.samples
            if sample.name == "kofagent_dropped_items_total"
        }
        return (
            total("otelcol_receiver_accepted_log_records_total", **labels),
            total("otelcol_receiver_refused_log_records_total", **labels),
            dropped,
        )


@pytest.mark.parametrize("transport", ["", "http", "grpc"])
@pytest.mark.parametrize("policy", ["answer", "until_taken", "or_drop"])
async def test_what_is_taken_is_accepted(policy: str, transport: str) -> None:
    made = Made(transport=transport)
    await getattr(made.offer, policy)(BATCH)
    assert made.account() == (3, 0, {})


@pytest.mark.parametrize("policy", ["until_taken", "or_drop"])
async def test_what_is_refused_for_good_was_counted_by_who_refused_it(policy: str) -> None:
    made = Made("never")
    await getattr(made.offer, policy)(BATCH)
    assert made.account() == (0, 3, {})
    assert made.consumer.lost == 3


@pytest.mark.parametrize("policy", ["until_taken", "or_drop"])
async def test_a_defect_downstream_is_a_counted_drop(policy: str, caplog: pytest.LogCaptureFixture) -> None:
    made = Made("defect")
    for _ in range(3):
        await getattr(made.offer, policy)(BATCH)
    assert made.account() == (0, 9, {"internal error": 9})
    assert caplog.text.count("Traceback") == 1, "once in a while, not for every batch"


@pytest.mark.parametrize("mood, permanent", [("refuse", False), ("never", True), ("defect", False)])
async def test_an_answer_says_what_the_pipeline_said(mood: str, permanent: bool) -> None:
    made = Made(mood)
    with pytest.raises(Refused) as error:
        await made.offer.answer(BATCH)
    assert error.value.permanent is permanent
    assert made.account() == (0, 3, {}), "the data stays with the client, or was counted by who refused it"


async def test_an_answer_that_nobody_waits_for_any_longer_is_refused() -> None:
    made = Made("stall")
    task = asyncio.create_task(made.offer.answer(BATCH))
    await made.consumer.called.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert made.account() == (0, 3, {})


async def test_waiting_offers_again_and_counts_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(offering, "FIRST_WAIT", 0.001)
    made = Made("refuse")
    with caplog.at_level(logging.WARNING):
        task = asyncio.create_task(made.offer.until_taken(BATCH))
        await made.consumer.wait_for(lambda c: len(c.calls) >= 4)
        assert made.account() == (0, 0, {}), "what waits is not counted"
        made.consumer.mood = "take"
        await task
    assert made.account() == (3, 0, {})
    assert caplog.text.count("3 log records wait") == 1


async def test_waiting_heeds_what_the_backend_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        made.consumer.mood = "take"

    made = Made("refuse")
    made.consumer.retry_after = 1000.0
    monkeypatch.setattr(asyncio, "sleep", sleep)
    await made.offer.until_taken(BATCH)
    assert slept == [1000.0]


async def test_waiting_can_be_cancelled_without_a_trace() -> None:
    made = Made("refuse")
    task = asyncio.create_task(made.offer.until_taken(BATCH))
    await made.consumer.called.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert made.account() == (0, 0, {}), "the data is still where it came from"


async def test_dropping_counts_the_reason_of_the_refusal(caplog: pytest.LogCaptureFixture) -> None:
    made = Made("refuse")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await made.offer.or_drop(BATCH)
    assert len(made.consumer.calls) == 3, "each batch is offered once"
    assert made.account() == (0, 9, {"sending queue full": 9})
    assert caplog.text.count("3 log records are dropped: sending queue full: by the script") == 1


async def test_dropping_is_ended_by_the_shutdown() -> None:
    made = Made("stall")
    task = asyncio.create_task(made.offer.or_drop(BATCH))
    await made.consumer.called.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert made.account() == (0, 3, {"shutdown": 3})


async def test_an_attempt_that_may_pass_leaves_the_decision_to_the_receiver() -> None:
    made = Made("refuse")
    refused = await made.offer.attempt(BATCH)
    assert refused is not None and refused.retry_after == 0.01
    assert made.account() == (0, 0, {})
    made.offer.give_up(BATCH, refused.reason)
    assert made.account() == (0, 3, {"sending queue full": 3})
