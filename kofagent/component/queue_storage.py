"""Where a queue on disk has its folder: in a storage extension (`sending_queue.storage`), or in a directory that is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from kofagent.component.checkpoints import KeyValueStore
from kofagent.component.protocols import Context
from kofagent.component.segment_log import SEGMENT_BYTES, SegmentLog
from kofagent.config.blocks import QueueBlock

MakeLog = Callable[[Context], SegmentLog]
"""Makes the log of an exporter, not opened."""


class OldQueue(Protocol):
    """A queue in a database, as versions up to 0.1 had it."""

    @property
    def store(self) -> KeyValueStore:
        """What has its entries."""
        ...

    async def remove(self) -> None:
        """Deletes it; OSError."""
        ...


@runtime_checkable
class QueueStorage(Protocol):
    """What an extension named under `sending_queue.storage` offers."""

    def queue_log(self, kind: str, id: str, segment_bytes: int) -> SegmentLog:
        """The log of one component, not opened."""
        ...

    async def old_queue(self, kind: str, id: str) -> OldQueue | None:
        """What a version up to 0.1 left of the component's queue."""
        ...


def segment_bytes(max_size: int) -> int:
    """Size of a file: deleting one makes enough room to matter, and holding one back for a single record costs little."""
    return max(64 << 10, min(SEGMENT_BYTES, max_size // 16))


def log_of(context: Context, options: QueueBlock, directory: str = "") -> SegmentLog:
    """The log in the extension that the options name, or in `directory`. StartError."""
    size = segment_bytes(options.storage_max_size)
    if directory:
        return SegmentLog(directory, segment_bytes=size)
    return context.host.extension(str(options.storage), QueueStorage).queue_log(context.kind, context.id, size)


async def old_queue_of(context: Context, options: QueueBlock) -> OldQueue | None:
    """What a version up to 0.1 left. StartError."""
    if not options.storage:
        return None
    return await context.host.extension(options.storage, QueueStorage).old_queue(context.kind, context.id)
