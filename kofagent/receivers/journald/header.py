"""The header of a journal file (systemd.io/JOURNAL_FILE_FORMAT): what it is, who wrote it, and how far it is written."""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

SIGNATURE = b"LPKSHHRH"
XZ, LZ4, KEYED_HASH, ZSTD, COMPACT = 1, 2, 4, 8, 16
"""Bits of `incompatible`: who does not know one of them cannot read the file."""
KNOWN = XZ | LZ4 | KEYED_HASH | ZSTD | COMPACT
ONLINE, ARCHIVED = 1, 2
"""Values of `state`: being written to, and never written to again. What is 0 was closed and may be written to later."""
_HEADER = Struct("<8sII B7x 16s16s16s16s QQ 32x QQQQQQQQQ")
HEADER_BYTES = _HEADER.size
"""The part that every version of the format has."""
LONGEST = 1 << 16
"""A header that says it is longer is damaged."""


class Damaged(ValueError):
    """What is at a place in a file is not what the format says has to be there."""


class Header(NamedTuple):
    """The fields that reading needs. Times are in microseconds since 1970."""

    incompatible: int
    state: int
    file_id: bytes
    seqnum_id: bytes
    """The instance of journald that numbers the entries: numbers are unique among all files that have it."""
    machine_id: bytes
    boot_id: bytes
    """Of the last entry."""
    size: int
    objects: int
    entries: int
    tail_seqnum: int
    head_seqnum: int
    entry_array: int
    """Where the first array of entries is; 0 while there are none."""
    head_realtime: int
    tail_realtime: int
    tail_monotonic: int

    @property
    def compact(self) -> bool:
        """Whether offsets have 32 bits."""
        return bool(self.incompatible & COMPACT)


def parse(raw: bytes) -> Header:
    """The header in the first bytes of a file; Damaged where it is none, or has a feature that is not known here."""
    if len(raw) < HEADER_BYTES or raw[:8] != SIGNATURE:
        raise Damaged("not a journal file")
    (_, _, incompatible, state, file_id, machine, boot, seqnum_id, size, _arena, _tail, objects, entries, tail, head, array, first,
     last, monotonic) = _HEADER.unpack_from(raw)  # fmt: skip
    if incompatible & ~KNOWN:
        raise Damaged(f"written by a newer systemd, with features that are not known here (0x{incompatible & ~KNOWN:x})")
    if not HEADER_BYTES <= size <= LONGEST or size % 8:
        raise Damaged(f"its header says that it has {size} bytes")
    return Header(
        incompatible, state, file_id, seqnum_id, machine, boot, size, objects, entries, tail, head, array, first, last, monotonic
    )
