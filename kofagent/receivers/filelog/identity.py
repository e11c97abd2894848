"""What is remembered of a file: enough to recognize it and to continue reading where it was left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

GUARD = 64
"""Bytes before the offset that are compared before reading on: they differ in a file that was truncated and grew again."""

Key = tuple[int, int]
"""Device and inode."""


class Identity(NamedTuple):
    """A file that is not open."""

    uid: str
    key: Key
    path: str
    head: bytes
    guard: bytes
    offset: int
    base: int
    number: int
    skipping: bool
    header: Mapping[str, Any] | None
    gzip: bool
    size: int = 0
    """Its size in bytes at the last look."""
    mtime: int = 0
    done: bool = False
    """It was read to its end and let go: nothing more was expected of it."""
    generation: int = 0
    """Which of the files it is that have had this inode one after the other; 0: the file system does not say."""
    deleted: bool = False
    """It was deleted while it was watched: no file can be this one any more, but a copy of it."""


class Place(NamedTuple):
    """A place in a file up to which its entries were fed, and what is needed to continue from there."""

    offset: int
    number: int
    guard: bytes
    skipping: bool
