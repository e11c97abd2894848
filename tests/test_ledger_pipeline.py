"""The law of the ledger, for every registered receiver, processor and connector: nothing is lost without a reason or counted twice.

Items that came in = sent on + filtered + dropped + refused + still held, at every moment and after the stop, whatever the next
consumer does. No list of components is kept here: `tests.test_contract.OPTIONS` has the options of those that cannot do without,
`tests.support.drivers` knows for each receiver how to make it bring in data.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kofagent.component import offering, polling, registry
from kofagent.component.protocols import Connector, Processor
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from tests.support.components import FakeHost, Sink, eventually, make
from tests.support.drivers import DRIVERS, Driver
from tests.support.examples import examples
from tests.support.otlp import log_request, metric_request, trace_request
from tests.support.scripted import Defect, Scripted
from tests.test_contract import build, no_cluster, options

__all__ = ["no_cluster"]

PAYLOADS = {Signal.LOGS: log_request("x", "y", "x"), Signal.METRICS: metric_request(3), Signal.TRACES: trace_request(3)}
"""Three items each; the filter of the contract's options leaves out the two with the body `x`."""
MOODS = ("take", "refuse", "never", "defect", "late")


def consumers() -> list[tuple[str, str, Signal]]:
    """(kind, type, signal) of everything that takes data and hands it on: not of connectors that make other data of it."""
    return [
        (kind, type, signal)
        for kind in ("processors", "connectors")
        for type in registry.TYPES[kind]
        for signal in Signal
        if signal in registry.load(kind, type).signals
        and (signal, signal) in getattr(registry.load(kind, type), "routes", [(signal, signal)])
    ]


class Calls:
    """Calls of `consume`, and how each ended: an account of its own to compare the ledger with."""

    def __init__(self, component: Any) -> None:
        self.component = component
        self.items = Counter[str]()
        self.tasks: list[asyncio.Task[None]] = []
        self.waits: list[float | None] = []
        """Seconds that refusals ask for."""

    def send(self, batch: Batch) -> asyncio.Task[None]:
        """One call, not waited for."""
        self.items["in"] += batch.count
        task = asyncio.create_task(self._call(batch))
        self.tasks.append(task)
        return task

    async def _call(self, batch: Batch) -> None:
        outcome = "cancelled"
        try:
            await self.component.consume(batch)
            outcome = "returned"
        except Refused as refused:
            outcome = "for good" if refused.permanent else "refused"
            self.waits.append(refused.retry_after)
        except Defect:
            outcome = "failed"
        finally:
            self.items[outcome] += batch.count

    async def ended(self) -> None:
        """Waits for all calls."""
        async with asyncio.timeout(20):
            await asyncio.gather(*self.tasks, return_exceptions=True)


class World:
    """A processor or connector between calls and a scripted consumer."""

    def __init__(self, kind: str, type: str, signal: Signal, folder: Path) -> None:
        self.host, self.next = FakeHost(), Scripted()
        self.signal = signal
        self.component = build(kind, type, folder, self.host, Sink())
        if isinstance(self.component, Processor):
            self.component.signal, self.component.next = signal, self.next
        elif isinstance(self.component, Connector):
            # A connector between pipelines of this signal; one that is told names of pipelines keeps those of its options.
            self.component.outputs = dict.fromkeys({signal.value, *self.component.outputs}, self.next)
        self.calls = Calls(self.component)

    def batch(self, payload: bytes | None = None) -> Batch:
        return Batch(self.signal, PAYLOADS[self.signal] if payload is None else payload, 3)

    def check(self) -> None:
        """The law. Holds at every moment at which no call is about to return."""
        ledger, next, items = self.host.ledger, self.next, self.calls.items
        filtered, dropped = ledger.sum("kofagent_filtered_items_total"), ledger.sum("kofagent_dropped_items_total")
        held = ledger.sum("kofagent_processor_held_items")
        assert items["returned"] + items["for good"] == next.taken + next.lost + filtered + dropped + held, (
            items,
            vars(next),
            dropped,
        )
        if getattr(self.component, "owns", False):
            return  # it offers by itself, when it likes
        # What went back was offered as a whole, or without what the configuration leaves out, which is not counted until it comes again.
        assert items["refused"] + items["failed"] + items["cancelled"] >= next.refused + next.failed + next.withdrawn, items
        if isinstance(self.component, Processor):
            labels = {"processor": self.component.context.id, "otel_signal": self.signal.value}
            assert ledger.total("otelcol_processor_incoming_items_total", **labels) == items["in"]
            assert ledger.total("otelcol_processor_outgoing_items_total", **labels) == next.taken


