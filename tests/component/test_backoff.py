"""The waits between tries."""

from __future__ import annotations

import pytest

from kofagent.component.backoff import Backoff


def test_waits_double_to_their_end_with_jitter() -> None:
    waits = Backoff(1, 30)
    for full in (1, 2, 4, 8, 16, 30, 30):
        assert full / 2 <= waits.next() <= full
    waits.reset()
    assert waits.next() <= 1
    assert len({Backoff(1, 30).next() for _ in range(20)}) > 1


def test_jitter_may_lengthen_a_wait() -> None:
    waits = [Backoff(1, 30, jitter=(1.5, 2.5)).next() for _ in range(50)]
    assert 1.5 <= min(waits) < 1.8 and 2.2 < max(waits) <= 2.5


def test_the_server_may_ask_for_more_but_not_for_anything() -> None:
    waits = Backoff(1, 30, asked_most=120)
    assert waits.next(7) == 7
    assert waits.next(10_000) == 120
    assert Backoff(1, 30).next(10_000) == 10_000
    assert Backoff(4, 30, jitter=(1, 1)).next(2) == 4


def test_there_is_a_time_to_give_up_which_a_reset_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("kofagent.component.backoff.time.monotonic", lambda: now)
    waits = Backoff(1, 30, elapsed=10)
    assert waits.allows(10) and not waits.allows(10.1)
    now = 1006.0
    assert waits.allows(4) and not waits.allows(4.1)
    waits.reset()
    assert waits.allows(10)
    assert Backoff(1, 30).allows(1e9)


def test_the_first_wait_is_not_longer_than_the_longest() -> None:
    assert Backoff(10, 3, jitter=(1, 1)).next() == 3
