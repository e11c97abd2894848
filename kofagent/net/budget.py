"""Limits the bytes of request bodies that are in memory at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import NoReturn

from kofagent.memory.pressure import PRESSURE, Claim, Level

COPIES = 2
"""Copies of a body that are made on its way out: joined with others, encoded for the backend."""

MUCH = 1 << 20
"""When bodies of so many bytes together are answered, what they and their copies took is returned to the system."""

PATIENCE = 2.0
"""Seconds after which a body that is not complete gives way to others when there is no room."""

WAIT_SECONDS = 5.0
"""Seconds that a body may wait for room in all, before its client is told to come again: clients wait some ten for an answer."""
AGAIN_SECONDS = 0.1
"""Seconds between two looks whether there is room: it also comes from what is not in this budget."""
MOST_WAITING = 16
"""Bodies that may wait; a piece of each, some 100 KiB, is in memory and not counted."""
HEAD_START = 256 << 10
"""Bytes that a body may take while an older one needs the rest of the room."""


class Overloaded(Exception):
    """The budget for request bodies is used up, or memory is short."""


class ByteBudget:
    """Bytes of all bodies in flight together; 0: no limit. There is no room either when memory is short (`memory.pressure`).

    Only what has arrived counts, and bodies that are not complete have half of it at most, or an eighth of the memory that there
    is; one alone may have more. When there is no room, they give way: those that have not come completely in `PATIENCE` seconds,
    the oldest first, and those that are more than twice as large as what asks. Who does not finish cannot keep others out.

    What comes in pieces waits for room (`Reservation.hold`), in order, instead of being refused: of several large bodies one comes
    through, then the next. Where all that hold room wait for more, the youngest is refused.
    """

    __slots__ = ("_coming", "_turn", "_waiting", "coming", "holding", "limit", "used")

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self.used = 0
        self.coming = 0
        """Bytes of bodies that are not complete."""
        self.holding = 0
        """Bodies that hold room."""
        self._turn = asyncio.Lock()
        self._coming: dict[Reservation, float] = {}
        """Bodies that are not complete, and when they began, oldest first."""
        self._waiting: dict[Reservation, asyncio.Event] = {}
        """Bodies that wait for room, oldest first."""

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

    def _alone(self, body: Reservation) -> bool:
        """Whether no other body comes: those that wait do not."""
        return (
            self.coming - sum([other.size for other in self._waiting if other is not body and other in self._coming]) == body.size
        )

    def _yields(self, body: Reservation, size: int) -> bool:
        """Whether a body that is not complete leaves the room to an older one, which is on its way and will need it."""
        oldest = next(iter(self._coming), body)
        if oldest is body or body.give_way is None or body.size + size <= HEAD_START:
            return False
        if self._coming[oldest] < time.monotonic() - PATIENCE:
            return False
        more = max(0, oldest.expected - oldest.size)
        whole = max(size, body.expected - body.size)
        return more + whole + self.coming > self.most_coming or not PRESSURE.fits((1 + COPIES) * (more + whole))

    def _first(self, of: Iterable[Reservation]) -> Reservation | None:
        """Whose turn it is: bodies that are complete before those that come, these in the order in which they began."""
        waiting = dict.fromkeys(of)
        complete = (body for body in waiting if body.give_way is None)
        return next(complete, next((body for body in self._coming if body in waiting), next(iter(waiting), None)))

    def _wake(self) -> None:
        first = self._first(self._waiting)
        if first is not None:
            self._waiting[first].set()

    def _untie(self, body: Reservation) -> None:
        """Whose turn it is finds no room: where all that hold some wait for more, the youngest of the others gives way."""
        holding = [other for other in self._waiting if other.size]
        if (
            len(holding) == self.holding
            and self._first(self._waiting) is body
            and (others := [o for o in holding if o is not body])
        ):
            others[-1].gives_up = True
            self._waiting[others[-1]].set()

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

    __slots__ = ("_budget", "_claim", "_copies", "_patience", "_size", "expected", "give_way", "gives_up")

    def __init__(self, budget: ByteBudget, copies: int = COPIES) -> None:
        self._budget = budget
        self._copies = copies
        self._size = 0
        self._claim: Claim | None = None
        self._patience = WAIT_SECONDS
        self.expected = 0
        """Bytes that the body will have, as far as its client said."""
        self.gives_up = False
        """Whether it waits for room that others need more."""
        self.give_way: Callable[[], None] | None = None

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return self._size

    @property
    def free(self) -> int:
        """Bytes left in the budget."""
        return self._budget.free

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Of one body at a time: for what makes a large one larger. Several at once would all find no room, where there is some
        for one. Overloaded where the turn does not come in time."""
        lock = self._budget._turn
        try:
            began = time.monotonic()
            async with asyncio.timeout(self._patience):
                await lock.acquire()
        except TimeoutError:
            raise Overloaded from None
        finally:
            self._patience -= time.monotonic() - began
        try:
            yield
        finally:
            lock.release()

    async def hold(self, size: int, copies: int | None = None) -> None:
        """As `take`, of a piece of what is large: waits for its turn and for room. Overloaded when it has waited enough."""
        budget = self._budget
        if self._may(size) and self._taken(size, copies):
            return
        if len(budget._waiting) >= MOST_WAITING or 0 < budget.limit < self._size + size:
            self._refused()
        budget._waiting[self] = room = asyncio.Event()
        looked = False
        try:
            while not (self._may(size) and self._taken(size, copies)):
                if self._patience <= 0 or self.gives_up:
                    self._refused()
                if looked:
                    budget._untie(self)
                began = time.monotonic()
                room.clear()
                try:
                    async with asyncio.timeout(min(self._patience, AGAIN_SECONDS)):
                        await room.wait()
                except TimeoutError:
                    looked = True  # what is in use was measured anew since the last body has let go
                self._patience -= time.monotonic() - began
        finally:
            del budget._waiting[self]
            budget._wake()

    def _may(self, size: int) -> bool:
        """Whether it is this one's turn; a body that begins needs none."""
        budget = self._budget
        return self._size + size <= HEAD_START or (
            budget._first((*budget._waiting, self)) is self and not budget._yields(self, size)
        )

    def take(self, size: int, copies: int | None = None) -> None:
        """Reserves, with room for `copies` instead of those that the body is to have; Overloaded when there is no room."""
        if not self._taken(size, copies):
            self._refused()

    def _refused(self) -> NoReturn:
        if self._claim is not None:
            self._claim.refused()
        raise Overloaded

    def _taken(self, size: int, copies: int | None) -> bool:
        budget = self._budget
        if size > budget.free and not budget._make_room(self, size, lambda: size <= budget.free):
            return False
        # The first piece always may: most bodies are complete with it, and are not to be kept out by those that are not.
        if (
            self.give_way is not None
            and self._size
            and not budget._make_room(self, size, lambda: budget.coming + size <= budget.most_coming or budget._alone(self))
        ):
            return False
        if PRESSURE.limit:
            if self._claim is None:
                self._claim = PRESSURE.claim("requests")
            claim, ahead = self._claim, (self._copies if copies is None else copies) * size
            if not budget._make_room(self, size, lambda: PRESSURE.level < Level.REQUESTS and claim.fits(size, ahead)):
                return False
            claim.take(size, ahead)
        if self.give_way is not None:
            budget._coming.setdefault(self, time.monotonic())
            budget.coming += size
        budget.used += size
        budget.holding += size > 0 and not self._size
        self._size += size
        return True

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
        self._budget.holding -= self._size > 0
        self._size = 0
        if self._claim is not None:
            self._claim.close()
        if self._budget._waiting:
            self._budget._wake()
