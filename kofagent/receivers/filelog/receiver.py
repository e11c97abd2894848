"""The receiver: one task looks at the disk every `poll_interval`, another reads what is there and hands it on."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any, ClassVar

from kofagent.component.checkpoints import open_store
from kofagent.component.delivering import Delivery, Parcel
from kofagent.component.protocols import Context, Receiver
from kofagent.memory.pressure import PRESSURE, Level
from kofagent.operators.chain import Chain
from kofagent.receivers.filelog.checkpoint import Checkpoints
from kofagent.receivers.filelog.config import Config
from kofagent.receivers.filelog.find import count_unreadable
from kofagent.receivers.filelog.reading import Reading
from kofagent.receivers.filelog.tail import Mark, Tail
from kofagent.receivers.filelog.tracker import Tracker
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.signal import Signal

PARCEL_BYTES = 512 << 10
"""A batch is handed on when it has this many bytes, and at the end of what there is to read."""
_SLICE_S = 0.002
"""After this long of work the event loop gets a turn."""
_STOP_S = 5.0
"""How long a stop waits for batches that are under way."""


class FileLogReceiver(Receiver[Config]):
    """Tails files."""

    signals: ClassVar = frozenset({Signal.LOGS})

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._options = config
        self.reading = Reading(config, self._chain)
        self._tracker: Tracker | None = None
        self._delivery: Delivery[Mark] | None = None
        self._checkpoints = Checkpoints(None)
        self._tasks: list[asyncio.Task[None]] = []
        self._ready: dict[Tail, None] = {}
        self._holding: set[Tail] = set()
        self._owing: set[Tail] = set()
        self._parts: list[bytes] = []
        self._part_bytes = 0
        self._part_count = 0
        self._marks: dict[Tail, Mark] = {}
        self._wake = asyncio.Event()
        self._stopping = False
        self._save_failed = False
        self._failure = ""
        self._clock = time.monotonic

    def _chain(self, operators: list[dict[str, Any]]) -> Chain:
        config, context = self._options, self.context
        ledger = context.ledger
        return Chain(
            operators,
            attributes=config.attributes,
            resource=config.resource,
            dropped=lambda reason, n: ledger.dropped(context.id, Signal.LOGS, reason, n),
            filtered=lambda rule, n: ledger.filtered(context.id, Signal.LOGS, rule, n),
            log=context.log,
        )

    def explain(self) -> str:
        """What the operators were compiled to."""
        return self.reading.chain.explain()

    async def start(self) -> None:
        """Takes up the checkpoints and begins to poll. StartError when the storage extension is not there."""
        await self.open()
        self._tasks = [
            asyncio.create_task(self._poll(), name=f"{self.context.id} poll"),
            asyncio.create_task(self._read(), name=f"{self.context.id} read"),
        ]

    async def open(self) -> None:
        """All of `start` but the polling."""
        config, context = self._options, self.context
        store = await open_store(context, config.storage) if config.storage else None
        self._checkpoints = Checkpoints(store)
        known, problems = await self._checkpoints.load()
        for problem in problems:
            context.log.error("a checkpoint cannot be read and is left out: %s", problem)
        if config.polls_to_archive and store is None:
            context.log.warning("polls_to_archive needs storage; without it nothing is archived")
        tracker = self._tracker = Tracker(self.reading, context, self._checkpoints, _open_limit(config.max_concurrent_files))
        tracker.load(known)
        if store is not None:
            started = await store.get("started")
            if started is not None:
                tracker.begun_before(int(started))
            else:
                await store.set("started", str(time.time_ns()).encode())
        self._delivery = Delivery(self.outputs[Signal.LOGS], context, config.retry_on_failure, self._moved)
        gauge = context.ledger.gauge
        gauge("otelcol_fileconsumer_open_files_ratio", "Open files.", lambda: tracker.open_files, receiver=context.id)
        gauge(
            "otelcol_fileconsumer_reading_files_ratio",
            "Open files that are being read.",
            lambda: len(self._ready),
            receiver=context.id,
        )

    async def poll_once(self, now: float) -> None:
        """One poll and all reading it gives rise to, at this time of the clock: for tests, and for reading once."""
        self._clock = lambda: now
        self.look(now)
        await self._rounds()
        await self._save()

    def settled(self) -> bool:
        """Whether every file was read to its end, and all entries have an owner or were given up."""
        tracker, delivery = self._tracker, self._delivery
        if tracker is None or delivery is None:
            return True
        waits = self._ready or self._holding or self._owing or self._parts or self._marks or tracker.files.ended or delivery.waiting
        return not waits and tracker.files.polls > 0 and not any(tail.behind() for tail in tracker.tails.values())

    async def stop(self) -> None:
        """Stops reading, hands on what was read, waits for it at most some seconds, saves the checkpoints."""
        if self._tracker is None or self._delivery is None:
            return
        durable = self._checkpoints.durable and self.reads_on
        self._stopping = True
        self._delivery.stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        tracker, self._tracker = self._tracker, None
        now_ns = time.time_ns()
        for tail in [*self._owing, *tracker.files.ended, *tracker.tails.values()]:
            # With a checkpoint what is incomplete is read again, whole; without one this is its last chance.
            if not durable or tail.is_gone():
                if tail.twin is None:
                    tail.feed.finish(now_ns)
                tail.feed.flush(now_ns, force=True)
            self._take(tail)
        for tail in self._owing:
            tail.close()
        self._owing.clear()
        await self._submit()
        left = await self._delivery.drain(_STOP_S, lost=not durable)
        if left and not durable:
            self.context.log.warning(
                "%d log records were read and not delivered before the stop; with `storage` they would be read again", left
            )
        tracker.close()
        await self._save()
        with contextlib.suppress(OSError):
            await self._checkpoints.close()
        self._ready.clear()
        self._holding.clear()
        for name in ("otelcol_fileconsumer_open_files_ratio", "otelcol_fileconsumer_reading_files_ratio"):
            self.context.ledger.forget(name, receiver=self.context.id)

    # Looking

    async def _poll(self) -> None:
        interval = self._options.poll_interval
        next_at = self._clock()
        while True:
            try:
                self.look(self._clock())
                self._failure = ""
            except Exception as error:
                if repr(error) != self._failure:
                    self._failure = repr(error)
                    self.context.log.exception("looking for files failed; each poll tries again")
            await self._save()
            next_at = max(next_at + interval, self._clock() + interval / 2)
            await asyncio.sleep(next_at - self._clock())

    def look(self, now: float) -> None:
        """One poll: finds what is to be read, flushed or let go, and wakes the reader."""
        tracker = self._tracker
        assert tracker is not None
        tracker.poll(now)
        ready = self._ready
        size_before = len(ready)
        for tail in tracker.tails.values():
            if tail.source.raw < tail.size and tail.behind() and not tail.waits():
                ready[tail] = None
        if self._holding or size_before != len(ready) or tracker.files.ended or ready:
            self._wake.set()
        if self._options.delete_after_read:
            self._delete_read()

    def _delete_read(self) -> None:
        """Deletes the files that were read and whose records are owned downstream."""
        import os

        tracker = self._tracker
        assert tracker is not None
        for tail in list(tracker.tails.values()):
            if tail.twin is None and tail.acked == tail.fed > 0 and not tail.held and not tail.behind() and tail not in self._ready:
                try:
                    status = os.stat(tail.path)
                    if (status.st_dev, status.st_ino) == tail.key and status.st_size == tail.size:
                        os.unlink(tail.path)
                        tracker.files.end(tail)
                except OSError as error:
                    if not tail.broken:
                        tail.fail(f"cannot be deleted: {error.strerror}")
                        self.context.log.error("cannot delete %s: %s", tail.path, error.strerror or error)

    # Reading

    async def _read(self) -> None:
        """Reads in rounds, one chunk of every file that has more in each, so that a busy file does not hold up the others."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._rounds()
            except asyncio.CancelledError:
                raise
            except Exception:
                self.context.log.exception("reading failed; the next poll continues")

    async def _rounds(self) -> None:
        turn = time.monotonic()
        self._finish_ended()
        while self._ready and not self._stopping and PRESSURE.level < Level.TAILS:  # lines that are not read wait in their files
            for tail in list(self._ready):
                if tail.over or not self._step(tail):
                    self._ready.pop(tail, None)
                if self._part_bytes >= PARCEL_BYTES:
                    await self._submit()
                    turn = time.monotonic()
                elif time.monotonic() - turn > _SLICE_S:
                    await asyncio.sleep(0)
                    turn = time.monotonic()
            self._finish_ended()
            self._release()
        self._flush_due()
        await self._submit()

    def _release(self) -> None:
        """Goes on with files that waited for those before them."""
        assert self._tracker is not None
        for tail in self._tracker.files.take_ready():
            if tail.behind():
                self._ready[tail] = None

    def _step(self, tail: Tail) -> bool:
        """Reads one chunk of a file; False when it has no more for now."""
        if not tail.readable or tail.waits():
            return False
        now_ns = time.time_ns()
        if tail.renamed:
            self._rename(tail)
        lock = self._options.acquire_fs_lock
        if lock and not _lock(tail.fd):
            return False
        try:
            more = tail.step(now_ns, self._clock())
            # a short read is the end for now: the next poll sees what is added
            more = more and (tail.behind() or (tail.gzip and not tail.source.finished))
            if not more and (tail.source.finished or self._options.delete_after_read):
                tail.feed.finish(now_ns)
        except (OSError, ValueError) as error:
            tail.fail(str(error))
            count_unreadable(self.context, "damaged gzip" if isinstance(error, ValueError) else "unreadable")
            self.context.log.error("cannot read on in %s: %s; it is tried again when the file changes", tail.path, error)
            more = False
        finally:
            if lock and tail.fd >= 0:
                _unlock(tail.fd)
        self._take(tail)
        if tail.held:
            self._holding.add(tail)
        return more

    def _rename(self, tail: Tail) -> None:
        """Entries from here on carry the new name."""
        self._take(tail)
        tail.tell_name()

    def _flush_due(self) -> None:
        """Hands out what waited long enough for its completion."""
        now, now_ns = self._clock(), time.time_ns()
        period = self._options.force_flush_period
        for tail in [*self._holding, *self._owing]:
            if tail.over and tail not in self._owing:
                self._holding.discard(tail)
                continue
            if tail.feed.incomplete and period and not tail.behind():
                quiet = now - tail.grown_at
                # half a character will be followed by its other half, if the file is in this encoding
                if quiet >= 2 * period or (quiet >= period and not tail.feed.cut):
                    tail.feed.finish(now_ns)
            tail.feed.flush(now_ns, force=False)
            self._take(tail)
            if not tail.held:
                self._holding.discard(tail)
            if tail in self._owing and not tail.feed.owes and not tail.feed.incomplete:
                self._owing.discard(tail)
                self._retire(tail, now_ns)

    def _finish_ended(self) -> None:
        """Hands out all that ended files hold and that does not go on in the next file of the path, and lets go of them."""
        tracker = self._tracker
        assert tracker is not None
        now_ns = time.time_ns()
        for tail in tracker.files.take_ended():
            self._holding.discard(tail)
            self._ready.pop(tail, None)
            heir = tracker.files.heir(tail) if tail.feed.owes or tail.feed.lends else None
            if heir is None:
                self._retire(tail, now_ns)
            else:
                if not tail.feed.lends:
                    tail.feed.finish(now_ns)
                self._take(tail)
                self._owing.add(tail)
                self._holding.add(heir)

    def _retire(self, tail: Tail, now_ns: int) -> None:
        """Hands out all that an ended file holds, and closes it."""
        assert self._tracker is not None
        tail.feed.finish(now_ns)
        if tail.feed.owes:
            tail.feed.flush(now_ns, force=True)
        self._take(tail)
        self._tracker.files.retire(tail)

    # Handing on

    def _take(self, tail: Tail) -> None:
        """Adds what the operators made of a file's entries to the batch that is being filled."""
        payload, count = tail.feed.output()
        if count:
            self._parts.append(payload)
            self._part_bytes += len(payload)
            self._part_count += count
        place = tail.mark()
        if place is not None:
            self._marks[tail] = Mark(tail, place)

    async def _submit(self) -> None:
        """Hands the batch on; waits while too much is under way."""
        if not self._parts and not self._marks:
            return
        batch = Batch(Signal.LOGS, b"".join(self._parts), self._part_count) if self._parts else None
        parcel = Parcel(batch, list(self._marks.values()))
        self._parts, self._part_bytes, self._part_count, self._marks = [], 0, 0, {}
        assert self._delivery is not None
        await self._delivery.offer(parcel)

    def _moved(self, mark: Mark) -> None:
        """A file's entries up to the mark are owned downstream."""
        tail = mark.tail
        tail.acknowledge(mark.place)
        if self._checkpoints.durable:
            self._checkpoints.keep(tail.identity(mark.place))

    async def _save(self) -> None:
        try:
            await self._checkpoints.save()
        except OSError as error:
            if not self._save_failed:
                self.context.log.error("checkpoints cannot be saved: %s; a restart would send some records again", error)
            self._save_failed = True
        else:
            if self._save_failed:
                self.context.log.info("checkpoints are saved again")
            self._save_failed = False


def _open_limit(wanted: int) -> int:
    """How many files may be open: the configured number, limited by the descriptors of the process."""
    try:
        import resource
    except ImportError:  # not on this system
        return wanted
    spare = 512
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted + spare:
        target = wanted + spare if hard == resource.RLIM_INFINITY else min(wanted + spare, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
            soft = target
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft - min(spare, soft // 2)))


def _lock(fd: int) -> bool:
    import fcntl

    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _unlock(fd: int) -> None:
    import fcntl

    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_UN)
