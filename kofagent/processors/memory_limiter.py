"""`memory_limiter`: refuses data while the process, or its cgroup, uses too much memory.

Measured every `check_interval`: what the kernel would kill for, in the cgroup where that has a limit, else of the process; pages of
files are not counted, since the kernel drops them by itself. Above the soft limit (limit less spike limit) the agent first gives up
what it only remembers (`kofagent_memo_bytes`) and collects garbage. Where that is not enough, everything is refused, retryable, so
that receivers push back. Upstream: processor/memorylimiterprocessor.
"""

from __future__ import annotations

import asyncio
import gc

from pydantic import Field, model_validator

from kofagent.component.protocols import ColumnsConsumer, Context, Processor
from kofagent.config.base import ComponentConfig, Duration
from kofagent.memory import usage as memory
from kofagent.memory.account import ACCOUNT
from kofagent.telemetry.batch import AnyBatch
from kofagent.telemetry.ledger import ProcessorAccount
from kofagent.telemetry.refused import Refused

_MIB = 1024 * 1024


class Config(ComponentConfig):
    """Options of memory_limiter."""

    check_interval: Duration = Field(0.0, description="Interval between measurements; required, 1s is a good value.")
    limit_mib: int = Field(0, ge=0, description="Hard limit, MiB.")
    spike_limit_mib: int = Field(0, ge=0, description="Expected growth between two measurements, MiB; 0: 20 % of the limit.")
    limit_percentage: int = Field(0, ge=0, le=100, description="Hard limit as a percentage of the memory of the cgroup or machine.")
    spike_limit_percentage: int = Field(0, ge=0, le=100, description="The spike limit, likewise.")
    min_gc_interval_when_soft_limited: Duration = Field(
        10.0, description="Minimum time between garbage collections above the soft limit."
    )
    min_gc_interval_when_hard_limited: Duration = Field(
        0.0, description="Minimum time between garbage collections above the hard limit."
    )

    max_gc_interval_when_soft_limited: Duration = Field(
        0.0, description="Accepted for compatibility; the minimum interval does not grow."
    )
    max_gc_interval_when_hard_limited: Duration = Field(
        0.0, description="Accepted for compatibility; the minimum interval does not grow."
    )

    @model_validator(mode="after")
    def _check(self) -> Config:
        if self.check_interval <= 0:
            raise ValueError("check_interval must be greater than zero; write check_interval: 1s")
        if not self.limit_mib and not self.limit_percentage:
            raise ValueError("limit_mib or limit_percentage must be greater than zero")
        if self.limit_mib and self.spike_limit_mib >= self.limit_mib:
            raise ValueError("spike_limit_mib must be smaller than limit_mib")
        if self.limit_percentage and self.spike_limit_percentage >= self.limit_percentage:
            raise ValueError("spike_limit_percentage must be smaller than limit_percentage")
        return self

    def limits(self) -> tuple[int, int]:
        """Soft and hard limit, bytes. Fixed sizes take precedence over percentages, as upstream."""
        if self.limit_mib:
            hard = self.limit_mib * _MIB
            spike = self.spike_limit_mib * _MIB or hard // 5
        else:
            total = memory.total()
            hard = total * self.limit_percentage // 100
            spike = total * self.spike_limit_percentage // 100 or hard // 5
        return hard - spike, hard


class MemoryLimiter(Processor[Config], ColumnsConsumer):
    """Measures once per pipeline and interval; `consume` itself costs one comparison."""

    _account: ProcessorAccount

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._over = 0
        """Bytes in use while that is too much, else 0."""
        self._relieved = False
        self._soft, self._hard = config.limits()
        self._collected = float("-inf")
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._account = self.context.ledger.processor(self.context.id, self.signal)
        self._measure()
        self._task = asyncio.create_task(self._run(), name=f"{self.context.id} measures")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def consume(self, batch: AnyBatch) -> None:
        """Refuses while over the soft limit."""
        self._account.incoming(batch.count)
        if self._over:
            raise Refused(
                "memory limit",
                f"{self._over // _MIB} MiB in use, data is refused above {self._soft // _MIB} MiB",
                retry_after=self.config.check_interval,
            )
        await self.next.consume(batch)
        self._account.outgoing(batch.count)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self.config.check_interval)
            self._measure()

    def _measure(self) -> None:
        used = memory.in_use()
        if used > self._soft:
            used = self._relieve(used)
        else:
            self._relieved = False
        if used > self._soft:
            now = asyncio.get_running_loop().time()
            pause = (
                self.config.min_gc_interval_when_hard_limited
                if used > self._hard
                else self.config.min_gc_interval_when_soft_limited
            )
            if now - self._collected >= pause:
                self._collected = now
                gc.collect()
                used = memory.in_use()
        over = used if used > self._soft else 0
        if bool(over) != bool(self._over):
            if over:
                self.context.log.warning(
                    "memory limit: %d MiB in use; data is refused above %d MiB", over // _MIB, self._soft // _MIB
                )
            else:
                self.context.log.info("memory use is below the limit again; accepting data")
            self.context.report(f"memory limit: {over // _MIB} MiB in use" if over else None)
        self._over = over

    def _relieve(self, used: int) -> int:
        """Lets the memos shrink before data is refused; returns the bytes in use afterwards."""
        freed = ACCOUNT.relieve()
        if not freed:
            return used
        if not self._relieved:
            self._relieved = True
            self.context.log.warning(
                "memory limit: %d MiB in use, more than %d MiB; caches were reduced by %.1f MiB",
                used // _MIB,
                self._soft // _MIB,
                freed / _MIB,
            )
        return memory.in_use()


COMPONENT = MemoryLimiter
