"""Limits the bytes of request bodies that are in memory at the same time."""

from __future__ import annotations

import time
from collections.abc import Callable

from kofagent.memory.pressure import PRESSURE, Claim, Level

COPIES = 2
"""Copies of a body that are made on its way out: joined with others, encoded for the backend."""

PATIENCE = 2.0
"""Seconds after which a body that is not complete gives way to others when there is no room."""


class Overloaded(Exception):
    """The budget for request bodies is used up, or memory is short."""


class ByteBudget:
    """Bytes of all bodies in flight together; 0: no limit. There is no room either when memory is short (`memory.pressure`).

    Only what has arrived counts. When there is no room, bodies that have not come completely in `PATIENCE` seconds give way,
    the oldest first: who does not finish cannot keep others out.
    """

    __slots__ = ("_coming", "limit", "used")

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self.used = 0
        self._coming: dict[Reservation, float] = {}
        """Bodies that are not complete, and when they began, oldest first."""

    @property
    def free(self) -> int:
        """Bytes left."""
        return self.limit - self.used if self.limit else 1 << 62

    def open(self, copies: int = COPIES) -> Reservation:
        """The reservation of one request, empty at first; of its body `copies` will be made."""
        return Reservation(self, copies)

    def _make_room(self, size: int, asks: Reservation) -> None:
        late = time.monotonic() - PATIENCE
        for body, began in list(self._coming.items()):
            if began > late or size <= self.free:
                return
            if body is not asks and body.give_way is not None:
                give_way = body.give_way
                body.close()
                give_way()


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
    def free(self) -> int:
        """Bytes left in the budget."""
        return self._budget.free

    def take(self, size: int) -> None:
        """Reserves; Overloaded when the budget is used up or memory is short."""
        budget = self._budget
        if PRESSURE.limit:
            if self._claim is None:
                self._claim = PRESSURE.claim("requests")
            if PRESSURE.level >= Level.REQUESTS or not self._claim.grow(size, self._copies * size):
                raise Overloaded
        if size > budget.free:
            budget._make_room(size, self)
            if size > budget.free:
                raise Overloaded
        if not self._size and self.give_way is not None:
            budget._coming[self] = time.monotonic()
        budget.used += size
        self._size += size

    def arrived(self) -> None:
        """The body is complete: it stays until the request is answered."""
        self.give_way = None
        self._budget._coming.pop(self, None)

    def close(self) -> None:
        """Returns all of it."""
        self._budget._coming.pop(self, None)
        self._budget.used -= self._size
        self._size = 0
        if self._claim is not None:
            self._claim.close()
