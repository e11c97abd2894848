"""A batch that goes back after the backend took a part of it: that part is not sent again when the batch comes again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from kofagent.component import half_sent
from kofagent.component.half_sent import HalfSent
from kofagent.component.requests import TooLarge
from kofagent.component.sending import Sending
from kofagent.component.splitting import OtlpRequest, otlp_requests
from kofagent.config.blocks import QueueBlock, RetryBlock
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from tests.support.components import FakeHost, make_context


def logs(*bodies: str) -> Batch:
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    for body in bodies:
        records.add().body.string_value = body
    return Batch(Signal.LOGS, request.SerializeToString(), len(bodies))


def bodies(payload: bytes) -> list[str]:
    request = ExportLogsServiceRequest.FromString(payload)
    return [r.body.string_value for rl in request.resource_logs for sl in rl.scope_logs for r in sl.log_records]


class Backend:
    """Takes as many requests as it is told to, then answers 503, or what else it should."""

    def __init__(self) -> None:
        self.host = FakeHost()
        self.takes = 0
        self.most = 100
        self.answer = Refused("http 503")
        self.got: list[str] = []

    def sending(self, **queue: Any) -> Sending[Batch, OtlpRequest]:
        return Sending(
            make_context("exporters", "otlphttp", self.host),
            lambda batch, drop: otlp_requests(batch, 0),
            self.send,
            queue=QueueBlock.model_validate({"num_consumers": 1, **queue}),
            retry=RetryBlock.model_validate({"initial_interval": "1ms", "max_interval": "1ms", "max_elapsed_time": "1ms"}),
            exact=True,
        )

    async def send(self, request: OtlpRequest) -> None:
        if request.items > self.most:
            raise TooLarge("http 413")
        if not self.takes:
            raise self.answer
        self.takes -= 1
        self.got += bodies(request.batch.payload)

    def count(self, name: str) -> float:
        return self.host.ledger.sum(f"otelcol_exporter_{name}_log_records_total")


BATCH = {"flush_timeout": "1ms", "min_size": 0, "max_size": 2, "sizer": "items"}


async def test_what_the_backend_has_is_left_out_however_often_the_batch_goes_back() -> None:
    backend, batch = Backend(), logs("a", "b", "c", "d", "e")
    it = backend.sending(batch=BATCH)
    await it.start()
    for backend.takes in (1, 0, 1):
        with pytest.raises(Refused):
            await it.consume(batch)
    assert backend.got == ["a", "b", "c", "d"]
    assert backend.count("sent") == 0  # nobody has been told that a part was taken
    backend.takes = 1
    await it.consume(batch)
    assert backend.got == ["a", "b", "c", "d", "e"]
    assert backend.count("sent") == 5
    backend.takes = 3
    await it.consume(batch)  # a batch that was taken is not remembered: the same again is more data
    assert backend.count("sent") == 10
    await it.stop()


async def test_of_joined_batches_each_is_remembered_by_itself() -> None:
    backend, one, other = Backend(), logs("a", "b"), logs("x", "y", "z", "w")
    it = backend.sending(batch={**BATCH, "min_size": 6, "max_size": 6, "flush_timeout": "1h"})
    await it.start()
    backend.takes, backend.most = 1, 3
    answers = await asyncio.gather(it.consume(one), it.consume(other), return_exceptions=True)
    assert [type(answer) for answer in answers] == [type(None), Refused]
    assert backend.got == ["a", "b", "x"]
    assert backend.count("sent") == 2
    backend.takes = 9
    await asyncio.gather(it.consume(other), it.consume(logs("p", "q", "r")))
    assert backend.got == ["a", "b", "x", "y", "z", "w", "p", "q", "r"]
    assert backend.count("sent") == 9
    await it.stop()


async def test_a_rest_that_is_refused_for_good_is_dropped_alone() -> None:
    backend, batch = Backend(), logs("a", "b", "c")
    it = backend.sending(batch=BATCH)
    await it.start()
    backend.takes = 1
    with pytest.raises(Refused):
        await it.consume(batch)
    backend.answer = Refused("http 401", permanent=True)
    await it.consume(batch)  # the backend has a part of it, so it is not refused
    assert backend.count("sent") == 2
    assert backend.host.ledger.sum("kofagent_dropped_items_total") == 1
    await it.stop()


def test_few_are_remembered_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_sent, "MOST", 2)
    known = HalfSent()
    for name in "abc":
        known.note(logs(name, "rest"), 1)
    assert known.rest(logs("a", "rest"))[1] == 0
    rest, before = known.rest(logs("b", "rest"))
    assert (bodies(rest.payload), rest.count, before) == (["rest"], 1, 1)
    assert known.rest(logs("b", "rest"))[1] == 0
    monkeypatch.setattr(half_sent, "SECONDS", -1.0)
    known.note(logs("c", "rest"), 1)
    assert known.rest(logs("c", "rest"))[1] == 0
    assert not known