@pytest.mark.parametrize("mood", MOODS)
@pytest.mark.parametrize("kind, type, signal", consumers())
async def test_what_comes_in_goes_out_or_is_accounted_for(kind: str, type: str, signal: Signal, mood: str, tmp_path: Path) -> None:
    world = World(kind, type, signal, tmp_path)
    await world.component.start()
    world.next.mood = mood
    tasks = [world.calls.send(world.batch()) for _ in range(2)]
    if mood == "late":
        await eventually(lambda: world.next.within or all(task.done() for task in tasks))
        world.check()
        owns = getattr(world.component, "owns", False)
        assert owns or not world.next.within or not any(task.done() for task in tasks), "answered before anybody owned the data"
        world.next.gate.set()
    await world.calls.ended()
    world.check()
    assert set(world.calls.waits) <= {0.01 if mood == "refuse" else None}, "the time to wait is that of the one who refused"
    # What was refused for now comes again, and is then counted once.
    world.next.mood = "take"
    world.calls.send(world.batch())
    await world.calls.ended()
    world.check()
    await world.component.stop()
    world.check()
    assert world.host.reserved == 0


@pytest.mark.parametrize("kind, type, signal", consumers())
async def test_a_payload_that_cannot_be_decoded_is_somebodys_loss(kind: str, type: str, signal: Signal, tmp_path: Path) -> None:
    world = World(kind, type, signal, tmp_path)
    await world.component.start()
    world.calls.send(world.batch(b"\xff\xff\xff"))
    await world.calls.ended()
    world.check()
    await world.component.stop()
    assert world.next.taken in (0, 3), "a component that does not look into it passes it on as it is"


@pytest.mark.parametrize("kind, type, signal", consumers())
async def test_a_call_that_is_cancelled_leaves_the_data_with_the_caller(
    kind: str, type: str, signal: Signal, tmp_path: Path
) -> None:
    world = World(kind, type, signal, tmp_path)
    await world.component.start()
    world.next.mood = "stall"
    task = world.calls.send(world.batch())
    await eventually(lambda: world.next.within or task.done())
    task.cancel()
    await world.calls.ended()
    ledger, next = world.host.ledger, world.next
    if world.calls.items["cancelled"]:
        counted = ledger.sum("kofagent_dropped_items_total") + ledger.sum("kofagent_filtered_items_total")
        assert counted == 0, "what the caller still has is neither dropped nor filtered"
    next.gate.set()
    await world.component.stop()
    # A request under way with it, as of `batch`, may still end well; nothing is there twice.
    assert next.taken + next.withdrawn <= 3
    assert ledger.sum("kofagent_dropped_items_total") == 0


CHAIN = ("filter", "resource", "attributes", "batch", "memory_limiter", "resourcedetection")


MOODS_IN_TURN = st.lists(st.sampled_from(["take", "refuse", "never", "defect"]), min_size=1, max_size=5)


async def settled_and_ended(chain: list[str], moods: list[str], split: int) -> tuple[float, float]:
    """Items that do not go back to the caller, and items that the ledger and the end of the pipeline account for."""
    host, end = FakeHost(), Scripted()
    head: Any = end
    processors = []
    for i, type in enumerate(chain):
        of_batch = {"timeout": "1ms", "send_batch_max_size": split, "send_batch_size": split}
        chosen = of_batch if type == "batch" else options("processors", type, Path())
        processor = make(registry.load("processors", type), chosen, kind="processor", id=f"{type}/{i}", host=host)
        processor.signal, processor.next = Signal.LOGS, head
        await processor.start()
        processors.append(processor)
        head = processor
    calls = Calls(head)
    for mood in moods:
        end.mood = mood
        for payload in (PAYLOADS[Signal.LOGS], PAYLOADS[Signal.LOGS], b"\xff\xff\xff"):
            calls.send(Batch(Signal.LOGS, payload, 3))
            await asyncio.sleep(0.0001)
        await calls.ended()
    for processor in reversed(processors):
        await processor.stop()
    ledger = host.ledger
    ended = end.taken + end.lost + ledger.sum("kofagent_dropped_items_total") + ledger.sum("kofagent_filtered_items_total")
    return calls.items["returned"] + calls.items["for good"], ended


