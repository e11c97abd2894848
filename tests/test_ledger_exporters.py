"""The law of the ledger for every registered exporter: items in = sent + dropped + given back + queued, always and after the end.

Each exporter meets backends that take, refuse (for good, for now, for size), stall, cut connections and answer late, without a queue,
with one in memory and with one on disk, on a disk that is full at times. A new exporter is covered by being registered: its least
options are those of `test_contract.OPTIONS`, in which 127.0.0.1:1 is the backend.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kofagent.component import registry
from kofagent.component.protocols import ColumnsConsumer
from kofagent.telemetry import reasons
from kofagent.telemetry.batch import AnyBatch, Batch, MetricBatch, Samples
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.series import Series
from kofagent.telemetry.signal import Signal
from tests.support.components import FakeHost, eventually, make
from tests.support.otlp import log_request, metric_request, trace_request
from tests.support.queue_disk import Disk
from tests.support.scripted_backend import Answer, backend, random_script
from tests.test_contract import OPTIONS, suffice

QUICK: dict[str, dict[str, Any]] = {"awscloudwatchlogs": {"max_retries": 0, "request_timeout_seconds": 1}}
"""What makes an exporter's test quick, where `timeout` and `retry_on_failure` do not."""
TYPES = registry.TYPES["exporters"]
_series = [Series((("__name__", "m"), ("i", str(i)))) for i in range(40)]


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")


def options(type: str, queue: str, address: str, folder: Path, timeout: str = "150ms") -> dict[str, Any]:
    """The options for one kind of queue: "none", "memory" or "disk"."""
    fields = registry.load("exporters", type).Config.model_fields
    text = json.dumps(OPTIONS.get(("exporters", type), {}))
    out: dict[str, Any] = json.loads(text.replace("127.0.0.1:1", address).replace("TMP", str(folder)))
    suffice("exporters", type, out)
    if "timeout" in fields:
        out["timeout"] = timeout
    if "retry_on_failure" in fields:
        out["retry_on_failure"] = {"initial_interval": "1ms", "max_interval": "3ms", "max_elapsed_time": "15ms"}
    if "sending_queue" in fields:
        waiting = {"sizer": "items", "queue_size": 300, "num_consumers": 3}
        out["sending_queue"] = {
            "none": {"enabled": False},
            "memory": {**waiting, "batch": {"min_size": 10, "max_size": 25, "flush_timeout": "5ms"}},
            "disk": {**waiting, "storage": "disk", "batch": {"min_size": 10, "flush_timeout": "5ms"}},
        }[queue]
    return {**out, **QUICK.get(type, {})}


def queues(type: str) -> list[str]:
    return ["none", "memory", "disk"] if "sending_queue" in registry.load("exporters", type).Config.model_fields else ["none"]


def batch(signal: Signal, items: int, columns: bool) -> AnyBatch:
    if signal is Signal.LOGS:
        return Batch(signal, log_request(*[f"line {n}" for n in range(items)]), items)
    if signal is Signal.TRACES:
        return Batch(signal, trace_request(items), items)
    if columns:
        return MetricBatch([Samples(_series[:items], [1.0] * items, 1_795_257_868_000)])
    return Batch(signal, metric_request(items, series=True), items)


class Books:
    """What an exporter was given and what became of it: by its callers, and by its ledger."""

    def __init__(self, type: str, host: FakeHost, signal: Signal) -> None:
        self.type, self.host, self.signal = type, host, signal
        self.offered = self.accepted = self.given_back = self.refused = self.unanswered = 0

    @property
    def sent(self) -> float:
        return self.host.ledger.total(f"otelcol_exporter_sent_{self.signal.items}_total", exporter=self.type)

    @property
    def dropped(self) -> float:
        return self.host.ledger.sum("kofagent_dropped_items_total")

    @property
    def queued(self) -> float:
        return self.host.ledger.sum("kofagent_exporter_queue_items")

    @property
    def inherited(self) -> float:
        return self.host.ledger.sum("kofagent_exporter_inherited_items_total")

    @property
    def unsettled(self) -> float:
        """Items of which the ledger knows nothing and that are not their caller's again."""
        return self.offered - self.sent - self.dropped - self.given_back

    def check(self, queue: str) -> None:
        assert self.unsettled >= 0, "something was counted twice"
        if queue == "none":
            assert self.unsettled <= self.unanswered
        else:
            assert self.unsettled <= self.queued + self.unanswered, "something was lost"

    def check_reasons(self) -> None:
        for metric in self.host.ledger.registry.collect():
            for sample in metric.samples:
                if sample.name == "kofagent_dropped_items_total":
                    assert reasons.known(sample.labels["reason"]), sample.labels


