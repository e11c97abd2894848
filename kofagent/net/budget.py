"""Limits the bytes of request bodies that are in memory at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from kofagent.memory.pressure import PRESSURE, Claim, Level

COPIES = 2
"""Copies of a body that are made on its way out: joined with others, encoded for the backend."""

MUCH = 1 << 20
"""When bodies of so many bytes together are answered, what they and their copies took is returned to the system."""

PATIENCE = 2.0
"""Seconds after which a body that is not complete gives way to others when there is no room."""


class Overloaded(Exception):
    """The budget for request bodies is used up, or memory is short."""


class ByteBudget:
    """Bytes of all bodies in flight together; 0: no limit. There is no room either when memory is short (`memory.pressure`).

    Only what has arrived counts, and bodies that are not complete have half of it at most, or an eighth of the memory that there
    is. When there is no room, they give way: those that have not come completely in `PATIENCE` seconds, the oldest first, and those
    that are more than twice as large as what asks. Who does not finish cannot keep others out.
    """

    __slots__ = ("_coming", "coming", "limit", "turn", "used")

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self.used = 0
        self.coming = 0
        """Bytes of bodies that are not complete."""
        self.turn = asyncio.Lock()
        """Held while a large body is unpacked: where there is room for one, several at once would all find none."""
        self._coming: dict[Reservation, float] = {}
        """Bodies that are not complete, and when they began, oldest first."""

    @property
    def free(self) -> int:
        """Bytes left."""
        return self.limit - self.used if self.limit else 1 << 62

    def open(self, copies: int = COPIES) -> Reservation:
        """The reservation of one request, empty at first; of its body `copies` will be made."""
        return Reservation(self, copies)

    @property
    def most_coming(self) -> int:
        """Bytes that bodies that are not complete may take together."""
        half = self.limit // 2 if self.limit else 1 << 62
        return min(half, PRESSURE.limit // 8) if PRESSURE.limit else half

    def _make_room(self, asks: Reservation, size: int, enough: Callable[[], bool]) -> bool:
        """Takes room from bodies that are not complete until there is enough; whether there is."""
        late = time.monotonic() - PATIENCE
        while not enough():
            others = [body for body in self._coming if body is not asks]
            if not others:
                return False
            victim = others[0]
            if self._coming[victim] > late:
                victim = max(others, key=lambda body: body.size)
                if victim.size <= 2 * (asks.size + size):
                    return False
            give_way = victim.give_way
            victim.close()
            if give_way is not None:
                give_way()
        return True


class Reservation:
    """The part of a `ByteBudget` that one request holds; `close` returns it.

    `give_way` is set while the body comes; it is called when the body has to go, after its room was returned.
    """

    __slots__ = ("_budget", "_claim", "_copies", "_size", "give_way")

    def __init__(self, budget: ByteBudget, copies: int = COPIES) -> None:
        self._budget = budget
        self._copies = copies
        self._size = 0
        self._claim: Claim | None = None
        self.give_way: Callable[[], None] | None = None

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return self._size

    @property
    def free(self) -> int:
        """Bytes left in the budget."""
        return self._budget.free

    @property
    def turn(self) -> asyncio.Lock:
        """As `ByteBudget.turn`."""
        return self._budget.turn

    def take(self, size: int) -> None:
        """Reserves; Overloaded when the budget is used up or memory is short."""
        budget = self._budget
        if PRESSURE.limit:
            if self._claim is None:
                self._claim = PRESSURE.claim("requests")
            claim, copies = self._claim, self._copies * size
            if not budget._make_room(self, size, lambda: PRESSURE.level < Level.REQUESTS and claim.grow(size, copies)):
                raise Overloaded
        if size > budget.free and not budget._make_room(self, size, lambda: size <= budget.free):
            raise Overloaded
        if self.give_way is not None:
            # The first piece always may: most bodies are complete with it, and are not to be kept out by those that are not.
            if self._size and not budget._make_room(self, size, lambda: budget.coming + size <= budget.most_coming):
                raise Overloaded
            budget._coming.setdefault(self, time.monotonic())
            budget.coming += size
        budget.used += size
        self._size += size

    def arrived(self) -> None:
        """The body is complete: it stays until the request is answered."""
        self.give_way = None
        if self._budget._coming.pop(self, None) is not None:
            self._budget.coming -= self._size

    def close(self) -> None:
        """Returns all of it."""
        if self._budget.used >= MUCH:
            PRESSURE.freed = True
        self.give_way = None
        if self._budget._coming.pop(self, None) is not None:
            self._budget.coming -= self._size
        self._budget.used -= self._size
        self._size = 0
        if self._claim is not None:
            self._claim.close()
