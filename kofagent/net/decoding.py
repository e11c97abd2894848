"""Bodies that are decoded into objects: large ones in a thread, and only where there is memory for what they become."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from kofagent.memory.pressure import PRESSURE
from kofagent.net.budget import Overloaded

T = TypeVar("T")
_LARGE = 64 * 1024
"""Bytes of a body that is decoded at once."""


async def decoded(decode: Callable[[bytes], T], data: bytes, expansion: int) -> T:
    """What `decode` makes of a body; its errors, and Overloaded where memory is short.

    `expansion` is how many bytes of memory each byte of the body takes meanwhile.
    """
    if len(data) <= _LARGE:
        return decode(data)
    with PRESSURE.claim("decoders") as claim:
        if not claim.grow(0, expansion * len(data)):
            raise Overloaded
        return await asyncio.to_thread(decode, data)
