"""Small durable state by key: file offsets and the like. The interface, and an implementation that forgets.

An extension that keeps such state (`file_storage`) implements `StorageExtension`; a component that has `storage: ID` in its
options does `store = await open_store(context, ID)` in `start` and `await store.close()` in `stop`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from kofagent.component.protocols import Context


class KeyValueStore(Protocol):
    """Bytes by key, private to one component. Every call may touch a disk; none blocks the event loop for it.

    A call that returned has survived a crash of the process. A failing disk raises OSError.
    """

    async def get(self, key: str) -> bytes | None:
        """The value, None if it does not exist."""
        ...

    async def set(self, key: str, value: bytes) -> None:
        """Keeps the value."""
        ...

    async def delete(self, key: str) -> None:
        """Deletes the value, if it exists."""
        ...

    async def items(self, prefix: str = "") -> dict[str, bytes]:
        """All keys that start with `prefix`, with their values."""
        ...

    async def keys(self, prefix: str = "") -> list[str]:
        """All keys that start with `prefix`, sorted."""
        ...

    async def apply(self, changes: Mapping[str, bytes | None]) -> None:
        """Sets many keys (None deletes) as one transaction: all of it is kept or nothing."""
        ...

    async def close(self) -> None:
        """Gives the store back. May be called more than once."""
        ...


@runtime_checkable
class StorageExtension(Protocol):
    """What an extension named under `storage` offers."""

    async def open_store(self, kind: str, id: str, name: str = "") -> KeyValueStore:
        """The store of one component; `name` tells several stores of one component apart. StartError if it cannot be had."""
        ...


async def open_store(context: Context, storage: str | None) -> KeyValueStore:
    """The store of a component in the extension `storage`; without one a store that forgets at the stop. StartError."""
    if not storage:
        return MemoryStore()
    return await context.host.extension(storage, StorageExtension).open_store(context.kind, context.id)


def file_name(kind: str, id: str, name: str = "") -> str:
    """The file of a component as upstream names it: `receiver_filelog_kube`; unsafe characters as `~` and their code."""
    type, _, rest = id.partition("/")
    parts = [kind.removesuffix("s"), type, rest] + ([name] if name else [])
    return "_".join(re.sub(r"[^A-Za-z0-9._-]", lambda m: f"~{ord(m[0]):04X}", part) for part in parts)


class MemoryStore:
    """A `KeyValueStore` that lives as long as the process."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def get(self, key: str) -> bytes | None:
        """As `KeyValueStore.get`."""
        return self.values.get(key)

    async def set(self, key: str, value: bytes) -> None:
        """As `KeyValueStore.set`."""
        self.values[key] = value

    async def delete(self, key: str) -> None:
        """As `KeyValueStore.delete`."""
        self.values.pop(key, None)

    async def items(self, prefix: str = "") -> dict[str, bytes]:
        """As `KeyValueStore.items`."""
        return {k: v for k, v in self.values.items() if k.startswith(prefix)}

    async def keys(self, prefix: str = "") -> list[str]:
        """As `KeyValueStore.keys`."""
        return sorted(k for k in self.values if k.startswith(prefix))

    async def apply(self, changes: Mapping[str, bytes | None]) -> None:
        """As `KeyValueStore.apply`."""
        for key, value in changes.items():
            if value is None:
                self.values.pop(key, None)
            else:
                self.values[key] = value

    async def close(self) -> None:
        """Nothing to give back."""
