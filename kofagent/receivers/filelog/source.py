"""Where the bytes of a file come from: the file itself, or what its gzip stream holds."""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from typing import Protocol

CHUNK = 131072
SKIP = 1 << 20
"""Bytes that are decompressed and discarded at once, before other files get a turn."""
OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0)
_GETVERSION = 0x80007601 | struct.calcsize("l") << 16
"""FS_IOC_GETVERSION of linux/fs.h: ext4, XFS, Btrfs and F2FS have it."""
GZIP_MAGIC = b"\x1f\x8b"


class Source(Protocol):
    """Reads forward from an offset of the (decompressed) bytes."""

    @property
    def at(self) -> int:
        """The offset of the next byte."""
        ...

    @property
    def raw(self) -> int:
        """The offset in the file itself up to which it was read."""
        ...

    @property
    def finished(self) -> bool:
        """True when no byte will ever be added (a complete gzip stream)."""
        ...

    @property
    def pending(self) -> bool:
        """True when bytes were taken from the file that no `read` has given out yet."""
        ...

    def skip(self) -> bool:
        """Goes some way towards the offset to start at; True when there is more to go. ValueError as `read`."""
        ...

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, empty at the end of what there is now. OSError; ValueError for a damaged gzip stream."""
        ...


class PlainSource:
    """The file as it is."""

    finished = pending = False

    def __init__(self, fd: int, at: int) -> None:
        self.fd = fd
        self.at = at

    @property
    def raw(self) -> int:
        return self.at

    def skip(self) -> bool:
        return False

    def read(self, size: int) -> bytes:
        data = os.pread(self.fd, size, self.at)
        self.at += len(data)
        return data


class GzipSource:
    """What the gzip members of a file decompress to, from the member that starts at `base` on.

    Bytes before `at` are decompressed and thrown away. Memory is bounded by the chunk size whatever the ratio.
    """

    def __init__(self, fd: int, base: int, at: int) -> None:
        self.fd = fd
        self.raw = base
        self.at = 0
        self._skip = at
        self._decoder = zlib.decompressobj(wbits=31)
        self._pending = b""
        self._started = False

    @property
    def finished(self) -> bool:
        return self._decoder.eof and not self._pending

    @property
    def pending(self) -> bool:
        return bool(self._pending)

    def skip(self) -> bool:
        done = 0
        while self._skip and done < SKIP:
            data = self._next(min(self._skip, CHUNK))
            if not data:
                return False
            self._skip -= len(data)
            self.at += len(data)
            done += len(data)
        return self._skip > 0

    def read(self, size: int) -> bytes:
        while True:
            data = self._next(size)
            if not data:
                return b""
            if self._skip:
                cut = min(self._skip, len(data))
                self._skip -= cut
                self.at += cut
                data = data[cut:]
                if not data:
                    continue
            self.at += len(data)
            return data

    def _next(self, size: int) -> bytes:
        while True:
            if not self._pending:
                self._pending = os.pread(self.fd, CHUNK, self.raw)
                self.raw += len(self._pending)
                if not self._pending:
                    # the decoder may hold output that did not fit before
                    return b"" if self._decoder.eof else self._decompress(b"", size)
            if self._decoder.eof:
                pending = self._pending.lstrip(b"\0")  # padding between members is allowed by RFC 1952's tools
                if not pending:
                    self._pending = b""
                    continue
                self._decoder = zlib.decompressobj(wbits=31)
                self._pending = pending
            data = self._decompress(self._pending, size)
            self._pending = self._decoder.unused_data if self._decoder.eof else self._decoder.unconsumed_tail
            if data:
                return data

    def _decompress(self, data: bytes, size: int) -> bytes:
        try:
            return self._decoder.decompress(data, size)
        except zlib.error as error:
            raise ValueError(f"damaged gzip data near byte {self.raw}: {error}") from None


def generation(fd: int) -> int:
    """The number that tells apart the files that have had an inode one after the other; 0 where the file system has none."""
    try:
        return struct.unpack("=I", fcntl.ioctl(fd, _GETVERSION, b"\0" * 8)[:4])[0] or 1
    except OSError:
        return 0


def is_gzip(fd: int) -> bool:
    """True when the file starts as a gzip stream does (RFC 1952)."""
    return os.pread(fd, 2, 0) == GZIP_MAGIC


def read_head(fd: int, size: int, gzip: bool) -> bytes:
    """The first `size` bytes of what the file holds, the file's fingerprint."""
    if not gzip:
        return os.pread(fd, size, 0)
    source = GzipSource(fd, 0, 0)
    head = b""
    try:
        while len(head) < size:
            data = source.read(size - len(head))
            if not data:
                break
            head += data
    except ValueError:
        pass
    return head
