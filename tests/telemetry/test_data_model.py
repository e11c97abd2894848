"""Batches, series and the ledger by themselves."""

from __future__ import annotations

import pytest

from kofagent.telemetry.batch import Batch, MetricBatch, Samples
from kofagent.telemetry.ledger import Ledger
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.series import Series, sorted_labels
from kofagent.telemetry.signal import Signal


def test_batches_are_joined_in_order_and_one_is_not_copied() -> None:
    one, two = Batch(Signal.LOGS, b"ab", 1, {"t": ("x",)}), Batch(Signal.LOGS, b"c", 2)
    joined = Batch.join([one, two])
    assert (joined.payload, joined.count, joined.metadata) == (b"abc", 3, {"t": ("x",)})
    assert Batch.join([two]) is two


def test_the_size_of_a_batch_grows_with_what_is_in_it() -> None:
    assert Batch(Signal.LOGS, bytes(1000), 1).size - Batch(Signal.LOGS, b"", 1).size == 1000
    series = [Series((("__name__", str(i)),)) for i in range(10)]
    ten = MetricBatch([Samples(series, [1.0] * 10, 5)])
    assert ten.size >= 10 * 16 + 200, "at the least a reference and a float each, and the batch itself"
    assert MetricBatch.join([ten, ten]).count == 20


def test_the_name_of_a_series() -> None:
    assert Series((("A", "1"), ("__name__", "up"), ("a", "2"))).name == "up"
    assert Series((("a", "1"),)).name == ""
    assert sorted_labels({"b": "2", "a": "1", "c": ""}) == (("a", "1"), ("b", "2"))


def test_a_name_has_one_kind_of_metric() -> None:
    ledger = Ledger()
    ledger.counter("c", "help", queue="a")
    with pytest.raises(TypeError, match="c is a Counter, not a Gauge"):
        ledger.gauge("c", "help", queue="a")


def test_a_refusal_is_its_reason_and_its_sentence() -> None:
    assert (str(Refused("http 503")), str(Refused("http 503", "try later"))) == ("http 503", "http 503: try later")


def test_a_gauge_is_read_when_asked_and_forgotten_when_told() -> None:
    ledger = Ledger()
    value = 5.0
    ledger.gauge("g", "help", lambda: value, queue="a")
    ledger.gauge("g", "help", queue="b")(7)
    assert (ledger.total("g", queue="a"), ledger.total("g", queue="b")) == (5, 7)
    value = 6.0
    assert ledger.sum("g") == 13
    ledger.counter("other", "help", queue="a")(100)
    assert ledger.sum("g") == 13
    ledger.forget("g", queue="a")
    assert ledger.sum("g") == 7
    ledger.forget("g", queue="a")
    ledger.forget("never there", queue="a")
    assert ledger.sum("g") == 7
