"""Which of many equal lines are written."""

from __future__ import annotations

import pytest

from kofagent.component import log_limit
from kofagent.component.log_limit import LogLimit


class Time:
    """A clock of the test's own, seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(log_limit.time, "monotonic", lambda: self.now)  # type: ignore[attr-defined]


def test_the_first_with_its_key_and_then_one_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    time, limit = Time(monkeypatch), LogLimit(60)
    assert [limit.due("a"), limit.due("a"), limit.due("b")] == [True, False, True]
    time.now += 59.9
    assert not limit.due("a")
    time.now += 0.1
    assert limit.due("a") and not limit.due("a")


def test_without_an_interval_it_is_once(monkeypatch: pytest.MonkeyPatch) -> None:
    time, limit = Time(monkeypatch), LogLimit()
    assert limit.due()
    time.now += 1e9
    assert not limit.due()


def test_keys_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    time, limit = Time(monkeypatch), LogLimit(60)
    assert [limit.due(i) for i in range(1100)] == [True] * 1000 + [False] * 100
    time.now += 60
    assert limit.due(0), "those that are known go on"
