"""`merge_items`: waiting batches go together where they may, and every caller gets its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from kofagent.component.requests import Drop, Rejected
from kofagent.component.sending import Sending
from kofagent.config.blocks import QueueBlock, RetryBlock
from kofagent.telemetry.batch import AnyBatch, Batch, MetricBatch, Samples
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.series import Series
from kofagent.telemetry.signal import Signal
from tests.support.components import FakeHost, eventually, make_context

_one = Series((("__name__", "x"),))


def otlp(data: bytes, metadata: dict[str, tuple[str, ...]] | None = None) -> Batch:
    return Batch(Signal.METRICS, data, len(data), metadata)


def columns(*values: float) -> MetricBatch:
    return MetricBatch([Samples([_one] * len(values), list(values), 1)])


class Whole:
    """A batch as a request, whatever its kind."""

    def __init__(self, batch: AnyBatch) -> None:
        self.batch = batch
        self.items = batch.count
        self.size = batch.size

    def smaller(self) -> Sequence[Whole]:
        return ()


def whole(batch: AnyBatch, drop: Drop) -> Iterable[Whole]:
    return [Whole(batch)]


async def run(
    batches: list[AnyBatch], *, merge: int = 10, answer: object = None
) -> tuple[list[AnyBatch], list[BaseException | None], FakeHost]:
    """What `send` was given after a first batch that waited until all others were queued, what callers got, the ledger's host."""
    given: list[AnyBatch] = []
    gate = asyncio.Event()

    async def send(request: Whole) -> Rejected | None:
        given.append(request.batch)
        if len(given) == 1:
            await gate.wait()
            return None
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[return-value]

    host = FakeHost()
    sender = Sending(
        make_context("exporters", "e", host),
        whole,
        send,
        queue=QueueBlock(num_consumers=1),
        retry=RetryBlock(enabled=False),
        merge_items=merge,
    )
    await sender.start()
    calls = [asyncio.create_task(sender.consume(otlp(b"first")))]
    await eventually(lambda: given)
    calls += [asyncio.create_task(sender.consume(b)) for b in batches]
    await eventually(lambda: host.ledger.total("otelcol_exporter_queue_size", exporter="e") == len(batches) + 1)
    gate.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    await sender.stop()
    assert host.reserved == 0
    return given[1:], results[1:], host


async def test_payloads_are_joined_in_order_up_to_the_limit() -> None:
    given, results, _ = await run([otlp(b"abcd"), otlp(b"efgh"), otlp(b"ijkl"), otlp(b"m")])
    assert [b.payload for b in given if isinstance(b, Batch)] == [b"abcdefgh", b"ijklm"]
    assert results == [None] * 4


async def test_a_batch_over_the_limit_goes_alone() -> None:
    given, _, _ = await run([otlp(b"x" * 30), otlp(b"y")])
    assert [b.count for b in given] == [30, 1]


async def test_kinds_and_metadata_are_not_mixed() -> None:
    tenant: dict[str, tuple[str, ...]] = {"tenant": ("a",)}
    given, _, _ = await run([otlp(b"a"), columns(1.0), columns(2.0, 3.0), otlp(b"b", tenant), otlp(b"c", dict(tenant)), otlp(b"d")])
    assert [b.payload if isinstance(b, Batch) else [v for g in b.groups for v in g.values] for b in given] == [
        b"a",
        [1.0, 2.0, 3.0],
        b"bc",
        b"d",
    ]


async def test_without_merging_each_goes_by_itself() -> None:
    given, _, _ = await run([otlp(b"a"), otlp(b"b")], merge=0)
    assert len(given) == 2


async def test_a_refusal_goes_to_every_caller_and_is_counted_once() -> None:
    _, results, host = await run([otlp(b"ab"), otlp(b"c")], answer=Refused("http 400", permanent=True))
    assert [str(r) for r in results] == ["http 400", "http 400"]
    assert host.ledger.total("kofagent_dropped_items_total", component="e", signal="metrics", reason="http 400") == 3


async def test_a_backend_cannot_reject_more_than_it_was_given_or_less_than_nothing() -> None:
    _, results, host = await run([otlp(b"abc")], answer={"too old": -5, "too new": 2, "expired": 99})
    assert results == [None]
    assert host.ledger.total("otelcol_exporter_sent_metric_points_total", exporter="e") == 5
    for reason, items in {"too old": 0, "too new": 2, "expired": 1}.items():
        assert host.ledger.total("kofagent_dropped_items_total", component="e", signal="metrics", reason=reason) == items


async def test_what_send_counted_as_dropped_is_not_sent() -> None:
    _, results, host = await run([otlp(b"abc")], answer={"too old": 1})
    assert results == [None]
    assert host.ledger.total("otelcol_exporter_sent_metric_points_total", exporter="e") == 5 + 2
    assert host.ledger.total("kofagent_dropped_items_total", component="e", signal="metrics", reason="too old") == 1
