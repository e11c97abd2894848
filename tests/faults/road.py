"""`Road`: a TCP proxy between the agent and its backend that is closed, stalls, slows down, resets, and is good again."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

from tests.support.faulty import both_ways


class Road:
    """Passes connections on to a port of loopback. What is wrong with it is set by attributes, at any time.

    `stalled`: connections are accepted and nothing passes (half-open). `rate`: bytes a second from the agent to the backend.
    `reset_after`: connections are reset once so many bytes of requests have passed. `close` and `open`: nobody listens meanwhile.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self.port = 0
        self.stalled = False
        self.rate = 0
        self.reset_after = 0
        self.connections = 0
        self._frozen = 0
        self._server: asyncio.Server | None = None
        self._holder: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Road:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
        if self._holder is not None:
            self._holder.close()

    async def open(self) -> None:
        """Listens, on the same port as before."""
        if self._holder is not None:
            self._holder.close()
            self._holder = None
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Connections end, new ones are refused; nobody else gets the port meanwhile."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self._holder = socket.socket()
            self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._holder.bind(("127.0.0.1", self.port))
            self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def freeze(self) -> None:
        """Nothing passes any more on the present connections, which stay open; new ones are as good as ever."""
        self._frozen = self.connections

    def good(self) -> None:
        """Nothing is wrong any more with new connections and with the present ones."""
        self.stalled, self.rate, self.reset_after = False, 0, 0

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            try:
                await both_ways(self._there(reader, far_writer, writer, number), self._back(far_reader, writer, number))
            finally:
                far_writer.close()
        writer.transport.abort()

    async def _there(
        self, reader: asyncio.StreamReader, far: asyncio.StreamWriter, near: asyncio.StreamWriter, number: int
    ) -> None:
        passed = 0
        while data := await reader.read(self.rate // 10 or 65536):
            while self.stalled or number <= self._frozen:
                await asyncio.sleep(0.05)
            passed += len(data)
            if self.reset_after and passed >= self.reset_after:
                sock = near.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            far.write(data)
            await far.drain()
            if self.rate:
                await asyncio.sleep(len(data) / self.rate)

    async def _back(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter, number: int) -> None:
        while data := await reader.read(65536):
            while self.stalled or number <= self._frozen:
                await asyncio.sleep(0.05)
            near.write(data)
            await near.drain()
