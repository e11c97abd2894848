"""One store of a storage extension for all receivers of a creator, each with its own part of the keys."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from kofagent.component.checkpoints import KeyValueStore, StorageExtension
from kofagent.component.protocols import Context

GATHER_SECONDS = 0.05
"""Changes of many receivers are written as one transaction that begins so much later."""
_PARTS = "of/"
SEPARATOR = "\x1f"
STARTED = "started"
"""The key of when the creator first ran, Unix nanoseconds."""


class Shared:
    """The store of one storage extension, opened when it is first needed."""

    def __init__(self, context: Context, storage: str) -> None:
        self._context = context
        self._storage = storage
        self._store: KeyValueStore | None = None
        self._opening = asyncio.Lock()
        self._changes: dict[str, bytes | None] = {}
        self._written: asyncio.Task[None] | None = None

    async def open(self) -> KeyValueStore:
        """The store itself; StartError."""
        async with self._opening:
            if self._store is None:
                extension = self._context.host.extension(self._storage, StorageExtension)
                self._store = await extension.open_store(self._context.kind, self._context.id)
            return self._store

    async def apply(self, changes: Mapping[str, bytes | None]) -> None:
        """Returns when they are written, with those of others that came in the meantime. OSError for all of them."""
        self._changes.update(changes)
        if self._written is None:
            self._written = asyncio.create_task(self._write(), name=f"{self._context.id} {self._storage}")
        await asyncio.shield(self._written)

    async def _write(self) -> None:
        await asyncio.sleep(GATHER_SECONDS)
        changes, self._changes, self._written = self._changes, {}, None
        await (await self.open()).apply(changes)

    async def parts(self) -> set[str]:
        """The receivers that have something here."""
        keys = await (await self.open()).keys(_PARTS)
        return {key[len(_PARTS) :].partition(SEPARATOR)[0] for key in keys}

    async def remove(self, part: str) -> None:
        """Deletes what a receiver has here."""
        keys = await (await self.open()).keys(f"{_PARTS}{part}{SEPARATOR}")
        if keys:
            await self.apply(dict.fromkeys(keys))

    async def close(self) -> None:
        """Writes what waits, and gives the store back."""
        if self._written is not None:
            await asyncio.gather(self._written, return_exceptions=True)
        store, self._store = self._store, None
        if store is not None:
            await store.close()


class Part:
    """A storage extension, and its one store, as a receiver sees them."""

    def __init__(self, shared: Shared, part: str) -> None:
        self._shared = shared
        self._part = f"{_PARTS}{part}{SEPARATOR}"

    async def open_store(self, kind: str, id: str, name: str = "") -> Part:
        """As `StorageExtension.open_store`."""
        await self._shared.open()
        return self

    async def get(self, key: str) -> bytes | None:
        """As `KeyValueStore.get`."""
        return await (await self._shared.open()).get(self._part + key)

    async def set(self, key: str, value: bytes) -> None:
        """As `KeyValueStore.set`."""
        await self.apply({key: value})

    async def delete(self, key: str) -> None:
        """As `KeyValueStore.delete`."""
        await self.apply({key: None})

    async def items(self, prefix: str = "") -> dict[str, bytes]:
        """As `KeyValueStore.items`."""
        found = await (await self._shared.open()).items(self._part + prefix)
        return {key[len(self._part) :]: value for key, value in found.items()}

    async def keys(self, prefix: str = "") -> list[str]:
        """As `KeyValueStore.keys`."""
        return [key[len(self._part) :] for key in await (await self._shared.open()).keys(self._part + prefix)]

    async def apply(self, changes: Mapping[str, bytes | None]) -> None:
        """As `KeyValueStore.apply`."""
        await self._shared.apply({self._part + key: value for key, value in changes.items()})

    async def close(self) -> None:
        """The creator closes the store."""
