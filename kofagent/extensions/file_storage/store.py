"""`SqliteStore`: a `KeyValueStore` in one SQLite file, in WAL mode, used by one process at a time."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
_PUT = "INSERT INTO kv VALUES (?, ?) ON CONFLICT(key) DO UPDATE SET value = excluded.value"


class Corrupt(Exception):
    """The file is not a database, or a damaged one."""


class Locked(Exception):
    """Another process (or another store of this one) has the file open."""


class Compaction:
    """When the file is made smaller: at opening, and when it grew past `needed` bytes and only `trigger` are in use."""

    def __init__(self, on_start: bool, on_rebound: bool, needed: int, trigger: int, interval: float) -> None:
        self.on_start = on_start
        self.on_rebound = on_rebound
        self.needed = needed
        self.trigger = trigger
        self.interval = interval


class SqliteStore:
    """Bytes by key in `path`. Calls run in their own thread, one after the other.

    A call that returned survives a crash of the process, with `fsync` also one of the machine. A failing disk raises
    OSError; a damaged file is moved aside (`set_aside` is called with its new name) if `recreate` is set, else raises OSError.
    """

    def __init__(
        self, path: str, *, timeout: float, fsync: bool, recreate: bool, compaction: Compaction, set_aside: Callable[[str], None]
    ) -> None:
        self.path = path
        self._timeout = timeout
        self._fsync = fsync
        self._recreate = recreate
        self._compaction = compaction
        self._set_aside = set_aside
        self._db: sqlite3.Connection | None = None
        self._thread: ThreadPoolExecutor | None = ThreadPoolExecutor(1, thread_name_prefix="file_storage")
        self._checked = 0.0
        self._grown = False

    async def open(self) -> None:
        """Opens or makes the file. Corrupt, Locked or OSError."""
        try:
            await self._run(self._open)
        except BaseException:
            await self.close()
            raise

    async def get(self, key: str) -> bytes | None:
        """As `KeyValueStore.get`."""

        def work(db: sqlite3.Connection) -> bytes | None:
            row = db.execute("SELECT value FROM kv WHERE key = ?", (_bytes(key),)).fetchone()
            return None if row is None else row[0]

        return await self._run(self._guarded, work)

    async def set(self, key: str, value: bytes) -> None:
        """As `KeyValueStore.set`."""
        await self.apply({key: value})

    async def delete(self, key: str) -> None:
        """As `KeyValueStore.delete`."""
        await self.apply({key: None})

    async def items(self, prefix: str = "") -> dict[str, bytes]:
        """As `KeyValueStore.items`."""
        start = _bytes(prefix)

        def work(db: sqlite3.Connection) -> dict[str, bytes]:
            out = {}
            for key, value in db.execute("SELECT key, value FROM kv WHERE key >= ? ORDER BY key", (start,)):
                if not key.startswith(start):
                    break
                out[key.decode("utf-8", "surrogateescape")] = value
            return out

        return await self._run(self._guarded, work)

    async def keys(self, prefix: str = "") -> list[str]:
        """As `KeyValueStore.keys`."""
        start = _bytes(prefix)

        def work(db: sqlite3.Connection) -> list[str]:
            out = []
            for (key,) in db.execute("SELECT key FROM kv WHERE key >= ? ORDER BY key", (start,)):
                if not key.startswith(start):
                    break
                out.append(key.decode("utf-8", "surrogateescape"))
            return out

        return await self._run(self._guarded, work)

    async def apply(self, changes: Mapping[str, bytes | None]) -> None:
        """As `KeyValueStore.apply`."""
        rows = [(_bytes(k), None if v is None else bytes(v)) for k, v in changes.items()]

        def work(db: sqlite3.Connection) -> None:
            db.execute("BEGIN IMMEDIATE")
            try:
                for key, value in rows:
                    if value is None:
                        db.execute("DELETE FROM kv WHERE key = ?", (key,))
                    else:
                        db.execute(_PUT, (key, value))
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            self._maybe_compact(db)

        await self._run(self._guarded, work)

    async def close(self) -> None:
        """As `KeyValueStore.close`."""
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.get_running_loop().run_in_executor(thread, self._close)
            thread.shutdown(wait=False)

    # -- in the thread

    async def _run(self, work: Callable[..., T], *arguments: Any) -> T:
        if self._thread is None:
            raise OSError(errno.EBADF, "the store is closed", self.path)
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _guarded(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work`; a damaged file is set aside and the work done on a new one."""
        for attempt in range(2):
            if self._db is None:
                self._open()
            assert self._db is not None
            try:
                return work(self._db)
            except sqlite3.Error as error:
                if not _is_corrupt(error):
                    raise _os_error(error, self.path) from None
                if not self._recreate or attempt:
                    raise OSError(
                        errno.EIO, f"damaged ({error}); set recreate: true to start with an empty file", self.path
                    ) from None
                self._move_aside()
        raise AssertionError("unreachable")

    def _open(self) -> None:
        try:
            self._connect()
        except sqlite3.Error as error:
            self._close()
            if not _is_corrupt(error):
                if "locked" in str(error):
                    raise Locked(self.path) from None
                raise _os_error(error, self.path) from None
            if not self._recreate:
                raise Corrupt(str(error)) from None
            self._move_aside()
            try:
                self._connect()
            except sqlite3.Error as again:
                self._close()
                raise _os_error(again, self.path) from None

    def _connect(self) -> None:
        # as upstream's: telemetry, and what a client sent with it, is private; SQLite gives its other files the same mode
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        db = sqlite3.connect(self.path, timeout=self._timeout, isolation_level=None, check_same_thread=False)
        self._db = db
        # One process owns the file: no shared memory file is needed, and a second one gets an error.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {'FULL' if self._fsync else 'NORMAL'}")
        db.execute("PRAGMA journal_size_limit = 4194304")
        db.execute("BEGIN EXCLUSIVE")
        db.execute("CREATE TABLE IF NOT EXISTS kv (key BLOB PRIMARY KEY, value BLOB NOT NULL)")
        db.execute("COMMIT")
        problem = db.execute("PRAGMA quick_check(1)").fetchone()
        if problem is not None and problem[0] != "ok":
            raise sqlite3.DatabaseError(f"malformed: {problem[0]}")
        if self._compaction.on_start:
            db.execute("VACUUM")

    def _move_aside(self) -> None:
        self._close()
        aside = f"{self.path}.corrupt-{time.time_ns() // 1_000_000}"
        os.rename(self.path, aside)
        for suffix in ("-wal", "-shm", "-journal"):
            if os.path.exists(self.path + suffix):
                os.rename(self.path + suffix, aside + suffix)
        self._set_aside(aside)

    def _close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            try:
                db.close()
            except sqlite3.Error:
                pass

    def _maybe_compact(self, db: sqlite3.Connection) -> None:
        compaction, now = self._compaction, time.monotonic()
        if not compaction.on_rebound or now - self._checked < compaction.interval:
            return
        self._checked = now
        size, page, free = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size", "freelist_count"))
        self._grown = self._grown or size * page >= compaction.needed
        if self._grown and (size - free) * page <= compaction.trigger:
            try:
                db.execute("VACUUM")
                self._grown = False
            except sqlite3.OperationalError:
                pass  # no room for the copy; the next look tries again


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


def _is_corrupt(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return (
        code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        or (code is not None and code & 0xFF == sqlite3.SQLITE_CORRUPT)
        or (code is None and "malformed" in str(error))
    )


def _os_error(error: sqlite3.Error, path: str) -> OSError:
    code = getattr(error, "sqlite_errorcode", 0) or 0
    number = {
        sqlite3.SQLITE_FULL: errno.ENOSPC,
        sqlite3.SQLITE_READONLY: errno.EROFS,
        sqlite3.SQLITE_CANTOPEN: errno.EACCES,
        sqlite3.SQLITE_BUSY: errno.EBUSY,
    }.get(code & 0xFF, errno.EIO)
    return OSError(number, str(error), path)
