"""What a queue on disk keeps of a batch: `Entry` in memory, `encode` and `decode` for the disk, and queues of earlier versions.

The body of a record is the metadata in JSON, then the payload. Headers with credentials are not kept unless an option says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from hashlib import blake2b
from typing import NamedTuple

from kofagent.component.records import HEADER_BYTES, Header
from kofagent.component.requests import Drop
from kofagent.component.segment_log import Record
from kofagent.component.splitting import Split, split_batch
from kofagent.telemetry.batch import AnyBatch, Batch, Metadata
from kofagent.telemetry.signal import Signal

OLD_PREFIX = "queue/"
CREDENTIALS = re.compile(r"auth|cookie|token|secret|passw|credential|api[-_]?key|access[-_]?key|session|signature")
"""Names of headers, in lower case, that are taken for secrets."""


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


def bytes_on_disk(header: Header) -> int:
    """What a record takes."""
    return HEADER_BYTES + header.length


class Entry:
    """A batch on disk, without its content."""

    __slots__ = ("record", "since")

    def __init__(self, record: Record, since: float = 0.0) -> None:
        self.record = record
        self.since = since

    @property
    def number(self) -> int:
        """The place in the order of all."""
        return self.record.header.number

    @property
    def signal(self) -> Signal:
        """What it holds."""
        return self.record.header.signal

    @property
    def items(self) -> int:
        """How many."""
        return self.record.header.items

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return self.record.header.size

    @property
    def key(self) -> object:
        """As `line.Entry.key`."""
        header = self.record.header
        return None if header.has_metadata and not header.digest else (header.signal, header.has_metadata, header.digest)


def digest(metadata: Metadata | None, partition: tuple[str, ...]) -> int:
    """Tells metadata apart where `sending_queue.batch` joins; which of its names count is part of it. Never 0."""
    if metadata is None:
        return 0
    text = json.dumps([partition, sorted(metadata.items())])
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") or 1


def without_credentials(metadata: Metadata | None, needed: Collection[str]) -> tuple[Metadata | None, list[str]]:
    """The metadata without what looks like credentials and is not needed by name, and the names left out."""
    if not metadata:
        return None, []
    left_out = [name for name in metadata if name not in needed and CREDENTIALS.search(name)]
    if not left_out:
        return metadata, []
    return {name: values for name, values in metadata.items() if name not in left_out} or None, left_out


def encode(batch: Batch, form: Form, digest: int = 0) -> tuple[Header, bytes]:
    """The record of a batch; number and checksum are given to it when it is written."""
    metadata = json.dumps({k: list(v) for k, v in batch.metadata.items()}).encode() if batch.metadata else b""
    body = metadata + form.pack(batch.payload) if metadata else form.pack(batch.payload)
    return Header(0, batch.signal, batch.count, batch.size, bool(metadata), len(metadata), len(body), digest, 0), body


def decode(header: Header, body: bytes, form: Form) -> Batch:
    """The batch of a record; ValueError for a damaged one."""
    end = header.metadata_length
    try:
        metadata = {str(k): tuple(map(str, v)) for k, v in json.loads(body[:end]).items()} if end else None
    except (TypeError, AttributeError):
        raise ValueError(f"record {header.number} has other metadata") from None
    batch = Batch(header.signal, form.unpack(body[end:]), header.items, metadata)
    if batch.size != header.size:
        raise ValueError(f"record {header.number} has {len(body)} bytes")
    return batch


def of_old(name: str, value: bytes) -> tuple[Header, bytes]:
    """The record of a batch as versions up to 0.1 kept it, in a database; ValueError if it is not one.

    Its key was `queue/<number>/<signal>/<items>/<size>[/m[<digest>]]`, its value the length of the metadata in 4 bytes,
    the metadata, and the payload.
    """
    _number, signal, items, size, *rest = name.removeprefix(OLD_PREFIX).split("/")
    end = int.from_bytes(value[:4], "big")
    if len(value) < 4 + end or len(rest) > 1 or not all(part.startswith("m") for part in rest):
        raise ValueError(f"{name} has {len(value)} bytes")
    digest = int(rest[0][1:] or "0", 16) if rest else 0
    return Header(0, Signal(signal), int(items), int(size), end > 0, end, len(value) - 4, digest, 0), value[4:]
