"""Work in steps, between which other tasks of the event loop have their turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")
HOLD_SECONDS = 0.02
"""How long the event loop is held by steps before others have their turn."""


def at_once(steps: Generator[None, None, T]) -> T:
    """What comes of the steps, without a break."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


async def in_turns(steps: Generator[None, None, T]) -> T:
    """What comes of the steps, between which others have their turn every HOLD_SECONDS."""
    began = time.perf_counter()
    try:
        while True:
            next(steps)
            if time.perf_counter() - began >= HOLD_SECONDS:
                await asyncio.sleep(0)
                began = time.perf_counter()
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        steps.close()
