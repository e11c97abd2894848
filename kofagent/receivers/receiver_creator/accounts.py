"""The ledger as the receivers of one template see it: they share the account of the template.

Pods come and go: an account for each would make the agent's own metrics, and its memory, grow for ever.
"""

from __future__ import annotations

from collections.abc import Callable

from kofagent.telemetry.ledger import BATCH_SIZES, Ledger

Labels = tuple[tuple[str, str], ...]


class Gauges:
    """Gauges of several receivers as one: the sum of what each has."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, Labels], dict[str, Callable[[], float]]] = {}

    def put(self, name: str, labels: Labels, child: str, read: Callable[[], float]) -> Callable[[], float] | None:
        """Adds one. The function to read the sum with, where it is the first of its gauge."""
        found = self._values.get((name, labels))
        if found is not None:
            found[child] = read
            return None
        parts = self._values[name, labels] = {child: read}
        return lambda: sum([each() for each in list(parts.values())])

    def drop(self, name: str, labels: Labels, child: str) -> bool:
        """Takes one away; whether it was the last."""
        found = self._values.get((name, labels), {})
        found.pop(child, None)
        if found:
            return False
        self._values.pop((name, labels), None)
        return True


class ChildLedger(Ledger):
    """The ledger of one receiver: what it calls by its own name is called by its template's."""

    def __init__(self, ledger: Ledger, child: str, account: str, gauges: Gauges) -> None:
        self.registry = ledger.registry
        self._ledger = ledger
        self._child_id = child
        self._account = account
        self._gauges = gauges

    def _named(self, labels: dict[str, str]) -> dict[str, str]:
        return {key: self._account if value == self._child_id else value for key, value in labels.items()}

    def counter(self, name: str, help: str, **labels: str) -> Callable[[float], None]:
        """As `Ledger.counter`."""
        return self._ledger.counter(name, help, **self._named(labels))

    def gauge(self, name: str, help: str, read: Callable[[], float] | None = None, **labels: str) -> Callable[[float], None]:
        """As `Ledger.gauge`."""
        named = self._named(labels)
        last = [0.0]
        of_all = self._gauges.put(name, tuple(named.items()), self._child_id, read or (lambda: last[0]))
        if of_all is not None:
            self._ledger.gauge(name, help, of_all, **named)

        def put(value: float) -> None:
            last[0] = value

        return put

    def histogram(self, name: str, help: str, buckets: tuple[float, ...] = BATCH_SIZES, **labels: str) -> Callable[[float], None]:
        """As `Ledger.histogram`."""
        return self._ledger.histogram(name, help, buckets, **self._named(labels))

    def forget(self, name: str, **labels: str) -> None:
        """As `Ledger.forget`."""
        named = self._named(labels)
        if self._gauges.drop(name, tuple(named.items()), self._child_id):
            self._ledger.forget(name, **named)

    def total(self, name: str, **labels: str) -> float:
        """As `Ledger.total`."""
        return self._ledger.total(name, **self._named(labels))

    def sum(self, name: str) -> float:
        """As `Ledger.sum`."""
        return self._ledger.sum(name)
