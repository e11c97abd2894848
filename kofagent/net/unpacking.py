"""Decompression of what strangers send: in slices, each counted before the next, and others have their turn in between."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator

from kofagent.net.budget import Overloaded, Reservation
from kofagent.net.compression import CorruptBody, TooLarge, decompress, whole_zstd

SLICE = 256 * 1024
"""Bytes that are unpacked at a time: under a millisecond."""
_AT_ONCE = 16 * 1024
"""Longest bodies that are first tried in one go."""


async def unpack(name: str, data: bytes, held: Reservation, limit: int) -> bytes:
    """`data` decompressed, at most `limit` bytes, which are taken from `held` as they come out.

    TooLarge, CorruptBody, UnknownEncoding, Overloaded.
    """
    # hot: otlp_http_span, what is small comes out in one go, without a slice or a turn of the loop
    if len(data) <= _AT_ONCE:
        try:
            plain = decompress(name, data, min(SLICE, limit))
        except TooLarge:
            if limit <= SLICE:
                raise
        else:
            held.take(len(plain))
            return plain
    slices = _SLICES.get(name)
    if slices is None:
        return await _whole(name, data, held, limit)
    async with held.turn():
        return await _in_slices(name, slices(data), held, limit)


async def _in_slices(name: str, slices: Iterator[bytes], held: Reservation, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        for part in slices:
            size += len(part)
            if size > limit:
                raise TooLarge
            await held.hold(len(part))
            parts.append(part)
            await asyncio.sleep(0)
    except (TooLarge, CorruptBody, Overloaded):
        raise
    except Exception as error:
        raise CorruptBody(f"not {name}: {type(error).__name__}") from None
    return b"".join(parts)


async def _whole(name: str, data: bytes, held: Reservation, limit: int) -> bytes:
    """Formats that come out whole say their size first, or are bounded by what is free; the work is done in a thread."""
    room = min(limit, held.free)
    try:
        plain = await asyncio.to_thread(decompress, name, data, room)
    except TooLarge:
        if room < limit:
            raise Overloaded from None
        raise
    await held.hold(len(plain))
    return plain


def _gzip(data: bytes) -> Iterator[bytes]:
    return _inflate(data, 31)


def _deflate(data: bytes) -> Iterator[bytes]:
    return _inflate(data, 15)


def _inflate(data: bytes, wbits: int) -> Iterator[bytes]:
    at = 0
    member = zlib.decompressobj(wbits)
    while True:
        # Fed in pieces, so that what is not used yet is not copied again for each slice.
        piece = data[at : at + SLICE]
        at += len(piece)
        while piece:
            yield member.decompress(piece, SLICE)
            if member.eof:
                piece = member.unused_data
                if (not piece and at >= len(data)) or wbits != 31:
                    return
                member = zlib.decompressobj(wbits)
            else:
                piece = member.unconsumed_tail
        if at >= len(data):
            while not member.eof:
                part = member.decompress(b"", SLICE)
                if not part and not member.eof:
                    raise CorruptBody("stream cut off")
                yield part
            return


def _zstd(data: bytes) -> Iterator[bytes]:
    import zstandard

    # 8 MiB of window is what RFC 8878 asks of every decoder; more would let a header of some bytes take memory
    decoder = zstandard.ZstdDecompressor(max_window_size=8 * 1024 * 1024)
    reader = decoder.stream_reader(data, read_across_frames=True)
    while part := reader.read(SLICE):
        yield bytes(part)
    whole_zstd(decoder, data)


def _snappy_framed(data: bytes) -> Iterator[bytes]:
    import snappy

    stream = snappy.StreamDecompressor()
    for start in range(0, len(data), 65536):
        yield bytes(stream.decompress(data[start : start + 65536]))
    stream.flush()


_SLICES = {
    "gzip": _gzip,
    "deflate": _deflate,
    "zlib": _deflate,
    "zstd": _zstd,
    "x-snappy-framed": _snappy_framed,
}
