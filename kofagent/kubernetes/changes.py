"""Every change of a kind of object as log records: once, in order, and over restarts, expired watches and new API servers.

Above `watch.follow` this keeps a position: the resource version up to which everything was passed on and is owned downstream.
It continues from what `load` returned; `save` is called after each batch that was taken. When the API has forgotten the position
(410, also after a restart of the agent), everything is listed and the objects that changed since then are handed on, in the order
of their resource versions; intermediate states and deletions of that time are not known to anybody any more. An API server with
another history (etcd restored from a backup: its versions are below ours) starts again with what is newer than the last change.
Resource versions are compared as numbers, as Kubernetes allows for objects of one resource.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple

from kofagent.kubernetes.client import ApiClient
from kofagent.kubernetes.errors import ApiError
from kofagent.kubernetes.watch import Event, Query, Timing, follow

log = logging.getLogger("kofagent.kubernetes")

Object = dict[str, Any]
Record = tuple[bytes, bytes]
"""A Resource message and a LogRecord message of it."""
WAITING_BYTES = 2 << 20
"""Records that wait between the stream and the pipeline; past it the stream is held back."""
HELD_BYTES = 4 << 20
"""Records of a list that are held to be put in order; beyond it they are passed on in the order of the list."""
BATCH_RECORDS = 512


class Handlers(NamedTuple):
    """What a receiver does with changes."""

    convert: Callable[[str, Object], Record | None]
    """A change (ADDED, MODIFIED, DELETED and the object) as a record; None: left out, and counted by who leaves it out."""
    deliver: Callable[[Sequence[Record]], Awaitable[None]]
    """Returns when the records are owned downstream, or given up and counted."""
    newer: Callable[[Object, float], bool]
    """Whether an object changed at or after a time (Unix seconds): decides where versions cannot."""
    load: Callable[[], Awaitable[bytes | None]]
    save: Callable[[bytes], Awaitable[None]]
    report: Callable[[str | None], None]


class _Step(NamedTuple):
    record: Record | None
    version: str
    """Position that is reached once the record is owned; empty: none."""


class Changes:
    """One stream of one query.

    `initial`: "" for nothing of what exists at the very first start, "all", or "newer" for what changed since `since`.
    `kept`: what is saved outlives the process, so what was read and not delivered comes again.
    """

    def __init__(
        self,
        client: ApiClient,
        query: Query,
        handlers: Handlers,
        *,
        initial: str = "",
        since: float | None = None,
        version: str = "",
        kept: bool = False,
        timing: Timing | None = None,
    ) -> None:
        self._client = client
        self._query = query
        self._do = handlers
        self._initial = initial
        self._since = time.time() if since is None else since
        self._given = version
        self._kept = kept
        self._timing = timing
        self._steps: asyncio.Queue[_Step] = asyncio.Queue()
        self._bytes = 0
        self._unkept = False
        self._room = asyncio.Event()
        self._read = ""
        self._listed: _Listed | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.position = ""
        """Resource version up to which everything is owned."""

    def start(self) -> None:
        """Begins to read and deliver, in the running loop."""
        name = f"changes of {self._query.resource}"
        self._tasks = [asyncio.create_task(work, name=name) for work in (self._reading(), self._delivering())]

    async def stop(self, seconds: float = 0.0) -> None:
        """Reads no more; the batch under way may still be delivered for so long, and what else was read unless it comes again."""
        tasks, self._tasks = self._tasks, []
        if not tasks:
            return
        tasks[0].cancel()
        await asyncio.gather(tasks[0], return_exceptions=True)
        while self._kept and not self._steps.empty():
            self._steps.get_nowait()
            self._steps.task_done()
        if seconds > 0 and not tasks[1].done():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._steps.join()
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _delivering(self) -> None:
        while True:
            await self._deliver_some()

    async def _restore(self) -> None:
        kept: dict[str, Any] = {}
        try:
            found = json.loads(await self._do.load() or b"{}")
            kept = found if isinstance(found, dict) else {}
        except (OSError, ValueError) as error:
            log.warning("%s: the stored position cannot be read, starting again: %s", self._query.resource, error)
        version = str(kept.get("version") or "")
        if version:
            self._since = float(kept.get("at") or self._since)
        self.position = self._read = version or self._given

    async def _deliver_some(self) -> None:
        step = await self._steps.get()
        taken = 1
        records: list[Record] = []
        version = ""
        while True:
            if step.record is not None:
                records.append(step.record)
            version = step.version or version
            if len(records) >= BATCH_RECORDS or self._steps.empty():
                break
            step = self._steps.get_nowait()
            taken += 1
        if records:
            await self._do.deliver(records)
            self._bytes -= sum([_size(r) for r in records])
            self._room.set()
        if version and version != self.position:
            self.position = version
            if records:
                self._since = time.time()
            try:
                await self._do.save(json.dumps({"version": version, "at": self._since}).encode())
                if self._unkept:
                    self._unkept = False
                    self._do.report(None)
            except OSError as error:
                self._unkept = True
                self._do.report(f"the position in {self._query.resource} cannot be kept: {error.strerror or error}")
        for _ in range(taken):
            self._steps.task_done()

    async def _put(self, record: Record | None, version: str) -> None:
        if record is not None:
            while self._bytes > WAITING_BYTES:
                self._room.clear()
                await self._room.wait()
            self._bytes += _size(record)
        self._steps.put_nowait(_Step(record, version))

    async def _reading(self) -> None:
        await self._restore()
        while True:
            try:
                await self._read_on()
            except Exception:
                # A bug must not end the stream for ever.
                log.exception("reading the changes of %s failed", self._query.resource)
                await asyncio.sleep(5)

    async def _read_on(self) -> None:
        query = self._query
        if not self._read and not self._initial:
            with contextlib.suppress(ApiError):  # follow lists then, and says what is wrong
                page = await self._client.list_page(
                    query.resource,
                    query.namespace,
                    label_selector=query.label_selector,
                    field_selector=query.field_selector,
                    limit=1,
                )
                self._read = page.version
                await self._put(None, page.version)
        events = follow(self._client, query, version=self._read, report=self._do.report, timing=self._timing)
        async with aclosing(events):
            async for event in events:
                await self._take(event)

    async def _take(self, event: Event) -> None:
        kind = event.type
        if kind == "LISTING":
            self._listed = _Listed(self._listed.streamed if self._listed is not None else set())
        elif kind == "ITEM":
            await self._item(event.object)
        elif kind == "LISTED":
            await self._end_of_list(event.version)
        elif kind == "BOOKMARK":
            self._read = event.version
            await self._put(None, event.version)
        elif not _not_after(event.version, self._read):
            self._read = event.version
            await self._put(self._do.convert(kind, event.object), event.version)

    async def _item(self, obj: Object) -> None:
        listed = self._listed
        assert listed is not None
        metadata = obj.get("metadata") or {}
        version = str(metadata.get("resourceVersion") or "")
        key = (str(metadata.get("uid") or ""), version)
        if key in listed.streamed:
            return
        if self._read:
            if _not_after(version, self._read):
                if self._do.newer(obj, self._since):
                    listed.doubtful.append(obj)
                return
            kind = "ADDED" if _created(metadata) >= self._since - 1 else "MODIFIED"
        elif self._initial == "all" or (self._initial == "newer" and self._do.newer(obj, self._since)):
            kind = "ADDED"
        else:
            return
        record = self._do.convert(kind, obj)
        if record is None:
            return
        listed.held.append((version, key, record))
        listed.size += _size(record)
        if listed.size > HELD_BYTES:
            for _, sent, waiting in listed.held:
                listed.streamed.add(sent)
                await self._put(waiting, "")
            listed.held, listed.size = [], 0

    async def _end_of_list(self, version: str) -> None:
        listed, self._listed = self._listed, None
        assert listed is not None
        reset = bool(self._read) and _before(version, self._read)
        if reset:
            log.warning(
                "%s: the API server's resource version %s is before %s, its history has restarted",
                self._query.resource,
                version,
                self._read,
            )
            for obj in listed.doubtful:
                record = self._do.convert("ADDED", obj)
                if record is not None:
                    await self._put(record, "")
        in_order = not reset and not listed.streamed
        for at, _, record in sorted(listed.held, key=lambda h: (len(h[0]), h[0])):
            await self._put(record, at if in_order else "")
        self._read = version
        await self._put(None, version)


class _Listed:
    """A list that is being read."""

    def __init__(self, streamed: set[tuple[str, str]]) -> None:
        self.held: list[tuple[str, tuple[str, str], Record]] = []
        self.size = 0
        self.doubtful: list[Object] = []
        self.streamed = streamed
        """Objects already handed on, should the list have to begin again."""


def _size(record: Record) -> int:
    return len(record[0]) + len(record[1]) + 100


def _not_after(version: str, position: str) -> bool:
    if version.isdecimal() and position.isdecimal():
        return int(version) <= int(position)
    return version == position


def _before(version: str, position: str) -> bool:
    return version.isdecimal() and position.isdecimal() and int(version) < int(position)


def _created(metadata: Object) -> float:
    return unix_seconds(metadata.get("creationTimestamp")) or 0.0


def unix_seconds(text: Any) -> float | None:
    """Unix seconds of an API timestamp (`2026-01-02T03:04:05Z`, with a fraction for MicroTime); None without one."""
    nanos = unix_nanos(text)
    return None if nanos is None else nanos / 1e9


def unix_nanos(text: Any) -> int | None:
    """Unix nanoseconds of an API timestamp; None if it is missing, malformed or not within 64 bits (1970 to 2554).

    The API server takes any year in the objects of others, and no record can hold it.
    """
    if not isinstance(text, str) or len(text) < 20:
        return None
    from datetime import datetime

    try:
        whole = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    if whole.tzinfo is None:
        return None
    nanos = int(whole.replace(microsecond=0).timestamp()) * 1_000_000_000 + whole.microsecond * 1000
    return nanos if 0 <= nanos < 1 << 64 else None
