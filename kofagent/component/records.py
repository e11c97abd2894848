"""How a batch looks in a file of a queue on disk: a header of 48 bytes, then its metadata and payload.

Header, little endian: magic, status, version, signal, flags, number, items, bytes in memory, length of the metadata, length of the
body, digest of the metadata, CRC-32 of the body, CRC-32 of the header without its status. The status is one byte that is
overwritten where it is when the batch was delivered: that needs no space on the volume.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

from kofagent.telemetry.signal import Signal

MAGIC = b"\xf1KQ\n"
WAITS, DONE = 0x57, 0xA8
"""The status: no bit is the same, so that one that flips cannot make one of the other. Anything else waits as well."""
VERSION = 1
HAS_METADATA = 1
_HEADER = struct.Struct("<4s4BQ4IQII")
HEADER_BYTES = _HEADER.size
STATUS_AT = 4
SIGNALS = (Signal.LOGS, Signal.METRICS, Signal.TRACES)
_NUMBER_OF = {signal: n for n, signal in enumerate(SIGNALS)}
_WINDOW = 64 << 10
"""Bytes read at a time to find headers."""


class Header(NamedTuple):
    """What is known of a record without its body."""

    number: int
    signal: Signal
    items: int
    size: int
    """Bytes that the batch takes in memory."""
    has_metadata: bool
    metadata_length: int
    length: int
    """Bytes of the body: metadata and payload as they are on disk."""
    digest: int
    crc: int
    done: bool = False

    def encode(self) -> bytes:
        """The header of a record that waits."""
        flags = HAS_METADATA if self.has_metadata else 0
        raw = _HEADER.pack(
            MAGIC,
            WAITS,
            VERSION,
            _NUMBER_OF[self.signal],
            flags,
            self.number,
            self.items,
            self.size,
            self.metadata_length,
            self.length,
            self.digest,
            self.crc,
            0,
        )
        return raw[:-4] + _header_crc(raw).to_bytes(4, "little")


def _header_crc(raw: bytes) -> int:
    return crc32(raw[STATUS_AT + 1 : HEADER_BYTES - 4], crc32(raw[:STATUS_AT]))


def parse(raw: bytes) -> Header | None:
    """The header at the start of these bytes; None if they do not hold one or it is damaged."""
    if (
        len(raw) < HEADER_BYTES
        or raw[:4] != MAGIC
        or _header_crc(raw) != int.from_bytes(raw[HEADER_BYTES - 4 : HEADER_BYTES], "little")
    ):
        return None
    _, status, version, signal, flags, number, items, size, metadata_length, length, digest, crc, _ = _HEADER.unpack_from(raw)
    if version != VERSION or signal >= len(SIGNALS) or metadata_length > length:
        return None
    has_metadata = bool(flags & HAS_METADATA)
    return Header(number, SIGNALS[signal], items, size, has_metadata, metadata_length, length, digest, crc, status == DONE)


def walk(fd: int, start: int, end: int, last: int = -1) -> Iterator[tuple[int, Header]]:
    """The records in a file from `start` to `end` with their places, in order; OSError.

    What is no record is passed over, up to the next one; a number that is not above that of the record before is none, but a
    remnant of what the file held before. The time is linear in what is read, which for whole records is their headers.
    """
    at, window, window_at = start, b"", start
    while at + HEADER_BYTES <= end:
        if not window_at <= at <= at + HEADER_BYTES <= window_at + len(window):
            window, window_at = os.pread(fd, min(_WINDOW, end - at), at), at
            if len(window) < HEADER_BYTES:
                return
        header = parse(window[at - window_at : at - window_at + HEADER_BYTES])
        if header is not None and header.number > last and at + HEADER_BYTES + header.length <= end:
            yield at, header
            last = header.number
            at += HEADER_BYTES + header.length
            continue
        found = window.find(MAGIC, at - window_at + 1)
        # the magic may begin in this window and end in the next one
        at = window_at + (found if found >= 0 else max(len(window) - len(MAGIC) + 1, at - window_at + 1))
