"""`DiskQueue`: a sending queue on disk (`sending_queue.storage`), which owns what it holds.

`put` returns when the batch is on disk. It leaves the disk when the backend took it, will never take it, or did not take it
within `retry_on_failure`: both of the latter are drops with a counted reason, because no other component has the data. What waits
when the agent stops, or was under way when it was killed, is sent after the next start, so a backend may see a batch again after a
kill. A batch that the disk does not take is refused, and stays with its caller. Small backlogs are kept in memory as well.

Of a large backlog memory holds the beginning only: WINDOW entries; the next ones are found on the disk when it is their turn.
While the disk does not take that batches are delivered, nothing more is sent: all of it would come again after a restart.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections import Counter
from collections.abc import Iterable
from typing import ClassVar, Generic

from kofagent.component.accounts import Accounts
from kofagent.component.backoff import Backoff
from kofagent.component.capacity import Capacity
from kofagent.component.disk import Disk
from kofagent.component.line import Grouping, Line, joined
from kofagent.component.log_limit import LogLimit
from kofagent.component.protocols import Context, StartError
from kofagent.component.queue import Group
from kofagent.component.queue_storage import MakeLog, old_queue_of
from kofagent.component.records import Header
from kofagent.component.requests import B
from kofagent.component.segment_log import InUse, Record
from kofagent.component.stored import OLD_PREFIX, Entry, Form, bytes_on_disk, decode, digest, encode, of_old, without_credentials
from kofagent.config.blocks import QueueBlock
from kofagent.memory.pressure import PRESSURE, Level
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal

AT_HAND_BYTES = 4 << 20
"""Bytes of the queue that are also kept in memory, where the process has room for them; the rest is read again when it is sent."""
WINDOW = 1000
"""Entries of the queue that are known in memory, some 300 bytes each."""
LONGEST_PAUSE = 5.0
"""Seconds between two tries of a disk that fails."""
_MOVED_TOGETHER = 50


class DiskQueue(Generic[B]):
    """As `Queue`. Bounded by `queue_size` and `storage_max_size`: what waits takes memory only where there is some to spare."""

    owns: ClassVar[bool] = True

    def __init__(
        self, context: Context, options: QueueBlock, grouping: Grouping, accounts: Accounts, form: Form, make_log: MakeLog
    ) -> None:
        self._context = context
        self._options = options
        self._grouping = grouping
        self._accounts = accounts
        self._form = form
        self._make_log = make_log
        self._capacity = Capacity(context, options, accounts, on_disk=True)
        self._line: Line[Entry] = Line(grouping)
        self._disk: Disk | None = None
        self._at_hand: dict[int, Batch] = {}
        self._held = 0
        self._beyond = _Beyond()
        self._last: Record | None = None
        """The last record that was in the line."""
        self._known = -1
        """The highest number of a record that `put` knows to be written."""
        self._withdrawn: set[int] = set()
        self._filling = asyncio.Lock()
        self._withdrawals: set[asyncio.Task[None]] = set()
        self._closed = asyncio.Event()
        self._failed = False
        self._credentials = LogLimit()

    async def start(self) -> None:
        """As `Queue.start`. What is damaged is counted and does not stop the start."""
        log = self._make_log(self._context)
        self._disk = Disk(log)
        inherited: Counter[Signal] = Counter()

        def each(header: Header) -> None:
            inherited[header.signal] += header.items
            self._beyond.add(header)
            self._known = header.number

        try:
            found = await self._disk.open(WINDOW, each)
        except InUse:
            raise StartError(
                f"{log.folder} is in use by another process; stop that process, or give each its own directory"
            ) from None
        except OSError as error:
            raise StartError(f"{log.folder}: {error.strerror}") from None
        for signal, kind in self._beyond.items():
            self._capacity.found(signal, kind.requests, kind.items, kind.size, kind.stored)
        self._into_line(found.first)
        inherited.update(found.lost)
        self._accounts.inherited(inherited)
        for signal, items in found.lost.items():
            self._accounts.lost(signal, "queue on disk damaged", items)
            self._context.log.error("%d %s in the queue on disk are lost: its files were damaged", items, signal.items)
        await self._take_over()
        if waiting := len(self._line) + self._beyond.requests:
            self._context.log.info("%d batches of an earlier run wait in the queue on disk", waiting)
        self._capacity.show(lambda: log.size)

    async def _take_over(self) -> None:
        """Moves what a version before this format left in a database."""
        assert self._disk is not None
        old = await old_queue_of(self._context, self._options)
        if old is None:
            return
        inherited: Counter[Signal] = Counter()
        try:
            names = await old.store.keys(OLD_PREFIX)
            for at in range(0, len(names), _MOVED_TOGETHER):
                some = names[at : at + _MOVED_TOGETHER]
                made: list[tuple[Header, bytes]] = []
                for name in some:
                    try:
                        made.append(of_old(name, await old.store.get(name) or b""))
                    except ValueError as error:
                        self._context.log.error("an entry of the queue on disk is lost: %s", error)
                for record in await asyncio.gather(*[self._disk.append(*one) for one in made]):
                    header = record.header
                    self._capacity.found(header.signal, 1, header.items, header.size, bytes_on_disk(header))
                    inherited[header.signal] += header.items
                    self._add(record, None)
                await old.store.apply(dict.fromkeys(some))
            await old.remove()
        except OSError as error:
            self._context.log.error("the queue of an earlier version is not moved in full, the next start tries again: %s", error)
        finally:
            await old.store.close()
            self._accounts.inherited(inherited)

    async def put(self, batch: B) -> None:
        """As `Queue.put`. Cancelled: the batch is withdrawn, also when it was being written."""
        aside: list[tuple[str, int]] = []
        try:
            kept = self._form.convert(batch, lambda reason, items: aside.append((reason, items)))
        except Refused as refusal:
            self._accounts.lost(batch.signal, refusal.reason, batch.count)
            raise
        if kept.payload:
            await self._write(self._without_credentials(kept))
        for reason, items in aside:
            self._accounts.left_out(batch.signal, reason, items)

    def _without_credentials(self, batch: Batch) -> Batch:
        if not batch.metadata or self._options.storage_credentials:
            return batch
        metadata, left_out = without_credentials(batch.metadata, self._grouping.partition)
        if not left_out:
            return batch
        if self._credentials.due():
            self._context.log.info(
                "the queue on disk leaves %s out; set storage_credentials: true if an authenticator needs it",
                ", ".join(left_out),
            )
        return Batch(batch.signal, batch.payload, batch.count, metadata)

    async def _write(self, batch: Batch) -> None:
        assert self._disk is not None
        key = digest(self._grouping.metadata(batch.metadata), self._grouping.partition) if self._grouping.enough else 0
        header, body = encode(batch, self._form, key)
        for attempt in range(4):
            await self._enter(batch, header)
            written = self._disk.append(header, body)
            try:
                record = await asyncio.shield(written)
                break
            except OSError as error:
                self._not_written(header)
                full = error.errno in (errno.ENOSPC, errno.EDQUOT)
                if full and attempt < 3 and self._options.storage_when_full == "drop_oldest" and await self._drop_oldest():
                    continue
                self._accounts.not_queued(batch.signal, batch.count)
                raise self._failing(error, f"{batch.count} {batch.signal.items} cannot be queued") from None
            except asyncio.CancelledError:
                # the caller was promised nothing
                withdrawal = asyncio.create_task(self._withdraw(header, written))
                self._withdrawals.add(withdrawal)
                withdrawal.add_done_callback(self._withdrawals.discard)
                raise
        self._well()
        self._add(record, batch)

    async def _enter(self, batch: Batch, header: Header) -> None:
        if self._options.storage_when_full == "drop_oldest":
            while self._capacity.fits(header.items, header.size, bytes_on_disk(header)) and await self._drop_oldest():
                pass
        await self._capacity.enter(batch.signal, batch.count, header.size, bytes_on_disk(header))

    async def _drop_oldest(self) -> bool:
        """Drops the batches of the file with the oldest one that is not being sent; False when there are none."""
        try:
            await self._fill()
        except OSError:
            return False
        oldest = self._line.shed()
        if oldest is None:
            return False
        dropped = [oldest]
        while (first := self._line.first()) is not None and first.record.segment == oldest.record.segment and len(dropped) < 100:
            shed = self._line.shed()
            assert shed is not None
            dropped.append(shed)
        for entry in dropped:
            self._accounts.lost(entry.signal, "oldest dropped", entry.items)
        await self._take_out(dropped)
        return True

    def _add(self, record: Record, batch: Batch | None) -> None:
        number = record.header.number
        self._known = max(self._known, number)
        if self._last is not None and number <= self._last.header.number:
            return  # it was found on the disk before the news of its writing came here
        if self._beyond.requests or len(self._line) >= WINDOW:
            self._beyond.add(record.header)
            return
        if PRESSURE.level >= Level.QUEUES:
            self._let_go()
        elif batch is not None and self._held + batch.size <= AT_HAND_BYTES and self._context.host.reserve(batch.size):
            self._at_hand[number] = batch
            self._held += batch.size
        self._last = record
        self._line.add(Entry(record, time.monotonic()))

    def _let_go(self) -> None:
        """Keeps on disk only what is there."""
        for batch in self._at_hand.values():
            self._context.host.release(batch.size)
        self._at_hand.clear()
        self._held = 0

    def _into_line(self, records: Iterable[Record]) -> None:
        for record in records:
            self._last = record
            if record.header.number in self._withdrawn:
                continue
            if record.header.number <= self._known:  # else the news of its writing is still on its way
                self._beyond.remove(record.header)
            self._line.add(Entry(record))

    async def _fill(self) -> None:
        """Brings the next entries of a large backlog into the line."""
        if not self._beyond.requests or len(self._line) > WINDOW // 2 or self._disk is None:
            return
        async with self._filling:
            if not self._beyond.requests or len(self._line) > WINDOW // 2 or self._disk is None:
                return
            records = await self._disk.scan(self._last, WINDOW)
            self._into_line(records)
            if len(records) < WINDOW and self._beyond.requests:
                for signal, gone in self._beyond.items():
                    self._lost(signal, gone.items, "they are no longer there")
                    self._capacity.settled(signal, gone.items)
                    self._capacity.leave(gone.items, gone.size, gone.stored, gone.requests)
                self._beyond = _Beyond()

    async def _withdraw(self, header: Header, written: asyncio.Future[Record]) -> None:
        try:
            record = await written
        except OSError:
            self._not_written(header)
            return
        self._known = max(self._known, record.header.number)
        if self._last is not None and record.header.number <= self._last.header.number:
            waiting = next((entry for entry in self._line if entry.number == record.header.number), None)
            if waiting is None:
                return  # it is being sent already
            self._line.withdraw(waiting)
        self._withdrawn.add(record.header.number)
        await self._take_out([Entry(record)])
        self._withdrawn.discard(record.header.number)

    async def take(self) -> Group[B, Entry] | None:
        """As `Queue.take`."""
        while True:
            try:
                await self._settled()
                await self._fill_again()
            except _Stopped:
                return None
            entries = await self._line.take()
            if entries is None:
                return None
            batches: list[B] = []
            lost: dict[Entry, str] = {}
            try:
                await self._settled()
                for entry in entries:
                    try:
                        batches.append(await self._read(entry))
                    except ValueError as error:
                        lost[entry] = str(error)
            except _Stopped:
                self._line.put_back(entries)
                return None
            except BaseException:
                self._line.put_back(entries)
                raise
            if lost:
                for entry, why in lost.items():
                    self._lost(entry.signal, entry.items, why)
                await self._take_out(list(lost))
                entries = [entry for entry in entries if entry not in lost]
            if batches:
                return Group(joined(batches, self._grouping.metadata(batches[0].metadata)), entries)

    async def _settled(self) -> None:
        """Returns when the disk knows what was delivered; _Stopped."""
        assert self._disk is not None
        backoff = Backoff(0.2, LONGEST_PAUSE)
        while self._disk.behind:
            await self._pause(backoff.next())
            try:
                await self._disk.settle()
            except OSError as error:
                self._failing(error, "the disk does not take that batches were delivered: nothing more is sent until it does")
            else:
                self._well()

    async def _fill_again(self) -> None:
        backoff = Backoff(0.2, LONGEST_PAUSE)
        while True:
            try:
                await self._fill()
                return
            except OSError as error:
                self._failing(error, "the queue cannot be read, will try again")
                await self._pause(backoff.next())

    async def _read(self, entry: Entry) -> Batch:
        """The batch; ValueError for one that is damaged; _Stopped when the agent stops before the disk gives it back."""
        assert self._disk is not None
        batch = self._at_hand.get(entry.number)
        if batch is not None:
            return batch
        backoff = Backoff(0.2, LONGEST_PAUSE)
        while True:
            try:
                body = await self._disk.read(entry.record)
                self._well()
                return decode(entry.record.header, body, self._form)
            except OSError as error:  # it may be readable later, and exists nowhere else
                self._failing(error, "a batch cannot be read, will try again")
                await self._pause(backoff.next())

    def _lost(self, signal: Signal, items: int, why: str) -> None:
        self._accounts.lost(signal, "queue on disk damaged", items)
        self._context.log.error("%d %s in the queue on disk are lost: %s", items, signal.items, why)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        except TimeoutError:
            return
        raise _Stopped

    def _failing(self, error: OSError, consequence: str) -> Refused:
        refusal = Refused("queue on disk", error.strerror or str(error), retry_after=LONGEST_PAUSE)
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
        await self._take_out(group.entries)

    async def _take_out(self, entries: list[Entry]) -> None:
        """Takes entries off the disk; what it does not take now is tried again before anything else is sent, and at the stop."""
        assert self._disk is not None
        for entry in entries:
            self._capacity.settled(entry.signal, entry.items)
            at_hand = self._at_hand.pop(entry.number, None)
            if at_hand is not None:
                self._held -= at_hand.size
                self._context.host.release(at_hand.size)
        try:
            await asyncio.shield(self._disk.remove([entry.record for entry in entries]))
        except OSError as error:
            self._failing(error, f"{len(entries)} batches that are done with stay on disk for now")
        finally:
            for entry in entries:
                self._capacity.leave(entry.items, entry.size, bytes_on_disk(entry.record.header))

    def _not_written(self, header: Header) -> None:
        self._capacity.settled(header.signal, header.items)
        self._capacity.leave(header.items, header.size, bytes_on_disk(header))

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
        if waiting := len(self._line) + self._beyond.requests:
            self._context.log.info("%d batches stay in the queue on disk", waiting)
        self._line.rest()
        self._let_go()
        self._capacity.hide()
        if self._disk is not None:
            disk, self._disk = self._disk, None
            if left := await disk.close():
                self._context.log.error("%d batches that were sent are on disk and will be sent again", left)


class _Kind:
    __slots__ = ("items", "requests", "size", "stored")

    def __init__(self) -> None:
        self.requests = self.items = self.size = self.stored = 0


class _Beyond:
    """The sum of what is on disk and not in the line."""

    def __init__(self) -> None:
        self.requests = 0
        self._kinds: dict[Signal, _Kind] = {}

    def items(self) -> list[tuple[Signal, _Kind]]:
        """The sums by signal."""
        return list(self._kinds.items())

    def add(self, header: Header, sign: int = 1) -> None:
        """One more, or with `sign` -1 one fewer."""
        kind = self._kinds.setdefault(header.signal, _Kind())
        self.requests += sign
        kind.requests += sign
        kind.items += sign * header.items
        kind.size += sign * header.size
        kind.stored += sign * bytes_on_disk(header)

    def remove(self, header: Header) -> None:
        """One fewer."""
        self.add(header, -1)


class _Stopped(Exception):
    """The agent stops before the disk works again."""
