"""Log records of Kubernetes objects as a batch."""

from __future__ import annotations

from collections.abc import Sequence

from kofagent.kubernetes.changes import Record
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.signal import Signal
from kofagent.wire.otlp import build_resource, build_scope


def log_batch(records: Sequence[Record], scope: bytes) -> Batch:
    """One batch of the records, those of one resource together, otherwise in order."""
    groups: dict[bytes, list[bytes]] = {}
    for resource, record in records:
        groups.setdefault(resource, []).append(record)
    payload = b"".join([build_resource([build_scope(group, scope)], resource) for resource, group in groups.items()])
    return Batch(Signal.LOGS, payload, len(records))
