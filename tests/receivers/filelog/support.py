"""A filelog receiver under a clock of the test's own, and its records as plain data."""

from __future__ import annotations

from typing import Any

from opentelemetry.proto.logs.v1.logs_pb2 import LogsData

from kofagent.component.checkpoints import MemoryStore
from kofagent.receivers.filelog import COMPONENT
from kofagent.telemetry.signal import Signal
from tests.support.components import FakeHost, Sink, make


def records(payload: bytes) -> list[Any]:
    return [r for rl in LogsData.FromString(payload).resource_logs for sl in rl.scope_logs for r in sl.log_records]


def body(record: Any) -> Any:
    return getattr(record.body, record.body.WhichOneof("value"))


def attributes(record: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in record.attributes}


class Store(MemoryStore):
    """A store that a storage extension hands out, also to the next receiver."""

    async def open_store(self, kind: str, id: str, name: str = "") -> Store:
        return self


class Tailing:
    """Use as `async with Tailing(options) as t: await t.poll(); t.lines()`; the clock stands still unless told."""

    def __init__(
        self, options: dict[str, Any], *, host: FakeHost | None = None, store: Store | None = None, sink: Sink | None = None
    ) -> None:
        self.host = host or FakeHost()
        if store is not None:
            self.host.extensions["file_storage"] = store
            options = {**options, "storage": "file_storage"}
        self.sink = sink or Sink()
        self.receiver = make(COMPONENT, {"start_at": "beginning", **options}, id="filelog", host=self.host)
        self.receiver.outputs = {Signal.LOGS: self.sink}
        self.now = 1000.0

    async def __aenter__(self) -> Tailing:
        await self.receiver.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.receiver.stop()

    async def poll(self, after: float = 0.2) -> list[Any]:
        """Time goes on, one poll; the bodies that came with it."""
        before = len(self.lines())
        self.now += after
        await self.receiver.poll_once(self.now)
        await self.settle()
        return self.lines()[before:]

    async def settle(self) -> None:
        import asyncio

        for _ in range(20):
            await asyncio.sleep(0)

    def records(self) -> list[Any]:
        return records(self.sink.payload(Signal.LOGS))

    def lines(self) -> list[Any]:
        return [body(r) for r in self.records()]
