"""A consumer that answers as a script says, and an account of what it was given."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kofagent.component.protocols import ColumnsConsumer
from kofagent.telemetry.batch import AnyBatch
from kofagent.telemetry.refused import Refused


class Defect(Exception):
    """A bug in a component downstream."""


class Scripted(ColumnsConsumer):
    """`mood` says what becomes of each batch: take, refuse, never (for good), late, stall, defect, value error."""

    def __init__(self, mood: str = "take") -> None:
        self.mood = mood
        self.retry_after = 0.01
        self.taken = 0
        self.refused = 0
        """Items of calls refused for now."""
        self.lost = 0
        """Items refused for good, which a component downstream would have counted as dropped."""
        self.failed = 0
        self.withdrawn = 0
        self.calls: list[AnyBatch] = []
        self.within = 0
        self.gate = asyncio.Event()
        """Lets calls go on that stall, or are late."""
        self.called = asyncio.Event()

    @property
    def offered(self) -> int:
        """Items of all calls that have ended."""
        return self.taken + self.refused + self.lost + self.failed + self.withdrawn

    async def consume(self, batch: AnyBatch) -> None:
        self.calls.append(batch)
        self.within += batch.count
        self.called.set()
        try:
            await self._answer(batch)
        except asyncio.CancelledError:
            self.withdrawn += batch.count
            raise
        finally:
            self.within -= batch.count

    async def _answer(self, batch: AnyBatch) -> None:
        if self.mood in ("late", "stall"):
            await self.gate.wait()
        if self.mood == "refuse":
            self.refused += batch.count
            raise Refused("sending queue full", "by the script", retry_after=self.retry_after)
        if self.mood == "never":
            self.lost += batch.count
            raise Refused("rejected", "by the script", permanent=True)
        if self.mood in ("defect", "value error"):
            self.failed += batch.count
            raise (Defect if self.mood == "defect" else ValueError)("by the script")
        self.taken += batch.count

    async def wait_for(self, condition: Callable[[Scripted], bool], seconds: float = 20) -> None:
        """Waits until `condition(self)` is true after a call."""
        async with asyncio.timeout(seconds):
            while not condition(self):
                self.called.clear()
                await self.called.wait()
                await asyncio.sleep(0)
