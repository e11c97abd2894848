"""`Queue`: what stands between the callers that bring batches and the consumers that send them."""

from __future__ import annotations

from typing import ClassVar, Generic, Protocol, TypeVar

from kofagent.component.requests import B
from kofagent.telemetry.refused import Refused

E = TypeVar("E")


class Group(Generic[B, E]):
    """Batches that leave a queue together: joined, and what the queue knows of each."""

    __slots__ = ("batch", "entries")

    def __init__(self, batch: B, entries: list[E]) -> None:
        self.batch: B = batch
        self.entries = entries


class Queue(Protocol[B, E]):
    """In memory (`MemoryQueue`) or on disk (`DiskQueue`)."""

    owns: ClassVar[bool]
    """Whether the queue owns a batch when `put` returns: no other component has it then."""

    async def start(self) -> None:
        """Continues with what an earlier run left; StartError."""
        ...

    async def put(self, batch: B) -> None:
        """Returns when the batch has an owner: a queue that owns, at once, any other when the backend has it. Refused."""
        ...

    async def take(self) -> Group[B, E] | None:
        """What is to be sent next; waits for it. None when the queue is closed."""
        ...

    async def done(self, group: Group[B, E], refusal: Refused | None) -> None:
        """The backend took the group, or refused it for good, which is already counted: it leaves the queue."""
        ...

    def put_back(self, group: Group[B, E], refusal: Refused) -> None:
        """The group was not sent: it goes back to its callers, or stays in a queue that owns it."""
        ...

    def close(self) -> None:
        """Nothing more comes in."""
        ...

    async def stop(self) -> None:
        """After the last consumer: what is left goes back, or stays on disk."""
        ...
