"""`file_storage`: small durable state of components (offsets of files, queues) in a directory. Interface: `storage/checkpoints`.

Upstream: extension/storage/filestorage of the collector's contrib; the same options and file names (`receiver_filelog_`), the
files are SQLite databases in WAL mode instead of bbolt ones, one for each component. A call that returned survives kill -9;
with `fsync` a power failure as well. A file is used by one process at a time: `timeout` is how long to wait for it.

A damaged file fails the start of its component; with `recreate` it is moved aside (`<name>.corrupt-<time>`), which is logged
and counted in `kofagent_storage_recreated_total`, and an empty one takes its place. A full disk raises OSError to the component.
SQLite compacts in place: `compaction.directory`, `max_transaction_size` and `cleanup_on_start` are accepted and mean nothing.
"""

from __future__ import annotations

import asyncio
import os
import re
from typing import Any

from pydantic import Field, field_validator, model_validator

from kofagent.component.checkpoints import KeyValueStore
from kofagent.component.protocols import Context, Extension, StartError
from kofagent.config.base import ComponentConfig, Duration
from kofagent.extensions.file_storage.store import Compaction, Corrupt, Locked, SqliteStore


class CompactionBlock(ComponentConfig):
    """`compaction`: give space back to the file system."""

    on_start: bool = Field(False, description="When a component opens its file.")
    on_rebound: bool = Field(False, description="When a file has grown large and most of it is free again.")
    directory: str = Field("", description="Accepted for compatibility; files are compacted in place.")
    rebound_needed_threshold_mib: int = Field(100, ge=0, description="Size a file must have reached, MiB.")
    rebound_trigger_threshold_mib: int = Field(10, ge=0, description="Use at which it is compacted, MiB.")
    max_transaction_size: int = Field(65536, ge=0, description="Accepted for compatibility.")
    check_interval: Duration = Field(5.0, ge=0, description="How often the sizes are looked at.")
    cleanup_on_start: bool = Field(False, description="Accepted for compatibility; there are no temporary files.")


class Config(ComponentConfig):
    """Options of upstream's file_storage extension."""

    directory: str = Field("/var/lib/otelcol/file_storage", min_length=1, description="Directory of the files.")
    timeout: Duration = Field(1.0, ge=0, description="How long to wait for a file that another process uses.")
    compaction: CompactionBlock = Field(CompactionBlock(), description="Compaction.")
    fsync: bool = Field(False, description="Survive a power failure, at the cost of speed.")
    create_directory: bool = Field(False, description="Make the directory at start.")
    directory_permissions: str = Field("0750", description="Permissions of a directory that is made, octal.")
    recreate: bool = Field(False, description="Move a damaged file aside and begin anew instead of failing.")

    @field_validator("directory_permissions", mode="after")
    @classmethod
    def _octal(cls, value: str) -> str:
        if not re.fullmatch(r"0?[0-7]{3}", value):
            raise ValueError(f'{value!r} is not octal permissions such as "0750"')
        return value

    @model_validator(mode="after")
    def _thresholds(self) -> Config:
        block = self.compaction
        if block.on_rebound and block.rebound_trigger_threshold_mib > block.rebound_needed_threshold_mib:
            raise ValueError("compaction: rebound_trigger_threshold_mib is above rebound_needed_threshold_mib")
        return self


class FileStorage(Extension):
    """Gives stores to components; see the module."""

    Config = Config

    def __init__(self, config: Any, context: Context) -> None:
        super().__init__(config, context)
        self._stores: list[SqliteStore] = []
        self._recreated = context.ledger.counter(
            "kofagent_storage_recreated", "Damaged files that were moved aside.", extension=context.id
        )

    async def start(self) -> None:
        """Makes the directory if asked to; it must be one that can be written."""
        await asyncio.to_thread(self._prepare)

    def _prepare(self) -> None:
        directory = self.config.directory
        if self.config.create_directory:
            try:
                os.makedirs(directory, int(self.config.directory_permissions, 8), exist_ok=True)
            except OSError as error:
                raise StartError(f"directory {directory} cannot be made: {error.strerror}") from None
        if not os.path.isdir(directory):
            why = "is not a directory" if os.path.exists(directory) else "does not exist; make it or set create_directory: true"
            raise StartError(f"directory {directory} {why}")
        if not os.access(directory, os.W_OK | os.X_OK):
            raise StartError(f"directory {directory} cannot be written; give this user the right to")

    async def stop(self) -> None:
        """Closes what components left open."""
        stores, self._stores = self._stores, []
        for store in stores:
            await store.close()

    async def open_store(self, kind: str, id: str, name: str = "") -> KeyValueStore:
        """The store of one component. StartError when it cannot be had."""
        path = os.path.join(self.config.directory, file_name(kind, id, name))
        block = self.config.compaction
        store = SqliteStore(
            path,
            timeout=self.config.timeout,
            fsync=self.config.fsync,
            recreate=self.config.recreate,
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
            raise StartError(f"{path} is damaged ({error}); remove it, or set recreate: true in {self.context.id}") from None
        except Locked:
            raise StartError(f"{path} is used by another process; stop that one or give each its own directory") from None
        except OSError as error:
            raise StartError(f"{path}: {error.strerror}") from None
        self._stores.append(store)
        return store

    def _set_aside(self, path: str) -> None:
        self._recreated(1)
        self.context.log.error("a damaged file was moved to %s and its component begins anew", path)


def file_name(kind: str, id: str, name: str = "") -> str:
    """The file of a component as upstream names it: `receiver_filelog_kube`; unsafe characters as `~` and their code."""
    type, _, rest = id.partition("/")
    parts = [kind.removesuffix("s"), type, rest] + ([name] if name else [])
    return "_".join(re.sub(r"[^A-Za-z0-9._-]", lambda m: f"~{ord(m[0]):04X}", part) for part in parts)


COMPONENT = FileStorage
