"""The agent's books, read from its own /metrics alone: accepted + inherited = sent + filtered + dropped + queued, by signal.

What a receiver drops itself, a scrape that no queue took, was never accepted: it is shown beside the balance ("at the door").
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from kofagent.telemetry.signal import Signal

_BY_SIGNAL = {
    "kofagent_exporter_inherited_items_total": "inherited",
    "kofagent_filtered_items_total": "filtered",
    "kofagent_dropped_items_total": "dropped",
    "kofagent_exporter_queue_items": "queued",
}
_BY_NAME = {"otelcol_receiver_accepted_": "accepted", "otelcol_exporter_sent_": "sent", "otelcol_receiver_refused_": "refused"}


@dataclass
class Book:
    """Of one signal, items."""

    signal: str
    of: Counter[str]
    reasons: Counter[str]

    @property
    def lost(self) -> int:
        """Items that will never be delivered, wherever they were dropped."""
        return int(self.of["dropped"] + self.of["dropped at the door"])

    @property
    def missing(self) -> float:
        """What came in and is in no other account; below 0: what left and never came in. Items in memory were not accepted yet."""
        out = self.of
        return out["accepted"] + out["inherited"] - out["sent"] - out["filtered"] - out["dropped"] - out["queued"]

    def __str__(self) -> str:
        parts = [f"{name} {int(value)}" for name, value in self.of.items() if value]
        return f"{self.signal}: {', '.join(parts)}, missing {int(self.missing)}; {dict(self.reasons)}"


def read(page: str) -> dict[str, Book]:
    """The books of each signal in a page of own metrics."""
    books = {signal.value: Book(signal.value, Counter(), Counter()) for signal in Signal}
    families = list(text_string_to_metric_families(page))
    receivers = {s.labels["receiver"] for family in families for s in family.samples if "receiver" in s.labels}
    names = {prefix + signal.items + "_total": (signal.value, word) for signal in Signal for prefix, word in _BY_NAME.items()}
    for family in families:
        for sample in family.samples:
            if sample.name in names:
                signal, word = names[sample.name]
                books[signal].of[word] += sample.value
            elif sample.name in _BY_SIGNAL and sample.labels.get("queue") != "memory":
                book = books[sample.labels["signal"]]
                word = _BY_SIGNAL[sample.name]
                if word == "dropped" and sample.labels["component"] in receivers:
                    word = "dropped at the door"
                book.of[word] += sample.value
                if "reason" in sample.labels:
                    book.reasons[sample.labels["reason"]] += int(sample.value)
    return books


def total(page: str, name: str, **labels: str) -> float:
    """The sum of the samples of this name with these labels."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )
