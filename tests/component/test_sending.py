"""The sending queue: who owns what, what is retried, what is counted."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from kofagent.component.requests import Drop
from kofagent.component.retrying import backoff_of
from kofagent.component.sending import Sending
from kofagent.component.splitting import OtlpRequest, otlp_requests
from kofagent.config.blocks import QueueBlock, RetryBlock
from kofagent.telemetry.batch import AnyBatch, Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from tests.support.components import FakeHost, eventually, make_context

FAST = {"initial_interval": "1ms", "max_interval": "2ms"}


def batch(count: int = 1, payload: bytes = b"x") -> Batch:
    return Batch(Signal.LOGS, payload, count)


class Backend:
    """Answers with the listed exceptions, then takes everything; `gate` makes it wait."""

    def __init__(self, *answers: Exception) -> None:
        self.answers = list(answers)
        self.taken: list[Any] = []
        self.tries = 0
        self.gate: asyncio.Event | None = None

    async def send(self, request: OtlpRequest) -> None:
        self.tries += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.answers:
            raise self.answers.pop(0)
        self.taken.append(request.batch)


def sender(
    backend: Backend, host: FakeHost, queue: dict[str, Any] | None = None, retry: dict[str, Any] | None = None
) -> Sending[Batch, OtlpRequest]:
    return Sending(
        make_context("exporters", "otlphttp", host),
        lambda batch, drop: otlp_requests(batch, 0),
        backend.send,
        queue=QueueBlock.model_validate(queue or {}),
        retry=RetryBlock.model_validate({**FAST, **(retry or {})}),
    )


async def test_consume_returns_only_when_the_backend_has_it() -> None:
    backend, host = Backend(), FakeHost()
    backend.gate = asyncio.Event()
    it = sender(backend, host)
    await it.start()
    task = asyncio.create_task(it.consume(batch(3)))
    await eventually(lambda: backend.tries == 1)
    assert not task.done()
    assert host.ledger.total("otelcol_exporter_queue_size", exporter="otlphttp") == 1
    backend.gate.set()
    await task
    assert [b.count for b in backend.taken] == [3]
    assert host.ledger.total("otelcol_exporter_sent_log_records_total", exporter="otlphttp") == 3
    assert host.reserved == 0
    await it.stop()


async def test_retryable_is_retried_and_permanent_is_dropped_with_its_reason() -> None:
    backend, host = Backend(Refused("http 503"), Refused("connection")), FakeHost()
    it = sender(backend, host)
    await it.start()
    await it.consume(batch())
    assert backend.tries == 3
    backend.answers = [Refused("http 400", permanent=True)]
    with pytest.raises(Refused) as error:
        await it.consume(batch(7))
    assert error.value.permanent
    assert host.ledger.total("kofagent_dropped_items_total", component="otlphttp", signal="logs", reason="http 400") == 7
    assert host.ledger.total("otelcol_exporter_send_failed_log_records_total", exporter="otlphttp") == 7
    await it.stop()


async def test_out_of_retries_gives_the_data_back_uncounted_as_dropped() -> None:
    backend, host = Backend(*[Refused("http 503") for _ in range(1000)]), FakeHost()
    it = sender(backend, host, retry={"max_elapsed_time": "20ms"})
    await it.start()
    with pytest.raises(Refused) as error:
        await it.consume(batch(2))
    assert not error.value.permanent
    assert host.ledger.sum("kofagent_dropped_items_total") == 0
    assert host.ledger.total("otelcol_exporter_send_failed_log_records_total", exporter="otlphttp") == 2
    await it.stop()


async def test_a_full_queue_refuses_and_takes_again_when_there_is_room() -> None:
    backend, host = Backend(), FakeHost()
    backend.gate = asyncio.Event()
    it = sender(backend, host, {"queue_size": 2, "num_consumers": 1})
    await it.start()
    first = [asyncio.create_task(it.consume(batch())) for _ in range(2)]
    await eventually(lambda: host.ledger.total("otelcol_exporter_queue_size", exporter="otlphttp") == 2)
    with pytest.raises(Refused, match="sending queue full"):
        await it.consume(batch(5))
    assert host.ledger.total("otelcol_exporter_enqueue_failed_log_records_total", exporter="otlphttp") == 5
    backend.gate.set()
    await asyncio.gather(*first)
    await it.consume(batch())
    assert len(backend.taken) == 3
    await it.stop()


async def test_block_on_overflow_waits_for_room() -> None:
    backend, host = Backend(), FakeHost()
    backend.gate = asyncio.Event()
    it = sender(backend, host, {"queue_size": 1, "num_consumers": 1, "block_on_overflow": True})
    await it.start()
    tasks = [asyncio.create_task(it.consume(batch())) for _ in range(3)]
    await eventually(lambda: backend.tries == 1)
    backend.gate.set()
    await asyncio.gather(*tasks)
    assert len(backend.taken) == 3
    await it.stop()


async def test_the_memory_budget_refuses() -> None:
    host = FakeHost(budget=1000)
    it = sender(Backend(), host)
    await it.start()
    with pytest.raises(Refused, match="memory budget"):
        await it.consume(batch(1, b"x" * 2000))
    await it.consume(batch(1, b"x" * 100))
    assert host.reserved == 0
    await it.stop()


async def test_cancelling_withdraws_what_no_consumer_took_up() -> None:
    backend, host = Backend(), FakeHost()
    backend.gate = asyncio.Event()
    it = sender(backend, host, {"num_consumers": 1})
    await it.start()
    first = asyncio.create_task(it.consume(batch(1)))
    await eventually(lambda: backend.tries == 1)
    second = asyncio.create_task(it.consume(batch(2)))
    await eventually(lambda: host.ledger.total("otelcol_exporter_queue_size", exporter="otlphttp") == 2)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    backend.gate.set()
    await first
    await it.stop()
    assert [b.count for b in backend.taken] == [1]
    assert host.reserved == 0


async def test_stop_sends_what_waits_and_gives_back_what_fails() -> None:
    backend, host = Backend(), FakeHost()
    backend.gate = asyncio.Event()
    it = sender(backend, host, {"num_consumers": 1})
    await it.start()
    tasks = [asyncio.create_task(it.consume(batch(n))) for n in (1, 2)]
    await eventually(lambda: backend.tries == 1)
    stopping = asyncio.create_task(it.stop())
    backend.answers = [Refused("http 503")]
    backend.gate.set()
    await stopping
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(answers[0], Refused)
    assert answers[1] is None
    assert [b.count for b in backend.taken] == [2]
    assert host.reserved == 0


async def test_a_defect_in_send_is_a_counted_drop_not_an_endless_retry() -> None:
    backend, host = Backend(KeyError("x")), FakeHost()
    it = sender(backend, host)
    await it.start()
    with pytest.raises(Refused):
        await it.consume(batch(4))
    assert host.ledger.total("kofagent_dropped_items_total", component="otlphttp", signal="logs", reason="internal error") == 4
    await it.stop()


def test_backoff_obeys_the_server_and_grows_to_the_cap() -> None:
    backoff = backoff_of(RetryBlock(randomization_factor=0, max_elapsed_time=0.0), False)
    waits = [backoff.next() for _ in range(7)]
    assert waits == [5.0, 7.5, 11.25, 16.875, 25.3125, 30.0, 30.0]
    assert backoff.next(90.0) == 90.0
    assert not backoff_of(RetryBlock(max_elapsed_time=1.0), True).allows(50)  # the user set it
    assert backoff_of(RetryBlock(), True).allows(4000)
    assert not backoff_of(RetryBlock(), False).allows(4000)


async def test_each_request_of_a_batch_has_the_whole_time_to_be_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    """`max_elapsed_time` is about a backend that takes nothing; one that takes a part after each failure makes progress."""
    now = 0.0
    monkeypatch.setattr("kofagent.component.backoff.time", SimpleNamespace(monotonic=lambda: now))
    taken: list[int] = []
    failed: set[int] = set()

    async def send(request: OtlpRequest) -> None:
        nonlocal now
        number = len(taken)
        if number not in failed:
            failed.add(number)
            now += 1.0
            raise Refused("http 503")
        taken.append(request.items)

    host = FakeHost()
    it = Sending(
        make_context("exporters", "otlphttp", host),
        lambda batch, drop: [OtlpRequest(Batch(Signal.LOGS, b"x", 1)) for _ in range(batch.count)],
        send,
        queue=QueueBlock(enabled=False),
        retry=RetryBlock.model_validate({"initial_interval": "1ms", "max_interval": "1ms", "max_elapsed_time": "1500ms"}),
    )
    await it.consume(batch(6))
    assert taken == [1] * 6


@pytest.mark.parametrize("queue", [{}, {"enabled": False}], ids=str)
async def test_items_that_are_in_no_request_are_dropped_and_counted(queue: dict[str, Any]) -> None:
    host = FakeHost()
    it = Sending(
        make_context("exporters", "otlphttp", host),
        lambda batch, drop: [OtlpRequest(Batch(Signal.LOGS, b"x", 1))],
        Backend().send,
        queue=QueueBlock.model_validate(queue),
        retry=RetryBlock.model_validate(FAST),
    )
    await it.start()
    await it.consume(batch(3))
    await it.stop()
    assert host.ledger.total("otelcol_exporter_sent_log_records_total", exporter="otlphttp") == 1
    assert host.ledger.total("kofagent_dropped_items_total", component="otlphttp", signal="logs", reason="malformed") == 2


@pytest.mark.parametrize("queue", [{}, {"enabled": False}], ids=str)
async def test_requests_that_cannot_be_made_are_a_counted_drop(queue: dict[str, Any]) -> None:
    def broken(batch: AnyBatch, drop: Drop) -> list[OtlpRequest]:
        drop("too old", 1)
        raise KeyError("a defect")

    host = FakeHost()
    it = Sending(
        make_context("exporters", "otlphttp", host),
        broken,
        Backend().send,
        queue=QueueBlock.model_validate(queue),
        retry=RetryBlock.model_validate(FAST),
    )
    await it.start()
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            await it.consume(batch(3))
        assert refused.value.permanent
    await it.stop()
    for reason, items in {"too old": 2, "internal error": 4}.items():
        assert host.ledger.total("kofagent_dropped_items_total", component="otlphttp", signal="logs", reason=reason) == items


@pytest.mark.parametrize("sizer, size", [("items", 5), ("bytes", 100)])
async def test_a_batch_that_is_larger_than_the_whole_queue_passes_alone(sizer: str, size: int) -> None:
    backend, host = Backend(), FakeHost()
    backend.gate = asyncio.Event()
    it = sender(backend, host, {"queue_size": size, "sizer": sizer})
    await it.start()
    large = asyncio.create_task(it.consume(batch(10)))
    await eventually(lambda: backend.tries == 1)
    with pytest.raises(Refused, match="sending queue full"):
        await it.consume(batch(1))
    backend.gate.set()
    await large
    await it.stop()


@pytest.mark.parametrize("options", [{}, {"batch": {"min_size": 1}}], ids=str)
async def test_a_stop_gives_back_what_a_backend_that_hangs_has(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kofagent.component.sending.SHUTDOWN_SECONDS", 0.05)
    backend, host = Backend(), FakeHost()
    backend.gate = asyncio.Event()
    it = sender(backend, host, {"num_consumers": 1, **options})
    await it.start()
    calls = [asyncio.create_task(it.consume(batch(n))) for n in (1, 2)]
    await eventually(lambda: backend.tries == 1)
    await it.stop()
    async with asyncio.timeout(5):
        answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [str(answer).partition(":")[0] for answer in answers] == ["shutdown", "shutdown"]
    assert host.reserved == 0
    assert host.ledger.sum("otelcol_exporter_sent_log_records_total") == 0


async def test_without_a_queue_a_stop_waits_for_the_calls_under_way_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    backend, host = Backend(), FakeHost()
    backend.gate = asyncio.Event()
    it = sender(backend, host, {"enabled": False})
    await it.start()
    call = asyncio.create_task(it.consume(batch(3)))
    await eventually(lambda: backend.tries == 1)
    stopping = asyncio.create_task(it.stop())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not stopping.done()
    backend.gate.set()
    await stopping
    assert [b.count for b in backend.taken] == [3]
    await call

    monkeypatch.setattr("kofagent.component.sending.SHUTDOWN_SECONDS", 0.05)
    backend.gate.clear()
    it = sender(backend, host, {"enabled": False})
    call = asyncio.create_task(it.consume(batch(3)))
    await eventually(lambda: backend.tries == 2)
    async with asyncio.timeout(5):
        await it.stop()
    backend.gate.set()
    await call
