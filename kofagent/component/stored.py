"""How a batch looks in a queue on disk: its key, so that a start reads keys only, and its value.

The key is `queue/<number>/<signal>/<items>/<size>[/m[<digest>]]` (`m`: with metadata; batches of equal digests may go together).
The value is the length of the metadata in JSON (4 bytes), the metadata, and the payload.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import blake2b
from typing import NamedTuple

from kofagent.component.requests import Drop
from kofagent.component.splitting import Split, split_batch
from kofagent.telemetry.batch import AnyBatch, Batch, Metadata
from kofagent.telemetry.signal import Signal

PREFIX = "queue/"


class Form(NamedTuple):
    """What an exporter keeps on disk in place of the batches it is given. Payloads can be joined by concatenation."""

    convert: Callable[[AnyBatch, Drop], Batch]
    """The batch that is kept, of the items that were not dropped. Refused(permanent) for what cannot be decoded."""
    pack: Callable[[bytes], bytes]
    """Makes a payload smaller."""
    unpack: Callable[[bytes], bytes]
    """The payload again; ValueError for a damaged one."""
    split: Split
    """Cuts a batch that was kept."""


def _as_it_is(batch: AnyBatch, drop: Drop) -> Batch:
    if not isinstance(batch, Batch):
        raise TypeError("this queue on disk holds OTLP")  # no exporter with `columns` uses this form
    return batch


OTLP = Form(_as_it_is, lambda payload: payload, lambda payload: payload, split_batch)
"""OTLP payloads, as they are."""


class Entry(NamedTuple):
    """What is known of a batch on disk without reading it."""

    name: str
    number: int
    signal: Signal
    items: int
    size: int
    metadata: str
    """Empty, `m` or `m` and a digest."""
    since: float = 0.0

    @staticmethod
    def of(number: int, batch: Batch, digest: str = "", since: float = 0.0) -> Entry:
        """The entry of a new batch; `digest`: `digest(...)` of its metadata."""
        metadata = f"m{digest}" if batch.metadata else ""
        name = f"{PREFIX}{number:016x}/{batch.signal.value}/{batch.count}/{batch.size}" + (f"/{metadata}" if metadata else "")
        return Entry(name, number, batch.signal, batch.count, batch.size, metadata, since)

    @staticmethod
    def parse(name: str) -> Entry:
        """The entry of a key of the store; ValueError for one that another version wrote."""
        number, signal, items, size, *rest = name.removeprefix(PREFIX).split("/")
        if len(rest) > 1 or not all(part.startswith("m") for part in rest):
            raise ValueError(f"{name!r} is not an entry of a queue")
        return Entry(name, int(number, 16), Signal(signal), int(items), int(size), rest[0] if rest else "")

    @property
    def key(self) -> object:
        """As `line.Entry.key`."""
        return None if self.metadata == "m" else (self.signal, self.metadata)


def digest(metadata: Metadata | None, partition: tuple[str, ...]) -> str:
    """Tells metadata apart where `sending_queue.batch` joins; which of its names count is part of it."""
    if metadata is None:
        return ""
    text = json.dumps([partition, sorted(metadata.items())])
    return blake2b(text.encode(), digest_size=8).hexdigest()


def encode(batch: Batch, form: Form) -> bytes:
    """The value of a batch."""
    metadata = json.dumps({k: list(v) for k, v in batch.metadata.items()}).encode() if batch.metadata else b""
    return b"".join((len(metadata).to_bytes(4, "big"), metadata, form.pack(batch.payload)))


def decode(entry: Entry, value: bytes, form: Form) -> Batch:
    """The batch of a value; ValueError for a damaged one."""
    end = 4 + int.from_bytes(value[:4], "big")
    if len(value) < end:
        raise ValueError(f"{entry.name} has {len(value)} bytes")
    try:
        metadata = {str(k): tuple(map(str, v)) for k, v in json.loads(value[4:end]).items()} if end > 4 else None
    except (TypeError, AttributeError):
        raise ValueError(f"{entry.name} has other metadata") from None
    batch = Batch(entry.signal, form.unpack(value[end:]), entry.items, metadata)
    if batch.size != entry.size:
        raise ValueError(f"{entry.name} has {len(value)} bytes")
    return batch
