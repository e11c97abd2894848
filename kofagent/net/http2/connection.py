"""A server's HTTP/2 connection for unary calls (RFC 9113): whatever its client does costs this connection alone.

Bytes of messages are counted when they arrive; calls, header blocks, pings, resets and everything else that a client can send
for nothing are bounded, and who goes too far gets GOAWAY with ENHANCE_YOUR_CALM.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from hpack import Decoder, HPACKError, OversizedHeaderListError

from kofagent.net.budget import ByteBudget
from kofagent.net.http2 import frames
from kofagent.net.http2.frames import Code, ConnectionFault
from kofagent.net.http2.limits import (
    CONNECTION_WINDOW,
    HEADER_BYTES,
    PREFACE_SECONDS,
    STREAM_WINDOW,
    WRITE_SECONDS,
    Allowance,
    Limits,
)
from kofagent.net.http2.stream import Stalled, Stream

Serve = Callable[[Stream], Awaitable[None]]

_CANCELS = (200.0, 50.0)
"""Burst and rate of calls that a client may begin and give up, or that are refused."""
_CONTROL = (2000.0, 500.0)
"""Burst and rate of frames that carry nothing: pings, settings, priorities, empty data, small windows."""
_STRIKES = 2
"""Pings that may come too early before the connection ends, as in gRPC's other servers."""
_IDLE_PING_APART = 7200.0
_LINGER = 0.25
"""Seconds in which bytes are read and thrown away after a GOAWAY that says what was wrong."""


