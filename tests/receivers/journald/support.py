"""A journald receiver whose clock is the test's, and what comes of it as plain data."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from opentelemetry.proto.logs.v1.logs_pb2 import LogsData

from kofagent.receivers.journald import COMPONENT
from kofagent.telemetry.signal import Signal
from tests.support.components import FakeHost, Sink, make
from tests.support.drivers import Store


def plain(value: Any) -> Any:
    """An official AnyValue as Python data."""
    kind = value.WhichOneof("value")
    if kind == "kvlist_value":
        return {pair.key: plain(pair.value) for pair in value.kvlist_value.values}
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values]
    return None if kind is None else getattr(value, kind)


def attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: plain(pair.value) for pair in pairs}


class Following:
    """Use as `async with Following({"directory": ...}) as f: await f.poll()`."""

    def __init__(self, options: dict[str, Any], *, store: Store | None = None, sink: Sink | None = None) -> None:
        self.host = FakeHost()
        if store is not None:
            self.host.extensions["file_storage"] = store
            options = {**options, "storage": "file_storage"}
        self.sink = sink or Sink()
        self.receiver = make(COMPONENT, {"start_at": "beginning", **options}, id="journald", host=self.host)
        self.receiver.outputs = {Signal.LOGS: self.sink}
        self.now = time.monotonic()

    async def __aenter__(self) -> Following:
        await self.receiver.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.receiver.stop()

    async def poll(self, after: float = 0.25) -> list[Any]:
        """Time goes on, one poll; the messages that came with it."""
        before = len(self.records())
        self.now += after
        await self.receiver.poll_once(self.now)
        for _ in range(20):
            await asyncio.sleep(0)
        await self.receiver._save()
        return [message(r) for r in self.records()[before:]]

    def records(self) -> list[Any]:
        logs = LogsData.FromString(self.sink.payload(Signal.LOGS))
        return [r for rl in logs.resource_logs for sl in rl.scope_logs for r in sl.log_records]

    def bodies(self) -> list[dict[str, Any]]:
        """As `journalctl -o json` shows them."""
        return [{"__REALTIME_TIMESTAMP": str(r.time_unix_nano // 1000), **plain(r.body)} for r in self.records()]

    def total(self, name: str, **labels: str) -> float:
        return self.host.ledger.total(name, **labels)

    @property
    def damaged(self) -> float:
        return self.total("kofagent_dropped_items_total", component="journald", signal="logs", reason="damaged journal")


def message(record: Any) -> Any:
    content = plain(record.body)
    return content.get("MESSAGE") if isinstance(content, dict) else content


async def read(path: Path, **options: Any) -> list[dict[str, Any]]:
    """All entries of a file or a directory, as `journalctl -o json` shows them."""
    where = {"directory": str(path)} if path.is_dir() else {"files": [str(path)]}
    async with Following({"priority": "debug", **where, **options}) as f:
        await f.poll()
        await f.poll()
        return f.bodies()
