"""Compression of bodies by the names HTTP and upstream use; decompression stops at a limit before memory is spent."""

from __future__ import annotations

import zlib
from typing import Any

from isal import igzip, isal_zlib


class TooLarge(Exception):
    """The decompressed body is larger than allowed."""


class CorruptBody(Exception):
    """The body is not what its Content-Encoding says."""


class UnknownEncoding(Exception):
    """An unknown Content-Encoding."""


ENCODINGS = ("gzip", "zstd", "deflate", "zlib", "snappy", "x-snappy-framed", "lz4")
"""What `compress` and `decompress` know; `""`, `none` and `identity` mean none."""

_PLAIN = ("", "none", "identity")


def compress(name: str, data: bytes, level: int | None = None) -> bytes:
    """`data` compressed. `level` is of the algorithm; igzip knows 0 to 3, more means 3. `snappy` is the block format."""
    # hot: log_line, igzip is 4 times zlib's speed at a better ratio than its level 1
    if name == "gzip":
        return igzip.compress(data, 1 if level is None or level < 0 else min(level, 3), mtime=0)
    if name in _PLAIN:
        return data
    if name == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(level=3 if level is None or level <= 0 else min(level, 22)).compress(data)
    if name in ("deflate", "zlib"):
        return isal_zlib.compress(data, 1 if level is None or level < 0 else min(level, 3))
    if name == "snappy":
        import snappy

        return bytes(snappy.compress(data))
    if name == "x-snappy-framed":
        import snappy

        compressor = snappy.StreamCompressor()
        return bytes(compressor.add_chunk(data))
    if name == "lz4":
        from cramjam import lz4

        return bytes(lz4.compress(data))
    raise UnknownEncoding(name)


def decompress(name: str, data: bytes, limit: int) -> bytes:
    """`data` decompressed, at most `limit` bytes. TooLarge, CorruptBody or UnknownEncoding otherwise."""
    name = name.strip().lower()
    if name in _PLAIN:
        if len(data) > limit:
            raise TooLarge
        return data
    try:
        if name == "gzip":
            return _inflate(data, limit, 31)
        if name in ("deflate", "zlib"):
            return _inflate(data, limit, 15)
        if name == "zstd":
            return _zstd(data, limit)
        if name == "snappy":
            return _snappy(data, limit)
        if name == "x-snappy-framed":
            return _snappy_framed(data, limit)
        if name == "lz4":
            return _lz4(data, limit)
    except (TooLarge, CorruptBody):
        raise
    except Exception as error:
        raise CorruptBody(f"not {name}: {type(error).__name__}") from None
    raise UnknownEncoding(name)


def _inflate(data: bytes, limit: int, wbits: int) -> bytes:
    """All members of a gzip or zlib stream; one that is cut off is corrupt."""
    out: list[bytes] = []
    room = limit + 1
    while True:
        member = zlib.decompressobj(wbits)
        part = member.decompress(data, room)
        out.append(part)
        room -= len(part)
        if room <= 0:
            raise TooLarge
        if not member.eof:
            raise CorruptBody("stream cut off")
        data = member.unused_data
        if not data or wbits != 31:
            return out[0] if len(out) == 1 else b"".join(out)


def _zstd(data: bytes, limit: int) -> bytes:
    import zstandard

    if zstandard.frame_content_size(data) > limit:
        raise TooLarge
    # 8 MiB of window is what RFC 8878 asks of every decoder; more would let a header of some bytes take memory
    decoder = zstandard.ZstdDecompressor(max_window_size=8 * 1024 * 1024)
    out = decoder.stream_reader(data, read_across_frames=True).read(limit + 1)
    if len(out) > limit:
        raise TooLarge
    whole_zstd(decoder, data)
    return bytes(out)


def whole_zstd(decoder: Any, data: bytes) -> None:
    """CorruptBody where the last frame is cut off, which a reader takes for its end. For data that is known to be small."""
    while data:
        frame = decoder.decompressobj()
        frame.decompress(data)
        if not frame.eof:
            raise CorruptBody("stream cut off")
        data = frame.unused_data


def _snappy(data: bytes, limit: int) -> bytes:
    import snappy

    size = shift = at = 0
    while True:
        byte = data[at]
        at += 1
        size |= (byte & 0x7F) << shift
        if byte < 128:
            break
        shift += 7
        if shift > 35:
            raise CorruptBody("not snappy")
    if size > limit:
        raise TooLarge
    return bytes(snappy.uncompress(data))


def _snappy_framed(data: bytes, limit: int) -> bytes:
    import snappy

    stream = snappy.StreamDecompressor()
    out, size = [], 0
    for start in range(0, len(data), 65536):
        part = bytes(stream.decompress(data[start : start + 65536]))
        size += len(part)
        if size > limit:
            raise TooLarge
        out.append(part)
    stream.flush()
    return b"".join(out)


def _lz4(data: bytes, limit: int) -> bytes:
    from cramjam import lz4

    # pages of the buffer that nothing is written to cost no memory
    buffer = bytearray(limit + 1)
    try:
        size = lz4.decompress_into(data, buffer)
    except Exception as error:
        if "failed to write whole buffer" in str(error):  # the only word it has for a full one
            raise TooLarge from None
        raise
    if size > limit:
        raise TooLarge
    return bytes(buffer[:size])
