"""Where an entry is among all others, as journald and its cursors say it, and which of two entries comes first."""

from __future__ import annotations

import re
from typing import NamedTuple

from kofagent.receivers.journald.file import Entry


class Cursor(NamedTuple):
    """The place of an entry. `seqnum_id` is the journald that numbered it; times are in microseconds."""

    seqnum_id: bytes
    seqnum: int
    boot_id: bytes
    monotonic: int
    realtime: int
    xor_hash: int

    def __str__(self) -> str:
        return (
            f"s={self.seqnum_id.hex()};i={self.seqnum:x};b={self.boot_id.hex()};"
            f"m={self.monotonic:x};t={self.realtime:x};x={self.xor_hash:x}"
        )


_CURSOR = re.compile(
    r"s=([0-9a-f]{32});i=([0-9a-f]{1,16});b=([0-9a-f]{32});m=([0-9a-f]{1,16});t=([0-9a-f]{1,16});x=([0-9a-f]{1,16})"
)


def parse(text: str) -> Cursor:
    """The cursor of a text as `journalctl` shows it; ValueError for anything else."""
    match = _CURSOR.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:200]!r} is not a cursor")
    s, i, b, m, t, x = match.groups()
    return Cursor(bytes.fromhex(s), int(i, 16), bytes.fromhex(b), int(m, 16), int(t, 16), int(x, 16))


def of(seqnum_id: bytes, entry: Entry) -> Cursor:
    """The cursor of an entry of a file with this `seqnum_id`."""
    return Cursor(seqnum_id, entry.seqnum, entry.boot_id, entry.monotonic, entry.realtime, entry.xor_hash)


def before(a: Entry, a_id: bytes, b: Entry, b_id: bytes) -> bool:
    """Whether `a` comes first, as sd-journal orders them: by number if one journald gave them, else by the clock of a boot that
    they share, else by the time of day."""
    if a_id == b_id and a.seqnum != b.seqnum:
        return a.seqnum < b.seqnum
    if a.boot_id == b.boot_id and a.monotonic != b.monotonic:
        return a.monotonic < b.monotonic
    if a.realtime != b.realtime:
        return a.realtime < b.realtime
    return a.xor_hash < b.xor_hash


def same(a: Entry, a_id: bytes, b: Entry, b_id: bytes) -> bool:
    """Whether two entries are the same one in two files: of a file and its copy, or copied from one journald to another.

    Entries of one journald that say the same at the same time are two.
    """
    alike = a.xor_hash == b.xor_hash and a.monotonic == b.monotonic and a.realtime == b.realtime and a.boot_id == b.boot_id
    return alike and (a_id != b_id or a.seqnum == b.seqnum)


def older(entry: Entry, cursor: Cursor, boot_id: bytes) -> bool:
    """Whether an entry of another journald is older than the cursor; those of the boot `boot_id`, which goes on now, are newer
    than all of other boots, whatever the clock said."""
    if entry.boot_id == cursor.boot_id:
        return entry.monotonic <= cursor.monotonic
    return entry.boot_id != boot_id and entry.realtime <= cursor.realtime
