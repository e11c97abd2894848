"""What a backend refuses for good: only the guilty items of a request are dropped; and answers that may pass are waited for."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from kofagent.component import retrying
from kofagent.component.requests import ISOLATING_IN_VAIN, ISOLATING_MOST, Rejected
from kofagent.component.sending import Sending
from kofagent.component.splitting import OtlpRequest, otlp_requests
from kofagent.config.blocks import QueueBlock, RetryBlock
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from tests.support.components import FakeHost, eventually, make_context
from tests.support.otlp import REQUEST, log_request
from tests.support.queue_disk import Disk


class Backend:
    """Refuses a request that has a body with "bad" in it; `answers` come first, `everything` refuses all."""

    def __init__(self, reason: str = "http 400") -> None:
        self.reason = reason
        self.everything = False
        self.answers: list[str] = []
        self.asked = 0
        self.taken: list[str] = []

    async def send(self, request: OtlpRequest) -> Rejected | None:
        self.asked += 1
        found = REQUEST["logs"].FromString(request.batch.payload)
        bodies = [r.body.string_value for one in found.resource_logs for s in one.scope_logs for r in s.log_records]
        if self.answers:
            raise Refused(self.answers.pop(0), permanent=True)
        if self.everything or any("bad" in body for body in bodies):
            raise Refused(self.reason, permanent=True)
        self.taken += bodies
        return None


def make(backend: Backend, host: FakeHost, retry: dict[str, Any] | None = None, **queue: Any) -> Sending[Batch, OtlpRequest]:
    return Sending(
        make_context("exporters", "e", host),
        lambda batch, drop: otlp_requests(batch, 0),
        backend.send,
        queue=QueueBlock.model_validate(queue or {"enabled": False}),
        retry=RetryBlock.model_validate({"initial_interval": "1ms", "max_interval": "2ms", **(retry or {})}),
    )


def bodies(count: int, *bad: int) -> list[str]:
    return [f"bad {n}" if n in bad else f"{n}" for n in range(count)]


def logs(texts: list[str]) -> Batch:
    return Batch(Signal.LOGS, log_request(*texts), len(texts))


def dropped(host: FakeHost, reason: str) -> float:
    return host.ledger.total("kofagent_dropped_items_total", component="e", signal="logs", reason=reason)


@pytest.mark.parametrize("reason", ["http 400", "grpc INVALID_ARGUMENT"])
@pytest.mark.parametrize("bad", [(0,), (999,), (3, 4), (17, 500, 998)], ids=str)
async def test_only_the_guilty_ones_are_dropped_and_the_rest_arrives_in_order(reason: str, bad: tuple[int, ...]) -> None:
    backend, host = Backend(reason), FakeHost()
    texts = bodies(1000, *bad)
    await make(backend, host).consume(logs(texts))
    assert backend.taken == [text for text in texts if "bad" not in text]
    assert dropped(host, reason) == len(bad)
    assert backend.asked <= 1 + 2 * 10 * len(bad)


async def test_many_guilty_ones_cost_a_bounded_number_of_requests() -> None:
    backend, host = Backend(), FakeHost()
    texts = bodies(1000, *range(0, 1000, 7))
    await make(backend, host).consume(logs(texts))
    assert backend.asked <= 1 + ISOLATING_MOST
    assert len(backend.taken) + dropped(host, "http 400") == 1000 and len(backend.taken) > 50


async def test_a_backend_that_refuses_everything_is_asked_little_and_after_some_batches_once_for_each() -> None:
    backend, host = Backend(), FakeHost()
    backend.everything = True
    it = make(backend, host)
    for _ in range(10):
        with pytest.raises(Refused):
            await it.consume(logs(bodies(1000)))
    assert backend.asked <= 10 + 3 * ISOLATING_IN_VAIN
    assert dropped(host, "http 400") == 10_000


async def test_after_a_while_batches_are_taken_apart_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "IN_VAIN_PAUSE", 0.0)
    backend, host = Backend(), FakeHost()
    backend.everything = True
    it = make(backend, host)
    for _ in range(4):
        with pytest.raises(Refused):
            await it.consume(logs(bodies(2)))
    backend.everything = False
    await it.consume(logs(bodies(8, 5)))
    assert dropped(host, "http 400") == 9


@pytest.mark.parametrize(
    "listed, reason", [([404], "http 404"), (["3xx"], "http 307"), (["UNAUTHENTICATED"], "grpc UNAUTHENTICATED")]
)
async def test_answers_that_may_pass_are_waited_for(listed: list[int | str], reason: str) -> None:
    backend, host = Backend(), FakeHost({"disk": Disk()})
    backend.answers = [reason] * 5
    it = make(backend, host, {"retryable_statuses": listed, "max_elapsed_time": 0}, storage="disk")
    await it.start()
    await it.consume(logs(["a"]))
    await eventually(lambda: backend.taken)
    assert backend.asked == 6 and host.ledger.sum("kofagent_dropped_items_total") == 0
    await it.stop()


@pytest.mark.parametrize("kof, waits", [(True, True), (False, False)])
async def test_with_kof_values_a_status_says_that_data_waits(kof: bool, waits: bool) -> None:
    backend, host = Backend(), FakeHost()
    host.keep_retrying = kof
    backend.answers = ["http 401"] * 3
    seen: list[str | None] = []
    host.report = lambda component, error: seen.append(error)  # type: ignore[method-assign]
    it = make(backend, host)
    if waits:
        await it.consume(logs(["a"]))
        assert seen[0] == "http 401: the data waits for another answer (retryable_statuses)" and seen[-1] is None
    else:
        with pytest.raises(Refused, match="http 401"):
            await it.consume(logs(["a"]))


def test_what_is_no_answer_is_an_error() -> None:
    for wrong in (200, 99, "4XX", "unavailable", "40"):
        with pytest.raises(ValidationError, match="is no answer"):
            RetryBlock.model_validate({"retryable_statuses": [wrong]})
