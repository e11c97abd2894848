"""`WhileLeading`: runs a receiver's work only while this replica leads, where the configuration names an elector."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from kofagent.component.backoff import Backoff
from kofagent.component.protocols import Context, LeaderElector, StartError

FIRST_RETRY = 1.0
LONGEST_RETRY = 60.0


class WhileLeading:
    """`begin` and `end` are the receiver's own start and stop; `end` may be called without `begin`, and more than once."""

    def __init__(
        self, context: Context, elector: str | None, begin: Callable[[], Awaitable[None]], end: Callable[[], Awaitable[None]]
    ) -> None:
        self._context = context
        self._id = elector
        self._begin = begin
        self._end = end
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Without an elector `begin`, with one the start ends at once. StartError if that does not run."""
        if self._id is None:
            await self._begin()
            return
        elector = self._context.host.extension(self._id, LeaderElector)
        self._task = asyncio.create_task(self._follow(elector), name=f"{self._context.id} leads")

    async def stop(self) -> None:
        """Ends the work, whoever leads."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._end()

    async def _follow(self, elector: LeaderElector) -> None:
        while True:
            if elector.is_leader():
                turned = asyncio.create_task(elector.changed(True), name=f"{self._context.id} elector")
                try:
                    await self._work(turned)
                    await turned
                finally:
                    turned.cancel()
                await self._end()
                self._context.report(None)
            else:
                await elector.changed(False)

    async def _work(self, turned: asyncio.Task[None]) -> None:
        """Begins; what cannot begin is tried again, as long as this replica leads."""
        backoff = Backoff(FIRST_RETRY, LONGEST_RETRY)
        while not turned.done():
            try:
                await self._begin()
                return
            except StartError as error:
                await self._end()
                self._context.log.warning("%s; it is tried again", error)
                self._context.report(str(error))
                await asyncio.wait({turned}, timeout=backoff.next())
