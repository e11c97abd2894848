"""The guard of the whole agent's memory: measures, lets memos shrink, says in the log who gives way. See `memory.pressure`."""

from __future__ import annotations

import asyncio
import gc
import logging

from kofagent.component.log_limit import LogLimit
from kofagent.config.model import MemoryConfig
from kofagent.memory import usage
from kofagent.memory.account import ACCOUNT
from kofagent.memory.pressure import PRESSURE, SHARES, Level, Pressure

log = logging.getLogger("kofagent.memory")

CALM_SECONDS, SHORT_SECONDS = 1.0, 0.2
"""Time between two measurements, when memory is calm and when it is short."""
REST_SECONDS = 5.0
"""Least time between two returns of what large requests took: some milliseconds each."""
RELIEF_SECONDS, LATER_SECONDS = 10.0, 60.0
"""Time between two collections of garbage; the longer one where only memos give way."""
TIGHT = 1 << 30
"""Below this limit, bytes, the C library is told to keep little for itself."""
_MIB = 1 << 20
GIVES_WAY = {
    Level.MEMOS: "caches are reduced",
    Level.QUEUES: "queues keep on disk only what they have there",
    Level.TAILS: "files are not read on",
    Level.REQUESTS: "clients are told to come back later",
    Level.SCRAPES: "targets are scraped one at a time, pages that do not fit are refused",
}
"""What happens at a level, in the words of the log."""


class Guard:
    """Runs from `start` to `stop`. Where it is switched off, or nothing limits memory, it only returns what large requests took."""

    def __init__(self, options: MemoryConfig, pressure: Pressure = PRESSURE) -> None:
        self._options = options
        self._pressure = pressure
        self._task: asyncio.Task[None] | None = None
        self._log = LogLimit(60.0)
        self._relieved = float("-inf")

    def start(self) -> None:
        """Sets the limit and begins to measure."""
        options, pressure = self._options, self._pressure
        self._task = asyncio.create_task(self._run(), name="memory guard")
        limit = options.limit or usage.cgroup_limit() or 0
        if not options.guard or not limit:
            return
        if limit < TIGHT:
            usage.keep_little()
        pressure.set(min(limit, usage.machine_total()))
        shares = ", ".join([f"from {share:.0%} {GIVES_WAY[level]}" for level, share in SHARES.items()])
        log.info("memory: %d of %d MiB in use; %s", pressure.used // _MIB, pressure.limit // _MIB, shares)

    async def stop(self) -> None:
        """Nothing gives way any more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._pressure.set(0)

    async def _run(self) -> None:
        while True:
            calm = CALM_SECONDS if self._pressure.limit else REST_SECONDS
            await asyncio.sleep(SHORT_SECONDS if self._pressure.level else calm)
            try:
                if self._pressure.limit:
                    self.look()
                if self._pressure.freed:
                    self._pressure.give_back(REST_SECONDS)
            except Exception:
                if self._log.due("defect"):
                    log.exception("memory cannot be measured")

    def look(self) -> None:
        """One measurement, and what follows from it."""
        pressure = self._pressure
        before = pressure.level
        level = pressure.look()
        if level >= Level.MEMOS:
            if not self._relieve(level) and pressure.give_back():
                pressure.look()
            level = pressure.level
        if level > before:
            if self._log.due(level):
                log.warning("memory: %s: %s", self._figures(), GIVES_WAY[level])
        elif before and not level and self._log.due(level):
            log.info("memory: %s: nothing gives way any more", self._figures())

    def _figures(self) -> str:
        used, limit = self._pressure.used, self._pressure.limit
        return f"{used // _MIB} of {limit // _MIB} MiB in use ({100 * used // limit} %)"

    def _relieve(self, level: Level) -> bool:
        now = asyncio.get_running_loop().time()
        if now < self._relieved + (LATER_SECONDS if level == Level.MEMOS else RELIEF_SECONDS):
            return False
        self._relieved = now
        ACCOUNT.relieve()
        gc.collect()
        usage.give_back()
        self._pressure.look()
        return True
