"""`Polling`: collects on a timer and hands on what was collected. A receiver writes one coroutine, `collect`.

The timer does not drift: collections are due at multiples of the interval after the first. One that takes longer than the interval
leaves out the times that it missed; two never overlap. A collection that fails is logged and the next one comes as usual.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable

from kofagent.component.log_limit import LogLimit
from kofagent.component.protocols import Context
from kofagent.telemetry.batch import Batch

Collect = Callable[[], Awaitable[Batch | None] | AsyncIterator[Batch]]
"""What a receiver writes: a coroutine function that returns one batch or None, or an async generator of several batches.

A generator is resumed after a `yield` when the batch has been offered: taken, or lost and counted.
"""
GRACE = 2.0
"""Seconds that `stop` waits for the offer under way, so that what was collected is not lost to a restart."""
LOG_EVERY = 60.0


class Polling:
    """The timer of one receiver; `offer` is one of the policies of `component.offering.Offer`."""

    def __init__(
        self,
        context: Context,
        collect: Collect,
        offer: Callable[[Batch], Awaitable[None]],
        *,
        interval: float,
        initial_delay: float = 0.0,
        timeout: float = 0.0,
        report: Callable[[str | None], None] | None = None,
        name: str = "",
    ) -> None:
        """Times in seconds. `timeout` cancels a collection, not an offer; 0: never. `report` gets failures and their end."""
        self._context = context
        self._collect = collect
        self._offer = offer
        self._interval = interval
        self._initial_delay = initial_delay
        self._timeout = timeout or None
        self._report = report or context.report
        self._name = name or context.id
        self._log = LogLimit(LOG_EVERY)
        self._task: asyncio.Task[None] | None = None
        self._offering = False
        self._stopping = False
        self._failing = False

    def start(self) -> None:
        """The first collection is due after `initial_delay`."""
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def stop(self) -> None:
        """Ends a collection at once, an offer after a moment of grace."""
        self._stopping = True
        task, self._task = self._task, None
        if task is None:
            return
        if self._offering:
            await asyncio.wait({task}, timeout=GRACE)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + self._initial_delay
        while not self._stopping:
            await asyncio.sleep(due - loop.time())
            await self._round()
            due += self._interval * max(1, math.ceil((loop.time() - due) / self._interval))

    async def _round(self) -> None:
        try:
            await self._collect_and_offer()
        except TimeoutError:
            self._failed(f"a collection did not end within {self._timeout:g} s" if self._timeout else "a collection timed out")
        except Exception as error:
            if self._log.due(type(error).__name__):
                self._context.log.exception("a collection failed; the next one comes as usual")
            self._failed(f"a collection failed: {type(error).__name__}", log=False)
        else:
            if self._failing:
                self._failing = False
                self._report(None)

    async def _collect_and_offer(self) -> None:
        collected = self._collect()
        if not isinstance(collected, AsyncIterator):
            async with asyncio.timeout(self._timeout):
                batch = await collected
            if batch is not None:
                await self._hand_on(batch)
            return
        async with contextlib.aclosing(collected) as batches:  # type: ignore[type-var]
            while not self._stopping:
                async with asyncio.timeout(self._timeout):
                    batch = await anext(batches, None)
                if batch is None:
                    return
                await self._hand_on(batch)

    async def _hand_on(self, batch: Batch) -> None:
        self._offering = True
        try:
            await self._offer(batch)
        finally:
            self._offering = False

    def _failed(self, sentence: str, log: bool = True) -> None:
        self._failing = True
        self._report(sentence)
        if log and self._log.due(sentence):
            self._context.log.warning("%s", sentence)
