"""What tests need to run one component by itself: a host, a context and a consumer that collects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from kofagent.component.protocols import ColumnsConsumer, Component, Context, Kubeconfig, R, in_role
from kofagent.telemetry.batch import AnyBatch, Batch
from kofagent.telemetry.ledger import Ledger
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal


class FakeHost:
    """A host without a service: extensions by name, a byte budget, statuses as a dict."""

    kubeconfig: Kubeconfig | None = None
    collector = ""

    def __init__(self, extensions: Mapping[str, Any] | None = None, budget: int = 1 << 30) -> None:
        self.ledger = Ledger()
        self.keep_retrying = False
        self.resource = {"service.name": "kofagent", "service.version": "0", "service.instance.id": "test"}
        self.extensions = dict(extensions or {})
        self.budget = budget
        self.reserved = 0
        self.statuses: dict[str, str | None] = {}
        self._shared: dict[Hashable, Any] = {}
        self._kept: dict[Hashable, Any] = {}

    def extension(self, id: str, role: type[R]) -> R:
        return in_role(self.extensions.get(id), id, role)

    def shared(self, key: Hashable, make: Callable[[], Any]) -> Any:
        if key not in self._shared:
            self._shared[key] = make()
        return self._shared[key]

    def common(self, key: Hashable, make: Callable[[], Any]) -> Any:
        return self.shared(("common", key), make)

    def kept(self, key: Hashable, make: Callable[[], Any]) -> Any:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def reserve(self, size: int) -> bool:
        if self.reserved + size > self.budget:
            return False
        self.reserved += size
        return True

    def release(self, size: int) -> None:
        self.reserved -= size

    def report(self, component: str, error: str | None) -> None:
        self.statuses[component] = error

    def status(self) -> Mapping[str, str | None]:
        return self.statuses

    def describe(self) -> Mapping[str, Any]:
        return {"pipelines": {}}


def make_context(kind: str, id: str, host: FakeHost | None = None) -> Context:
    return Context(kind, id, host or FakeHost())


def make(
    cls: type[Component],
    options: Mapping[str, Any] | None = None,
    *,
    kind: str = "receivers",
    id: str = "test",
    host: FakeHost | None = None,
) -> Any:
    """A component of `cls` with validated options, not started."""
    return cls(cls.Config.model_validate(dict(options or {})), make_context(kind, id, host))


def validated(cls: type[Component], options: Mapping[str, Any]) -> Any:
    """Options of `cls` as it gets them; of its own class of options, which is not known here."""
    return cls.Config.model_validate(dict(options))


class Sink(ColumnsConsumer):
    """Collects what it is given; `refuse` (an exception) or `gate` (an event waited for) change its answer."""

    def __init__(self) -> None:
        self.batches: list[AnyBatch] = []
        self.refuse: Refused | None = None
        self.gate: asyncio.Event | None = None
        self.called = asyncio.Event()
        self._changed = asyncio.Event()

    async def consume(self, batch: AnyBatch) -> None:
        self.called.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.refuse is not None:
            raise self.refuse
        self.batches.append(batch)
        self._changed.set()

    @property
    def count(self) -> int:
        return sum(b.count for b in self.batches)

    async def wait_for(self, condition: Callable[[Sink], object], seconds: float = 20) -> None:
        """Waits until `condition(self)`; AssertionError after the deadline, saying what there is."""
        try:
            async with asyncio.timeout(seconds):
                while not condition(self):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"still waiting after {seconds} s with {self.count} items in {self.batches!r}") from None

    def payload(self, signal: Signal) -> bytes:
        return b"".join(b.payload for b in self.batches if isinstance(b, Batch) and b.signal is signal)


async def eventually(condition: Callable[[], Any], seconds: float = 20, message: str = "") -> Any:
    """Polls until `condition()` is true and returns its value; AssertionError after the deadline."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        value = condition()
        if value:
            return value
        if loop.time() > deadline:
            raise AssertionError(f"still not true after {seconds} s: {message or condition}")
        await asyncio.sleep(0.02)
