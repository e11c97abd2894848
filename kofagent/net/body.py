"""Bodies of answers, bounded while they are read and while they are decompressed: a small body that unfolds to gigabytes costs the
limit and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from isal import isal_zlib

from kofagent.net.compression import CorruptBody, TooLarge, UnknownEncoding

_PIECE = 1 << 18
_DAMAGED: Any = isal_zlib.error


Meter = Callable[[bytes], bool]
"""Is given each piece of a body before it is kept; False: there is no room for it."""


class NoRoom(Exception):
    """The meter of a body had no room for it."""


async def read_body(
    response: aiohttp.ClientResponse, limit: int, silence: float | None = None, meter: Meter | None = None
) -> bytes:
    """The decompressed body. The connection is closed where the body was not read to its end.

    TooLarge: it has more than `limit` bytes. TimeoutError: no byte came for `silence` seconds. UnknownEncoding: it is not plain and
    not gzip. CorruptBody: it is not the gzip it claims to be. NoRoom: `meter` said so. aiohttp's errors where the connection broke.
    """
    # hot: scrape, all of a page passes here; a piece is kept as it came, and a body in one piece is not copied
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding in ("", "identity"):
        if response.content_length is not None and response.content_length > limit:
            response.close()
            raise TooLarge
        return await _plain(response, limit, silence, meter)
    if encoding not in ("gzip", "x-gzip"):
        response.close()
        raise UnknownEncoding(encoding[:30])
    try:
        return await _gunzip(response, limit, silence, meter)
    except _DAMAGED as error:
        response.close()
        raise CorruptBody(f"the gzip body is damaged: {error}") from None


async def read_start(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The first `limit` bytes of the body; a longer one costs the connection, not memory. Damaged gzip ends where it is damaged."""
    out = bytearray()
    async for piece in response.content.iter_any():
        out += piece[: max(0, limit - len(out))]
        if len(out) >= limit and not response.content.at_eof():
            response.close()
            break
    if out and response.headers.get("Content-Encoding", "").strip().lower() in ("gzip", "x-gzip"):
        try:
            return bytes(isal_zlib.decompressobj(wbits=31).decompress(bytes(out), limit))
        except _DAMAGED:
            return b""
    return bytes(out)


def _reader(response: aiohttp.ClientResponse, silence: float | None) -> Callable[[], Awaitable[bytes]]:
    """What gives the next piece of a body, empty at its end."""
    read = response.content.readany
    if silence is None:
        return read

    async def timed() -> bytes:  # not wait_for: in Python 3.11 it can lose a cancellation
        async with asyncio.timeout(silence):
            return await read()

    return timed


async def _plain(response: aiohttp.ClientResponse, limit: int, silence: float | None, meter: Meter | None) -> bytes:
    pieces: list[bytes] = []
    size = 0
    read = _reader(response, silence)
    while piece := await read():
        size += len(piece)
        if size > limit:
            response.close()
            raise TooLarge
        if meter is not None and not meter(piece):
            response.close()
            raise NoRoom
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def _gunzip(response: aiohttp.ClientResponse, limit: int, silence: float | None, meter: Meter | None) -> bytes:
    unpacker = isal_zlib.decompressobj(wbits=31)
    pieces: list[bytes] = []
    left = limit
    read = _reader(response, silence)
    while piece := await read():
        while piece:
            if unpacker.eof:
                # Several members in a row are one stream (RFC 1952, section 2.2).
                unpacker = isal_zlib.decompressobj(wbits=31)
            out = unpacker.decompress(piece, min(left + 1, _PIECE))
            piece = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
            left -= len(out)
            if left < 0:
                response.close()
                raise TooLarge
            if meter is not None and not meter(out):
                response.close()
                raise NoRoom
            pieces.append(out)
    while not unpacker.eof:
        out = unpacker.decompress(b"", min(left + 1, _PIECE))
        if not out:
            raise CorruptBody("the gzip body is cut off")
        left -= len(out)
        pieces.append(out)
        if left < 0:
            raise TooLarge
    return b"".join(pieces)
