"""A TCP proxy that misbehaves: it hangs, stalls, cuts, dribbles; and an HTTP proxy that knows names which no DNS knows."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Mapping
from typing import Self


class FaultyProxy:
    """Passes connections on to a port of loopback. What it does wrong is set by its attributes, at any time.

    async with FaultyProxy(kube.port) as proxy:
        proxy.stalled = True       # nothing goes to the client any more, on old and new connections
        proxy.cuts = [300, 500]    # the next connections are aborted after so many bytes to the client
        proxy.piece = 100          # bytes that go to the client every `pause` seconds
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.stalled = False
        self.cuts: list[int] = []
        self.piece = 0
        self.pause = 0.01
        self.connections = 0
        self.passed = 0
        """Bytes that went to clients."""
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._server is not None
        self._server.close()
        self.drop()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def drop(self) -> None:
        """Aborts all connections there are."""
        for task in list(self._tasks):
            task.cancel()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        _track(self._tasks)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
            cut = self.cuts.pop(0) if self.cuts else None
            await both_ways(_copy(reader, far_writer), self._answer(far_reader, writer, cut))
            far_writer.close()
        writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: int | None) -> None:
        passed = 0
        while data := await reader.read(self.piece or 65536):
            while self.stalled:
                await asyncio.sleep(0.01)
            if cut is not None and passed + len(data) >= cut:
                writer.write(data[: cut - passed])
                await writer.drain()
                return
            passed += len(data)
            self.passed += len(data)
            writer.write(data)
            await writer.drain()
            if self.piece:
                await asyncio.sleep(self.pause)


class ConnectProxy:
    """A forward proxy: CONNECT, and plain HTTP by absolute URL. `names` are host names only it knows, and their ports of loopback."""

    def __init__(self, names: Mapping[str, int], login: str = "") -> None:
        self.names = names
        self.login = login
        self.asked: list[str] = []
        """First lines of the requests."""
        self.heads: list[bytes] = []
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _track(self._tasks)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            first = head.split(b"\r\n")[0].decode()
            self.asked.append(first)
            method, target, _ = first.split(" ")
            place = target if method == "CONNECT" else target.split("/")[2]
            wanted = b"proxy-authorization: basic " + base64.b64encode(self.login.encode()).lower()
            if self.login and wanted not in head.lower():
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            else:
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.names[place])
                if method == "CONNECT":
                    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    path = target.split("/", 3)[3]
                    far_writer.write(head.replace(target.encode(), b"/" + path.encode(), 1))
                await both_ways(_copy(reader, far_writer), _copy(far_reader, writer))
                far_writer.close()
        writer.close()


def _track(tasks: set[asyncio.Task[None]]) -> None:
    task = asyncio.current_task()
    assert task is not None
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def both_ways(*copies: object) -> None:
    """Runs both directions until one ends."""
    tasks = [asyncio.ensure_future(copy) for copy in copies]  # type: ignore[call-overload]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
