"""A refusal for size: the batch is halved until it passes, in order, nothing twice; what does not fit alone is dropped."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kofagent.component.protocols import Context
from kofagent.component.requests import Drop, TooLarge
from kofagent.component.sending import Sending
from kofagent.component.size_limit import SMALLEST, SizeLimit
from kofagent.component.splitting import OtlpRequest
from kofagent.config.blocks import QueueBlock, RetryBlock
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from tests.support.components import FakeHost, make_context
from tests.support.otlp import log_request

FAST = RetryBlock.model_validate({"initial_interval": "1ms", "max_interval": "1ms"})


class Sizes:
    """A request of items of these sizes."""

    def __init__(self, sizes: Sequence[tuple[int, int]]) -> None:
        self.sizes = sizes
        self.items = len(sizes)
        self.size = sum(size for _, size in sizes)

    def smaller(self) -> Sequence[Sizes]:
        middle = len(self.sizes) // 2
        return (Sizes(self.sizes[:middle]), Sizes(self.sizes[middle:])) if middle else ()


class Bounded:
    """A backend that takes requests of at most `largest` bytes; every `trouble`-th answer is an error that passes."""

    def __init__(self, largest: int, trouble: int = 0) -> None:
        self.largest = largest
        self.trouble = trouble
        self.asked = 0
        self.taken: list[tuple[int, int]] = []

    async def send(self, request: Sizes) -> None:
        self.asked += 1
        if self.trouble and self.asked % self.trouble == 0:
            raise Refused("http 503")
        if request.size > self.largest:
            raise TooLarge("http 413", "too large")
        self.taken += request.sizes


def sending(
    backend: Bounded, sizes: Sequence[int], host: FakeHost, limit: SizeLimit | None = None
) -> tuple[Sending[Batch, Sizes], Batch]:
    numbered = list(enumerate(sizes))

    def requests(batch: Batch, drop: Drop) -> Iterator[Sizes]:
        return iter([Sizes(numbered)])

    context: Context = make_context("exporters", "e", host)
    it = Sending(context, requests, backend.send, queue=QueueBlock(enabled=False), retry=FAST, limit=limit)
    return it, Batch(Signal.LOGS, b"", len(sizes))


def counted(host: FakeHost) -> tuple[float, float]:
    return (
        host.ledger.total("otelcol_exporter_sent_log_records_total", exporter="e"),
        host.ledger.total("kofagent_dropped_items_total", component="e", signal="logs", reason="http 413"),
    )


@given(st.lists(st.integers(1, 100), min_size=1, max_size=60), st.integers(30, 300), st.integers(0, 4))
async def test_each_item_once_in_order_and_only_what_fits_nowhere_is_dropped(sizes: list[int], largest: int, trouble: int) -> None:
    backend, host = Bounded(largest, trouble if trouble > 1 else 0), FakeHost()
    it, batch = sending(backend, sizes, host)
    fits = [(number, size) for number, size in enumerate(sizes) if size <= largest]
    with pytest.raises(Refused) if not fits else contextlib.nullcontext():
        await it.consume(batch)
    assert backend.taken == fits
    assert counted(host) == (len(fits), len(sizes) - len(fits))


async def test_a_large_item_between_small_ones_goes_alone_out_of_the_way() -> None:
    sizes = [10] * 50 + [10_000] * 5 + [10] * 50
    backend, host = Bounded(100), FakeHost()
    it, batch = sending(backend, sizes, host)
    await it.consume(batch)
    assert [size for _, size in backend.taken] == [10] * 100
    assert counted(host) == (100, 5)


async def test_a_backend_to_which_everything_is_too_large_is_not_asked_for_each_item() -> None:
    backend, host = Bounded(0), FakeHost()
    limit = SizeLimit(advice="lower it")
    it, batch = sending(backend, [50_000 + n % 7 for n in range(8192)], host, limit)
    with pytest.raises(Refused):
        await it.consume(batch)
    assert backend.asked < 50
    assert counted(host) == (0, 8192)
    assert limit.bytes == 0, "it was not size that the backend minded"


@pytest.mark.parametrize(
    "sizes, refused",
    [
        ([100, 100, 100, 100, 100, 100, 100], {0, 1}),
        ([100, 100, 100, 10, 100, 100, 100, 100], {0, 1, 2}),
    ],
)
async def test_what_is_large_before_compression_may_pass(sizes: list[int], refused: set[int]) -> None:
    """A backend that minds compressed sizes: a few items that do not fit alone say little about others of their size."""

    class Compressed(Bounded):
        async def send(self, request: Sizes) -> None:
            if any(number in refused for number, _ in request.sizes):
                raise TooLarge("http 413")
            self.taken += request.sizes

    backend, host = Compressed(0), FakeHost()
    it, batch = sending(backend, sizes, host)
    await it.consume(batch)
    assert [number for number, _ in backend.taken] == [n for n in range(len(sizes)) if n not in refused]
    assert counted(host) == (len(sizes) - len(refused), len(refused))


@pytest.mark.parametrize("count, halves", [(1, []), (2, [1, 1]), (5, [3, 2])])
def test_an_otlp_request_is_halved_down_to_one_item(count: int, halves: list[int]) -> None:
    request = OtlpRequest(Batch(Signal.LOGS, log_request(*"abcde"[:count]), count))
    assert [half.items for half in request.smaller()] == halves


async def test_the_size_is_remembered_and_said_once_with_the_option(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    backend, host = Bounded(100_000), FakeHost()
    limit = SizeLimit(advice="set max_size to what it takes")
    for _ in range(3):
        it, batch = sending(backend, [1000] * 1000, host, limit)
        await it.consume(batch)
    assert limit.bytes == 62_500
    backend.largest = 40_000
    it, batch = sending(backend, [1000] * 1000, host, limit)
    await it.consume(batch)
    assert limit.bytes < 62_500
    said = [r.getMessage() for r in caplog.records if "set max_size to what it takes" in r.getMessage()]
    assert len(said) == 1 and "125000 bytes" in said[0]
    assert counted(host) == (4000, 0)


async def test_the_remembered_size_is_not_absurd() -> None:
    limit = SizeLimit(advice="lower it")
    log = logging.getLogger("test")
    limit.refused(SMALLEST + 10)
    limit.settle(False, log)
    assert limit.bytes == 0
    limit.settle(True, log)
    assert limit.bytes == 0, "what was refused before says nothing now"
    limit.refused(SMALLEST + 10)
    limit.settle(True, log)
    assert limit.bytes == SMALLEST
    limit.refused(100)
    limit.settle(True, log)
    assert limit.bytes == SMALLEST
