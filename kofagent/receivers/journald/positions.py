"""What is kept across restarts: of each journald the cursor of the last entry that a component downstream owns."""

from __future__ import annotations

from collections.abc import Mapping

from kofagent.component.checkpoints import KeyValueStore
from kofagent.receivers.journald import cursor
from kofagent.receivers.journald.cursor import Cursor

_PREFIX = "cursor/"
NEWEST = "lastReadCursor"
"""The newest of all, under upstream's key: for people who look."""


class Positions:
    """The cursors, kept under one key each so that a save writes only what moved."""

    def __init__(self, store: KeyValueStore) -> None:
        self._store = store
        self._changes: dict[str, bytes | None] = {}

    async def load(self) -> tuple[dict[bytes, Cursor], list[str]]:
        """All cursors, and a sentence for each entry that could not be read."""
        known: dict[bytes, Cursor] = {}
        problems: list[str] = []
        for key, data in (await self._store.items(_PREFIX)).items():
            try:
                place = cursor.parse(data.decode("ascii", "replace"))
            except ValueError as error:
                problems.append(f"{key}: {error}")
            else:
                known[place.seqnum_id] = place
        return known, problems

    def move(self, places: Mapping[bytes, Cursor]) -> None:
        """Writes these with the next `save`."""
        for place in places.values():
            text = str(place).encode()
            self._changes[_PREFIX + place.seqnum_id.hex()] = text
            self._changes[NEWEST] = text

    def forget(self, ids: set[bytes]) -> None:
        """Removes those of these instances of journald with the next `save`."""
        self._changes.update(dict.fromkeys(_PREFIX + id.hex() for id in ids))

    async def save(self) -> None:
        """Writes what changed since the last time, as one transaction. OSError: it stays to be written."""
        if not self._changes:
            return
        changes, self._changes = self._changes, {}
        try:
            await self._store.apply(changes)
        except BaseException:
            self._changes = {**changes, **self._changes}
            raise

    async def close(self) -> None:
        """Gives the store back."""
        await self._store.close()
