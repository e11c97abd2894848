"""`sending_queue.batch`: what waits is joined up to a size or a time, what is too large is cut; both kinds of queue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

import pytest
from pydantic import ValidationError

from kofagent.component.requests import Drop, Rejected, TooLarge
from kofagent.component.sending import Sending
from kofagent.component.splitting import OtlpRequest, otlp_requests
from kofagent.config.blocks import QueueBlock, RetryBlock
from kofagent.telemetry.batch import Batch, Metadata
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from kofagent.wire import otlp
from tests.support.components import FakeHost, eventually, make_context
from tests.support.otlp import REQUEST, log_request
from tests.support.queue_disk import Disk

FAST = {"initial_interval": "1ms", "max_interval": "1ms", "max_elapsed_time": "20ms"}
ON_DISK = {"storage": "disk"}


class Backend:
    """Takes requests, with their time; `answers` come first."""

    def __init__(self) -> None:
        self.taken: list[Batch] = []
        self.times: list[float] = []
        self.answers: list[Exception | None] = []
        self.gate: asyncio.Event | None = None
        self.tries = 0
        self.under_way = self.most_under_way = 0

    async def send(self, request: OtlpRequest) -> Rejected | None:
        self.tries += 1
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if self.gate is not None:
                await self.gate.wait()
            answer = self.answers.pop(0) if self.answers else None
            if answer is not None:
                raise answer
            self.taken.append(request.batch)
            self.times.append(time.monotonic())
            return None
        finally:
            self.under_way -= 1

    @property
    def bodies(self) -> list[list[str]]:
        return [bodies(batch.payload) for batch in self.taken]


def bodies(payload: bytes) -> list[str]:
    request = REQUEST["logs"].FromString(payload)
    return [r.body.string_value for e in request.resource_logs for s in e.scope_logs for r in s.log_records]


def logs(*texts: str, metadata: Metadata | None = None) -> Batch:
    return Batch(Signal.LOGS, log_request(*texts), len(texts), metadata)


def requests(batch: Batch, drop: Drop) -> Iterable[OtlpRequest]:
    return otlp_requests(batch, 0)


class Running:
    """A `Sending` between start and stop."""

    def __init__(self, backend: Backend, queue: dict[str, Any], retry: dict[str, Any] | None = None) -> None:
        self.disk = Disk()
        self.host = FakeHost({"disk": self.disk})
        self.sending = Sending(
            make_context("exporters", "e", self.host),
            requests,
            backend.send,
            queue=QueueBlock.model_validate(queue),
            retry=RetryBlock.model_validate({**FAST, **(retry or {})}),
            exact=True,
        )

    async def __aenter__(self) -> Running:
        await self.sending.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.sending.stop()

    async def all(self, *batches: Batch) -> list[BaseException | None]:
        return await asyncio.gather(*map(self.sending.consume, batches), return_exceptions=True)

    @property
    def queued(self) -> float:
        return self.host.ledger.total("otelcol_exporter_queue_size", exporter="e")


@pytest.mark.parametrize("storage", [{}, ON_DISK], ids=["memory", "disk"])
async def test_what_comes_together_is_sent_together_up_to_min_size(storage: dict[str, Any]) -> None:
    backend = Backend()
    options = {**storage, "batch": {"flush_timeout": "20s", "min_size": 3}}
    async with Running(backend, options) as it:
        await it.all(*[logs(str(n)) for n in range(9)])
        await eventually(lambda: len(backend.taken) == 3)
    assert sorted(body for one in backend.bodies for body in one) == [str(n) for n in range(9)]
    assert list(map(len, backend.bodies)) == [3, 3, 3]


async def test_a_queue_on_disk_waits_for_flush_timeout_and_no_longer() -> None:
    backend = Backend()
    async with Running(backend, {**ON_DISK, "batch": {"flush_timeout": "300ms", "min_size": 100}}) as it:
        began = time.monotonic()
        await it.sending.consume(logs("a"))
        await eventually(lambda: it.queued == 1)
        await it.sending.consume(logs("b"))
        await eventually(lambda: backend.taken)
        assert backend.times[0] - began >= 0.3
    assert backend.bodies == [["a", "b"]]


async def test_a_sender_that_waits_for_each_answer_is_not_slowed_to_one_batch_per_flush_timeout() -> None:
    backend = Backend()
    async with Running(backend, {"batch": {"flush_timeout": "4s", "min_size": 100}}) as it:
        async with asyncio.timeout(15):
            for n in range(5):
                await it.sending.consume(logs(str(n)))
    assert len(backend.taken) == 5


async def test_a_stop_does_not_wait_for_more() -> None:
    backend = Backend()
    it = Running(backend, {"batch": {"flush_timeout": "1h", "min_size": 100}})
    await it.sending.start()
    call = asyncio.create_task(it.sending.consume(logs("a")))
    await eventually(lambda: it.queued == 1)
    async with asyncio.timeout(5):
        await it.sending.stop()
        await call
    assert backend.bodies == [["a"]]


@pytest.mark.parametrize("storage", [{}, ON_DISK], ids=["memory", "disk"])
@pytest.mark.parametrize("sizer, most", [("items", 2), ("bytes", 40)])
async def test_what_is_larger_than_max_size_is_cut(storage: dict[str, Any], sizer: str, most: int) -> None:
    backend = Backend()
    options = {**storage, "batch": {"flush_timeout": "10ms", "min_size": 1, "max_size": most, "sizer": sizer}}
    async with Running(backend, options) as it:
        await it.sending.consume(logs(*"abcdefg"))
        await eventually(lambda: [b for one in backend.bodies for b in one] == list("abcdefg"))
    assert len(backend.taken) > 2
    assert all((batch.count if sizer == "items" else len(batch.payload)) <= most for batch in backend.taken)
    assert sum(batch.count for batch in backend.taken) == 7


async def test_joining_does_not_pass_max_size() -> None:
    backend = Backend()
    backend.gate = asyncio.Event()
    async with Running(backend, {"num_consumers": 1, "batch": {"flush_timeout": "20s", "min_size": 3, "max_size": 4}}) as it:
        calls = asyncio.create_task(it.all(logs("0", "1", "2"), logs("a", "b"), logs("c", "d", "e"), logs("f"), logs("g", "h")))
        await eventually(lambda: backend.tries == 1 and it.queued == 5)
        backend.gate.set()
        assert await calls == [None] * 5
    assert backend.bodies == [["0", "1", "2"], ["a", "b"], ["c", "d", "e"], ["f", "g", "h"]]


async def test_groups_are_sent_by_several_consumers_at_once() -> None:
    backend = Backend()
    backend.gate = asyncio.Event()
    async with Running(backend, {"num_consumers": 3, "batch": {"flush_timeout": "20s", "min_size": 2}}) as it:
        calls = asyncio.create_task(it.all(*[logs(str(n)) for n in range(10)]))
        await eventually(lambda: backend.under_way == 3)
        backend.gate.set()
        await calls
    assert backend.most_under_way == 3


@pytest.mark.parametrize("storage", [{}, ON_DISK], ids=["memory", "disk"])
async def test_partitions_are_not_mixed_and_do_not_hold_each_other_up(storage: dict[str, Any]) -> None:
    backend = Backend()
    options = {**storage, "batch": {"flush_timeout": "20s", "min_size": 3, "partition": {"metadata_keys": ["Tenant"]}}}
    async with Running(backend, options) as it:
        both = [logs(f"{t}{n}", metadata={"tenant": (t,), "other": (str(n),)}) for n in range(3) for t in "xy"]
        await it.all(*both)
        await eventually(lambda: len(backend.taken) == 2)
    assert sorted(backend.bodies) == [["x0", "x1", "x2"], ["y0", "y1", "y2"]]
    assert sorted(str(dict(batch.metadata or {})) for batch in backend.taken) == ["{'tenant': ('x',)}", "{'tenant': ('y',)}"]


@pytest.mark.parametrize("storage", [{}, ON_DISK], ids=["memory", "disk"])
async def test_a_full_partition_does_not_wait_for_one_that_came_before(storage: dict[str, Any]) -> None:
    backend = Backend()
    options = {**storage, "batch": {"flush_timeout": "20s", "min_size": 2, "max_size": 2, "partition": {"metadata_keys": ["t"]}}}
    async with Running(backend, options) as it:
        slow = asyncio.create_task(it.sending.consume(logs("slow", metadata={"t": ("slow",)})))
        await eventually(lambda: it.queued == 1)
        await it.all(*[logs(str(n), metadata={"t": ("busy",)}) for n in range(4)])
        await eventually(lambda: len(backend.taken) >= 2)
        assert backend.bodies == [["0", "1"], ["2", "3"]]
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)


@pytest.mark.parametrize("storage", [{}, ON_DISK], ids=["memory", "disk"])
async def test_without_partitions_only_equal_metadata_is_joined(storage: dict[str, Any]) -> None:
    backend = Backend()
    async with Running(backend, {**storage, "num_consumers": 1, "batch": {"flush_timeout": "20ms", "min_size": 3}}) as it:
        x, y = {"tenant": ("x",)}, {"tenant": ("y",)}
        await it.all(logs("a", metadata=x), logs("b", metadata=dict(x)), logs("c", metadata=y), logs("d"))
        await eventually(lambda: len(backend.taken) == 3)
    assert backend.bodies == [["a", "b"], ["c"], ["d"]]
    assert [batch.metadata for batch in backend.taken] == [x, y, None]


async def test_parts_that_were_taken_are_not_offered_again_when_others_find_no_room() -> None:
    """The batch enters the queue as a whole and is cut when it is sent: a full queue takes all of it or nothing."""
    backend = Backend()
    options = {
        "num_consumers": 1,
        "queue_size": 8,
        "sizer": "items",
        "batch": {"min_size": 1, "max_size": 2, "flush_timeout": "1ms"},
    }
    async with Running(backend, options) as it:
        pending = [logs(*[f"{n}.{i}" for i in range(5)]) for n in range(20)]
        while pending:
            answers = await it.all(*pending)
            assert all(answer is None or (isinstance(answer, Refused) and not answer.permanent) for answer in answers)
            pending = [batch for batch, answer in zip(pending, answers, strict=True) if answer is not None]
    got = [body for one in backend.bodies for body in one]
    assert sorted(got) == sorted(f"{n}.{i}" for n in range(20) for i in range(5))
    assert it.host.ledger.sum("otelcol_exporter_enqueue_failed_log_records_total") > 0, "the queue was full at times"


async def test_of_joined_batches_only_those_go_back_that_were_not_sent() -> None:
    backend = Backend()
    backend.answers = [TooLarge("http 413"), None, *[Refused("http 503")] * 1000]
    retry = {"max_elapsed_time": "20ms"}
    async with Running(backend, {"num_consumers": 1, "batch": {"min_size": 8, "flush_timeout": "10s"}}, retry) as it:
        answers = await it.all(logs("a"), logs("b", "c"), logs("d", "e", "f"), logs("g", "h"))
    assert [answer is None for answer in answers] == [True, True, False, False]
    assert backend.bodies == [["a", "b", "c", "d"]], "d is sent again with e and f, nothing else is"
    assert it.host.ledger.total("otelcol_exporter_sent_log_records_total", exporter="e") == 3
    assert it.host.ledger.total("otelcol_exporter_send_failed_log_records_total", exporter="e") == 5
    assert it.host.reserved == 0


async def test_a_stop_leaves_on_disk_what_was_not_sent() -> None:
    backend = Backend()
    backend.answers = [TooLarge("http 413"), None, *[Refused("http 503")] * 1000]
    queue = {**ON_DISK, "num_consumers": 1, "batch": {"min_size": 4, "flush_timeout": "10s"}}
    async with Running(backend, queue, {"max_elapsed_time": 0}) as it:
        await it.all(logs("a"), logs("b"), logs("c"), logs("d"))
        await eventually(lambda: len(backend.answers) < 1000)
    assert [header.number for _, _, header in it.disk.waiting] == [2, 3]
    assert it.host.ledger.total("otelcol_exporter_sent_log_records_total", exporter="e") == 2


async def test_a_part_that_fails_is_tried_again_alone() -> None:
    backend = Backend()
    backend.answers = [None, Refused("http 503"), Refused("http 503"), None, Refused("http 422", permanent=True)]
    async with Running(backend, {"batch": {"min_size": 1, "max_size": 2}}, {"max_elapsed_time": "20s"}) as it:
        await it.sending.consume(logs(*"abcdef"))
    assert backend.bodies == [["a", "b"], ["c", "d"]]
    assert it.host.ledger.total("otelcol_exporter_sent_log_records_total", exporter="e") == 4
    assert it.host.ledger.total("otelcol_exporter_send_failed_log_records_total", exporter="e") == 2


async def test_malformed_data_that_must_be_cut_is_dropped() -> None:
    backend = Backend()
    async with Running(backend, {"batch": {"min_size": 1, "max_size": 2}}) as it:
        with pytest.raises(Refused) as refused:
            await it.sending.consume(Batch(Signal.LOGS, b"\x0a\xff", 9))
    assert refused.value.permanent
    assert it.host.ledger.total("kofagent_dropped_items_total", component="e", signal="logs", reason="malformed") == 9


@pytest.mark.parametrize(
    "options, words",
    [
        ({"batch": {"flush_timeout": "0s"}}, "flush_timeout"),
        ({"batch": {"max_size": 10}}, "less than min_size"),
        ({"batch": {"min_size": -1}}, "min_size"),
        ({"batch": {"sizer": "requests"}}, "items"),
        ({"sizer": "requests", "batch": {}}, "items"),
        ({"sizer": "items", "queue_size": 10, "batch": {"min_size": 11}}, "more than queue_size"),
        ({"batch": {"partition": {"metadata_keys": ["a", "A"]}}}, "more than once"),
        ({"storage": "x", "wait_for_result": True}, "wait_for_result"),
        ({"num_consumers": 0}, "num_consumers"),
        ({"queue_size": 0}, "queue_size"),
    ],
)
def test_what_upstream_refuses(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        QueueBlock.model_validate(options)


def test_defaults_are_upstreams() -> None:
    block = QueueBlock()
    assert (block.enabled, block.num_consumers, block.queue_size, block.sizer) == (True, 10, 1000, "requests")
    assert (block.wait_for_result, block.block_on_overflow, block.storage, block.batch) == (False, False, None, None)
    batch = QueueBlock.model_validate({"batch": {}}).batch
    assert batch is not None
    assert (batch.flush_timeout, batch.min_size, batch.max_size, batch.sizer) == (0.2, 8192, 0, "items")
    batch = QueueBlock.model_validate({"sizer": "bytes", "queue_size": 10_000, "batch": {"flush_timeout": "1s"}}).batch
    assert batch is not None and batch.sizer == "bytes"
    QueueBlock.model_validate({"sizer": "items", "queue_size": 10, "batch": {"min_size": 10}})


def test_the_payloads_of_these_tests_are_what_they_say() -> None:
    assert otlp.count("logs", logs("a", "b").payload) == 2
