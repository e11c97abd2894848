"""Checkpoints: the identities of files, kept under one key each so that a save writes only what moved."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable

from kofagent.component.checkpoints import KeyValueStore
from kofagent.receivers.filelog.identity import Identity

_PREFIX = "file/"


def encode(identity: Identity) -> bytes:
    """The identity as JSON."""
    value = identity._asdict()
    del value["uid"]
    value["head"] = base64.b64encode(identity.head).decode()
    value["guard"] = base64.b64encode(identity.guard).decode()
    value["path"] = identity.path.encode("utf-8", "surrogateescape").decode("latin-1")
    return json.dumps(value, separators=(",", ":"), default=_bytes).encode()


def _bytes(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)


def decode(uid: str, data: bytes) -> Identity:
    """The identity; ValueError for anything else."""
    try:
        value = json.loads(data)
        return Identity(
            uid=uid,
            key=(int(value["key"][0]), int(value["key"][1])),
            path=str(value["path"]).encode("latin-1").decode("utf-8", "surrogateescape"),
            head=base64.b64decode(value["head"]),
            guard=base64.b64decode(value["guard"]),
            offset=int(value["offset"]),
            base=int(value["base"]),
            number=int(value["number"]),
            skipping=bool(value["skipping"]),
            header=value["header"],
            gzip=bool(value["gzip"]),
            # one written before these were stored is no loss
            size=int(value.get("size", 0)),
            mtime=int(value.get("mtime", 0)),
            done=bool(value.get("done", True)),
            generation=int(value.get("generation", 0)),
            deleted=bool(value.get("deleted", False)),
        )
    except (KeyError, TypeError, IndexError, UnicodeError, json.JSONDecodeError) as error:
        raise ValueError(f"checkpoint {uid}: {error!r}") from None


class Checkpoints:
    """What is kept across restarts, in a store; without a store nothing is."""

    def __init__(self, store: KeyValueStore | None) -> None:
        self._store = store
        self._changes: dict[str, Identity | None] = {}

    @property
    def durable(self) -> bool:
        """True if a restart continues where this run stopped."""
        return self._store is not None

    async def load(self) -> tuple[list[Identity], list[str]]:
        """All identities, and a sentence for each entry that could not be read."""
        known: list[Identity] = []
        problems: list[str] = []
        if self._store is not None:
            for key, data in (await self._store.items(_PREFIX)).items():
                try:
                    known.append(decode(key[len(_PREFIX) :], data))
                except ValueError as error:
                    problems.append(str(error))
        return known, problems

    def keep(self, identity: Identity) -> None:
        """Writes this identity with the next `save`."""
        if self._store is not None:
            self._changes[identity.uid] = identity

    def forget(self, uids: Iterable[str]) -> None:
        """Removes identities with the next `save`."""
        if self._store is not None:
            self._changes.update(dict.fromkeys(uids))

    async def save(self) -> None:
        """Writes what changed since the last time, as one transaction. OSError: it stays to be written."""
        if self._store is None or not self._changes:
            return
        changes, self._changes = self._changes, {}
        try:
            await self._store.apply(
                {_PREFIX + uid: None if identity is None else encode(identity) for uid, identity in changes.items()}
            )
        except BaseException:
            self._changes = {**changes, **self._changes}
            raise

    async def close(self) -> None:
        """Gives the store back."""
        if self._store is not None:
            await self._store.close()
            self._store = None
