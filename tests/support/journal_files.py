"""A writer of journal files, as journald writes them but for the hash tables, which readers need not: grown while they are read,
rotated, in every form of the format. `journalctl` reads them (tests/receivers/journald/test_journalctl.py)."""

from __future__ import annotations

import lzma
import os
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import zstandard
from cramjam import lz4

HEADER = 256
BOOT = bytes.fromhex("11" * 16)
MACHINE = bytes.fromhex("22" * 16)
FLAG = {"": 0, "xz": 1, "lz4": 2, "zstd": 4}
INCOMPATIBLE = {"": 0, "xz": 1, "lz4": 2, "zstd": 8}
SHORTEST = 64
"""Bytes from which on a value is compressed."""


def packed(kind: str, data: bytes) -> bytes:
    if kind == "xz":
        return lzma.compress(data, check=lzma.CHECK_NONE)
    if kind == "lz4":
        return len(data).to_bytes(8, "little") + bytes(lz4.compress_block(data, store_size=False))
    return zstandard.ZstdCompressor().compress(data)


class JournalWriter:
    """A journal file that is written to. Times of entries go up by a second."""

    def __init__(
        self,
        path: Path,
        *,
        compact: bool = True,
        compression: str = "",
        seqnum_id: bytes | None = None,
        seqnum: int = 0,
        boot: bytes = BOOT,
        machine: bytes = MACHINE,
        file_id: bytes | None = None,
    ) -> None:
        self.path = path
        self.compact = compact
        self.compression = compression
        self.file_id = file_id or os.urandom(16)
        self.seqnum_id = seqnum_id or self.file_id
        self.seqnum = seqnum
        self.boot = boot
        self.machine = machine
        self.state = 1
        self.entries = self.objects = 0
        self.head = (0, 0)
        self.tail = (0, 0)
        self.known: dict[bytes, int] = {}
        self.references: dict[int, int] = {}
        self.places: list[int] = []
        self.first_array = 0
        self._array = (0, 0, 0)  # place, used, capacity
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        self.end = HEADER
        self.hash_tables = (self._object(4, bytes(16 * 8)) + 16, self._object(5, bytes(16 * 8)) + 16)
        self._header()

    def _object(self, kind: int, payload: bytes, flags: int = 0) -> int:
        place = self.end
        size = 16 + len(payload)
        os.pwrite(self.fd, struct.pack("<BB6xQ", kind, flags, size) + payload + bytes(-size % 8), place)
        self.end = place + size + -size % 8
        self.objects += 1
        self.last_object = place
        return place

    def _data(self, data: bytes) -> int:
        place = self.known.get(data)
        if place is None:
            flags, payload = 0, data
            if self.compression and len(data) >= SHORTEST:
                flags, payload = FLAG[self.compression], packed(self.compression, data)
            fixed = bytes(48) + (bytes(8) if self.compact else b"")
            place = self.known[data] = self._object(1, fixed + payload, flags)
        return place

    def append(
        self,
        *fields: bytes | str,
        realtime: int | None = None,
        monotonic: int | None = None,
        boot: bytes | None = None,
        seqnum: int | None = None,
    ) -> int:
        """Writes an entry with these `NAME=value`; returns its place."""
        self.seqnum = self.seqnum + 1 if seqnum is None else seqnum
        self.boot = boot or self.boot
        realtime = 1_700_000_000_000_000 + self.seqnum * 1_000_000 if realtime is None else realtime
        monotonic = self.seqnum * 1_000_000 if monotonic is None else monotonic
        raw = [field.encode() if isinstance(field, str) else field for field in fields]
        places = sorted({self._data(data) for data in raw})
        xor = zlib.crc32(b"\0".join(sorted(raw))) | 1 << 40
        items = b"".join([struct.pack("<I", p) if self.compact else struct.pack("<QQ", p, 7) for p in places])
        place = self._object(3, struct.pack("<QQQ16sQ", self.seqnum, realtime, monotonic, self.boot, xor) + items)
        for data in places:
            self.references[data] = self.references.get(data, 0) + 1
            if self.references[data] == 1:
                os.pwrite(self.fd, struct.pack("<Q", place), data + 40)
            os.pwrite(self.fd, struct.pack("<Q", self.references[data]), data + 56)
        self._link(place)
        self.entries += 1
        if self.entries == 1:
            self.head = (self.seqnum, realtime)
        self.tail = (self.seqnum, realtime)
        self.monotonic = monotonic
        self._header()
        return place

    def _link(self, place: int) -> None:
        array, used, capacity = self._array
        item = 4 if self.compact else 8
        if used == capacity:
            new = max(4, 2 * capacity)
            at = self._object(6, bytes(8 + new * item))
            if array:
                os.pwrite(self.fd, struct.pack("<Q", at), array + 16)
            else:
                self.first_array = at
            array, used, capacity = at, 0, new
        os.pwrite(self.fd, struct.pack("<I" if self.compact else "<Q", place), array + 24 + used * item)
        self._array = (array, used + 1, capacity)
        self.places.append(place)

    def _header(self) -> None:
        incompatible = INCOMPATIBLE[self.compression] | (16 if self.compact else 0) | 4
        data_table, field_table = self.hash_tables
        raw = struct.pack(
            "<8sIIB7x16s16s16s16s" + "Q" * 15,
            b"LPKSHHRH",
            0,
            incompatible,
            self.state,
            self.file_id,
            self.machine,
            self.boot,
            self.seqnum_id,
            HEADER,
            self.end - HEADER,
            data_table,
            16 * 8,
            field_table,
            16 * 8,
            self.last_object,
            self.objects,
            self.entries,
            self.tail[0],
            self.head[0],
            self.first_array,
            self.head[1],
            self.tail[1],
            getattr(self, "monotonic", 0),
        )
        os.pwrite(self.fd, raw.ljust(HEADER, b"\0"), 0)

    def archive(self) -> Path:
        """Ends the file as a rotation does: it gets another name, and its state says so."""
        name = f"{self.path.stem}@{self.seqnum_id.hex()}-{self.head[0]:016x}-{self.head[1]:016x}.journal"
        self.path = self.path.rename(self.path.with_name(name))
        self.state = 2
        self._header()
        self.close()
        return self.path

    def rotate(self) -> JournalWriter:
        """Ends the file and begins the next one of the same journald at its path."""
        path = self.path
        self.archive()
        return JournalWriter(
            path, compact=self.compact, compression=self.compression, seqnum_id=self.seqnum_id, seqnum=self.seqnum, boot=self.boot
        )

    def close(self) -> None:
        os.close(self.fd)


def write(path: Path, messages: Iterable[str], **options: object) -> JournalWriter:
    """A file with an entry for each message."""
    writer = JournalWriter(path, **options)  # type: ignore[arg-type]
    for message in messages:
        writer.append(f"MESSAGE={message}", "PRIORITY=6", "_HOSTNAME=node-1")
    return writer
