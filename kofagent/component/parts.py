"""`offer_parts`: a batch that was cut is offered part by part, no part twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from kofagent.component.backoff import Backoff
from kofagent.component.protocols import ColumnsConsumer
from kofagent.telemetry.batch import AnyBatch
from kofagent.telemetry.refused import Refused

FIRST_WAIT, LONGEST_WAIT = 0.1, 5.0
"""Seconds between two offers of a part."""
HELD_AT_MOST = 60.0
"""Seconds after which the rest of a batch is no longer held back for a part that is refused again and again."""


class PartlyTaken(Exception):
    """The first `settled` items have an owner, or are lost and counted; the rest is refused for now."""

    def __init__(self, settled: int, refusal: Refused) -> None:
        super().__init__(settled)
        self.settled = settled
        self.refusal = refusal


async def offer_parts(
    consumer: ColumnsConsumer, parts: Iterable[AnyBatch], stopping: asyncio.Event, taken: Callable[[AnyBatch], None]
) -> None:
    """Returns when the parts have an owner; `taken` is called for each. Refused for the whole batch if no part was taken, else
    PartlyTaken.

    A part that is refused for good was counted, and the others are still offered. Once one was taken or lost, a part that is
    refused for now is offered again here, while the caller waits: the caller could only offer the whole batch again, and that
    part with it. This ends after HELD_AT_MOST, or when the agent stops: then PartlyTaken says where.
    """
    settled, some = 0, False
    lost: Refused | None = None
    for part in parts:
        backoff = Backoff(FIRST_WAIT, LONGEST_WAIT, elapsed=HELD_AT_MOST)
        while True:
            try:
                await consumer.consume(part)
            except Refused as refused:
                if not refused.permanent:
                    wait = backoff.next(refused.retry_after)
                    if not settled:
                        raise
                    if stopping.is_set() or not backoff.allows(wait):
                        raise PartlyTaken(settled, refused.copy()) from None
                    await _pause(stopping, wait)
                    continue
                lost = refused.copy()
            else:
                taken(part)
                some = True
            settled += part.count
            break
    if lost is not None and not some:
        raise lost


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        pass
