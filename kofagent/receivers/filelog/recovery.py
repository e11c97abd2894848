"""What was rotated out of `include` between two polls: found again, in the order in which it was written, or counted as lost.

A file with a stored position that is no longer at its path is looked for next to that path: by inode, then by its
fingerprint, as it is or compressed with gzip. Rotated files of the path that are newer than all that is on record were never seen:
they are read whole. Nothing here reads more than fingerprints.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Container, Mapping, Sequence
from typing import NamedTuple

from kofagent.component.protocols import Context
from kofagent.receivers.filelog.attributes import file_attributes
from kofagent.receivers.filelog.fingerprint import matches
from kofagent.receivers.filelog.identity import Identity, Key
from kofagent.receivers.filelog.reading import Reading
from kofagent.receivers.filelog.rotated import Folders, Rotated, oldest_first
from kofagent.receivers.filelog.source import OPEN_FLAGS, is_gzip
from kofagent.receivers.filelog.tail import Tail
from kofagent.telemetry.reasons import checked

_TRIES = 5
"""Rescans of a path whose files are renamed or compressed during the scan."""
_PLENTY = 16
"""Unknown rotated files of a path that are opened whatever their age; further ones only if they were written to since."""
_NAMED = 5
"""Losses that are named in one log line."""


class Found(NamedTuple):
    """What is to be read of a path before its present file, oldest first; without an identity: from its beginning."""

    tails: list[tuple[Tail, Identity | None]]
    missing: list[Identity]
    """Identities whose file was not found."""


class Recovery:
    """Looks for rotated files of one receiver. `included` says of a path that polls find it by themselves."""

    def __init__(self, reading: Reading, included: Callable[[str], bool], unreadable: Callable[[str, OSError], None]) -> None:
        self._reading = reading
        self._included = included
        self._unreadable = unreadable

    def search(
        self,
        path: str,
        wanted: Sequence[Identity],
        known: Sequence[Identity],
        tails: Mapping[Key, Tail],
        newer_than: int | None,
        folders: Folders,
    ) -> Found:
        """Opens what there is to read of `path`: the rest of the files in `wanted`, and files that were never seen.

        `known`: identities of files that were at this path at some time. `newer_than`: None where no file can have come and gone
        unseen; else the time (ns) after which an unknown file was written to, where no rotated file is a known one.
        """
        for _ in range(_TRIES):
            found = self._search(path, wanted, known, tails, newer_than, folders)
            if not folders.stale:
                break
            for tail, _identity in found.tails:
                tail.close()
            folders.renew()
        else:
            found = self._search(path, wanted, known, tails, newer_than, folders)
        return found

    def _search(
        self,
        path: str,
        wanted: Sequence[Identity],
        known: Sequence[Identity],
        tails: Mapping[Key, Tail],
        newer_than: int | None,
        folders: Folders,
    ) -> Found:
        inodes = {identity.key[1] for identity in wanted}
        seen = {identity.key[1] for identity in known}
        files = folders.beside(path, inodes.__contains__, seen.__contains__)
        found: dict[int, tuple[Tail, Identity | None]] = {}
        missing = []
        for identity in wanted:
            tail, there = self._find(path, identity, files, tails, found, folders)
            if tail is not None:
                found[tail.key[1]] = tail, identity
            elif not there and not identity.done and not folders.hidden(path):
                missing.append(identity)
        if newer_than is not None:
            for file, tail in self._unseen(path, files, known, tails, found, newer_than, folders):
                found[file.inode] = tail, None
        order = oldest_first(file for file in files if file.inode in found)
        return Found([found[file.inode] for file in order], missing)

    def _find(
        self,
        path: str,
        identity: Identity,
        files: list[Rotated],
        tails: Mapping[Key, Tail],
        found: Container[int],
        folders: Folders,
    ) -> tuple[Tail | None, bool]:
        """The file, and whether it is there at all: it may be there and hold nothing new, or be a poll's business."""
        by_inode = [f for f in files if f.inode == identity.key[1]]
        by_head = [] if identity.done else [f for f in files if f.mark is not None and f not in by_inode]
        for file in by_inode + by_head:
            if file.key in tails or file.inode in found:
                continue
            tail = self._open(path, file, folders)
            if tail is None:
                if file in by_inode:
                    return None, True
                continue
            if matches(tail, identity):
                if (
                    file.path in (path, os.path.realpath(path))
                    or self._included(file.path)
                    or (identity.done and (tail.gzip or tail.size <= identity.offset))
                ):
                    tail.close()
                    return None, True
                return tail, True
            tail.close()
        return None, False

    def _unseen(
        self,
        path: str,
        files: list[Rotated],
        known: Sequence[Identity],
        tails: Mapping[Key, Tail],
        found: Container[int],
        newer_than: int,
        folders: Folders,
    ) -> list[tuple[Rotated, Tail]]:
        """The rotated files that are newer than every known one that left.

        The file that was at the path when this poll opened it may have been rotated since, too; others may be older than it.
        """
        out: list[tuple[Rotated, Tail]] = []
        present = (path, os.path.realpath(path))
        here = {tail.key for tail in tails.values() if tail.path == path and tail.lost_at is None}
        for file in reversed(files):
            if file.mark is None or file.path in present or self._included(file.path):
                continue
            if file.key in here:
                continue
            if file.key in tails or file.inode in found:
                return out
            if len(out) >= _PLENTY and file.status.st_mtime_ns < newer_than:
                break
            tail = self._open(path, file, folders)
            if tail is None:
                continue
            same = next((identity for identity in known if matches(tail, identity)), None)
            if same is not None:
                tail.close()
                if same.key in here:
                    continue
                return out
            out.append((file, tail))
        newer = []
        for file, tail in out:  # nothing known to go by: only what was written to since
            if file.status.st_mtime_ns >= newer_than:
                newer.append((file, tail))
            else:
                tail.close()
        return newer

    def _open(self, path: str, file: Rotated, folders: Folders) -> Tail | None:
        """The file as one of `path`, whose attributes its entries carry; None when it cannot be opened."""
        try:
            fd = os.open(file.path, OPEN_FLAGS)
        except FileNotFoundError:
            folders.stale = True
            return None
        except OSError as error:
            self._unreadable(file.path, error)
            return None
        try:
            self._reading.confinement.check(fd, file.path)
            status = os.fstat(fd)
            gzip = (bool(self._reading.config.compression) or file.path.endswith(".gz")) and is_gzip(fd)
            return Tail(
                self._reading,
                secrets.token_hex(8),
                path,
                fd,
                status,
                gzip=gzip,
                attributes=file_attributes(self._reading.config, path, status, strict=False),
                rotated=file.path,
            )
        except OSError as error:
            os.close(fd)
            self._unreadable(file.path, error)
            return None


