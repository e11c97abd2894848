"""How long unknown pods are waited for: once each, in vain ever shorter, and only so many of them."""

from __future__ import annotations

from kofagent.processors.k8sattributes.patience import FORGET_ASKED, FORGET_IN_VAIN, MAX_ASKED, SHORTEST_WAIT, Patience


def test_fruitless_waits_halve_the_next_down_to_a_least_one() -> None:
    patience = Patience(1.0)
    waits = []
    for i in range(8):
        waits.append(patience.begin((0, str(i)), 100.0) - 100.0)
        patience.waited(False, 100.0)
    assert [round(wait, 4) for wait in waits] == [1.0, 0.5, 0.25, 0.125, 0.0625, SHORTEST_WAIT, SHORTEST_WAIT, SHORTEST_WAIT]


def test_a_wait_that_was_worth_it_and_a_pause_make_the_next_a_full_one() -> None:
    patience = Patience(1.0)
    patience.waited(False, 100.0)
    assert patience.begin((0, "a"), 100.0 + FORGET_IN_VAIN) == 100.5 + FORGET_IN_VAIN
    assert patience.begin((0, "b"), 100.5 + FORGET_IN_VAIN) == 101.5 + FORGET_IN_VAIN
    patience.waited(False, 200.0)
    patience.waited(True, 200.0)
    assert patience.begin((0, "c"), 200.0) == 201.0
    patience.waited(False, 200.0)
    patience.renew()
    assert patience.begin((0, "d"), 200.0) == 201.0


def test_a_place_keeps_its_time_until_its_pod_is_found() -> None:
    patience = Patience(1.0)
    assert patience.until((0, "a")) is None
    patience.begin((0, "a"), 10.0)
    assert patience.until((0, "a")) == 11.0
    patience.found((0, "a"))
    patience.found((0, "a"))
    assert patience.until((0, "a")) is None


def test_many_places_are_not_all_remembered() -> None:
    patience = Patience(1.0)
    for i in range(MAX_ASKED):
        patience.begin((0, str(i)), 0.0)
    assert patience.begin((0, "one more"), 1.0) == 1.0, "not waited for"
    assert patience.until((0, "one more")) is None
    later = FORGET_ASKED + 2
    assert patience.begin((0, "one more"), later) == later + 1.0, "the old ones are forgotten"
    assert patience.until((0, "0")) is None
