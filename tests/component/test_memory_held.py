"""Nothing of a batch is kept once it was delivered, dropped or given back: an agent's memory is what is on its way."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from kofagent.component.requests import Drop, Rejected, TooLarge
from kofagent.component.sending import Sending
from kofagent.component.splitting import OtlpRequest, otlp_requests
from kofagent.config.blocks import QueueBlock, RetryBlock
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from tests.support.components import FakeHost, eventually, make_context
from tests.support.otlp import log_request
from tests.support.queue_disk import Disk


class Watched(Batch):
    """A batch of which one can tell whether it is still there."""

    __slots__ = ("__weakref__",)


class Backend:
    """Answers with what is listed, then takes everything."""

    def __init__(self, *answers: Exception) -> None:
        self.answers = list(answers)

    async def send(self, request: OtlpRequest) -> Rejected | None:
        await asyncio.sleep(0)
        if self.answers:
            raise self.answers.pop(0)
        return None


def requests(batch: Batch, drop: Drop) -> Iterable[OtlpRequest]:
    return otlp_requests(batch, 0)


ANSWERS: dict[str, Callable[[], list[Exception]]] = {
    "taken": list,
    "malformed": list,
    "retried": lambda: [Refused("http 503"), Refused("connection")],
    "refused": lambda: [Refused("http 400", permanent=True) for _ in range(3)],
    "halved": lambda: [TooLarge("http 413")],
    "too large": lambda: [TooLarge("http 413") for _ in range(20)],
    "defect": lambda: [KeyError("a defect")],
    "given back": lambda: [Refused("http 503") for _ in range(500)],
}


@pytest.mark.parametrize("answers", ANSWERS)
@pytest.mark.parametrize("queue", [{}, {"enabled": False}, {"batch": {"min_size": 1, "max_size": 1}}, {"storage": "disk"}], ids=str)
async def test_idle_consumers_hold_no_batch(queue: dict[str, Any], answers: str) -> None:
    logging.disable(logging.CRITICAL)  # what captures the log keeps the traceback of a defect
    host, backend = FakeHost({"disk": Disk()}), Backend(*ANSWERS[answers]())
    sending = Sending(
        make_context("exporters", "e", host),
        requests,
        backend.send,
        queue=QueueBlock.model_validate(queue),
        retry=RetryBlock.model_validate({"initial_interval": "1ms", "max_interval": "1ms", "max_elapsed_time": "20ms"}),
    )
    await sending.start()
    gone: list[weakref.ref[Watched]] = []

    async def offer() -> None:
        batch = Watched(Signal.LOGS, b"\x0a\xff" if answers == "malformed" else log_request("a", "b"), 2)
        gone.append(weakref.ref(batch))
        try:
            await sending.consume(batch)
        except Refused:
            pass

    gc.disable()  # what only the collector of cycles finds is kept as long as it likes
    try:
        for _ in range(3):
            await offer()
        await eventually(lambda: [ref() for ref in gone] == [None] * 3, seconds=5)
    finally:
        gc.enable()
        logging.disable(logging.NOTSET)
    assert host.reserved == 0
    await sending.stop()