async def offer(books: Books, queue: str, exporter: Any, one: AnyBatch) -> None:
    books.offered += one.count
    books.unanswered += one.count
    try:
        await exporter.consume(one)
    except Refused as refused:
        if refused.permanent:
            books.refused += one.count
        else:
            books.given_back += one.count
    except Exception as error:
        hint = f"if it does not support {one.signal.value}, it has to say so in `signals`"
        raise AssertionError(
            f"{books.type} raised {error!r} for a batch of {one.signal.value} instead of Refused; {hint}"
        ) from error
    else:
        books.accepted += one.count
    books.unanswered -= one.count
    books.check(queue)


def left_on(disk: Disk) -> int:
    return sum(header.items for _, _, header in disk.waiting)


CASES = [
    (type, queue, signal, columns)
    for type in TYPES
    for signal in sorted(registry.load("exporters", type).signals, key=lambda s: s.value)
    for columns in (
        [False, True] if signal is Signal.METRICS and issubclass(registry.load("exporters", type), ColumnsConsumer) else [False]
    )
    for queue in queues(type)
]


@pytest.mark.parametrize("type, queue, signal, columns", CASES)
@pytest.mark.parametrize("seed", range(2))
async def test_items_in_are_sent_dropped_given_back_or_queued(
    type: str, queue: str, signal: Signal, columns: bool, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kofagent.component.sending.SHUTDOWN_SECONDS", 0.3)
    choose, disk = random.Random(seed), Disk()
    script = random_script(seed, 60)
    async with backend(type, script, largest=1500) as server:
        host = FakeHost({"disk": disk})
        books = Books(type, host, signal)
        exporter = make(
            registry.load("exporters", type), options(type, queue, server.address, tmp_path), kind="exporters", id=type, host=host
        )
        await exporter.start()
        calls = []
        for _ in range(40):
            calls.append(asyncio.create_task(offer(books, queue, exporter, batch(signal, choose.randint(1, 40), columns))))
            if choose.random() < 0.4:
                await asyncio.sleep(choose.choice([0, 0.005]))
            disk.full = choose.random() < 0.2
            books.check(queue)
        disk.full = False
        if queue == "disk":
            await eventually(lambda: not books.unanswered)
        books.check(queue)
        if queue == "disk":
            assert books.accepted + books.refused == books.sent + books.dropped + books.queued, "at every moment"
        await exporter.stop()
        await asyncio.gather(*calls)
    assert books.unanswered == 0
    left = left_on(disk)
    if queue == "disk":
        assert books.queued == left, "what stays on disk is still shown"
    assert books.unsettled == left
    if queue == "disk":
        assert books.accepted + books.refused == books.sent + books.dropped + left
        await the_rest_is_sent_after_a_restart(books, disk, left, tmp_path)
    else:
        assert left == 0
    assert host.reserved == 0
    books.check_reasons()


async def the_rest_is_sent_after_a_restart(books: Books, disk: Disk, left: int, folder: Path) -> None:
    async with backend(books.type, iter(())) as server:
        host = FakeHost({"disk": disk})
        then = Books(books.type, host, books.signal)
        exporter = make(
            registry.load("exporters", books.type),
            options(books.type, "disk", server.address, folder),
            kind="exporters",
            id=books.type,
            host=host,
        )
        await exporter.start()
        assert then.inherited == left, "what an earlier run left is an account of its own"
        await eventually(lambda: then.queued == 0)
        await exporter.stop()
    assert (then.sent, then.dropped) == (left, 0)
    assert not disk.waiting


def forever(answer: Answer) -> Iterator[Answer]:
    while True:
        yield answer


@pytest.mark.parametrize("type, queue, signal, columns", CASES)
@pytest.mark.parametrize("answer", [Answer.REFUSE, Answer.LATER, Answer.TOO_LARGE, Answer.CUT], ids=lambda a: a.name)
async def test_a_backend_that_takes_nothing(
    type: str, queue: str, signal: Signal, columns: bool, answer: Answer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kofagent.component.sending.SHUTDOWN_SECONDS", 0.3)
    disk = Disk()
    async with backend(type, forever(answer)) as server:
        host = FakeHost({"disk": disk})
        books = Books(type, host, signal)
        chosen = options(type, queue, server.address, tmp_path, timeout="20s")  # it answers at once, however busy the machine
        exporter = make(registry.load("exporters", type), chosen, kind="exporters", id=type, host=host)
        await exporter.start()
        await asyncio.gather(*[offer(books, queue, exporter, batch(signal, 8, columns)) for _ in range(4)])
        await exporter.stop()
        asked = server.asked
    assert books.unsettled == left_on(disk)
    if asked:
        assert books.sent == 0
        for_good = answer in (Answer.REFUSE, Answer.TOO_LARGE)
        assert (books.given_back, books.refused) == (
            (0, 32 if queue != "disk" else 0) if for_good else (32 if queue != "disk" else 0, 0)
        )
    else:
        assert books.sent == 32, "an exporter without a network"


@pytest.mark.parametrize("type, queue, signal, columns", CASES)
async def test_what_is_refused_for_its_size_is_sent_in_parts(
    type: str, queue: str, signal: Signal, columns: bool, tmp_path: Path
) -> None:
    disk = Disk()
    async with backend(type, iter([Answer.TOO_LARGE])) as server:
        host = FakeHost({"disk": disk})
        books = Books(type, host, signal)
        chosen = options(type, queue, server.address, tmp_path, timeout="20s")
        exporter = make(registry.load("exporters", type), chosen, kind="exporters", id=type, host=host)
        await exporter.start()
        await offer(books, queue, exporter, batch(signal, 8, columns))
        await eventually(lambda: books.unsettled == 0)
        await exporter.stop()
        asked = server.asked
    assert (books.sent, books.dropped) == (8, 0), "raise TooLarge where the backend refuses the size of a request"
    assert asked == 0 or asked >= 3, "the request, and its halves"


@pytest.mark.parametrize("type, queue, signal, columns", [case for case in CASES if case[1] != "disk"])
async def test_callers_that_go_away_leave_nothing_behind(
    type: str, queue: str, signal: Signal, columns: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled: withdrawn where no request is under way, else sent and counted, or refused to nobody. Never twice."""
    monkeypatch.setattr("kofagent.component.sending.SHUTDOWN_SECONDS", 0.3)
    weights = {Answer.LATE: 3, Answer.LATER: 2, Answer.TAKE: 2, Answer.TOO_LARGE: 1}
    async with backend(type, random_script(1, 200, weights)) as server:
        host = FakeHost()
        books = Books(type, host, signal)
        exporter = make(
            registry.load("exporters", type), options(type, queue, server.address, tmp_path), kind="exporters", id=type, host=host
        )
        await exporter.start()
        calls = [asyncio.create_task(offer(books, queue, exporter, batch(signal, 5, columns))) for _ in range(30)]
        await asyncio.sleep(0.01)
        cancelled = calls[::3]
        for call in cancelled:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await exporter.stop()
    gone = 5 * sum(call.cancelled() for call in cancelled)
    assert 0 <= books.unsettled <= gone
    assert books.unanswered == gone
    assert host.reserved == 0
