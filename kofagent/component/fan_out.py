"""One answer out of many: what a component that hands data to several consumers says to its own caller."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable

from kofagent.telemetry.refused import Refused


async def all_of(offers: Iterable[Awaitable[None]]) -> None:
    """Waits for all offers at once. One retryable refusal makes the answer retryable: twice is better than not at all.

    If only permanent refusals are left, the consumers that raised them have counted the loss: the answer is permanent only if
    nothing was taken.
    """
    waiting = list(offers)
    if len(waiting) == 1:
        await waiting[0]
        return
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    errors = [a for a in answers if isinstance(a, BaseException)]
    for error in errors:
        if not (isinstance(error, Refused) and error.permanent):
            raise error
    if errors and len(errors) == len(answers):
        raise errors[0]