class Losses:
    """Counts what can no longer be read, and logs where and why."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._sentences: dict[bool, list[str]] = {True: [], False: []}

    def file(self, path: str, offset: int, size: int, reason: str) -> None:
        """The rest of a file is lost from `offset` on; `size`: what it had when it was last looked at."""
        unread = max(0, size - offset)
        if not unread:
            reason += ", end unknown"
        reason = checked(reason)
        count, id = self._context.ledger.counter, self._context.id
        count("kofagent_filelog_lost_files", "Files of which a rest is or may be lost, by reason.", receiver=id, reason=reason)(1)
        count("kofagent_filelog_lost_bytes", "Bytes known to be lost, by reason.", receiver=id, reason=reason)(unread)
        much = f", at least {unread} bytes" if unread else ""
        self._sentences[unread > 0].append(f"{path} from byte {offset} on ({reason}{much})")

    def report(self) -> None:
        """Logs what was counted since the last time, in a line each for what is lost and for what may be."""
        for sure, sentences in self._sentences.items():
            if not sentences:
                continue
            named = "; ".join(sentences[:_NAMED]) + (f"; and {len(sentences) - _NAMED} more" if len(sentences) > _NAMED else "")
            if sure:
                self._context.log.error("log lines are lost: %s", named)
            else:
                self._context.log.warning("files are gone; what was written to them last may be lost: %s", named)
            sentences.clear()
