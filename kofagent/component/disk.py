"""`Disk`: a `SegmentLog` in a separate thread. Calls that arrive while it is busy are carried out together in the next turn.

A turn costs more than the bytes that it writes, so removals and additions share one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from kofagent.component.records import Header
from kofagent.component.segment_log import Found, Record, SegmentLog

T = TypeVar("T")
_TOGETHER_BYTES = 16 << 20
"""Bytes that are written in one turn; a larger record goes alone."""


class Disk:
    """The calls of `SegmentLog`, in order, without blocking the event loop."""

    def __init__(self, log: SegmentLog) -> None:
        self._log = log
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="queue")
        self._adding: list[tuple[Header, bytes, asyncio.Future[Record]]] = []
        self._removing: list[Record] = []
        self._removed: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def behind(self) -> bool:
        """As `SegmentLog.behind`."""
        return self._log.behind

    async def open(self, most: int, each: Callable[[Header], None]) -> Found:
        """As `SegmentLog.open`."""
        try:
            return await self._run(self._log.open, most, each)
        except BaseException:
            await self.close()
            raise

    async def read(self, record: Record) -> bytes:
        """As `SegmentLog.read`."""
        return await self._run(self._log.read, record)

    async def scan(self, after: Record | None, most: int) -> list[Record]:
        """As `SegmentLog.scan`."""
        return await self._run(self._log.scan, after, most)

    async def settle(self) -> None:
        """As `SegmentLog.settle`."""
        await self._run(self._log.settle)

    def append(self, header: Header, body: bytes) -> asyncio.Future[Record]:
        """The record when it is on disk; OSError when it is not."""
        future: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        self._adding.append((header, body, future))
        self._begin()
        return future

    def remove(self, records: Sequence[Record]) -> asyncio.Future[None]:
        """As `SegmentLog.done`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._removing.extend(records)
        self._removed.append(future)
        self._begin()
        return future

    async def close(self) -> int:
        """Returns when everything was written and the log is closed: how many records that are out would come again.

        May be called again, as by whoever stops what could not be started.
        """
        if self._closed:
            return 0
        self._closed = True
        if self._task is not None:
            await self._task
        behind = await self._run(self._close)
        self._thread.shutdown(wait=False)
        return behind

    def _close(self) -> int:
        try:
            self._log.settle()
        except OSError:
            pass
        behind = len(self._log.unmarked)
        self._log.close()
        return behind

    async def _run(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _begin(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._work())

    async def _work(self) -> None:
        while self._adding or self._removing or self._removed:
            await self._turn()
        self._task = None

    async def _turn(self) -> None:
        adding, size = 0, 0
        for _, body, _ in self._adding:
            if adding and size + len(body) > _TOGETHER_BYTES:
                break
            adding, size = adding + 1, size + len(body)
        added, self._adding = self._adding[:adding], self._adding[adding:]
        removing, self._removing = self._removing, []
        removed, self._removed = self._removed, []
        headers, bodies = [header for header, _, _ in added], [body for _, body, _ in added]
        records, not_added, not_removed = await self._run(self._both, headers, bodies, removing)
        for gone in removed:
            _settle(gone, None, not_removed)
        for number, (_, _, future) in enumerate(added):
            _settle(future, records[number] if records else None, not_added)

    def _both(
        self, headers: list[Header], bodies: list[bytes], removing: list[Record]
    ) -> tuple[list[Record], Exception | None, Exception | None]:
        records: list[Record] = []
        not_added: Exception | None = None
        not_removed: Exception | None = None
        if removing:
            try:
                self._log.done(removing)
            except Exception as error:
                not_removed = error
        if headers:
            try:
                records = self._log.append(headers, bodies)
            except Exception as error:
                not_added = error
        return records, not_added, not_removed


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():  # the caller was cancelled
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
        future.exception()  # who waited for it may be gone
