"""The receiver: one task looks at the files, reads what they have, and hands it on."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import ClassVar

from kofagent.component.checkpoints import open_store
from kofagent.component.delivering import Delivery, Parcel
from kofagent.component.log_limit import LogLimit
from kofagent.component.offering import Offer
from kofagent.component.protocols import Context, Receiver
from kofagent.memory.pressure import PRESSURE, Level
from kofagent.operators.chain import Chain
from kofagent.receivers.journald.config import Config
from kofagent.receivers.journald.header import Damaged
from kofagent.receivers.journald.journal import Journal, Reports
from kofagent.receivers.journald.names import Search
from kofagent.receivers.journald.positions import Positions
from kofagent.receivers.journald.records import Marks, Records
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.signal import Signal

POLL_S = 0.25
"""Seconds between two looks at the files."""
PARCEL_BYTES = 512 << 10
"""A batch is handed on when it has this many bytes, and at the end of what there is to read."""
_SLICE_S = 0.002
"""After this long of work the event loop gets a turn."""
_STOP_S = 5.0
"""How long a stop waits for batches that are under way."""
LOG_EVERY = 60.0
"""Seconds between two lines about the same thing."""
BOOT_ID = "/proc/sys/kernel/random/boot_id"
DAMAGED = "damaged journal"


class JournaldReceiver(Receiver[Config]):
    """Follows the journal."""

    signals: ClassVar = frozenset({Signal.LOGS})

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        ledger = context.ledger
        self._chain = Chain(
            config.operators,
            attributes=config.attributes,
            resource=config.resource,
            dropped=lambda reason, n: ledger.dropped(context.id, Signal.LOGS, reason, n),
            filtered=lambda rule, n: ledger.filtered(context.id, Signal.LOGS, rule, n),
            log=context.log,
            compiled=False,  # what is compiled is for lines of text
        )
        self._log = LogLimit(LOG_EVERY)
        self._records = Records(config, self._chain, self._left_out)
        self._journal: Journal | None = None
        self._search = Search(config.root_path, config.directory, config.files, config.namespace, config.merge)
        self._positions: Positions | None = None
        self._delivery: Delivery[Marks] | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._problems: dict[str, str] = {}
        self._save_failed = False
        self._failure = ""

    def explain(self) -> str:
        """Which entries are wanted, and what the operators were compiled to."""
        config = self.config
        wanted = self._records.matches.explain() + ([f"grep: MESSAGE matches {config.grep!r}"] if config.grep else [])
        lines = ["# Entries that fulfil all of these:", *[f"#   {line}" for line in wanted or ["(all)"]]]
        return "\n".join([*lines, self._chain.explain()])

    async def start(self) -> None:
        """Takes up the positions and begins to look. StartError when the storage extension is not there."""
        await self.open()
        self._task = asyncio.create_task(self._run(), name=f"{self.context.id} read")

    async def open(self) -> None:
        """All of `start` but the task."""
        config, context = self.config, self.context
        self._positions = Positions(await open_store(context, config.storage))
        known, problems = await self._positions.load()
        for problem in problems:
            context.log.error("a position cannot be read and is left out: %s", problem)
        self._offer = Offer(context, self.outputs[Signal.LOGS], Signal.LOGS)
        self._delivery = Delivery(self.outputs[Signal.LOGS], context, config.retry_on_failure, self._moved)
        boot_id = this_boot()
        self._journal = Journal(
            self._search, Reports(self._lost, self._unreadable, self._gap), dict(known), config.start_at == "beginning", boot_id
        )
        self._look(time.monotonic())
        if not known:
            # what comes until the first entry is taken is not skipped by a restart
            self._positions.move(self._journal.last)
            if config.dmesg:
                named = config.directory is not None or config.files
                self._records.boot_id = self._journal.newest_boot() if named else boot_id
                self._records.since = time.time_ns() // 1000

    async def poll_once(self, now: float) -> None:
        """One look at this time of the clock, and all reading it gives rise to: for tests."""
        self._look(now)
        await self._read()
        await self._save()

    async def stop(self) -> None:
        """Stops reading, hands on what was read, waits for it at most some seconds, saves the positions."""
        if self._journal is None or self._delivery is None or self._positions is None:
            return
        # what is in its hands it gives to the delivery, which then does not wait for room
        self._delivery.stopping = True
        self._stopping.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_STOP_S)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        durable = self.config.storage is not None
        if not durable:
            # with a position what operators hold is read again; without one this is its last chance
            self._records.flush(time.time_ns(), force=True)
        await self._submit()
        left = await self._delivery.drain(_STOP_S, lost=not durable)
        if left and not durable:
            self.context.log.warning(
                "%d log records were read and not delivered before the stop; with `storage` they would be read again", left
            )
        self._journal.close()
        self._journal = None
        await self._save()
        with contextlib.suppress(OSError):
            await self._positions.close()

    # Reading

    async def _run(self) -> None:
        next_at = time.monotonic()
        while not self._stopping.is_set():
            try:
                self._look(time.monotonic())
                await self._read()
                self._failure = ""
            except Exception as error:
                if repr(error) != self._failure:
                    self._failure = repr(error)
                    self.context.log.exception("reading the journal failed; it is tried again")
            await self._save()
            next_at = max(next_at + POLL_S, time.monotonic() + POLL_S / 2)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(next_at - time.monotonic()):
                    await self._stopping.wait()

    def _look(self, now: float) -> None:
        assert self._journal is not None
        self._journal.look(now)
        problems = self._search.problems
        if problems != self._problems:
            self._problems = problems
            text = "; ".join(f"{path}: {why}" for path, why in list(problems.items())[:10])
            self.context.report(f"the journal cannot be read: {text}" if problems else None)
            if problems:
                self.context.log.warning("the journal cannot be read: %s; it is tried again all the time", text)

    async def _read(self) -> None:
        journal, records = self._journal, self._records
        assert journal is not None
        turn = time.monotonic()
        while PRESSURE.level < Level.TAILS and not self._stopping.is_set():  # entries that are not read wait in the journal
            taken = journal.take()
            if taken is not None:
                tail, entry, place = taken
                try:
                    records.add(tail, entry, place)
                except Damaged as error:
                    self._lost(tail.file.path, 1, str(error))
                except Exception:
                    self._offer.lost(1, "internal error")
                    if self._log.due("defect"):
                        self.context.log.exception("an entry is lost to an internal error, please report it")
            elif not journal.skipping:
                break
            if records.size >= PARCEL_BYTES:
                await self._submit()
                turn = time.monotonic()
            elif time.monotonic() - turn > _SLICE_S:
                await asyncio.sleep(0)
                turn = time.monotonic()
        records.flush(time.time_ns(), force=False)
        await self._submit()

    async def _submit(self) -> None:
        """Hands the batch on; waits while too much is under way."""
        payload, count, marks = self._records.take()
        if count or marks:
            assert self._delivery is not None
            await self._delivery.offer(Parcel(Batch(Signal.LOGS, payload, count) if count else None, [marks]))

    # Positions

    def _moved(self, marks: Marks) -> None:
        """Entries up to these are owned downstream."""
        if self._positions is not None:
            self._positions.move(marks)

    async def _save(self) -> None:
        assert self._positions is not None
        try:
            await self._positions.save()
        except OSError as error:
            if not self._save_failed:
                self.context.log.error("positions cannot be saved: %s; a restart would send some records again", error)
            self._save_failed = True
        else:
            if self._save_failed:
                self.context.log.info("positions are saved again")
            self._save_failed = False

    # What goes wrong

    def _lost(self, path: str, entries: int, why: str) -> None:
        if entries:
            self._offer.lost(entries, DAMAGED)
            if self._log.due(("lost", path)):
                self.context.log.error("%s: %d entries cannot be read: %s", path, entries, why)

    def _unreadable(self, path: str, why: str) -> None:
        self.context.ledger.counter(
            "kofagent_journald_unreadable_files", "Files of the journal that could not be opened or read.", receiver=self.context.id
        )(1)
        self.context.log.error("cannot read %s: %s; it is tried again all the time", path, why)

    def _gap(self, entries: int) -> None:
        if self.config.directory is not None or not self.config.files:
            self.context.log.warning(
                "the journal has numbers missing: up to %d entries were removed, or are in files that are not read", entries
            )

    def _left_out(self, path: str, what: str) -> None:
        if self._log.due((what, path)):
            self.context.log.warning("%s: %s", path, what)


def this_boot() -> bytes:
    """The id of the boot that goes on now; empty where the system does not say."""
    try:
        with open(BOOT_ID) as file:
            return bytes.fromhex(file.read(64).strip().replace("-", ""))
    except (OSError, ValueError):
        return b""
