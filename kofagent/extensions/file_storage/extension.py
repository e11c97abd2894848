"""The extension `file_storage`; see the package's docstring for what it promises."""

from __future__ import annotations

import asyncio
import os

from kofagent.component.checkpoints import KeyValueStore, file_name
from kofagent.component.protocols import Context, Extension, StartError
from kofagent.component.segment_log import SegmentLog
from kofagent.extensions.file_storage.config import Config
from kofagent.extensions.file_storage.store import Compaction, Corrupt, Locked, SqliteStore


class FileStorage(Extension[Config]):
    """Gives stores to components; see the module."""

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._stores: list[SqliteStore] = []
        self._recreated = context.ledger.counter(
            "kofagent_storage_recreated", "Damaged files that were moved aside.", extension=context.id
        )

    async def start(self) -> None:
        """Creates the directory if configured; it must be writable."""
        await asyncio.to_thread(self._prepare)

    def _prepare(self) -> None:
        directory = self.config.directory
        if self.config.create_directory:
            try:
                os.makedirs(directory, int(self.config.directory_permissions, 8), exist_ok=True)
            except OSError as error:
                raise StartError(f"directory {directory} cannot be created: {error.strerror}") from None
        if not os.path.isdir(directory):
            why = "is not a directory" if os.path.exists(directory) else "does not exist; create it or set create_directory: true"
            raise StartError(f"directory {directory} {why}")
        if not os.access(directory, os.W_OK | os.X_OK):
            raise StartError(f"directory {directory} is not writable; give this user write permission")

    async def stop(self) -> None:
        """Closes what components left open."""
        stores, self._stores = self._stores, []
        for store in stores:
            await store.close()

    async def open_store(self, kind: str, id: str, name: str = "") -> KeyValueStore:
        """The store of one component. StartError when it cannot be opened."""
        return await self._open(self._path(kind, id, name), self.config.recreate)

    def _path(self, kind: str, id: str, name: str = "") -> str:
        return os.path.join(self.config.directory, file_name(kind, id, name))

    def queue_log(self, kind: str, id: str, segment_bytes: int) -> SegmentLog:
        """The queue of one exporter, in a folder of its own."""
        config = self.config
        folder = self._path(kind, id) + ".queue"
        return SegmentLog(folder, fsync=config.fsync, timeout=config.timeout, segment_bytes=segment_bytes)

    async def old_queue(self, kind: str, id: str) -> OldQueue | None:
        """The database that had an exporter's queue up to version 0.1. A damaged one is moved aside: it never stops a start."""
        path = self._path(kind, id)
        if not await asyncio.to_thread(os.path.exists, path):
            return None
        return OldQueue(path, await self._open(path, recreate=True))

    async def _open(self, path: str, recreate: bool) -> SqliteStore:
        block = self.config.compaction
        store = SqliteStore(
            path,
            timeout=self.config.timeout,
            fsync=self.config.fsync,
            recreate=recreate,
            compaction=Compaction(
                block.on_start,
                block.on_rebound,
                block.rebound_needed_threshold_mib << 20,
                block.rebound_trigger_threshold_mib << 20,
                block.check_interval,
            ),
            set_aside=self._set_aside,
        )
        try:
            await store.open()
        except Corrupt as error:
            raise StartError(
                f"{path} is damaged ({first_line(error)}); remove it, or set recreate: true in {self.context.id}"
            ) from None
        except Locked:
            raise StartError(f"{path} is in use by another process; stop that process, or give each its own directory") from None
        except OSError as error:
            raise StartError(f"{path}: {error.strerror}") from None
        self._stores.append(store)
        return store

    def _set_aside(self, path: str) -> None:
        self._recreated(1)
        self.context.log.error("a damaged file was moved to %s; its component starts without state", path)


def first_line(error: Exception) -> str:
    """What SQLite says about a damaged file can be as long as the file has pages."""
    return next(iter(str(error).splitlines()), type(error).__name__)


class OldQueue:
    """As `queue_storage.OldQueue`."""

    def __init__(self, path: str, store: SqliteStore) -> None:
        self.path = path
        self.store: KeyValueStore = store

    async def remove(self) -> None:
        """Deletes the database."""
        await self.store.close()
        await asyncio.to_thread(self._unlink)

    def _unlink(self) -> None:
        for suffix in ("", "-wal", "-shm", "-journal"):
            if os.path.exists(self.path + suffix):
                os.unlink(self.path + suffix)
