"""One call on an HTTP/2 connection: its headers, its message as far as it came, its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from copy import copy
from typing import Protocol

from kofagent.net.budget import Overloaded, Reservation
from kofagent.net.compression import TooLarge
from kofagent.net.http2.frames import Code
from kofagent.net.http2.limits import Limits


class Aborted(Exception):
    """The call has its answer; nothing more is to be done for it."""


class BadMessage(Exception):
    """What came is not one gRPC message."""


class Stalled(Exception):
    """The message stopped coming."""


class Owner(Protocol):
    """The connection, as its calls see it."""

    loop: asyncio.AbstractEventLoop
    limits: Limits
    peer: str
    peer_window: int

    async def answer(self, stream: Stream, head: bytes, data: bytes, trailers: Iterable[tuple[bytes, bytes]]) -> None:
        """Writes the answer of a call, which ends with it."""
        ...

    def close(self, code: Code = ..., why: str = "") -> None:
        """Ends the connection."""
        ...


class Stream:
    """A call. `held` is the room that its bytes take; it is given back when the call has ended."""

    def __init__(self, connection: Owner, id: int, headers: list[tuple[str, str]], held: Reservation, now: float) -> None:
        self.connection = connection
        self.id = id
        self.headers = headers
        self.held = held
        self.last_byte = now
        self.window = connection.peer_window
        """Bytes that we may still send."""
        self.credit = 0
        """Bytes that came and that the client was not yet given room for again."""
        self.ended = False
        """The client has sent all."""
        self.answered = False
        self.task: asyncio.Task[None] | None = None
        self.deadline: asyncio.TimerHandle | None = None
        self._body = bytearray()
        self._size = -1
        """Bytes of the message, prefix included, as soon as the prefix is here."""
        self._limit = connection.limits.message_bytes
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        held.give_way = lambda: self.fail(Overloaded())

    # --- from the connection

    def data(self, piece: bytes | bytearray, now: float) -> None:
        """Bytes of the message came. What is too much ends the call; bytes that come after that are thrown away."""
        self.last_byte = now
        if self._error is not None or not piece:
            return
        body = self._body
        try:
            self.held.take(len(piece))
        except Overloaded:
            self.fail(Overloaded())  # another one: this one has the frames it passed, which have the message
            return
        body += piece
        if self._size < 0 and len(body) >= 5:
            self._size = self.held.expected = 5 + int.from_bytes(body[1:5], "big")
            if self._size - 5 > self._limit:
                self.fail(TooLarge(self._size - 5))
                return
        if 0 <= self._size < len(body):
            self.fail(BadMessage("more than one message"))

    def end(self) -> None:
        """The client has sent all."""
        self.ended = True
        if self._error is None and self._size != len(self._body):
            self.fail(BadMessage("the message is cut off"))
        self._wake()

    def fail(self, error: Exception) -> None:
        """The message will not come; `read` raises the error."""
        if self._error is None and not (self.ended and self._size == len(self._body)):
            self._error = error
            self._body = bytearray()
            self.held.close()
            self._wake()

    @property
    def reading(self) -> bool:
        """Whether the client still has to send."""
        return not self.ended and self._error is None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- for who answers it

    async def read(self) -> tuple[bool, bytes]:
        """Whether the message is compressed, and its bytes. BadMessage, TooLarge, Overloaded, Stalled."""
        if self.reading:
            self._waiter = self.connection.loop.create_future()
            await self._waiter
        if self._error is not None:
            raise copy(self._error)  # with the frames it passes, the original would be a cycle
        self.held.arrived()
        body, self._body = self._body, bytearray()
        compressed = body[0]
        if compressed > 1:
            raise BadMessage("the flag of compression is neither 0 nor 1")
        return bool(compressed), bytes(memoryview(body)[5:])

    async def answer(self, head: bytes, data: bytes, trailers: Iterable[tuple[bytes, bytes]]) -> None:
        """Sends headers (a finished block), a message if there is one, and trailers."""
        await self.connection.answer(self, head, data, trailers)
