"""A process that tails files and appends what it owns to another file: to be killed. Arguments: include glob, output, store."""

from __future__ import annotations

import asyncio
import os
import sys

from kofagent.component.registry import load
from kofagent.receivers.filelog import COMPONENT
from kofagent.telemetry.batch import AnyBatch, Batch
from kofagent.telemetry.signal import Signal
from tests.receivers.filelog.support import body, records
from tests.support.components import FakeHost, make


class Output:
    """Owns records once they are in the output file, after a while, as a batch processor does."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        # A kill cuts a write between two pages: what was begun was not owned, and the next line must not go on in it.
        size = os.fstat(self.fd).st_size
        rest = os.pread(self.fd, size, 0).rpartition(b"\n")[2]
        os.ftruncate(self.fd, size - len(rest))

    async def consume(self, batch: AnyBatch) -> None:
        assert isinstance(batch, Batch)
        await asyncio.sleep(0.02)
        os.write(self.fd, "".join(body(r) + "\n" for r in records(batch.payload)).encode())


async def main(include: str, output: str, store: str) -> None:
    host = FakeHost()
    storage = host.extensions["file_storage"] = make(
        load("extensions", "file_storage"),
        {"directory": store, "create_directory": True},
        kind="extensions",
        id="file_storage",
        host=host,
    )
    await storage.start()
    receiver = make(
        COMPONENT,
        {"include": [include], "start_at": "beginning", "poll_interval": "20ms", "storage": "file_storage"},
        id="filelog",
        host=host,
    )
    receiver.outputs = {Signal.LOGS: Output(output)}
    await receiver.start()
    print("started", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await receiver.stop()
    await storage.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