@settings(max_examples=examples(40))
@given(chain=st.lists(st.sampled_from(CHAIN), min_size=1, max_size=4), moods=MOODS_IN_TURN)
def test_a_pipeline_accounts_for_every_item_once(chain: list[str], moods: list[str]) -> None:
    """Whatever the order of its processors, and whatever the end of the pipeline does with one batch after the other."""
    settled, ended = asyncio.run(settled_and_ended(chain, moods, 0))
    assert settled == ended


@settings(max_examples=examples(40))
@given(chain=st.lists(st.sampled_from(CHAIN), min_size=1, max_size=3), moods=MOODS_IN_TURN)
def test_a_pipeline_that_splits_may_send_again_and_loses_nothing(chain: list[str], moods: list[str]) -> None:
    """A part may be taken before another one is refused; then all of them come again."""
    settled, ended = asyncio.run(settled_and_ended([*chain, "batch"], moods, 4))
    assert settled <= ended


# -- receivers ---------------------------------------------------------------------------------------------------------------

RECEIVERS = [(type, make_driver) for type in registry.TYPES["receivers"] for make_driver in DRIVERS.get(type, ())]


def test_every_receiver_has_a_driver() -> None:
    missing = [type for type in registry.TYPES["receivers"] if type not in DRIVERS]
    assert missing == [], "write how to make it bring in data: tests/support/drivers.py"


class Source:
    """A receiver between what it reads from and a scripted consumer."""

    def __init__(self, type: str, driver: Driver, mood: str) -> None:
        self.host, self.next, self.driver = FakeHost(driver.extensions()), Scripted(mood), driver
        self.receiver = make(registry.load("receivers", type), driver.options(), kind="receiver", id=type, host=self.host)
        self.receiver.outputs = {driver.signal: self.next}

    def check(self, ended: bool = False) -> None:
        """The law. Holds at every moment at which no offer is about to return."""
        ledger, next, driver = self.host.ledger, self.next, self.driver
        accepted, refused = (ledger.sum(f"otelcol_receiver_{what}_{driver.signal.items}_total") for what in ("accepted", "refused"))
        dropped = ledger.sum("kofagent_dropped_items_total")
        never_offered = sum(
            ledger.total("kofagent_dropped_items_total", component=self.receiver.context.id, signal=driver.signal.value, reason=r)
            for r in ("backlog", "malformed")
        )
        brought_in = sum({id(batch): batch.count for batch in next.calls}.values()) + never_offered
        assert accepted == next.taken, "accepted is what somebody owns"
        assert accepted + refused <= brought_in or driver.rebuilds, "something was counted twice"
        if ended:
            # What nobody took was counted by the one who refused it for good, was dropped here, or the client was told to keep it.
            assert refused == next.lost + dropped + driver.told, (refused, vars(next), dropped, driver.told)
            assert not driver.answers or not dropped, "the client still has it"
            assert accepted + refused == brought_in or driver.keeps or driver.rebuilds, "something went without being counted"


@pytest.mark.parametrize("mood", [*MOODS, "stall"])
@pytest.mark.parametrize("type, make_driver", RECEIVERS)
async def test_what_is_brought_in_is_taken_or_accounted_for(
    type: str, make_driver: Callable[..., Driver], mood: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "GRACE", 0.05)
    monkeypatch.setattr(offering, "FIRST_WAIT", 0.01)
    async with make_driver(tmp_path, monkeypatch) as driver:
        source = Source(type, driver, mood)
        next = source.next
        await source.receiver.start()
        await driver.produce(source.receiver)
        await next.wait_for(lambda n: n.within > 0 if mood in ("late", "stall") else n.offered > 0)
        source.check()
        if mood in ("late", "stall"):
            assert next.taken == 0
        if mood != "stall":
            next.mood = "take"
            next.gate.set()
            await driver.produce(source.receiver)
            await next.wait_for(lambda n: n.taken > 0)
            await driver.finish()
        stopping = asyncio.create_task(source.receiver.stop())
        if driver.answers:
            next.gate.set()  # a server waits for the calls under way
        async with asyncio.timeout(20):
            await stopping
            await driver.finish()
        source.check(ended=True)
        assert source.host.reserved == 0
