"""Values that journald compressed: xz, lz4 or zstd, as the flags of their object say. No more is unpacked than is asked for."""

from __future__ import annotations

from kofagent.receivers.journald.header import Damaged

XZ, LZ4, ZSTD = 1, 2, 4
"""Flags of an object."""
ANY = XZ | LZ4 | ZSTD
_WINDOW = 8 << 20
"""Bytes of the largest window of zstd; journald's are smaller."""
_XZ_MEMORY = 16 << 20
"""Bytes that xz may use; journald's preset needs a tenth."""
_LARGEST_LZ4 = 16 << 20
"""lz4 comes out whole or not at all, so what says it is larger is not unpacked for its first bytes either."""


def unpack(flags: int, data: bytes, limit: int) -> tuple[bytes, bool]:
    """At most `limit` bytes of what was packed, and whether that is all of it; Damaged for what is no such data.

    `data` may be cut off: what can be unpacked without the rest is then not all.
    """
    kind = flags & ANY
    try:
        if kind == ZSTD:
            return _zstd(data, limit)
        if kind == LZ4:
            return _lz4(data, limit)
        if kind == XZ:
            return _xz(data, limit)
    except Damaged:
        raise
    except Exception as error:
        raise Damaged(f"a value is not {_NAMES[kind]}: {type(error).__name__}") from None
    raise Damaged("a value says that it is compressed in two ways")


_NAMES = {XZ: "xz", LZ4: "lz4", ZSTD: "zstd"}


def _zstd(data: bytes, limit: int) -> tuple[bytes, bool]:
    import zstandard

    reader = zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(data)
    plain = bytes(reader.read(limit + 1))
    if len(plain) > limit:
        return plain[:limit], False
    size = zstandard.frame_content_size(data)  # journald writes it; a frame that is cut off ends without a word
    if size > 0 and size != len(plain):
        return plain, False
    return plain, True


def _lz4(data: bytes, limit: int) -> tuple[bytes, bool]:
    from cramjam import lz4

    size = int.from_bytes(data[:8], "little")
    if len(data) < 9 or size > _LARGEST_LZ4:
        raise Damaged(f"a value says that it has {size} bytes")
    plain = bytearray(size)
    if lz4.decompress_block_into(data[8:], plain) != size:
        raise Damaged("a value is not lz4 of the size that it says")
    return (bytes(plain), True) if size <= limit else (bytes(plain[:limit]), False)


def _xz(data: bytes, limit: int) -> tuple[bytes, bool]:
    import lzma

    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
    plain = decoder.decompress(data, limit + 1)
    if len(plain) > limit:
        return plain[:limit], False
    return plain, decoder.eof
