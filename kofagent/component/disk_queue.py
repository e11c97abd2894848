"""`DiskQueue`: a sending queue in a storage extension (`sending_queue.storage`), which owns what it holds.

`put` returns when the batch is on disk. It leaves the disk when the backend took it, will never take it, or did not take it
within `retry_on_failure`: both of the latter are drops with a counted reason, because no other component has the data. What waits
when the agent stops, or was under way when it was killed, is sent after the next start, so a backend may see a batch again after a
kill. A batch that the disk does not take is refused, and stays with its caller. Small backlogs are kept in memory as well.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import ClassVar, Generic

from kofagent.component.accounts import Accounts
from kofagent.component.backoff import Backoff
from kofagent.component.capacity import Capacity
from kofagent.component.checkpoints import KeyValueStore, open_store
from kofagent.component.line import Grouping, Line, joined
from kofagent.component.protocols import Context
from kofagent.component.queue import Group
from kofagent.component.requests import B
from kofagent.component.stored import PREFIX, Entry, Form, decode, digest, encode
from kofagent.config.blocks import QueueBlock
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused

AT_HAND_BYTES = 4 << 20
"""Bytes of the queue that are also kept in memory, where the process has room for them; the rest is read again when it is sent."""


class DiskQueue(Generic[B]):
    """As `Queue`. Bounded by `queue_size` alone: what waits takes memory only where there is some to spare."""

    owns: ClassVar[bool] = True

    def __init__(self, context: Context, options: QueueBlock, grouping: Grouping, accounts: Accounts, form: Form) -> None:
        self._context = context
        self._extension = str(options.storage)
        self._grouping = grouping
        self._accounts = accounts
        self._form = form
        self._capacity = Capacity(context, options, accounts)
        self._line: Line[Entry] = Line(grouping)
        self._disk: Disk | None = None
        self._at_hand: dict[str, Batch] = {}
        self._held = 0
        self._number = 0
        self._withdrawals: set[asyncio.Task[None]] = set()
        self._closed = asyncio.Event()
        self._failed = False
        self._leftover: set[str] = set()
        """Keys that should be gone."""

    async def start(self) -> None:
        """As `Queue.start`."""
        store = await open_store(self._context, self._extension)
        self._disk = Disk(store)
        for name in await store.keys(PREFIX):
            try:
                entry = Entry.parse(name)
            except ValueError:
                self._context.log.error("%s in the queue on disk is left alone: another version wrote it", name)
                continue
            self._line.add(entry)
            self._capacity.found(entry.items, entry.size)
            self._number = entry.number + 1
        if len(self._line):
            self._context.log.info("%d batches of an earlier run wait in the queue on disk", len(self._line))
        self._capacity.show()

    async def put(self, batch: B) -> None:
        """As `Queue.put`. Cancelled: the batch is withdrawn, also when it was being written."""
        aside: list[tuple[str, int]] = []
        try:
            kept = self._form.convert(batch, lambda reason, items: aside.append((reason, items)))
        except Refused as refusal:
            self._accounts.lost(batch.signal, refusal.reason, batch.count)
            raise
        if kept.payload:
            await self._write(kept)
        for reason, items in aside:
            self._accounts.left_out(batch.signal, reason, items)

    async def _write(self, batch: Batch) -> None:
        assert self._disk is not None
        await self._capacity.enter(batch.signal, batch.count, batch.size, None)
        key = digest(self._grouping.metadata(batch.metadata), self._grouping.partition) if self._grouping.enough else ""
        entry = Entry.of(self._number, batch, key, time.monotonic())
        self._number += 1
        written = self._disk.write({entry.name: encode(batch, self._form)})
        try:
            await asyncio.shield(written)
        except OSError as error:
            self._capacity.leave(entry.items, entry.size)
            self._accounts.not_queued(batch.signal, batch.count)
            raise self._failing(error, f"{batch.count} {batch.signal.items} cannot be queued") from None
        except asyncio.CancelledError:
            # the caller was promised nothing
            withdrawal = asyncio.create_task(self._withdraw(entry, written))
            self._withdrawals.add(withdrawal)
            withdrawal.add_done_callback(self._withdrawals.discard)
            raise
        self._well()
        if self._held + batch.size <= AT_HAND_BYTES and self._context.host.reserve(batch.size):
            self._at_hand[entry.name] = batch
            self._held += batch.size
        self._line.add(entry)

    async def _withdraw(self, entry: Entry, written: asyncio.Future[None]) -> None:
        await asyncio.gather(written, return_exceptions=True)
        await self._remove([entry])
        self._capacity.leave(entry.items, entry.size)

    async def take(self) -> Group[B, Entry] | None:
        """As `Queue.take`."""
        while True:
            entries = await self._line.take()
            if entries is None:
                return None
            batches: list[B] = []
            lost: list[Entry] = []
            try:
                for entry in entries:
                    batch = await self._read(entry)
                    if batch is None:
                        lost.append(entry)
                    else:
                        batches.append(batch)
            except _Stopped:
                self._line.put_back(entries)
                return None
            except BaseException:
                self._line.put_back(entries)
                raise
            if lost:
                self._leave(lost)
                await self._remove(lost)
                entries = [entry for entry in entries if entry not in lost]
            if batches:
                return Group(joined(batches, self._grouping.metadata(batches[0].metadata)), entries)

    async def _read(self, entry: Entry) -> Batch | None:
        """The batch; None, counted, for one that is damaged; _Stopped when the agent stops before the disk gives it back."""
        assert self._disk is not None
        batch = self._at_hand.get(entry.name)
        if batch is not None:
            return batch
        backoff = Backoff(0.5, 10.0)
        while True:
            try:
                value = await self._disk.store.get(entry.name)
                break
            except OSError as error:  # it may be readable later, and exists nowhere else
                self._failing(error, "a batch cannot be read, will try again")
                await self._pause(backoff.next())
        self._well()
        try:
            if value is None:
                raise ValueError(f"{entry.name} is gone")
            return decode(entry, value, self._form)
        except ValueError as error:
            self._accounts.lost(entry.signal, "queue on disk damaged", entry.items)
            self._context.log.error("%d %s in the queue on disk are lost: %s", entry.items, entry.signal.items, error)
            return None

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        except TimeoutError:
            return
        raise _Stopped

    def _failing(self, error: OSError, consequence: str) -> Refused:
        refusal = Refused("queue on disk", error.strerror or str(error), retry_after=5)
        self._context.report(str(refusal))
        if not self._failed:
            self._failed = True
            self._context.log.warning("%s: %s", consequence, refusal)
        return refusal

    def _well(self) -> None:
        if self._failed:
            self._failed = False
            self._context.report(None)
            self._context.log.info("the queue on disk works again")

    async def done(self, group: Group[B, Entry], refusal: Refused | None) -> None:
        """As `Queue.done`."""
        self._leave(group.entries)
        await self._remove(group.entries)

    def _leave(self, entries: list[Entry]) -> None:
        for entry in entries:
            at_hand = self._at_hand.pop(entry.name, None)
            if at_hand is not None:
                self._held -= at_hand.size
                self._context.host.release(at_hand.size)
            self._capacity.leave(entry.items, entry.size)

    async def _remove(self, entries: list[Entry]) -> None:
        """Takes entries off the disk. What cannot be removed now is removed together with the next ones, or at the stop."""
        assert self._disk is not None
        names = {entry.name: None for entry in entries} | dict.fromkeys(self._leftover)
        self._leftover.clear()
        try:
            await asyncio.shield(self._disk.write(names))
        except OSError as error:
            self._leftover.update(names)
            self._failing(error, f"{len(names)} batches that were sent stay on disk")

    def put_back(self, group: Group[B, Entry], refusal: Refused) -> None:
        """As `Queue.put_back`: they stay where they are."""
        self._line.put_back(group.entries)

    def close(self) -> None:
        """As `Queue.close`; what waits stays on disk."""
        self._closed.set()
        self._capacity.close()
        self._line.close(drain=False)

    async def stop(self) -> None:
        """As `Queue.stop`."""
        await asyncio.gather(*self._withdrawals)
        if len(self._line):
            self._context.log.info("%d batches stay in the queue on disk", len(self._line))
        self._line.rest()
        if self._leftover:
            await self._remove([])
        if self._leftover:
            self._context.log.error("%d batches that were sent are on disk and will be sent again", len(self._leftover))
        for batch in self._at_hand.values():
            self._context.host.release(batch.size)
        self._at_hand.clear()
        self._held = 0
        self._capacity.hide()
        if self._disk is not None:
            await self._disk.close()
            self._disk = None


class Disk:
    """Writes to a store. What comes while a write is under way goes together in the next one.

    A transaction costs more than its rows: with ten requests of 100 spans at a time the queue takes 1.8 us of CPU a span, with one
    transaction for each request 3.8.
    """

    def __init__(self, store: KeyValueStore) -> None:
        self.store = store
        self._waiting: list[tuple[Mapping[str, bytes | None], asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    def write(self, changes: Mapping[str, bytes | None]) -> asyncio.Future[None]:
        """Done when the changes are on disk; OSError when they are not."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((changes, future))
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return future

    async def close(self) -> None:
        """Returns when everything was written and the store is closed."""
        if self._task is not None:
            await self._task
        await self.store.close()

    async def _run(self) -> None:
        while self._waiting:
            await self._write_waiting()
        self._task = None

    async def _write_waiting(self) -> None:
        together, self._waiting = self._waiting, []
        failure: Exception | None = None
        try:
            await self.store.apply({key: value for changes, _ in together for key, value in changes.items()})
        except Exception as error:
            failure = error
        for _, future in together:
            if future.done():  # the caller was cancelled
                continue
            if failure is None:
                future.set_result(None)
            else:
                future.set_exception(failure)


class _Stopped(Exception):
    """The agent stops before the batch could be read."""
