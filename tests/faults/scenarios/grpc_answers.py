"""A gRPC backend that answers with every code there is, and with RetryInfo."""

from __future__ import annotations

import asyncio
from typing import Any

from grpc import StatusCode

from tests.faults.grpc_sink import GrpcAnswer, GrpcSink
from tests.faults.trial import Trial

RETRIED = (
    StatusCode.CANCELLED, StatusCode.DEADLINE_EXCEEDED, StatusCode.ABORTED, StatusCode.OUT_OF_RANGE, StatusCode.UNAVAILABLE,
    StatusCode.DATA_LOSS,
)  # fmt: skip
"""What OTLP says may pass; RESOURCE_EXHAUSTED may with RetryInfo only."""
FINAL = (StatusCode.INVALID_ARGUMENT, StatusCode.UNIMPLEMENTED, StatusCode.INTERNAL, StatusCode.RESOURCE_EXHAUSTED)


async def grpc(trial: Trial) -> None:
    """The `otlp` exporter: codes that may pass are sent again, final ones are dropped and counted, no call before RetryInfo's time."""
    pause = trial.lasts(0.7, 5)
    trial.spans.rate = 200
    async with GrpcSink(trial.sink) as backend:
        await trial.begin(lambda config: _send_to(config, backend.endpoint))
        trial.spans.start()
        await trial.until(lambda: trial.sink.spans.count, 30)
        for code in RETRIED + FINAL:
            before = await trial.dropped("traces")
            await _answers(trial, backend, GrpcAnswer(code), pause)
            dropped = await trial.dropped("traces") - before
            trial.check((dropped > 0) == (code in FINAL), f"{code.name}: {dropped} spans dropped")
        for code in (StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED):
            before = await trial.dropped("traces")
            backend.otherwise = GrpcAnswer(code, retry_after=3)
            count = len(backend.calls)
            await trial.until(lambda count=count: any(c is not StatusCode.OK for _, c in backend.calls[count:]), 20)
            refused = next((at for at, c in backend.calls[count:] if c is not StatusCode.OK), 0.0)
            backend.otherwise = GrpcAnswer()
            later = lambda refused=refused: [at for at, _ in backend.calls if at > refused]  # noqa: E731
            trial.check(await trial.until(later, 30), f"not sent again after RetryInfo with {code.name}")
            waited = min(later(), default=0.0) - refused
            trial.figure(f"RetryInfo with {code.name}: waited {waited:.1f} s")
            trial.check(waited >= 2.8, f"RetryInfo with {code.name} was not waited for: {waited:.1f} s")
            trial.check(await trial.dropped("traces") == before, f"spans were dropped in spite of RetryInfo with {code.name}")
        await trial.spans.stop()
        await trial.emptied()
        dropped = int(await trial.dropped("traces"))
        await trial.settle(5, may_be_lost={"spans": dropped})
        trial.check(trial.result.lost["spans"] == dropped, f"{trial.result.lost['spans']} spans lost, {dropped} counted as dropped")
        trial.figure(f"{dropped} spans dropped and counted")


def _send_to(config: dict[str, Any], endpoint: str) -> None:
    options = config["exporters"].pop("otlphttp/traces")
    # One call at a time: what is not sent again must not be hidden by the next batch. The name: a drop of an exporter `otlp` would
    # have the same labels as one of the receiver `otlp`, and the books could not be read.
    options["sending_queue"]["num_consumers"] = 1
    config["exporters"]["otlp/backend"] = {**options, "endpoint": endpoint, "tls": {"insecure": True}}
    config["service"]["pipelines"]["traces"]["exporters"] = ["otlp/backend"]


async def _answers(trial: Trial, backend: GrpcSink, answer: GrpcAnswer, seconds: float) -> None:
    trial.say(answer.code.name)
    count = len(backend.calls)
    backend.otherwise = answer
    asked = await trial.until(lambda: any(code is answer.code for _, code in backend.calls[count:]), 20)
    trial.check(asked, f"no call while the answer was {answer.code.name}")
    await asyncio.sleep(seconds)
    backend.otherwise = GrpcAnswer()
    count = len(backend.calls)
    passed = await trial.until(lambda: any(code is StatusCode.OK for _, code in backend.calls[count:]), 20)
    trial.check(passed, f"after {answer.code.name} nothing passed for 20 s")
