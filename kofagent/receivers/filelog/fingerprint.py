"""Whether two files are one: fingerprints, the bytes before an offset, copies."""

from __future__ import annotations

import os

from kofagent.receivers.filelog.source import GzipSource
from kofagent.receivers.filelog.tail import Identity, Tail


def same(tail: Tail, known: Identity) -> bool:
    """Whether an open file is the one that is remembered, under whatever name, compressed or not."""
    size = tail.reading.config.fingerprint_size
    return bool(known.head) and tail.head.startswith(known.head[:size]) and fits(tail, known)


def fits(tail: Tail, known: Identity) -> bool:
    """Whether the rest of what is known of a file with this fingerprint is true of this one, too."""
    whole = len(known.head) >= tail.reading.config.fingerprint_size
    if tail.gzip:
        if known.gzip or whole:
            return True
        if len(tail.head) >= known.offset:
            return tail.head[: known.offset].endswith(known.guard)
        return tail.head == known.head
    if known.gzip:
        return False
    if tail.size >= known.offset:
        return not known.guard or tail.bytes_before(known.offset) == known.guard
    # It is shorter. The same inode was truncated; another file with a whole fingerprint in common is a piece of it.
    return known.key == tail.key or (known.path != tail.path and whole)


def rank(known: Identity, tail: Tail) -> tuple[bool, bool, int, int]:
    """The larger, the more likely it is that this identity is the file's, of several that fit."""
    return known.key == tail.key, known.path == tail.path, len(known.head), known.offset


def compatible(one: bytes, other: bytes) -> bool:
    """One starts with the other, and neither is empty."""
    size = min(len(one), len(other))
    return size > 0 and one[:size] == other[:size]


def is_copy(tail: Tail, other: Tail) -> bool:
    """Whether the bytes of the two are the same as far as both go."""
    if other.fd < 0 or tail.fd < 0:
        return False
    one, two = tail.read_head(), other.head if other.gzip else other.read_head()
    if not compatible(one, two):
        return False
    if tail.gzip or other.gzip:
        return True
    size = min(os.fstat(tail.fd).st_size, os.fstat(other.fd).st_size)
    start = max(0, size - 256)
    return os.pread(tail.fd, size - start, start) == os.pread(other.fd, size - start, start)


def complete(fd: int) -> bool:
    """Whether a small gzip file is whole."""
    source = GzipSource(fd, 0, 0)
    try:
        while source.read(65536):
            pass
    except ValueError:
        return True  # damaged: reading it says so
    return source.finished
