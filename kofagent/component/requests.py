"""A batch on its way: the requests it is made into, and `Work`, which remembers what became of them.

An exporter makes requests out of a batch and sends one of them at a time; everything else (which one is next, what is tried again,
what is cut because the backend does not take it in one piece, what is counted) is the kit's. `Work` outlives every interruption
of a sender, so a request that was answered is not sent again, and it holds nothing of what was.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, Protocol, Self, TypeVar

from kofagent.telemetry.batch import AnyBatch, Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal


class Request(Protocol):
    """What one call to a backend sends."""

    @property
    def items(self) -> int:
        """Items that count as delivered when the backend takes it."""
        ...

    @property
    def size(self) -> int:
        """Bytes before compression."""
        ...

    def smaller(self) -> Sequence[Self]:
        """Requests of about half its size with the same items in the same order; empty when it cannot be cut."""
        ...


B = TypeVar("B", Batch, AnyBatch)
"""What an exporter takes: OTLP, or columns of samples as well."""
R = TypeVar("R", bound=Request)
Rejected = Mapping[str, int]
"""Items that a backend left out although it took the request, by reason."""
Send = Callable[[R], Awaitable[Rejected | None]]
"""Sends a request. Returns when the backend took it, with what it left out; raises Refused, `TooLarge` for its size."""
Drop = Callable[[str, int], None]
"""Reports that this many items of the batch are left out, for this reason."""
MakeRequests = Callable[[B, Drop], Iterable[R]]
"""The requests of a batch, in order, each made when it is its turn. Raises Refused(permanent) for what cannot be decoded."""


ISOLATING_MOST = 100
"""Requests more than one that a batch may cost to find the items for which the backend refuses it."""
ISOLATING_IN_VAIN = 32
"""The same as long as the backend took none of them: it may refuse everything."""


class TooLarge(Refused):
    """The backend does not take a request of this size; in several smaller ones it may take the same items."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail, permanent=True)


class Work(Generic[R]):
    """What is left of a batch, and the account of what is not: `sent`, and `dropped` by reason.

    Nothing of it enters the ledger before the batch is finished, so a batch that goes back to its caller, who will offer it again,
    is counted once.
    """

    def __init__(self, signal: Signal, items: int) -> None:
        self.signal = signal
        self.sent = 0
        self.dropped: dict[str, int] = {}
        self.failed = 0
        """Items among the dropped ones that the backend refused."""
        self.refusal: Refused | None = None
        """The last refusal for good."""
        self._items = items
        self._lost = 0
        self._requests: Iterator[R] = iter(())
        self._pieces: list[R] = []
        self._current: R | None = None
        self._alone = 0
        self._alone_least = 0
        self.isolating = 0
        """Requests that were made to find what the backend refuses."""

    def begin(self, requests: Iterable[R]) -> None:
        """These are the requests; the first one is made by `next`."""
        self._requests = iter(requests)

    def next(self) -> R | None:
        """The request to send now: the same one until it was `taken`, `refused` or `cut`. None at the end."""
        if self._current is None:
            self._current = self._pieces.pop() if self._pieces else next(self._requests, None)
        return self._current

    def taken(self, items: int, rejected: Rejected | None) -> None:
        """The backend took the request, of `items` items, but for those it rejected."""
        if rejected:
            for reason, count in rejected.items():
                count = min(max(count, 0), items)
                self.drop(reason, count)
                items -= count
        self.sent += items
        self._alone = self._alone_least = 0
        self._current = None

    def refused(self, items: int, refusal: Refused) -> None:
        """The backend will never take the request: its items are dropped, the other requests continue."""
        self.drop(refusal.reason, items)
        self.failed += items
        self.refusal = refusal
        self._current = None

    def cut(self, request: R) -> bool:
        """Puts smaller requests in the place of one that was too large; False when it cannot be cut."""
        pieces = request.smaller()
        if not pieces:
            self._alone += 1
            self._alone_least = min(self._alone_least or request.size, request.size)
            return False
        self._pieces.extend(reversed(pieces))
        self._current = None
        return True

    def isolate(self, request: R) -> bool:
        """Puts halves in the place of a request that was refused for good, perhaps for one item; False when it is not cut.

        A single item among n costs two requests for each halving, 2 log2(n). When that was done often enough, what is left is sent
        as it is, and what is refused of it is dropped whole.
        """
        if self.isolating + 2 > (ISOLATING_MOST if self.sent else ISOLATING_IN_VAIN):
            return False
        pieces = request.smaller()
        if not pieces:
            return False
        self.isolating += len(pieces)
        self._pieces.extend(reversed(pieces))
        self._current = None
        return True

    def hopeless(self, request: R) -> Refused | None:
        """The refusal to expect: the last three requests that could not be cut were refused, one of them no larger than this one.

        So a backend that answers "too large" to everything is asked some dozen times for a batch, not once for each item.
        """
        return self.refusal if self._alone >= 3 and request.size >= self._alone_least else None

    def drop(self, reason: str, items: int) -> None:
        """Items that will not be delivered."""
        if items > 0:
            self.dropped[reason] = self.dropped.get(reason, 0) + items
            self._lost += items

    @property
    def left(self) -> int:
        """Items whose outcome is not known yet."""
        return max(0, self._items - self.sent - self._lost)

    def give_up(self, refusal: Refused) -> None:
        """Nothing more is tried: what is left is dropped."""
        self.refused(self.left, refusal)
        self.end()

    def end(self) -> None:
        """Lets go of the requests: the generator that makes them refers to `drop`, a cycle that keeps the batch in memory."""
        self._requests, self._pieces, self._current = iter(()), [], None

    @property
    def answer(self) -> Refused | None:
        """The answer to the caller: a refusal if the backend refused something and took nothing."""
        return self.refusal if self.sent == 0 else None
