"""Memory for pages: claimed while they arrive, and whose turn it is when there is no room for all at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from kofagent.memory.pressure import PRESSURE, Claim, Level, Pressure
from kofagent.prometheus import parts

MIB = 1 << 20
MOST_BODY, LEAST_BODY = 64 * MIB, 4 * MIB
BODY_SHARE = 8
AT_ONCE = 64 << 10
"""Bytes of a page that is read without a break: 30 ms where all of its lines are new, 120 ms where they are all labels."""
T = TypeVar("T")


def default_body_limit(pressure: Pressure = PRESSURE) -> int:
    """Largest page where `body_size_limit` is not set: an eighth of the memory limit, at least 4 and at most 64 MiB."""
    return max(LEAST_BODY, min(MOST_BODY, pressure.limit // BODY_SHARE)) if pressure.limit else MOST_BODY


class PageRoom:
    """What one page takes until it is read. The first SMALL bytes of a page are not counted: most pages end before."""

    __slots__ = ("_ahead", "_claim", "_known", "_lines", "_most", "_pieces", "_size")

    def __init__(self, claim: Claim, known: int, most_series: int) -> None:
        """`known` lines of the page are known already; of the others at most `most_series` will be kept, 0: all."""
        self._claim = claim
        self._known = known
        self._most = most_series
        self._size = self._lines = self._ahead = 0
        self._pieces: list[bytes] = []

    @property
    def need(self) -> int:
        """Bytes that the page takes, as far as it was seen; 0 of one that is not large."""
        return self._size + self._ahead if self._ahead else 0

    def __call__(self, piece: bytes) -> bool:
        """Takes room for a piece: its bytes, those of the page in one piece, and what its lines will need."""
        self._size += len(piece)
        self._pieces.append(piece)
        if self._size <= parts.SMALL:
            return True
        self._lines += sum([early.count(b"\n") for early in self._pieces])
        arrived = sum(map(len, self._pieces))
        self._pieces = []
        ahead = self._size + parts.cost(self._size, self._lines, self._known, self._most)
        more, self._ahead = max(0, ahead - self._ahead), max(ahead, self._ahead)
        return self._claim.grow(arrived, more)


class Turns:
    """Large pages at the same time, as long as there is room for them; one at a time when memory is very short."""

    def __init__(self, pressure: Pressure = PRESSURE) -> None:
        self._pressure = pressure
        self._under_way = 0
        self._waiting: list[asyncio.Future[None]] = []
        self._read = False
        self._to_read: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """While a page that is not small is read: pages that others have got wait as they came, without their lines."""
        while self._read:
            turn = asyncio.get_running_loop().create_future()
            self._to_read.append(turn)
            await turn
        self._read = True
        try:
            yield
        finally:
            self._read = False
            while self._to_read:
                turn = self._to_read.popleft()
                if not turn.done():
                    turn.set_result(None)
                    break

    def free(self, expected: int) -> bool:
        """Whether a page that will need `expected` bytes may be asked for now: at the latest when no other is under way."""
        if not self._under_way:
            return True
        return self._pressure.level < Level.SCRAPES and (not expected or self._pressure.fits(expected))

    async def wait(self, expected: int) -> None:
        """Returns when it is `free`."""
        while not self.free(expected):
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn

    def __enter__(self) -> None:
        self._under_way += 1

    def __exit__(self, *error: object) -> None:
        self._under_way -= 1
        waiting, self._waiting = self._waiting, []
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)


TURNS = Turns()
