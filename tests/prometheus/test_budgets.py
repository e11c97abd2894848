"""Shares of a namespace's budget of series."""

from __future__ import annotations

import pytest

from kofagent.prometheus import budgets
from kofagent.prometheus.budgets import OTHERS, Budgets
from kofagent.prometheus.page import PageReader


def test_series_come_and_go_within_the_budget() -> None:
    all_of_them = Budgets(5, lambda namespace, samples: None)
    a, b = [PageReader(lambda labels: labels, share=all_of_them.share({"namespace": "n"}, {})) for _ in range(2)]

    def read(reader: PageReader, *names: str) -> tuple[list[str], list[str]]:
        scraped = reader.read("".join([f"{name} 1\n" for name in names]).encode(), False, 0)
        return [series.name for series in scraped.series], [series.name for series in scraped.stale]

    assert read(a, "a", "b", "c") == (["a", "b", "c"], [])
    assert read(b, "d", "e", "f", "g") == (["d", "e"], []) and b.over == 2
    assert read(b, "d", "e", "f", "g") == (["d", "e"], []) and b.over == 2
    assert read(b, "d", "f", "g") == (["d"], ["e"]) and b.over == 2
    assert read(b, "d", "f", "g") == (["d", *(found := read(b, "d", "f", "g")[0][1:])], []) and len(found) == 1 and b.over == 1
    a.fail()
    assert all_of_them.used() == {"n": 5}, "a page that cannot be had for once leaves its series what they have"
    a.close()
    assert read(b, "d", "f", "g") == (["d", "f", "g"], []) and b.over == 0
    b.close()
    assert all_of_them.used() == {"n": 0}
    del a, b
    assert all_of_them.used() == {}, "a namespace without targets costs nothing"


def test_only_so_many_namespaces_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "MOST_NAMESPACES", 2)
    of = Budgets(1, lambda namespace, samples: None)
    shares = [of.share({}, {"__meta_kubernetes_namespace": name}) for name in "abcd"]
    assert set(of.used()) == {"a", "b", OTHERS}
    assert [share.take() for share in shares if share is not None] == [True, True, True, False]
    assert of.share({}, {}) is None and Budgets(0, lambda namespace, samples: None).share({"namespace": "a"}, {}) is None
