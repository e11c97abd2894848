"""A client's HTTP/2 connection for unary calls (RFC 9113): headers and a body out; headers, a body and trailers back."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

from hpack import Decoder, HPACKError

from kofagent.net.http2 import frames
from kofagent.net.http2.frames import Code, ConnectionFault

ANSWER_BYTES = 4 * 1024 * 1024
"""Bytes of the largest answer."""
HEADER_BYTES = 64 * 1024
_WINDOW = 1 << 20
_LAST_STREAM = 1 << 30


class Lost(Exception):
    """The connection ended before the answer was there."""


class Answer:
    """What came back; `trailers` are the headers of an answer that has nothing else."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.trailers: dict[str, str] = {}
        self.body = bytearray()


class _Call:
    def __init__(self, done: asyncio.Future[Answer], window: int) -> None:
        self.done = done
        self.window = window
        self.answer = Answer()
        self.headed = False


class ClientConnection(asyncio.Protocol):
    """One connection. `usable` until it is lost or the server says that it takes no more calls."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._decoder = Decoder(max_header_list_size=HEADER_BYTES)
        self._calls: dict[int, _Call] = {}
        self._next = 1
        self._rest = bytearray()
        self._block: tuple[int, int, bytearray] | None = None
        self._window = frames.WINDOW
        self._peer_window = frames.WINDOW
        self._most_calls = 100
        self._changed = asyncio.Event()
        self._writable = True
        self.usable = True

    # --- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Says what we allow."""
        self._transport = transport
        allowed = frames.settings(
            {frames.ENABLE_PUSH: 0, frames.INITIAL_WINDOW_SIZE: _WINDOW, frames.MAX_HEADER_LIST_SIZE: HEADER_BYTES}
        )
        self._transport.write(frames.PREFACE + allowed)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Ends all calls."""
        self.usable = False
        self._fail_above(0, "the connection was closed" if exc is None else "the connection broke")
        self._changed.set()

    def pause_writing(self) -> None:
        """The server does not read."""
        self._writable = False

    def resume_writing(self) -> None:
        """It reads again."""
        self._writable = True
        self._changed.set()

    def data_received(self, data: bytes) -> None:
        """Whole frames are taken, the rest waits for more."""
        rest = self._rest
        rest += data
        at = 0
        try:
            for kind, flags, stream, payload, after in frames.complete(rest):
                self._frame(kind, flags, stream, payload)
                at = after
        except ConnectionFault as fault:
            self._transport.write(frames.goaway(0, fault.code, str(fault)))
            self._fail_above(0, str(fault))
            self.close()
        del rest[:at]

    def close(self) -> None:
        """Ends the connection."""
        self.usable = False
        if self._transport is not None:
            self._transport.close()

    def close_when_idle(self) -> None:
        """Ends the connection with the last call."""
        self.usable = False
        if not self._calls:
            self.close()

    # --- frames

    def _frame(self, kind: int, flags: int, stream: int, payload: bytearray) -> None:
        if self._block is not None and (kind != frames.CONTINUATION or stream != self._block[0]):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a header block was interrupted")
        if kind == frames.DATA:
            self._data(flags, stream, payload)
        elif kind == frames.HEADERS:
            self._block = stream, flags, bytearray(frames.content(flags, payload))
            self._headers(flags)
        elif kind == frames.CONTINUATION:
            if self._block is None:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "no header block to continue")
            self._block[2].extend(payload)
            if len(self._block[2]) > HEADER_BYTES:
                raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "headers are too large")
            self._headers(flags)
        elif kind == frames.RST_STREAM and len(payload) == 4:
            self._fail(stream, f"the server reset the call (code {int.from_bytes(payload, 'big')})")
        elif kind == frames.WINDOW_UPDATE and len(payload) == 4:
            size = int.from_bytes(payload, "big") & 0x7FFFFFFF
            if stream == 0:
                self._window += size
            elif stream in self._calls:
                self._calls[stream].window += size
            self._changed.set()
        elif kind == frames.PING and not flags & frames.ACK:
            self._transport.write(frames.frame(frames.PING, frames.ACK, 0, bytes(payload)))
        elif kind == frames.SETTINGS and not flags & frames.ACK:
            self._settings(payload)
        elif kind == frames.GOAWAY and len(payload) >= 8:
            self.usable = False
            self._fail_above(int.from_bytes(payload[:4], "big") & 0x7FFFFFFF, "the server takes no more calls on this connection")

    def _settings(self, payload: bytearray) -> None:
        if len(payload) % 6:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "settings of a wrong size")
        for name, value in struct.iter_unpack(">HI", payload):
            if name == frames.INITIAL_WINDOW_SIZE:
                for call in self._calls.values():
                    call.window += value - self._peer_window
                self._peer_window = value
            elif name == frames.MAX_CONCURRENT_STREAMS:
                self._most_calls = value
        self._transport.write(frames.frame(frames.SETTINGS, frames.ACK, 0))
        self._changed.set()

    def _data(self, flags: int, id: int, payload: bytearray) -> None:
        if payload:
            self._transport.write(frames.window_update(0, len(payload)))
        call = self._calls.get(id)
        if call is None:
            return
        call.answer.body += frames.content(flags & frames.PADDED, payload)
        if len(call.answer.body) > ANSWER_BYTES:
            self._transport.write(frames.reset(id, Code.CANCEL))
            self._fail(id, "the answer is too large")
        elif flags & frames.END_STREAM:
            self._finish(id)
        elif payload:
            self._transport.write(frames.window_update(id, len(payload)))

    def _headers(self, flags: int) -> None:
        if not flags & frames.END_HEADERS:
            return
        assert self._block is not None
        id, first_flags, block = self._block
        self._block = None
        try:
            headers = {str(name): str(value) for name, value in self._decoder.decode(bytes(block))}
        except (HPACKError, UnicodeDecodeError, ValueError, IndexError):
            raise ConnectionFault(Code.COMPRESSION_ERROR, "headers cannot be decoded") from None
        call = self._calls.get(id)
        if call is None:
            return
        if not call.headed and headers.get(":status", "")[:1] != "1":
            call.headed = True
            call.answer.headers = headers
        call.answer.trailers = headers
        if first_flags & frames.END_STREAM:
            self._finish(id)

    def _finish(self, id: int) -> None:
        call = self._calls.pop(id, None)
        if call is not None and not call.done.done():
            call.done.set_result(call.answer)
        self._ended()

    def _fail(self, id: int, why: str) -> None:
        call = self._calls.pop(id, None)
        if call is not None and not call.done.done():
            call.done.set_exception(Lost(why))
        self._ended()

    def _fail_above(self, last: int, why: str) -> None:
        for id in [id for id in self._calls if id > last]:
            self._fail(id, why)

    def _ended(self) -> None:
        self._changed.set()
        if not self.usable and not self._calls:
            self.close()

    # --- calls

    async def call(self, headers: list[tuple[bytes, bytes]], body: bytes) -> Answer:
        """Sends a request and waits for its answer. Lost when it does not come."""
        while self.usable and len(self._calls) >= self._most_calls:
            await self._change()
        if not self.usable:
            raise Lost("the connection was closed")
        id, self._next = self._next, self._next + 2
        if self._next > _LAST_STREAM:
            self.usable = False
        call = self._calls[id] = _Call(self._loop.create_future(), self._peer_window)
        try:
            block = frames.header_block(headers)
            pieces = [block[i : i + frames.LARGEST] for i in range(0, len(block), frames.LARGEST)]
            for i, piece in enumerate(pieces):
                kind = frames.CONTINUATION if i else frames.HEADERS
                self._transport.write(frames.frame(kind, frames.END_HEADERS if piece is pieces[-1] else 0, id, piece))
            await self._send(id, call, body)
            return await call.done
        finally:
            if self._calls.pop(id, None) is not None and not self._transport.is_closing():
                self._transport.write(frames.reset(id, Code.CANCEL))
                self._ended()

    async def _send(self, id: int, call: _Call, body: bytes) -> None:
        at = 0
        while not call.done.done():
            room = min(self._window, call.window, frames.LARGEST, len(body) - at)
            if not self._writable or (room <= 0 and at < len(body)):
                await self._change()
                continue
            last = at + room == len(body)
            self._transport.write(frames.frame(frames.DATA, frames.END_STREAM if last else 0, id, body[at : at + room]))
            self._window -= room
            call.window -= room
            at += room
            if last:
                return

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
