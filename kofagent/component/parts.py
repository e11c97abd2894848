"""`sending_queue.batch` of the exporters that send OTLP: waiting batches are joined, too large ones cut."""

from __future__ import annotations

from kofagent.component.sending import Sender
from kofagent.config.blocks import QueueBlock
from kofagent.telemetry.batch import AnyBatch, Batch
from kofagent.telemetry.refused import Refused
from kofagent.wire import otlp


def merge_items(queue: QueueBlock) -> int:
    """Up to how many items the `Sender` joins what waits; 0 without `batch`. Sizes in bytes are met by `consume` only."""
    batch = queue.batch
    if not queue.enabled or batch is None or batch.sizer != "items":
        return 0
    return min(batch.min_size, batch.max_size) if batch.max_size else batch.min_size


async def consume(sender: Sender, queue: QueueBlock, batch: AnyBatch) -> None:
    """Hands a batch to the sender, in parts of at most `batch.max_size`.

    A part that is refused for good is dropped and counted by the sender, the others are still sent; Refused when all were.
    A part that may be offered again makes the whole batch be offered again, so a backend can see the parts before it twice.
    """
    block = queue.batch
    if block is None or not queue.enabled or block.max_size <= 0 or not isinstance(batch, Batch):
        await sender.consume(batch)
        return
    in_items = block.sizer == "items"
    if (batch.count if in_items else len(batch.payload)) <= block.max_size:
        await sender.consume(batch)
        return
    parts = otlp.split(batch.signal.value, batch.payload, block.max_size if in_items else 0, 0 if in_items else block.max_size)
    refused = None
    taken = False
    for payload, items in parts:
        try:
            await sender.consume(Batch(batch.signal, payload, items, batch.metadata))
            taken = True
        except Refused as refusal:
            if not refusal.permanent:
                raise
            refused = refusal
    if refused is not None and not taken:
        raise refused
