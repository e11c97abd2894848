"""Fingerprints: whether two files are one, by their first bytes and by the bytes before an offset."""

from __future__ import annotations

import os

from kofagent.receivers.filelog.identity import Identity
from kofagent.receivers.filelog.rotated import mark_of
from kofagent.receivers.filelog.source import GzipSource
from kofagent.receivers.filelog.tail import Tail


def matches(tail: Tail, known: Identity) -> bool:
    """Whether an open file is the one that is remembered, under whatever name, compressed or not."""
    size = tail.reading.config.fingerprint_size
    return bool(known.head) and tail.head.startswith(known.head[:size]) and _rest_matches(tail, known)


def _rest_matches(tail: Tail, known: Identity) -> bool:
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


def may_be(tail: Tail, known: Identity) -> bool:
    """Whether an open file that `matches` can be what is remembered, or a copy, and not a file written anew that begins the same.

    At the same path the same inode is the same file, if it is the same generation of it. Another inode is a new file, unless nobody
    touched it since (it was restored), or the file system does not number its files reliably.
    """
    if known.path != (tail.rotated or tail.path) or known.gzip != tail.gzip:
        return True
    if known.key[1] == tail.key[1]:
        return same_generation(tail, known) and not (known.deleted and not known.generation)
    if (tail.size, tail.mtime) == (known.size, known.mtime):
        return True
    return not (known.deleted or (known.generation and tail.generation))


def same_generation(tail: Tail, known: Identity) -> bool:
    """Whether nothing says that the inode belongs to another file now."""
    return not (known.generation and tail.generation) or known.generation == tail.generation


def is_related(tail: Tail, known: Identity) -> bool:
    """Whether more than its bytes says that an open file is what is remembered: its inode, its name, or that it is compressed.

    Bytes alone say it for a short time only.
    """
    if known.key[1] == tail.key[1] and same_generation(tail, known):
        return True
    if known.path == tail.path or known.gzip != tail.gzip:
        return True
    return mark_of(os.path.basename(known.path), os.path.basename(tail.path)) is not None


def is_copy_of(tail: Tail, path: str) -> bool:
    """Whether the name of an open file says that it is a copy of the one at `path`; if it has none any more, of its own."""
    if tail.lost_at is not None and not tail.rotated:
        return tail.path == path
    original, name = os.path.basename(path), os.path.basename(tail.rotated or tail.path)
    return name == f"{original}.gz" or mark_of(original, name) is not None


def compatible(one: bytes, other: bytes) -> bool:
    """Whether two fingerprints may be of one file: one starts with the other, and neither is empty."""
    size = min(len(one), len(other))
    return size > 0 and one[:size] == other[:size]


def is_copy(tail: Tail, other: Tail) -> bool:
    """Whether the bytes of an open file are those of the other one, as far as both go.

    A copy is not longer than the file it was made of, as far as that can be told (not of compressed ones): a longer file
    goes on by itself.
    """
    if other.fd < 0 or tail.fd < 0:
        return False
    one, two = tail.read_head(), other.head if other.gzip else other.read_head()
    if not compatible(one, two):
        return False
    if tail.gzip or other.gzip:
        return True
    size = os.fstat(tail.fd).st_size
    if size > os.fstat(other.fd).st_size:
        return False
    start = max(0, size - 256)
    return os.pread(tail.fd, size - start, start) == os.pread(other.fd, size - start, start)


def may_continue(tail: Tail, known: Identity) -> bool:
    """Whether an open file that was a copy of what was read can still be one: it may have been written over since."""
    if tail.gzip or known.gzip:
        return True
    if not compatible(tail.head, known.head):
        return False
    return tail.size < known.offset or tail.bytes_before(known.offset) == known.guard


def continues(tail: Tail, other: Tail) -> bool:
    """Whether a file starts with what was fed of another one."""
    return tail.head.startswith(other.head) and tail.bytes_before(other.fed) == other.feed.guard


def gzip_complete(fd: int) -> bool:
    """Whether a small gzip file is whole."""
    source = GzipSource(fd, 0, 0)
    try:
        while source.read(65536):
            pass
    except ValueError:
        return True  # damaged: reading it says so
    return source.finished