class Http2Connection(asyncio.Protocol):
    """One connection from preface to GOAWAY."""

    def __init__(self, serve: Serve, budget: ByteBudget, limits: Limits, live: set[Http2Connection]) -> None:
        """`serve` answers a call; `live` has all connections that are open."""
        self._serve = serve
        self._budget = budget
        self.limits = limits
        self._live = live
        self.gone: Callable[[], None] | None = None
        self.loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[None] = self.loop.create_future()
        """Done when the connection is gone."""
        self._transport: Any = None
        self.peer = ""
        """The client's address; empty for a Unix socket."""
        self._rest = bytearray()
        self._preface = False
        self._decoder = Decoder(max_header_list_size=HEADER_BYTES)
        self._streams: dict[int, Stream] = {}
        self._last = 0
        """The highest stream that the client opened."""
        self._block: tuple[int, int, bytearray] | None = None
        """Stream, flags and bytes of a header block that is not complete."""
        self._block_since = 0.0
        self._window = frames.WINDOW
        self._credit = 0
        self.peer_window = frames.WINDOW
        self._room: asyncio.Event | None = None
        self._closing = False
        self._began = self._quiet_since = self._heard = self.loop.time()
        self._ping_sent: float | None = None
        self._pinged = float("-inf")
        self._strikes = 0
        self._paused_since: float | None = None
        self._cancels = Allowance(*_CANCELS, self._began)
        self._control = Allowance(*_CONTROL, self._began)
        self._drain_from: float | None = None

    # --- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Says what we allow."""
        self._transport = transport
        self._live.add(self)
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if isinstance(peer, tuple) else ""
        self._write(
            frames.settings(
                {
                    frames.MAX_CONCURRENT_STREAMS: self.limits.streams,
                    frames.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                    frames.MAX_HEADER_LIST_SIZE: HEADER_BYTES,
                }
            )
            + frames.window_update(0, CONNECTION_WINDOW - frames.WINDOW)
        )

    def connection_lost(self, exc: BaseException | None) -> None:
        """Cancels what was under way."""
        self._closing = True
        self._live.discard(self)
        if not self.lost.done():
            self.lost.set_result(None)
        if self.gone is not None:
            self.gone()
        for stream in list(self._streams.values()):
            self._drop(stream)
        self._wake_writers()

    def pause_writing(self) -> None:
        """The client does not read: nor do we."""
        self._paused_since = self.loop.time()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """It reads again."""
        self._paused_since = None
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Whole frames are taken, the rest waits for more."""
        # hot: otlp_grpc_span, every byte of a call comes through here
        if self._closing:
            return
        rest = self._rest
        rest += data
        self._heard = self.loop.time()
        self._ping_sent = None
        at = 0
        try:
            if not self._preface:
                if not frames.PREFACE.startswith(rest[:24]):
                    raise ConnectionFault(Code.PROTOCOL_ERROR, "no HTTP/2 preface")
                if len(rest) < 24:
                    return
                self._preface = True
                at = 24
            for kind, flags, stream, payload, after in frames.complete(rest, at):
                if self._closing:
                    break
                self._frame(kind, flags, stream, payload)
                at = after
        except ConnectionFault as fault:
            self.close(fault.code, str(fault))
        del rest[:at]

    # --- frames

    def _frame(self, kind: int, flags: int, stream: int, payload: bytearray) -> None:
        if self._block is not None and (kind != frames.CONTINUATION or stream != self._block[0]):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a header block was interrupted")
        if kind == frames.DATA:
            self._data(flags, stream, payload)
        elif kind == frames.HEADERS:
            self._headers(flags, stream, payload)
        elif kind == frames.CONTINUATION:
            self._continuation(flags, payload)
        elif kind == frames.RST_STREAM:
            self._reset(stream, payload)
        elif kind == frames.WINDOW_UPDATE:
            self._more_window(stream, payload)
        elif kind == frames.PING:
            self._ping(flags, payload)
        elif kind == frames.SETTINGS:
            self._settings(flags, payload)
        elif kind == frames.PUSH_PROMISE:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a client does not push")
        else:  # PRIORITY, GOAWAY of the client, and what is not known: nothing to do
            self._spend(self._control, "too many frames without use")

    def _spend(self, allowance: Allowance, why: str) -> None:
        if not allowance.spend(self._heard):
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, why)

    def _data(self, flags: int, id: int, payload: bytearray) -> None:
        if id == 0 or id > self._last:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "data without a call")
        size = len(payload)
        piece = frames.content(flags & frames.PADDED, payload)
        self._credit += size
        if self._credit > CONNECTION_WINDOW:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "more data than the window")
        if self._credit * 2 >= CONNECTION_WINDOW:
            self._write(frames.window_update(0, self._credit))
            self._credit = 0
        stream = self._streams.get(id)
        if len(piece) < 16 and not flags & frames.END_STREAM:
            self._spend(self._control, "too many small frames")
        if stream is None or stream.ended:
            return  # of a call that was answered or given up
        stream.data(piece, self._heard)
        if flags & frames.END_STREAM:
            stream.end()
            return
        stream.credit += size
        if stream.credit > STREAM_WINDOW:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "more data than the window")
        if stream.credit * 2 >= STREAM_WINDOW:
            self._write(frames.window_update(id, stream.credit))
            stream.credit = 0

    def _headers(self, flags: int, id: int, payload: bytearray) -> None:
        block = frames.content(flags, payload)
        self._block = id, flags, bytearray(block)
        self._block_since = self._heard
        if flags & frames.END_HEADERS:
            self._headers_complete()

    def _continuation(self, flags: int, payload: bytearray) -> None:
        if self._block is None:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "no header block to continue")
        block = self._block[2]
        block += payload
        if len(block) > HEADER_BYTES:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "headers are too large")
        if not payload:
            self._spend(self._control, "too many empty frames")
        if flags & frames.END_HEADERS:
            self._headers_complete()

    def _headers_complete(self) -> None:
        assert self._block is not None
        id, flags, block = self._block
        self._block = None
        try:
            headers = [(str(name), str(value)) for name, value in self._decoder.decode(bytes(block))]
        except OversizedHeaderListError:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "headers are too large") from None
        except (HPACKError, UnicodeDecodeError, ValueError, IndexError):
            raise ConnectionFault(Code.COMPRESSION_ERROR, "headers cannot be decoded") from None
        stream = self._streams.get(id)
        if stream is not None:  # trailers of the client
            if not flags & frames.END_STREAM or stream.ended:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "headers in the middle of a call")
            stream.end()
            return
        if not id & 1 or id <= self._last:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a stream that cannot be opened")
        self._last = id
        if self._drain_from is not None or len(self._streams) >= self.limits.streams:
            self._spend(self._cancels, "too many calls")
            self._write(frames.reset(id, Code.REFUSED_STREAM))
            return
        stream = Stream(self, id, headers, self._budget.open(), self._heard)
        self._streams[id] = stream
        if flags & frames.END_STREAM:
            stream.end()
        stream.task = self.loop.create_task(self._run(stream))

    async def _run(self, stream: Stream) -> None:
        try:
            await self._serve(stream)
        finally:
            self._finish(stream)

    def _finish(self, stream: Stream) -> None:
        """The call has ended; what its client still sends of it is thrown away."""
        if stream.deadline is not None:
            stream.deadline.cancel()
        stream.held.close()
        if self._streams.pop(stream.id, None) is None:
            return
        self._quiet_since = self.loop.time()
        if not self._closing and (not stream.answered or not stream.ended):
            self._write(frames.reset(stream.id, Code.NO_ERROR if stream.answered else Code.CANCEL))
        if self._drain_from is not None and not self._streams:
            self._end()

    def _drop(self, stream: Stream) -> None:
        self._streams.pop(stream.id, None)
        stream.held.close()
        if stream.task is not None:
            stream.task.cancel()

    def _reset(self, id: int, payload: bytearray) -> None:
        if id == 0 or id > self._last or len(payload) != 4:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a reset of nothing")
        self._spend(self._cancels, "too many calls were begun and given up")
        stream = self._streams.get(id)
        if stream is not None:
            self._drop(stream)
            self._quiet_since = self._heard

    def _more_window(self, id: int, payload: bytearray) -> None:
        if len(payload) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a window of a wrong size")
        size = int.from_bytes(payload, "big") & 0x7FFFFFFF
        if size < 1024:
            self._spend(self._control, "too many small windows")
        if id == 0:
            self._window += size
            if size == 0 or self._window > frames.LARGEST_WINDOW:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a wrong window")
        elif (stream := self._streams.get(id)) is not None:
            stream.window += size
            if size == 0 or stream.window > frames.LARGEST_WINDOW:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a wrong window")
        self._wake_writers()

    def _ping(self, flags: int, payload: bytearray) -> None:
        if len(payload) != 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a ping of a wrong size")
        if flags & frames.ACK:
            self._spend(self._control, "too many pings")
            return
        self._spend(self._control, "too_many_pings")
        may_idle = bool(self._streams) or self.limits.pings_when_idle
        apart = self.limits.pings_apart if may_idle else _IDLE_PING_APART
        if self._heard - self._pinged < apart:
            self._strikes += 1
            if self._strikes > _STRIKES:
                raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too_many_pings")
        self._pinged = self._heard
        self._write(frames.frame(frames.PING, frames.ACK, 0, bytes(payload)))

    def _settings(self, flags: int, payload: bytearray) -> None:
        self._spend(self._control, "too many settings")
        if flags & frames.ACK:
            return
        if len(payload) % 6:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "settings of a wrong size")
        for name, value in struct.iter_unpack(">HI", payload):
            if name == frames.INITIAL_WINDOW_SIZE:
                if value > frames.LARGEST_WINDOW:
                    raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a wrong window")
                for stream in self._streams.values():
                    stream.window += value - self.peer_window
                self.peer_window = value
        self._wake_writers()
        self._write(frames.frame(frames.SETTINGS, frames.ACK, 0))

    # --- answers

    async def answer(self, stream: Stream, head: bytes, data: bytes, trailers: Iterable[tuple[bytes, bytes]]) -> None:
        """Writes the answer of a call, which ends with it."""
        if stream.id not in self._streams or stream.answered:
            return
        stream.answered = True
        tail = frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream.id, frames.header_block(trailers))
        first = frames.frame(frames.HEADERS, frames.END_HEADERS, stream.id, head) if head else b""
        if data and (len(data) > frames.LARGEST or len(data) > min(self._window, stream.window)):
            self._write(first)
            first = b""
            data = await self._send_pieces(stream, data)
        body = frames.frame(frames.DATA, 0, stream.id, data) if data else b""
        self._window -= len(data)
        stream.window -= len(data)
        self._strikes = 0  # who is sent data may measure the way with pings
        self._write(first + body + tail)

    async def _send_pieces(self, stream: Stream, data: bytes) -> bytes:
        """Writes as the windows allow until the rest fits."""
        while len(data) > (room := min(self._window, stream.window, frames.LARGEST)):
            if room <= 0:
                self._room = self._room or asyncio.Event()
                self._room.clear()
                async with asyncio.timeout(WRITE_SECONDS):
                    await self._room.wait()
                continue
            self._write(frames.frame(frames.DATA, 0, stream.id, data[:room]))
            self._window -= room
            stream.window -= room
            data = data[room:]
        return data

    def _wake_writers(self) -> None:
        if self._room is not None:
            self._room.set()

    def _write(self, data: bytes) -> None:
        if not self._closing and data:
            self._transport.write(data)

    # --- ends

    def close(self, code: Code = Code.NO_ERROR, why: str = "") -> None:
        """GOAWAY, and the end of all calls under way."""
        self._write(frames.goaway(self._last, code, why))
        self._end(_LINGER if code else 0.0)

    def _end(self, linger: float = 0.0) -> None:
        if self._closing:
            return
        self._closing = True
        self._rest.clear()
        for stream in list(self._streams.values()):
            self._drop(stream)
        if self._transport is None:
            return
        if linger:
            # Closing with bytes unread would reset the connection, and the client would not learn why.
            self.loop.call_later(linger, self._transport.close)
        else:
            self._transport.close()

    def drain(self) -> None:
        """GOAWAY: calls under way may end, new ones are refused. Closed when the last one has ended."""
        if self._drain_from is None:
            self._drain_from = self.loop.time()
            self._write(frames.goaway(self._last, Code.NO_ERROR))
            if not self._streams:
                self._end()

    def give_way(self) -> None:
        """Closes an idle connection for a new one."""
        self.close(Code.NO_ERROR)

    def waiting_since(self) -> float | None:
        """As `accept.Client`: it is idle, or all of its calls are messages that are not complete."""
        if not self._streams:
            return self._quiet_since if self._preface else self._began
        if all(stream.reading for stream in self._streams.values()):
            return min(stream.last_byte for stream in self._streams.values())
        return None

    def look(self, now: float) -> None:
        """Ends what took too long; called once per `Limits.tick`."""
        limits = self.limits
        if self._transport is None:
            return
        if not self._preface and now - self._began > PREFACE_SECONDS:
            self._end()
        elif self._block is not None and now - self._block_since > PREFACE_SECONDS:
            self.close(Code.ENHANCE_YOUR_CALM, "a header block takes too long")
        elif self._paused_since is not None and now - self._paused_since > WRITE_SECONDS:
            self._transport.abort()
        elif self._drain_from is not None:
            if now - self._drain_from > limits.grace_seconds:
                self.close()
        elif now - self._began > limits.age_seconds or (not self._streams and now - self._quiet_since > limits.idle_seconds):
            self.drain()
        elif self._ping_sent is not None:
            if now - self._ping_sent > limits.ping_timeout:
                self._transport.abort()
        elif now - self._heard > limits.ping_after:
            self._ping_sent = now
            self._write(frames.frame(frames.PING, 0, 0, b"kofagent"))
        for stream in list(self._streams.values()):
            if stream.reading and now - stream.last_byte > limits.stall_seconds:
                stream.fail(Stalled())
