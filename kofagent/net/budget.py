"""Limits the bytes of request bodies that are in memory at the same time."""

from __future__ import annotations


class Overloaded(Exception):
    """The budget for request bodies is used up."""


class ByteBudget:
    """Bytes of all bodies in flight together; 0: no limit."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self.used = 0

    @property
    def free(self) -> int:
        """Bytes left."""
        return self.limit - self.used if self.limit else 1 << 62

    def open(self) -> Reservation:
        """The reservation of one request, empty at first."""
        return Reservation(self)


class Reservation:
    """The part of a `ByteBudget` that one request holds; `close` returns it."""

    __slots__ = ("_budget", "_size")

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self._size = 0

    @property
    def free(self) -> int:
        """Bytes left in the budget."""
        return self._budget.free

    def take(self, size: int) -> None:
        """Reserves; Overloaded when the budget is used up."""
        if size > self._budget.free:
            raise Overloaded
        self._budget.used += size
        self._size += size

    def close(self) -> None:
        """Returns all of it."""
        self._budget.used -= self._size
        self._size = 0
