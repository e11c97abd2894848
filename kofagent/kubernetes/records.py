"""What receivers of objects share: records as a batch, a batch offered until somebody owns it, several streams as one status."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence

from kofagent.component.protocols import Consumer, Context
from kofagent.kubernetes.changes import Record
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.ledger import ReceiverAccount
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from kofagent.wire.otlp import build_resource, build_scope

FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0
LOG_EVERY = 60.0


def log_batch(records: Sequence[Record], scope: bytes) -> Batch:
    """One batch of the records, those of one resource together, otherwise in order."""
    groups: dict[bytes, list[bytes]] = {}
    for resource, record in records:
        groups.setdefault(resource, []).append(record)
    payload = b"".join([build_resource([build_scope(group, scope)], resource) for resource, group in groups.items()])
    return Batch(Signal.LOGS, payload, len(records))


class Delivery:
    """Offers batches to a pipeline until somebody owns them. The data is still at the API server, so it may wait for ever."""

    def __init__(self, context: Context, consumer: Consumer, account: ReceiverAccount) -> None:
        self._context = context
        self._consumer = consumer
        self._account = account
        self._logged = 0.0

    async def offer(self, batch: Batch) -> None:
        """Returns when the batch is owned, or was refused for good (counted by whoever refused it)."""
        wait = FIRST_WAIT
        while True:
            try:
                await self._consumer.consume(batch)
            except Refused as refused:
                if refused.permanent:
                    self._account.refused(batch.count)
                    self._log("the pipeline refused %d log records for good (%s)", batch.count, refused)
                    return
                self._log("the pipeline does not take log records for now, %d wait (%s)", batch.count, refused)
                await asyncio.sleep(max(wait * random.uniform(0.5, 1.0), refused.retry_after or 0.0))
                wait = min(wait * 2, LONGEST_WAIT)
            except Exception:
                # A bug downstream must not end the stream; nobody owns the batch, and that is counted.
                self._context.log.exception("the pipeline failed on %d log records", batch.count)
                self._account.refused(batch.count)
                self._context.ledger.dropped(self._context.id, batch.signal, "internal error", batch.count)
                return
            else:
                self._account.accepted(batch.count)
                return

    def _log(self, message: str, count: int, refused: Refused) -> None:
        now = time.monotonic()
        if not self._logged or now - self._logged > LOG_EVERY:
            self._logged = now
            self._context.log.warning(message, count, refused)


class Statuses:
    """The troubles of several streams as the one status of their component."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._errors: dict[str, str] = {}

    def of(self, name: str) -> Callable[[str | None], None]:
        """The function that reports for the stream `name`."""

        def report(error: str | None) -> None:
            if error is None:
                self._errors.pop(name, None)
            else:
                self._errors[name] = error
            self._context.report("; ".join(dict.fromkeys(self._errors.values())) or None)

        return report
