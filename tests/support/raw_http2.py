"""A client that speaks HTTP/2 frame by frame, so that it can also do what no library does."""

from __future__ import annotations

import asyncio
import struct
from typing import Any, Self

from hpack import Decoder, Encoder

from kofagent.net.http2 import frames

CALL = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/test/Echo"),
    (":authority", "x"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
)


class RawHttp2:
    """One connection. `async with RawHttp2(port) as client`: preface and settings are sent, and acknowledged nothing."""

    def __init__(self, port: int, settings: dict[int, int] | None = None) -> None:
        self._port = port
        self._settings = settings or {}
        self._encoder, self._decoder = Encoder(), Decoder()
        self.code: int | None = None
        """Of a GOAWAY that came."""
        self.why = b""
        self.next = 1

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        self.send(frames.PREFACE + frames.settings(self._settings))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    def send(self, data: bytes) -> None:
        """Bytes as they are."""
        self.writer.write(data)

    def headers(self, *more: tuple[str, str], end: bool = False, path: str = "/test/Echo") -> int:
        """Opens a stream."""
        stream, self.next = self.next, self.next + 2
        block = self._encoder.encode([*((k, path if k == ":path" else v) for k, v in CALL), *more])
        self.send(frames.frame(frames.HEADERS, frames.END_HEADERS | (frames.END_STREAM if end else 0), stream, block))
        return stream

    def message(self, stream: int, message: bytes, flag: int = 0, end: bool = True, size: int | None = None) -> None:
        """A message in as many frames as it needs; `size` is what the prefix says."""
        data = struct.pack(">BI", flag, len(message) if size is None else size) + message
        for at in range(0, len(data), frames.LARGEST):
            piece = data[at : at + frames.LARGEST]
            last = end and at + frames.LARGEST >= len(data)
            self.send(frames.frame(frames.DATA, frames.END_STREAM if last else 0, stream, piece))

    async def frame(self) -> tuple[int, int, int, bytes]:
        """Kind, flags, stream, payload of the next frame; ConnectionError at the end."""
        try:
            word, flags, stream = struct.unpack(">IBI", await self.reader.readexactly(9))
            payload = await self.reader.readexactly(word >> 8)
        except asyncio.IncompleteReadError:
            raise ConnectionError("closed") from None
        if word & 0xFF == frames.GOAWAY:
            self.code, self.why = int.from_bytes(payload[4:8], "big"), payload[8:]
        return word & 0xFF, flags, stream, payload

    async def closed(self) -> int | None:
        """Reads to the end; the code of the GOAWAY."""
        async with asyncio.timeout(10):
            try:
                while True:
                    await self.frame()
            except ConnectionError:
                return self.code

    async def answer(self, stream: int) -> tuple[dict[str, str], bytes]:
        """All headers and data of a stream, to its end or reset (`:reset`)."""
        headers: dict[str, str] = {}
        data = b""
        async with asyncio.timeout(10):
            while True:
                kind, flags, id, payload = await self.frame()
                if kind == frames.HEADERS:
                    got: Any = self._decoder.decode(payload)
                    if id == stream:
                        headers.update(got)
                if id != stream:
                    continue
                if kind == frames.DATA:
                    data += payload
                if kind == frames.RST_STREAM:
                    headers[":reset"] = str(int.from_bytes(payload, "big"))
                    return headers, data
                if kind in (frames.HEADERS, frames.DATA) and flags & frames.END_STREAM:
                    return headers, data
