"""`Accounts`: enters into the ledger what became of the items that an exporter was given; each batch once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kofagent.component.protocols import Context
from kofagent.component.requests import Work
from kofagent.telemetry.ledger import ExporterAccount
from kofagent.telemetry.signal import Signal


class Accounts:
    """The accounts of one exporter, of all signals."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._accounts: dict[Signal, ExporterAccount] = {}

    def _of(self, signal: Signal) -> ExporterAccount:
        account = self._accounts.get(signal)
        if account is None:
            account = self._accounts[signal] = self._context.ledger.exporter(self._context.id, signal)
        return account

    def close(self, work: Work[Any]) -> None:
        """A finished batch: what was sent, and what was dropped, by reason."""
        if work.left:
            work.drop("malformed", work.left)  # no request had these, so they could not be decoded
        account = self._of(work.signal)
        if work.sent:
            account.sent(work.sent)
        if work.failed:
            account.send_failed(work.failed)
        for reason, items in work.dropped.items():
            self._context.ledger.dropped(self._context.id, work.signal, reason, items)

    def sent(self, signal: Signal, items: int) -> None:
        """Items that the backend took, of a batch that is not finished."""
        self._of(signal).sent(items)

    def lost(self, signal: Signal, reason: str, items: int) -> None:
        """Items that are dropped although no request with them was refused."""
        self._of(signal).send_failed(items)
        self._context.ledger.dropped(self._context.id, signal, reason, items)

    def left_out(self, signal: Signal, reason: str, items: int) -> None:
        """Items that cannot be sent to this kind of backend."""
        self._context.ledger.dropped(self._context.id, signal, reason, items)

    def given_back(self, signal: Signal, items: int) -> None:
        """Items that could not be sent and go back to their caller."""
        self._of(signal).send_failed(items)

    def not_queued(self, signal: Signal, items: int) -> None:
        """Items that the queue did not take."""
        self._of(signal).enqueue_failed(items)

    def inherited(self, found: Mapping[Signal, int]) -> None:
        """Items that a queue on disk had at its start. What this process left there itself, before a reload, is known already."""
        for signal, items in found.items():
            labels = {"exporter": self._context.id, "signal": signal.value}
            known = self._context.ledger.total("kofagent_exporter_queue_items", **labels, queue="disk")
            if items > known:
                count = self._context.ledger.counter(
                    "kofagent_exporter_inherited_items", "Items that an earlier run left in the queue on disk.", **labels
                )
                count(items - known)
